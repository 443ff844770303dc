/** What a transition may look at besides the state, and what it leaves to be done. */
import type { PublicCurve } from "../../src/bytes/curve.ts";
import { lngateError } from "../../src/errors.ts";
import type { ChannelParameters } from "../../src/lightning/channel.ts";
import type { CommitmentKeys } from "../../src/lightning/keys.ts";
import type { Stepped, ToGateway } from "../../src/link/messages.ts";
import type { DeviceIdentity } from "../identity.ts";
import { RECORD_KINDS, type RecordBank } from "../vault/records.ts";
import type { Change, ChannelState, Cursors, Payment, Proposal, RecordKind } from "./state.ts";

/** Points and keys of commitments: derived where there is a curve, otherwise prepared. */
export interface KeySource {
  pointOf(index: number, number: number): Uint8Array;
  /** Keys of our commitment (`ours`) or the bridge's with this commitment point. */
  keysFor(
    proposal: Proposal,
    ours: boolean,
    point: Uint8Array,
    /** The gateway's word for keys of the bridge's, looked at only where there is no curve. */
    told?: readonly Uint8Array[],
  ): CommitmentKeys;
}

export interface Context extends KeySource {
  readonly identity: DeviceIdentity;
  /** Null on a board without curve arithmetic: then the exit is not verified here (docs/security.md). */
  readonly curve: PublicCurve | null;
  readonly records: RecordBank;
  /** The channel of a proposal; the last one is remembered. */
  channelOf(proposal: Proposal): ChannelParameters;
  /** Per-commitment secret `number` of channel `index`. */
  secretOf(index: number, number: number): Uint8Array;
  /** Bytes of values that fit into the journal. */
  readonly roomBytes: number;
  readonly nowMs: number;
}

/** In the order in which they are to be carried out: what is persisted comes before what is sent. */
export type Effect =
  | { readonly type: "persist"; readonly changes: readonly Change[] }
  | { readonly type: "erase"; readonly kind: RecordKind; readonly below: number }
  | { readonly type: "send"; readonly message: ToGateway }
  /** A payment is decided: paid if it has a preimage, otherwise failed. */
  | { readonly type: "decided"; readonly payment: Payment }
  /** The channel or the gateway's word on it has changed; `failure` answers a request that can't be served. */
  | {
      readonly type: "notice";
      readonly state: string;
      readonly failure?: { code: string; sentence: string };
    };

export interface Transition {
  readonly state: ChannelState;
  readonly effects: readonly Effect[];
}

/** The working copy of one transition: the state so far, and the answer that grows with it. */
export interface Work {
  state: ChannelState;
  readonly context: Context;
  readonly answer: { -readonly [K in keyof Omit<Stepped, "type" | "id">]: Stepped[K] };
  readonly decided: Payment[];
}

/** The next record of a kind; from here on its cursor has passed it. Throws `records-used-up`. */
export function takeRecord(work: Work, kind: RecordKind): { id: number; bytes: Uint8Array } {
  const record = work.context.records.read(kind, work.state.books.cursors[kind]);
  if (record === null) throw usedUp();
  passRecord(work, kind, record.id);
  return record;
}

/** Records up to this one are used, or given up. */
export function passRecord(work: Work, kind: RecordKind, id: number): void {
  const { books } = work.state;
  work.state = { ...work.state, books: { ...books, cursors: { ...books.cursors, [kind]: id + 1 } } };
}

/** Throws `vault-rolled-back` where an old image was put back: records that its state calls unused are gone. */
export function needPresent({ state, context }: Work): void {
  for (const kind of RECORD_KINDS) context.records.read(kind, state.books.cursors[kind]);
}

/** Throws `records-used-up` unless there are so many records of each kind. */
export function needRecords(work: Work, needed: Cursors): void {
  const { state, context } = work;
  for (const kind of RECORD_KINDS) {
    if (context.records.left(kind, state.books.cursors[kind]) < needed[kind]) throw usedUp();
  }
}

function usedUp(): Error {
  return lngateError("records-used-up", "too few presignatures are left: charge the device");
}

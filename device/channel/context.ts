/** What a transition may look at besides the state, and what it leaves to be done. */
import type { PublicCurve } from "../../src/crypto/curve.ts";
import { lngateError } from "../../src/errors.ts";
import type { ChannelParameters } from "../../src/lightning/channel.ts";
import type { CommitmentKeys } from "../../src/lightning/keys.ts";
import type { Stepped, ToGateway } from "../../src/messages/device.ts";
import type { DeviceIdentity } from "../identity.ts";
import { RECORD_KINDS, type RecordBank } from "../vault/records.ts";
import type { Change, ChannelState, Cursors, Holder, Payment, Proposal, RecordKind } from "./state.ts";

/** Points and keys of commitments: derived where there is a curve, otherwise prepared. */
export interface KeySource {
  pointOf(index: number, number: number): Uint8Array;
  /** Keys of our commitment (`isHolder`) or the bridge's with this commitment point. */
  keysFor(
    proposal: Proposal,
    isHolder: boolean,
    point: Uint8Array,
    /** The gateway's word for keys of the bridge's, looked at only where there is no curve. */
    told?: readonly Uint8Array[],
  ): CommitmentKeys;
  /**
   * One of the keys that `keysFor` gives, by its place among them: each costs as much as a verification, and is remembered for a
   * while. Only where they are derived.
   */
  readonly keyAt?: (proposal: Proposal, isHolder: boolean, point: Uint8Array, which: number) => Uint8Array;
}

/** What a transition may look at besides the state: identity, keys, records, room and clocks. */
export interface Context extends KeySource {
  readonly identity: DeviceIdentity;
  /** Null on a board without curve arithmetic: then the exit is not verified here (docs/security.md). */
  readonly curve: PublicCurve | null;
  readonly records: RecordBank;
  /** The channel of a proposal; the last one is remembered. */
  channelOf(proposal: Proposal): ChannelParameters;
  /**
   * False if one of the bridge's signatures on the HTLC transactions of this exit is not valid, of those that were looked at since
   * the board started and of so many more.
   */
  htlcsSigned(holder: Holder, proposal: Proposal, most: number): boolean;
  /** Per-commitment secret `number` of channel `index`. */
  secretOf(index: number, number: number): Uint8Array;
  /** Bytes of values that fit into the journal. */
  readonly capacityBytes: number;
  /** Whether a commit of these changes fits into it, and what lives after it with so much to spare. */
  fits(changes: readonly Change[], spareBytes: number): boolean;
  /** Unix milliseconds. The clock may lie: whoever serves the board its time may be the gateway. */
  readonly nowMs: number;
  /** Milliseconds of a clock that nobody sets, since some moment of this boot; and how often the board has booted. */
  readonly ticks: number;
  readonly boot: number;
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

/** What comes of an input: the state after it, and what is to be done. */
export interface Transition {
  readonly state: ChannelState;
  readonly effects: readonly Effect[];
}

/** The working copy of one transition: the state so far, and the answer that grows with it. */
export interface Work {
  readonly context: Context;
  state: ChannelState;
  answer: { -readonly [K in keyof Omit<Stepped, "type" | "id">]: Stepped[K] };
  decided: readonly Payment[];
}

/** A state to which one goes back, but for what cannot be undone: records were read, and wrong answers given. */
export function backTo(state: ChannelState, from: ChannelState): ChannelState {
  const { cursors, wrongAnswers } = from.books;
  if (cursors === state.books.cursors) return state;
  return { ...state, books: { ...state.books, cursors, wrongAnswers } };
}

/** Runs one part: state and answer of it are kept together, or (where it throws) neither. */
export function wholly(work: Work, run: (work: Work) => void): void {
  const { context, state, answer, decided } = work;
  const attempt: Work = { context, state, answer: { ...answer }, decided };
  try {
    run(attempt);
  } catch (error) {
    work.state = backTo(state, attempt.state);
    throw error;
  }
  work.state = attempt.state;
  work.answer = attempt.answer;
  work.decided = attempt.decided;
}

/** The next record of a kind; from here on its cursor has passed it. Throws `records-used-up`. */
export function takeRecord(work: Work, kind: RecordKind): { id: number; bytes: Uint8Array } {
  const record = work.context.records.read(kind, work.state.books.cursors[kind]);
  if (record === null) throw usedUp();
  passRecord(work, kind, record.id);
  return record;
}

/** Records up to this one are used, or given up. `wrong`: 1 if the gateway's answer was, a guess at what is kept from it. */
export function passRecord(work: Work, kind: RecordKind, id: number, wrong = 0): void {
  const { books } = work.state;
  const cursors = { ...books.cursors, [kind]: id + 1 };
  const wrongAnswers = books.wrongAnswers + wrong;
  work.state = { ...work.state, books: { ...books, cursors, wrongAnswers } };
}

/** Throws `vault-rolled-back` where an old image was put back: records that its state calls unused are gone. */
export function ensurePresent({ state, context }: Work): void {
  for (const kind of RECORD_KINDS) {
    const record = context.records.read(kind, state.books.cursors[kind]);
    if (record !== null) record.bytes.fill(0);
  }
}

/** Throws `records-used-up` unless there are this many records of each of these kinds. */
export function ensureRecords(work: Work, needed: Partial<Cursors>): void {
  const { state, context } = work;
  for (const kind of RECORD_KINDS) {
    if (context.records.left(kind, state.books.cursors[kind]) < (needed[kind] || 0)) throw usedUp();
  }
}

function usedUp(): Error {
  return lngateError("records-used-up", "too few presignatures are left: charge the device");
}

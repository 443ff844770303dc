/**
 * All that a device remembers of its channel, as plain data, and how each part is written to flash.
 *
 * The parts are written independently: a transition returns a new state that shares the parts it did not
 * touch, and `changesBetween` finds the ones to write, all in one atomic commit of the journal.
 */

import {
  bool,
  bytes,
  bytesUpTo,
  type Codec,
  decodeValue,
  encodeValue,
  list,
  optional,
  struct,
  text,
  UINT32,
  UINT53,
  uint,
  type ValueOf,
} from "../../src/bytes/schema.ts";
import {
  type CommitmentSpec,
  MAX_DEPOSITS,
  MAX_HTLCS,
  type Proposal,
  proposalCodec,
  viewCodec,
} from "../../src/channel/terms.ts";
import { lngateError } from "../../src/errors.ts";
import type { SecretStore } from "../../src/lightning/shachain.ts";
import { partialCodec } from "../../src/messages/device.ts";

export type { CommitmentSpec, Proposal };

/**
 * none     no channel
 * opening  the gateway's proposal is accepted and signed for, the funding transaction is not
 * open     the funding transaction is signed: this is real money
 * closing  a mutual close is signed: no further commitment will be
 * exited   the exit has left the device: nothing of this channel is signed or revoked ever again
 * locked   the gateway asked for a used record again, or gave three wrong answers: nothing is signed any more, the exit is left
 */
const PHASES = ["none", "opening", "open", "closing", "exited", "locked"] as const;
export type Phase = (typeof PHASES)[number];

const kindOf = <T>(kind: Codec<T>): Codec<T> => kind;

/** The exit: our newest commitment, completely signed. */
export const holderCodec = struct({
  number: [1, uint(UINT53)],
  view: [2, viewCodec],
  /** The bridge's signature and our own, compact. */
  bridgeSignature: [3, bytes(64)],
  ownSignature: [4, bytes(64)],
  /** The bridge's signatures on our HTLC transactions, in output order. */
  htlcSignatures: [5, list(bytes(64), MAX_HTLCS)],
  /** Ours on the spend of our own anchor (SIGHASH_SINGLE|ANYONECANPAY), for a state without HTLCs. */
  anchorSignature: optional([6, bytes(64)]),
});
export type Holder = ValueOf<typeof holderCodec>;

/** The answer to a counterparty part: kept, so that the same question gets the same answer. */
const answerCodec = struct({
  partials: [1, list(partialCodec, MAX_DEPOSITS)],
  htlcSignatures: optional([2, list(bytes(64), MAX_HTLCS)]),
});

/** The bridge's newest commitment that we signed. */
const counterpartyCodec = struct({
  number: [1, uint(UINT53)],
  view: [2, viewCodec],
  point: [3, bytes(33)],
  /** The commitment before it, while it is not revoked. */
  previous: optional([4, struct({ view: [1, viewCodec], point: [2, bytes(33)] })]),
  answer: [5, answerCodec],
  /** The bridge's point for its commitment number + 1, where it is known already. */
  nextPoint: optional([6, bytes(33)]),
});
export type Counterparty = ValueOf<typeof counterpartyCodec>;

/** One payment that `pay()` authorised. */
const paymentCodec = struct({
  paymentHash: [1, bytes(32)],
  amountMsat: [2, uint(UINT53)],
  /** Amount plus the most that routing may cost. */
  limitMsat: [3, uint(UINT53)],
  /** Highest expiry that an HTLC of this payment may have, block height. */
  maxCltvExpiry: [4, uint(UINT32)],
  /** Unix seconds at which the invoice expires: the payment is remembered at least as long. */
  expiresAt: [5, uint(UINT53)],
  /** Unix milliseconds at which `pay()` was called. */
  startedAtMs: [6, uint(UINT53)],
  /** The packed invoice, while the payment is not decided: it is sent again after a restart. */
  invoice: optional([7, bytesUpTo(1400)]),
  /** Largest sum of this payment's HTLCs seen in a commitment. */
  htlcMsat: [8, uint(UINT53)],
  preimage: optional([9, bytes(32)]),
  feeMsat: optional([10, uint(UINT53)]),
  /** Time from `pay()` to the preimage. */
  ms: optional([11, uint(UINT53)]),
  /** The gateway's word that it failed; believed once the balance is whole. */
  failure: optional([12, text(64)]),
  /** No longer counted against the balance: paid and deducted, or failed and restored. */
  settled: optional([13, bool()]),
  /** How often it was authorised before, and failed; absent: never. */
  attempt: optional([14, uint(UINT32)]),
  /** Settles service fees: asked for by the gateway, out of what is owed to it. */
  settlement: optional([15, bool()]),
  /** The spending windows that it was counted in, by their serial numbers; absent: none. */
  counted: optional([16, struct({ hour: [1, uint(UINT32)], day: [2, uint(UINT32)] })]),
});
export type Payment = ValueOf<typeof paymentCodec>;

const cursorsCodec = struct({ A: [1, uint(UINT32)], B: [2, uint(UINT32)], H: [3, uint(UINT32)] });
export type Cursors = ValueOf<typeof cursorsCodec>;
export type RecordKind = keyof Cursors;

/** A spending window: when it began by both of the board's clocks, and what was authorised in it. */
const windowCodec = struct({
  serial: [1, uint(UINT32)],
  /** Unix seconds. */
  startedAt: [2, uint(UINT53)],
  /** The boot in which it was last looked at, and the ticks (ms) of that boot at which it began, or was first met. */
  boot: [3, uint(UINT32)],
  ticks: [4, uint(UINT53)],
  spentMsat: [5, uint(UINT53)],
});
export type SpendingWindow = ValueOf<typeof windowCodec>;

const booksCodec = struct({
  phase: [1, text(8)],
  /** Number of the present channel, from 1 (0: there was none); selects the per-commitment seed. */
  index: [2, uint(UINT32)],
  /** Smallest record of each kind that is not used. */
  cursors: [3, cursorsCodec],
  /** Our balance at rest, before the commitment fee and the anchors, sat. */
  baseSat: [4, uint(UINT53)],
  hour: [5, windowCodec],
  day: [6, windowCodec],
  /** Number of the newest channel that the owner's application asked for. */
  asked: [7, uint(UINT32)],
  /** Service fees of payments that have arrived, less what was paid of them, msat. */
  owedMsat: [8, uint(UINT53)],
  /** Commitments, of ours and of the bridge's, that payments in flight may still bring, beside those in which an HTLC goes. */
  due: [9, struct({ holder: [1, uint(UINT32)], counterparty: [2, uint(UINT32)] })],
  /** No paid invoice is forgotten that expires later than this (Unix seconds). */
  forgotten: [10, uint(UINT53)],
  /** Answers of kind B that were wrong, since the device was paired. No success sets it back. */
  wrongAnswers: [11, uint(UINT32)],
});
type BooksData = ValueOf<typeof booksCodec>;
export type ChannelSummary = Omit<BooksData, "phase"> & { readonly phase: Phase };

/** The accepted proposal, and what was signed for it. */
const parametersCodec = struct({
  proposal: [1, proposalCodec],
  /** The signatures given for the funding transaction. */
  funding: optional([2, answerCodec]),
  /** The mutual closes that were signed. */
  closes: [3, list(struct({ sighash: [1, bytes(32)], answer: [2, answerCodec] }), 16)],
  /** The bridge has signed an HTLC of ours in a way that is not valid: nothing more is paid from this channel. */
  badHtlcSignature: optional([4, bool()]),
});
export type Parameters = ValueOf<typeof parametersCodec>;

/** Per-commitment secrets of the bridge's that are kept: with them all earlier ones (BOLT #3). */
export const MAX_SECRETS = 49;
/** The newest answers of `collectedCodec` that are kept. */
export const MAX_COLLECTED = 8;
/** Transactions that collect several outputs, of which the sums are kept. When there are as many, outputs are collected one by one. */
export const MAX_SUMS = 96;

/** Most paid invoices that are remembered without their receipts. */
export const MAX_PAID = 256;

/** Most closed channels whose exits are kept, until the owner forgets them: that a close is on the chain is only the gateway's word. */
export const MAX_FORMER = 3;

/** What the bridge may publish of a channel that has ended, and with which secrets it is punished if that was revoked. */
const formerCodec = list(
  struct({
    index: [1, uint(UINT32)],
    proposal: [2, proposalCodec],
    holder: [3, holderCodec],
    counterparty: [4, counterpartyCodec],
    secrets: [5, list(bytes(32), MAX_SECRETS)],
  }),
  MAX_FORMER,
);
export type Former = ValueOf<typeof formerCodec>;

/** Signatures that were given for what is collected on the chain: kept, so that a question costs one record. */
const collectedCodec = struct({
  /** How many different questions were answered since the present channel was opened. */
  count: [1, uint(UINT32)],
  answers: [2, list(struct({ sighash: [1, bytes(32)], own: [2, bytes(64)] }), MAX_COLLECTED)],
  /** By the first bytes of the id of a transaction with several inputs, the values of those that are signed, sat. */
  sums: [3, list(struct({ transaction: [1, bytes(8)], sat: [2, uint(UINT53)] }), MAX_SUMS)],
});
export type Collected = ValueOf<typeof collectedCodec>;

/**
 * Invoices that were paid, may still be payable and whose receipts had to make room: 8 bytes of the payment hash, and four
 * of the Unix second in which the invoice expires.
 */
const paidCodec = list(bytes(12), MAX_PAID);

/** All that a device remembers of its channel. */
export interface ChannelState {
  readonly books: ChannelSummary;
  readonly parameters: Parameters | null;
  readonly holder: Holder | null;
  readonly counterparty: Counterparty | null;
  /** The last exits of channels that were closed before the present one. */
  readonly former: Former | null;
  readonly collected: Collected | null;
  readonly paid: readonly Uint8Array[] | null;
  /**
   * The bridge's secrets of the present channel, at each place the newest of its kind (src/lightning/shachain.ts): whoever
   * publishes a commitment that was revoked is punished with them.
   */
  readonly secrets: readonly Uint8Array[];
  /** By slot; a null is a free slot. */
  readonly payments: readonly (Payment | null)[];
}

const NO_WINDOW: SpendingWindow = { serial: 0, startedAt: 0, boot: 0, ticks: 0, spentMsat: 0 };

export const EMPTY: ChannelState = {
  books: {
    phase: "none",
    index: 0,
    cursors: { A: 0, B: 0, H: 0 },
    baseSat: 0,
    hour: NO_WINDOW,
    day: NO_WINDOW,
    asked: 0,
    owedMsat: 0,
    due: { holder: 0, counterparty: 0 },
    forgotten: 0,
    wrongAnswers: 0,
  },
  parameters: null,
  holder: null,
  counterparty: null,
  former: null,
  collected: null,
  paid: null,
  secrets: [],
  payments: [],
};

/** Where the parts are in the journal; payments and secrets from their keys on, one key each. */
export const KEY = {
  books: 1,
  parameters: 2,
  holder: 3,
  counterparty: 4,
  former: 5,
  collected: 6,
  paid: 7,
  payments: 16,
  secrets: 128,
};

/** How many commitments the bridge has revoked: of so many the secrets are kept. */
function revokedCount(counterparty: Counterparty): number {
  return counterparty.previous ? counterparty.number - 1 : counterparty.number;
}

/** The secrets of a channel as src/lightning/shachain.ts takes them. */
export function secretStore(counterparty: Counterparty, secrets: readonly Uint8Array[]): SecretStore {
  return { count: revokedCount(counterparty), secrets };
}

function phaseOf(text: string): Phase {
  for (const phase of PHASES) if (phase === text) return phase;
  throw lngateError("vault-corrupt", "the channel's phase in flash is none that there is");
}

/** A value to write (null: to remove) under a key of the journal. */
export interface Change {
  readonly key: number;
  readonly value: Uint8Array | null;
  /** The bits of this value are cleared once it is superseded: a revoked exit is poison. */
  readonly secret: boolean;
}

/** What has to be written so that `before` in flash becomes `after`. */
export function changesBetween(before: ChannelState, after: ChannelState): Change[] {
  const changes: Change[] = [];
  function part<T>(key: number, kind: Codec<T>, old: T | null, now: T | null): void {
    if (old === now) return;
    changes.push({ key, value: now === null ? null : encodeValue(kind, now), secret: key === KEY.holder });
  }
  part(KEY.books, kindOf<BooksData>(booksCodec), before.books, after.books);
  part(KEY.parameters, parametersCodec, before.parameters, after.parameters);
  part(KEY.holder, holderCodec, before.holder, after.holder);
  part(KEY.counterparty, counterpartyCodec, before.counterparty, after.counterparty);
  part(KEY.former, formerCodec, before.former, after.former);
  part(KEY.collected, collectedCodec, before.collected, after.collected);
  part(KEY.paid, paidCodec, before.paid, after.paid);
  const places = Math.max(before.secrets.length, after.secrets.length);
  for (let i = 0; i < places; i++) {
    const value = after.secrets[i] || null;
    if (value !== (before.secrets[i] || null)) changes.push({ key: KEY.secrets + i, value, secret: false });
  }
  const slots = Math.max(before.payments.length, after.payments.length);
  for (let i = 0; i < slots; i++) {
    part(KEY.payments + i, paymentCodec, before.payments[i] || null, after.payments[i] || null);
  }
  return changes;
}

/** The state that is in flash. Throws `vault-corrupt` or a decoding code where a value is none of ours. */
export function readState(journal: { keys(): number[]; get(key: number): Uint8Array | null }): ChannelState {
  function part<T>(key: number, kind: Codec<T>): T | null {
    const value = journal.get(key);
    return value === null ? null : decodeValue(kind, value);
  }
  const payments: (Payment | null)[] = [];
  const secrets: Uint8Array[] = [];
  for (const key of journal.keys()) {
    if (key < KEY.payments) continue;
    if (key >= KEY.secrets) {
      secrets[key - KEY.secrets] = journal.get(key)!;
      continue;
    }
    while (payments.length <= key - KEY.payments) payments.push(null);
    payments[key - KEY.payments] = part(key, paymentCodec);
  }
  const books = part(KEY.books, booksCodec);
  return {
    books: books === null ? EMPTY.books : { ...books, phase: phaseOf(books.phase) },
    parameters: part(KEY.parameters, parametersCodec),
    holder: part(KEY.holder, holderCodec),
    counterparty: part(KEY.counterparty, counterpartyCodec),
    former: part(KEY.former, formerCodec),
    collected: part(KEY.collected, collectedCodec),
    paid: part(KEY.paid, paidCodec),
    secrets,
    payments,
  };
}

/**
 * Commitment transactions of an anchors channel and what spends them, byte for byte as BOLT #3 describes them
 * (option_anchors, HTLC transactions without a fee of their own).
 */
import { FALSE, p2wsh, witnessSignature } from "../bitcoin/script.ts";
import { SIGHASH_SINGLE_ANYONECANPAY, sighash } from "../bitcoin/sighash.ts";
import { compareOutputs, type Output, type Transaction, txidOf } from "../bitcoin/transaction.ts";
import { concat, equal } from "../bytes/bytes.ts";
import { sha256 } from "../crypto/hash.ts";
import { lngateError } from "../errors.ts";
import {
  anchorScript,
  type ChannelParameters,
  fundingScript,
  fundingWitness,
  type Htlc,
  htlcScript,
  otherSide,
  partyOf,
  type Side,
  toLocalScript,
  toRemoteScript,
} from "./channel.ts";
import type { CommitmentKeys } from "./keys.ts";

/** What each anchor holds. */
export const ANCHOR_SAT = 330;
/** The weight that a commitment without HTLCs is expected to have. */
const COMMITMENT_WEIGHT = 1124;
/** The weight that each untrimmed HTLC adds. */
const HTLC_OUTPUT_WEIGHT = 172;

/** Lock times from here on are no block heights. */
const HEIGHT_LIMIT = 500_000_000;

/** 2^24: the 48 bits of a commitment number are spread over sequence and locktime in two halves. */
const HALF = 16777216;

/**
 * What differs from one commitment of a channel to the next, as it appears in the outputs: fee and anchors are
 * already taken from the funder's value, a trimmed output is 0, and only untrimmed HTLCs are listed.
 */
export interface CommitmentContent {
  readonly feeratePerKw: number;
  readonly toBroadcasterSat: number;
  readonly toCountersignatorySat: number;
  readonly htlcs: readonly Htlc[];
}

/** local is the broadcaster, remote the other side (as in BOLT #3). */
export type OutputKind = "to-local" | "to-remote" | "local-anchor" | "remote-anchor" | "htlc";

/** An output, with the witness script behind it. */
export interface CommitmentOutput extends Output {
  readonly kind: OutputKind;
  readonly witnessScript: Uint8Array;
  /** Present where kind is "htlc". */
  readonly htlc?: Htlc;
}

export interface Commitment {
  /** Unsigned. */
  readonly transaction: Transaction;
  readonly txid: Uint8Array;
  /** What both funding keys sign. */
  readonly sighash: Uint8Array;
  /** The transaction's outputs in their order, so the index is the vout. */
  readonly outputs: readonly CommitmentOutput[];
  /** The second stage of each HTLC by vout: the order in which commitment_signed lists its signatures. */
  readonly htlcs: readonly HtlcTransaction[];
}

/** HTLC-timeout (offered) or HTLC-success (received). */
export interface HtlcTransaction {
  readonly htlc: Htlc;
  /** Of the commitment's output that it spends. */
  readonly vout: number;
  readonly valueSat: number;
  readonly witnessScript: Uint8Array;
  /** Unsigned. */
  readonly transaction: Transaction;
  /** What the countersignatory's HTLC key signs (SIGHASH_SINGLE | ANYONECANPAY). */
  readonly sighash: Uint8Array;
}

/** The fee that the funder pays for a commitment, apart from its anchors, trimmed outputs and rounding. */
export function commitmentFeeSat(feeratePerKw: number, untrimmedHtlcs: number): number {
  return Math.floor((feeratePerKw * (COMMITMENT_WEIGHT + HTLC_OUTPUT_WEIGHT * untrimmedHtlcs)) / 1000);
}

/**
 * Builds the commitment of `broadcaster` with this number (0, 1, 2 …). `keys` belong to that commitment's
 * point. Throws `bad-commitment` for a content that no channel can have.
 */
export function buildCommitment(
  channel: ChannelParameters,
  broadcaster: Side,
  commitmentNumber: number,
  keys: CommitmentKeys,
  content: CommitmentContent,
): Commitment {
  const local = partyOf(channel, broadcaster);
  const remote = partyOf(channel, otherSide(broadcaster));
  const revocable = toLocalScript(keys, local.toLocalDelay);
  const outputs: CommitmentOutput[] = [];
  let leftSat = channel.fundingSat;

  function add(kind: OutputKind, valueSat: number, witnessScript: Uint8Array, htlc?: Htlc): void {
    leftSat -= valueSat;
    const output = { kind, valueSat, script: p2wsh(witnessScript), witnessScript };
    outputs.push(htlc ? { ...output, htlc } : output);
  }

  for (const htlc of content.htlcs) {
    if (!isPossibleHtlc(htlc)) throw lngateError("bad-commitment", "an HTLC that no commitment can have");
    add("htlc", Math.floor(htlc.amountMsat / 1000), htlcScript(htlc, keys), htlc);
  }
  const { toBroadcasterSat, toCountersignatorySat } = content;
  if (toBroadcasterSat > 0) add("to-local", toBroadcasterSat, revocable);
  if (toCountersignatorySat > 0) {
    add("to-remote", toCountersignatorySat, toRemoteScript(remote.basepoints.payment));
  }
  // A side without anything to win from the commitment needs no anchor to hurry it.
  const hasHtlcs = content.htlcs.length > 0;
  if (toBroadcasterSat > 0 || hasHtlcs) add("local-anchor", ANCHOR_SAT, anchorScript(local.fundingPubkey));
  if (toCountersignatorySat > 0 || hasHtlcs) {
    add("remote-anchor", ANCHOR_SAT, anchorScript(remote.fundingPubkey));
  }
  if (!(leftSat >= 0 && toBroadcasterSat >= 0 && toCountersignatorySat >= 0 && outputs.length > 0)) {
    throw lngateError("bad-commitment", "the outputs do not fit into the channel");
  }
  outputs.sort(
    (a, b) => compareOutputs(a, b) || (a.htlc && b.htlc ? a.htlc.cltvExpiry - b.htlc.cltvExpiry : 0),
  );

  const obscured = obscuredNumber(channel, commitmentNumber);
  const transaction: Transaction = {
    version: 2,
    inputs: [{ ...channel.funding, sequence: 0x80000000 + obscured.high }],
    outputs,
    locktime: 0x20000000 + obscured.low,
  };
  const txid = txidOf(transaction);
  const htlcs: HtlcTransaction[] = [];
  for (let vout = 0; vout < outputs.length; vout++) {
    if (outputs[vout]!.htlc) htlcs.push(htlcTransaction(txid, vout, outputs[vout]!, revocable));
  }
  return {
    transaction,
    txid,
    sighash: sighash(transaction, 0, fundingScript(channel), channel.fundingSat),
    outputs,
    htlcs,
  };
}

function isPossibleHtlc(htlc: Htlc): boolean {
  const { amountMsat, cltvExpiry, paymentHash } = htlc;
  return (
    amountMsat >= 1000 &&
    Math.floor(amountMsat) === amountMsat &&
    cltvExpiry > 0 &&
    cltvExpiry < HEIGHT_LIMIT &&
    Math.floor(cltvExpiry) === cltvExpiry &&
    paymentHash.length === 32
  );
}

/** The commitment number, hidden from those who do not know the payment basepoints (BOLT #3). */
function obscuredNumber(channel: ChannelParameters, number: number): { high: number; low: number } {
  if (!(number >= 0 && number < HALF * HALF && Math.floor(number) === number)) {
    throw lngateError("bad-commitment", "a commitment number out of range");
  }
  const mask = numberMask(channel);
  const high = Math.floor(number / HALF);
  return { high: high ^ mask.high, low: (number - high * HALF) ^ mask.low };
}

/**
 * The number of the commitment that spends this channel, whichever side's it is (the two are told apart by the keys in
 * their outputs); null for a transaction that is not a commitment of this channel: a mutual close, say.
 */
export function commitmentNumberOf(channel: ChannelParameters, transaction: Transaction): number | null {
  const { inputs, locktime } = transaction;
  const { txid, vout, sequence } = inputs[0]!;
  const { funding } = channel;
  if (inputs.length !== 1 || vout !== funding.vout || !equal(txid, funding.txid)) return null;
  const high = sequence - 0x80000000;
  const low = locktime - 0x20000000;
  if (!(high >= 0 && high < HALF && low >= 0 && low < HALF)) return null;
  const mask = numberMask(channel);
  return (high ^ mask.high) * HALF + (low ^ mask.low);
}

/** What the two halves of a commitment number are hidden with. */
function numberMask(channel: ChannelParameters): { high: number; low: number } {
  const opener = partyOf(channel, channel.funder).basepoints.payment;
  const accepter = partyOf(channel, otherSide(channel.funder)).basepoints.payment;
  const mask = sha256(concat([opener, accepter]));
  const mask24 = (at: number) => (mask[at]! << 16) | (mask[at + 1]! << 8) | mask[at + 2]!;
  return { high: mask24(26), low: mask24(29) };
}

function htlcTransaction(
  txid: Uint8Array,
  vout: number,
  output: CommitmentOutput,
  revocable: Uint8Array,
): HtlcTransaction {
  const { valueSat, witnessScript } = output;
  const htlc = output.htlc!;
  const transaction: Transaction = {
    version: 2,
    inputs: [{ txid, vout, sequence: 1 }],
    outputs: [{ valueSat, script: p2wsh(revocable) }],
    locktime: htlc.offered ? htlc.cltvExpiry : 0,
  };
  const hash = sighash(transaction, 0, witnessScript, valueSat, SIGHASH_SINGLE_ANYONECANPAY);
  return { htlc, vout, valueSat, witnessScript, transaction, sighash: hash };
}

function withWitness(transaction: Transaction, witness: Uint8Array[]): Transaction {
  return { ...transaction, inputs: [{ ...transaction.inputs[0]!, witness }] };
}

/** The commitment ready to publish. Both signatures compact, over `commitment.sighash`. */
export function signedCommitment(
  channel: ChannelParameters,
  commitment: Commitment,
  holderSignature: Uint8Array,
  counterpartySignature: Uint8Array,
): Transaction {
  return withWitness(commitment.transaction, fundingWitness(channel, holderSignature, counterpartySignature));
}

/**
 * An HTLC transaction ready to publish, as it is (without an input for fees). The broadcaster's signature is for
 * SIGHASH_ALL; `preimage` for a received HTLC, null for an offered one that timed out.
 */
export function signedHtlcTransaction(
  htlc: HtlcTransaction,
  broadcasterSignature: Uint8Array,
  countersignatorySignature: Uint8Array,
  preimage: Uint8Array | null,
): Transaction {
  return withWitness(htlc.transaction, [
    FALSE,
    witnessSignature(countersignatorySignature, SIGHASH_SINGLE_ANYONECANPAY),
    witnessSignature(broadcasterSignature),
    preimage || FALSE,
    htlc.witnessScript,
  ]);
}

/** One anchor turned into an output of the owner's, for the owner to add coins that pay a higher fee. */
export interface AnchorBump {
  /** Unsigned; anything may be added behind its one input and its one output. */
  readonly transaction: Transaction;
  readonly witnessScript: Uint8Array;
  /** What the anchor's funding key signs (SIGHASH_SINGLE | ANYONECANPAY). */
  readonly sighash: Uint8Array;
}

/**
 * The spend of our anchor in a commitment: "local-anchor" in our own, "remote-anchor" in the other side's.
 * Null if the commitment has no such output.
 */
export function anchorBump(
  commitment: Commitment,
  kind: "local-anchor" | "remote-anchor",
  ownerScript: Uint8Array,
): AnchorBump | null {
  for (let vout = 0; vout < commitment.outputs.length; vout++) {
    const { kind: found, witnessScript } = commitment.outputs[vout]!;
    if (found !== kind) continue;
    // Replaceable, so that the owner may raise the fee once more; signed, so it cannot be chosen later.
    const transaction: Transaction = {
      version: 2,
      inputs: [{ txid: commitment.txid, vout, sequence: 0xfffffffd }],
      outputs: [{ valueSat: ANCHOR_SAT, script: ownerScript }],
      locktime: 0,
    };
    const hash = sighash(transaction, 0, witnessScript, ANCHOR_SAT, SIGHASH_SINGLE_ANYONECANPAY);
    return { transaction, witnessScript, sighash: hash };
  }
  return null;
}

/** The bump with its signature; others' inputs and outputs may be appended before publishing. */
export function signedAnchorBump(bump: AnchorBump, signature: Uint8Array): Transaction {
  return withWitness(bump.transaction, [
    witnessSignature(signature, SIGHASH_SINGLE_ANYONECANPAY),
    bump.witnessScript,
  ]);
}

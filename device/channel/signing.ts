/** The device's part of every signature: scalars only, one record each. */

import { concat } from "../../src/bytes/bytes.ts";
import { recordsToSettle } from "../../src/channel/records-to-settle.ts";
import { lngateError } from "../../src/errors.ts";
import { derivePrivateKey } from "../../src/lightning/keys.ts";
import type { AuthenticatedPartial, PartialSignature } from "../../src/messages/device.ts";
import { answer, complete, isAuthentic, signWithNonce } from "../../src/threshold/online.ts";
import { macKeys } from "../../src/threshold/presigning/mac-keys.ts";
import { passRecord, takeRecord, type Work } from "./context.ts";
import { enforce } from "./enforce.ts";
import { inFlight } from "./payments/balance.ts";

/** What an honest gateway may have lost of its own. */
const MAX_SKIPPED = 16;

/** Our half of a signature by the funding key, for the gateway to complete (kind A). */
export function partialFor(work: Work, sighash: Uint8Array): PartialSignature {
  const record = takeRecord(work, "A");
  const scalar = answer(record.bytes, sighash);
  record.bytes.fill(0);
  return { id: record.id, scalar };
}

/** Throws unless these records of kind B, in this order, can be used: the gateway names them. */
export function ensureOwn(work: Work, partials: readonly PartialSignature[]): void {
  const { records } = work.context;
  let next = work.state.books.cursors.B;
  for (const { id } of partials) {
    enforce("record-reuse", id >= next, `record ${id} has been used already`);
    skipTo(work, next, id);
    const record = records.read("B", id);
    if (record === null || record.id !== id) {
      throw lngateError("record-missing", `the device has no record ${id} of kind B`);
    }
    record.bytes.fill(0);
    next = id + 1;
  }
}

/**
 * Completes a signature by the funding key that stays here (kind B). The record is there (`ensureOwn`); those
 * before it are given up. Its answer's MAC proves, without a curve, that the signature is one of this sighash:
 * whoever could choose an answer that is not checked chose what Q signs. A wrong answer costs its record, and is counted.
 */
export function finishOwn(work: Work, partial: AuthenticatedPartial, sighash: Uint8Array): Uint8Array {
  const { bytes } = work.context.records.read("B", partial.id)!;
  // r ‖ κ ‖ c ‖ α ‖ key
  const keys = concat([bytes.subarray(96, 128), macKeys(bytes.subarray(128), partial.id)]);
  const isRight = isAuthentic(keys, sighash, partial.scalar, partial.mac);
  passRecord(work, "B", partial.id, isRight ? 0 : 1);
  keys.fill(0);
  try {
    enforce("own-signature", isRight, "the gateway's half of our own signature is wrong");
    return complete(bytes.subarray(0, 96), partial.scalar);
  } finally {
    bytes.fill(0);
  }
}

/** Records before the one that the gateway names are given up: few, and not those that payments in flight need. */
function skipTo(work: Work, next: number, id: number): void {
  const { records } = work.context;
  const skipped = records.left("B", next) - records.left("B", id);
  const needed = recordsToSettle(inFlight(work.state).length + 1).B;
  enforce(
    "record-skip",
    skipped === 0 || (skipped <= MAX_SKIPPED && records.left("B", id) >= needed),
    `${skipped} records would be given up unused`,
  );
}

/** A signature with our HTLC key on the bridge's HTLC transaction, with a prepared nonce (kind H). */
export function htlcSignature(work: Work, sighash: Uint8Array, commitmentPoint: Uint8Array): Uint8Array {
  const { identity } = work.context;
  const key = derivePrivateKey(identity.htlcBasepointSecret, identity.htlcBasepoint, commitmentPoint);
  const record = takeRecord(work, "H");
  const signature = signWithNonce(record.bytes, key, sighash);
  record.bytes.fill(0);
  key.fill(0);
  return signature;
}

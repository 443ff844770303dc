/**
 * The online half of the threshold signature: what happens during a payment. No elliptic curve is touched here,
 * so this is all that a microcontroller needs; its cost is one multiplication and one addition modulo n, and two more to check an answer.
 *
 * A presignature exists as two records, one per party. The *answering* party (P2) holds `w ‖ v` and answers a
 * sighash z with s2 = w·z + v; the *completing* party (P1) holds `r ‖ κ ‖ c` and makes s = κ·s2 + c of it.
 * For kind A the device answers, for kind B it completes, and checks the answer's MAC before. A third kind, H, is not a threshold signature: a nonce
 * prepared for the device's own key (`w ‖ r` with w = 1/k).
 *
 * Every record must serve one message only: two answers from one record give the whole key to the other side.
 * This module cannot know what was used before; a record store (records.ts) must stand in front of it.
 */
import { equal } from "../bytes/bytes.ts";
import { isLowS, isReducedScalar, isValidScalar, mulAddMod, mulMod, negate } from "../crypto/scalar.ts";
import { lngateError } from "../errors.ts";

/** Bytes of an answering record, `w ‖ v`. */
export const ANSWERING_RECORD_BYTES = 64;
/** Bytes of an answering record of kind B, `w ‖ v ‖ t_w ‖ t_v`: with the MACs of both. */
export const AUTHENTICATED_RECORD_BYTES = 128;
/** Bytes of the MAC of an answer: half of it, which leaves a forger one chance in 2^128. */
const ANSWER_MAC_BYTES = 16;
/** Bytes of a completing record, `r ‖ κ ‖ c`. */
export const COMPLETING_RECORD_BYTES = 96;
/** Bytes of a prepared nonce, `w ‖ r`. */
export const NONCE_RECORD_BYTES = 64;

/**
 * P2's step: s2 = w·z + v mod n, 32 bytes.
 *
 * @param record `w ‖ v`, 64 bytes
 * @param sighash 32 bytes of the transaction that this party has built itself; taken modulo n
 * @throws `bad-record`, `bad-sighash`
 */
export function answer(record: Uint8Array, sighash: Uint8Array): Uint8Array {
  ensureRecord(record, ANSWERING_RECORD_BYTES);
  ensureSighash(sighash);
  const w = copyOf(record, 0, 32);
  const v = copyOf(record, 32, 64);
  const s2 = mulAddMod(w, sighash, v);
  w.fill(0);
  v.fill(0);
  return s2;
}

/**
 * P2's step where P1 has to see without a curve that the answer is right: s2 = w·z + v (32 bytes) ‖ the low half (16) of
 * its MAC z·t_w + t_v mod n.
 *
 * @param record `w ‖ v ‖ t_w ‖ t_v`, 128 bytes
 * @throws `bad-record`, `bad-sighash`
 */
export function answerWithMac(record: Uint8Array, sighash: Uint8Array): Uint8Array {
  ensureRecord(record, AUTHENTICATED_RECORD_BYTES);
  const out = new Uint8Array(32 + ANSWER_MAC_BYTES);
  out.set(answer(record.subarray(0, ANSWERING_RECORD_BYTES), sighash));
  const [ofW, ofV] = [copyOf(record, 64, 96), copyOf(record, 96, 128)];
  out.set(mulAddMod(ofW, sighash, ofV).subarray(ANSWER_MAC_BYTES), 32);
  ofW.fill(0);
  ofV.fill(0);
  return out;
}

/**
 * Is this P2's answer for this very sighash? Compares the low half of α·s2 + z·b_w + b_v mod n with the MAC, in constant
 * time. Of a wrong answer nothing may be used, the record included.
 *
 * @param keys `α ‖ b_w ‖ b_v`, 96 bytes
 * @param s2 32 bytes
 * @param mac 16 bytes
 * @throws `bad-sighash`
 */
export function isAuthentic(keys: Uint8Array, sighash: Uint8Array, s2: Uint8Array, mac: Uint8Array): boolean {
  ensureSighash(sighash);
  if (!isReducedScalar(s2)) return false;
  const own = mulAddMod(keys.subarray(32, 64), sighash, keys.subarray(64, 96));
  return equal(mulAddMod(keys.subarray(0, 32), s2, own).subarray(ANSWER_MAC_BYTES), mac);
}

/**
 * P1's step: the signature `r ‖ s`, 64 bytes, s = κ·s2 + c mod n taken low. It is only as good as s2: whoever
 * has a curve verifies it (signature.ts).
 *
 * @param record `r ‖ κ ‖ c`, 96 bytes
 * @param s2 the other party's answer, 32 bytes
 * @throws `bad-record`, `bad-answer` (s2 is not a scalar, or leads to s = 0)
 */
export function complete(record: Uint8Array, s2: Uint8Array): Uint8Array {
  ensureRecord(record, COMPLETING_RECORD_BYTES);
  if (!isReducedScalar(s2)) throw lngateError("bad-answer", "the answer is not a scalar below n");
  const kappa = copyOf(record, 32, 64);
  const c = copyOf(record, 64, 96);
  const s = mulAddMod(kappa, s2, c);
  kappa.fill(0);
  c.fill(0);
  return signature(copyOf(record, 0, 32), s);
}

/**
 * An ordinary ECDSA signature with a prepared nonce: `r ‖ s`, 64 bytes, s = w·(z + r·x) mod n taken low.
 *
 * @param record `w ‖ r`, 64 bytes
 * @param privateKey x, 32 bytes
 * @param sighash z, 32 bytes, taken modulo n
 * @throws `bad-record`, `bad-key`, `bad-sighash`
 */
export function signWithNonce(record: Uint8Array, privateKey: Uint8Array, sighash: Uint8Array): Uint8Array {
  ensureRecord(record, NONCE_RECORD_BYTES);
  ensureSighash(sighash);
  if (!isValidScalar(privateKey)) throw lngateError("bad-key", "the private key is not a scalar");
  const w = copyOf(record, 0, 32);
  const r = copyOf(record, 32, 64);
  const sum = mulAddMod(r, privateKey, sighash);
  const s = mulMod(w, sum);
  w.fill(0);
  sum.fill(0);
  return signature(r, s);
}

/** A copy, also of what only looks like a plain array (slicing a Node Buffer does not copy). */
function copyOf(bytes: Uint8Array, from: number, to: number): Uint8Array {
  return new Uint8Array(bytes.subarray(from, to));
}

/** r ‖ s with the low one of s and −s. */
function signature(r: Uint8Array, s: Uint8Array): Uint8Array {
  if (!isValidScalar(s)) throw lngateError("bad-answer", "the signature would be zero");
  const out = new Uint8Array(64);
  out.set(r);
  out.set(isLowS(s) ? s : negate(s), 32);
  return out;
}

function ensureRecord(record: Uint8Array, length: number): void {
  // The first scalar (w or r) of a real record is never zero, that of an erased one is.
  if (record.length !== length || !isValidScalar(copyOf(record, 0, 32))) {
    throw lngateError("bad-record", "the presignature record is erased or of another kind");
  }
}

function ensureSighash(sighash: Uint8Array): void {
  if (sighash.length !== 32) throw lngateError("bad-sighash", "a sighash has 32 bytes");
}

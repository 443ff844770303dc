/** P1's online step where a curve is at hand: no signature is believed before it verifies. */
import { nobleCurve } from "../crypto/curve.ts";
import { lngateError } from "../errors.ts";
import { complete } from "./online.ts";

/**
 * The signature `r ‖ s` (64 bytes, low s) that P2's answer completes.
 *
 * @param record `r ‖ κ ‖ c`
 * @param s2 P2's answer for the same sighash
 * @param joint Q, untweaked: a presignature under a tweaked key would be forgeable (Groth, Shoup, ePrint 2021/1330)
 * @throws `threshold-bad-signature`, `bad-answer`, `bad-record`
 */
export function completeVerified(
  record: Uint8Array,
  s2: Uint8Array,
  sighash: Uint8Array,
  joint: Uint8Array,
): Uint8Array {
  const signature = complete(record, s2);
  if (!nobleCurve.verify(signature, sighash, joint)) {
    throw lngateError("threshold-bad-signature", "the other party's answer does not complete the signature");
  }
  return signature;
}

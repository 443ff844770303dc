/** What has a curve at hand does with signatures: it verifies them. */
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { lngateError } from "../errors.ts";
import { complete } from "./online.ts";

/**
 * True if `signature` (r ‖ s, 64 bytes) signs the 32-byte sighash under the compressed key by Bitcoin's rules:
 * 0 < r < n, 0 < s ≤ n/2. Anything malformed is false.
 */
export function verifySignature(signature: Uint8Array, sighash: Uint8Array, publicKey: Uint8Array): boolean {
  if (signature.length !== 64 || sighash.length !== 32 || publicKey.length !== 33) return false;
  try {
    return secp256k1.verify(signature, sighash, publicKey, { prehash: false, lowS: true, format: "compact" });
  } catch {
    return false;
  }
}

/**
 * P1's online step with the check that belongs to it.
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
  if (!verifySignature(signature, sighash, joint)) {
    throw lngateError("threshold-bad-signature", "the other party's answer does not complete the signature");
  }
  return signature;
}

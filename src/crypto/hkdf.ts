/** HKDF with SHA-256 (RFC 5869). */
import { concat } from "../bytes/bytes.ts";
import { hmacSha256 } from "./hash.ts";

/** `length` bytes (at most 8,160) from input keying material; an empty salt stands for 32 zero bytes. */
export function hkdf(ikm: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  const extracted = hmacSha256(salt.length > 0 ? salt : new Uint8Array(32), ikm);
  const out = new Uint8Array(length);
  let block: Uint8Array = new Uint8Array(0);
  for (let at = 0, number = 1; at < length; at += 32, number++) {
    block = hmacSha256(extracted, concat([block, info, new Uint8Array([number])]));
    out.set(block.subarray(0, Math.min(32, length - at)), at);
  }
  return out;
}

/** HMAC-SHA256 (RFC 2104) over a board's own SHA-256. */
import { concat } from "../../../src/bytes/bytes.ts";

const BLOCK = 64;

/** HMAC-SHA256 over this SHA-256. */
export function hmacOver(
  sha256: (bytes: Uint8Array) => Uint8Array,
): (key: Uint8Array, bytes: Uint8Array) => Uint8Array {
  function padded(key: Uint8Array, mask: number): Uint8Array {
    const out = new Uint8Array(BLOCK);
    out.set(key);
    for (let i = 0; i < BLOCK; i++) out[i] = out[i]! ^ mask;
    return out;
  }
  return (key, bytes) => {
    const short = key.length > BLOCK ? sha256(key) : key;
    const inner = sha256(concat([padded(short, 0x36), bytes]));
    return sha256(concat([padded(short, 0x5c), inner]));
  };
}

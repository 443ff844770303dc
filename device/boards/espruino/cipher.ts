/** AES-256 in counter mode (NIST SP 800-38A, section 6.5), by blocks: Espruino's own counter mode ignores where to begin. */
import { AES } from "espruino:crypto";

const BLOCK = 16;

/** @param iv the first counter block, 16 bytes */
export function aes256Ctr(key: Uint8Array, iv: Uint8Array, bytes: Uint8Array): Uint8Array {
  if (bytes.length === 0) return bytes;
  const counters = new Uint8Array(BLOCK * Math.ceil(bytes.length / BLOCK));
  const counter = new Uint8Array(iv);
  for (let at = 0; at < counters.length; at += BLOCK) {
    counters.set(counter, at);
    for (let i = BLOCK - 1; i >= 0; i--) {
      counter[i] = (counter[i]! + 1) & 255;
      if (counter[i] !== 0) break;
    }
  }
  const stream = new Uint8Array(AES.encrypt(counters, new Uint8Array(key), { mode: "ECB" }));
  const out = new Uint8Array(bytes.length);
  for (let i = 0; i < out.length; i++) out[i] = bytes[i]! ^ stream[i]!;
  return out;
}

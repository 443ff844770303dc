/** A curve that tells whose signatures it is asked about. */
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";

/** `verified`: the public keys in hex, in the order in which they were asked about. */
export function watchedCurve() {
  const verified: string[] = [];
  const curve = {
    ...nobleCurve,
    verify: (signature: Uint8Array, hash: Uint8Array, key: Uint8Array) => {
      verified.push(toHex(key));
      return nobleCurve.verify(signature, hash, key);
    },
  };
  return { curve, verified };
}

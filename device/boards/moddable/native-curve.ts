/**
 * The curve port over native-curve.c, which is libsecp256k1: ten to forty times as fast as group.ts, and in constant time
 * for secrets by its authors' care instead of ours.
 */
import type { PublicCurve } from "../../../src/crypto/curve.ts";
import { lngateError } from "../../../src/errors.ts";

/** `xs_lngate_curve`: a point, or a number that says what else came out. */
export type NativeCurve = (operation: number, ...args: readonly Uint8Array[]) => ArrayBuffer | number;

/** Operations and answers by the numbers of native-curve-core.h. */
const PUBLIC_KEY = 0;
const IS_POINT = 1;
const ADD = 2;
const COMBINE = 3;
const VERIFY = 4;
const RECOVER = 5;
const TRUE = 1;
const BAD_POINT = 3;
const BAD_SCALAR = 4;
const BAD_HASH = 5;
const BAD_SIGNATURE = 6;

export function nativeCurve(native: NativeCurve): PublicCurve {
  function point(operation: number, ...args: readonly Uint8Array[]): Uint8Array {
    const answer = native(operation, ...args);
    if (typeof answer === "number") throw failure(answer);
    return new Uint8Array(answer);
  }
  function isTrue(operation: number, ...args: readonly Uint8Array[]): boolean {
    const answer = native(operation, ...args) as number;
    if (answer > TRUE) throw failure(answer);
    return answer === TRUE;
  }
  return {
    publicKey: secret => point(PUBLIC_KEY, secret),
    isPoint: bytes => isTrue(IS_POINT, bytes),
    add: (p, q) => point(ADD, p, q),
    combine: (p, a, q, b) => point(COMBINE, p, a, q, b),
    verify: (signature, hash, publicKey) => isTrue(VERIFY, signature, hash, publicKey),
    recover: (signature, recoveryId, hash) =>
      // As one byte a larger number could look like a valid one.
      point(RECOVER, signature, new Uint8Array(recoveryId >> 2 === 0 ? [recoveryId] : []), hash),
  };
}

function failure(answer: number): Error {
  switch (answer) {
    case BAD_POINT:
      return lngateError("bad-point", "these bytes are not a compressed point of secp256k1");
    case BAD_SCALAR:
      return lngateError("bad-scalar", "a scalar must be 32 bytes, above 0 and below the group order");
    case BAD_HASH:
      return lngateError("bad-hash", "a hash to sign or verify must be 32 bytes");
    case BAD_SIGNATURE:
      return lngateError("bad-signature", "no public key can be recovered from this signature");
    default:
      return lngateError("point-at-infinity", "the result is the point at infinity");
  }
}

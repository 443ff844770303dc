/** Scalars modulo n by native BigInt; see scalar.ts for the contract. */
import { lngateError } from "../errors.ts";

export { isLowS, isReducedScalar, isValidScalar } from "./scalar-order.ts";

/** n, the order of secp256k1. */
export const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

/** 32 bytes, big-endian, as a number. Throws `bad-scalar` for another length. */
export function toBigInt(bytes: Uint8Array): bigint {
  if (bytes.length !== 32) throw lngateError("bad-scalar", "a scalar has 32 bytes");
  const view = new DataView(bytes.buffer, bytes.byteOffset, 32);
  return (
    (view.getBigUint64(0) << 192n) |
    (view.getBigUint64(8) << 128n) |
    (view.getBigUint64(16) << 64n) |
    view.getBigUint64(24)
  );
}

/** A number of 0 to 2^256 − 1 as 32 bytes, big-endian; `out` takes them at `at` when given. */
export function fromBigInt(value: bigint, out = new Uint8Array(32), at = 0): Uint8Array {
  const view = new DataView(out.buffer, out.byteOffset + at, 32);
  view.setBigUint64(0, value >> 192n);
  view.setBigUint64(8, value >> 128n);
  view.setBigUint64(16, value >> 64n);
  view.setBigUint64(24, value);
  return out;
}

/** a mod n. */
export function reduce(a: Uint8Array): Uint8Array {
  return fromBigInt(toBigInt(a) % N);
}

/** a + b mod n. */
export function addMod(a: Uint8Array, b: Uint8Array): Uint8Array {
  return fromBigInt((toBigInt(a) + toBigInt(b)) % N);
}

/** −a mod n. */
export function negate(a: Uint8Array): Uint8Array {
  return fromBigInt((2n * N - toBigInt(a)) % N);
}

/** a·b mod n. */
export function mulMod(a: Uint8Array, b: Uint8Array): Uint8Array {
  return fromBigInt((toBigInt(a) * toBigInt(b)) % N);
}

/** a·b + c mod n. */
export function mulAddMod(a: Uint8Array, b: Uint8Array, c: Uint8Array): Uint8Array {
  return fromBigInt((toBigInt(a) * toBigInt(b) + toBigInt(c)) % N);
}

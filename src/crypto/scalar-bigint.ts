/** Scalars modulo n by native BigInt; see scalar.ts for the contract. */
import { lngateError } from "../errors.ts";

/** n, the order of secp256k1. */
export const N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

/** The 32 bytes at `at`, big-endian, as a number. */
export function readScalar(view: DataView, at: number): bigint {
  return (
    (view.getBigUint64(at) << 192n) |
    (view.getBigUint64(at + 8) << 128n) |
    (view.getBigUint64(at + 16) << 64n) |
    view.getBigUint64(at + 24)
  );
}

/** Writes a number of 0 to 2^256 − 1 as 32 bytes, big-endian, at `at`. */
export function writeScalar(view: DataView, at: number, value: bigint): void {
  view.setBigUint64(at, value >> 192n);
  view.setBigUint64(at + 8, value >> 128n);
  view.setBigUint64(at + 16, value >> 64n);
  view.setBigUint64(at + 24, value);
}

/** 32 bytes, big-endian, as a number. Throws `bad-scalar` for another length. */
export function toBigInt(bytes: Uint8Array): bigint {
  if (bytes.length !== 32) throw lngateError("bad-scalar", "a scalar has 32 bytes");
  return readScalar(new DataView(bytes.buffer, bytes.byteOffset, 32), 0);
}

/** A number of 0 to 2^256 − 1 as 32 bytes, big-endian. */
export function fromBigInt(value: bigint): Uint8Array {
  const out = new Uint8Array(32);
  writeScalar(new DataView(out.buffer), 0, value);
  return out;
}

/**
 * a mod n.
 * @public
 */
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

/** True for 32 bytes that encode a number below n; zero included. */
export function isReducedScalar(bytes: Uint8Array): boolean {
  return bytes.length === 32 && toBigInt(bytes) < N;
}

/** True for 32 bytes that encode 0 < s < n: a private key, a nonce, a half of a signature. */
export function isValidScalar(bytes: Uint8Array): boolean {
  return isReducedScalar(bytes) && toBigInt(bytes) > 0n;
}

/** True for a scalar of at most (n − 1) / 2, the greatest s that Bitcoin relays (BIP 146). */
export function isLowS(bytes: Uint8Array): boolean {
  return bytes.length === 32 && 2n * toBigInt(bytes) < N;
}

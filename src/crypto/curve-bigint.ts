/**
 * secp256k1 for a microcontroller with BigInt, over the group of group-bigint.ts or a board's own. See curve.ts for the
 * contract.
 */
import { lngateError } from "../errors.ts";
import type { PublicCurve } from "./curve.ts";
import { add, base, combine, invert, type Jacobian, multiplyBase, P, squareRoot } from "./group-bigint.ts";
import { fromBigInt, N, toBigInt } from "./scalar-bigint.ts";

/** The point with this x and this parity of y, or null if the curve has none. */
function lift(x: bigint, isOdd: boolean): Jacobian | null {
  const square = (x * x * x + 7n) % P;
  const y = squareRoot(square);
  if (x >= P || (y * y) % P !== square) return null;
  return [x, ((y & 1n) === 1n) === isOdd ? y : P - y, 1n];
}

function decode(point: Uint8Array): Jacobian | null {
  if (point.length !== 33 || (point[0] !== 2 && point[0] !== 3)) return null;
  return lift(toBigInt(point.subarray(1)), point[0] === 3);
}

function pointOf(bytes: Uint8Array): Jacobian {
  const point = decode(bytes);
  if (point === null) throw lngateError("bad-point", "these bytes are not a compressed point of secp256k1");
  return point;
}

function bytesOf([x, y, z]: Jacobian): Uint8Array {
  if (z === 0n) throw lngateError("point-at-infinity", "the result is the point at infinity");
  const inverse = invert(z, P);
  const square = (inverse * inverse) % P;
  const out = new Uint8Array(33);
  out[0] = ((((y * square) % P) * inverse) % P) & 1n ? 3 : 2;
  out.set(fromBigInt((x * square) % P), 1);
  return out;
}

function scalarOf(bytes: Uint8Array): bigint {
  const scalar = bytes.length === 32 ? toBigInt(bytes) : 0n;
  if (scalar === 0n || scalar >= N) {
    throw lngateError("bad-scalar", "a scalar must be 32 bytes, above 0 and below the group order");
  }
  return scalar;
}

function hashOf(hash: Uint8Array): bigint {
  if (hash.length !== 32) throw lngateError("bad-hash", "a hash to sign or verify must be 32 bytes");
  return toBigInt(hash) % N;
}

/** r and s of a signature, or null if one of them is out of range. */
function halvesOf(signature: Uint8Array): readonly [bigint, bigint] | null {
  if (signature.length !== 64) return null;
  const r = toBigInt(signature.subarray(0, 32));
  const s = toBigInt(signature.subarray(32));
  return r === 0n || s === 0n || r >= N || s >= N ? null : [r, s];
}

export const bigintCurve: PublicCurve = {
  publicKey: secret => bytesOf(multiplyBase(scalarOf(secret))),
  isPoint: point => decode(point) !== null,
  add: (p, q) => bytesOf(add(pointOf(p), pointOf(q))),
  combine: (p, a, q, b) => bytesOf(combine(pointOf(p), scalarOf(a), pointOf(q), scalarOf(b))),
  verify: (signature, hash, publicKey) => {
    const z = hashOf(hash);
    const key = pointOf(publicKey);
    const halves = halvesOf(signature);
    if (halves === null || 2n * halves[1] > N) return false;
    const [r, s] = halves;
    const inverse = invert(s, N);
    const [x, , w] = combine(base(), (z * inverse) % N, key, (r * inverse) % N);
    if (w === 0n) return false;
    // The x of the point is r modulo n; compared without the division by w².
    const ww = (w * w) % P;
    return x === (r * ww) % P || (r + N < P && x === ((r + N) * ww) % P);
  },
  recover: (signature, recoveryId, hash) => {
    const z = hashOf(hash);
    const halves = halvesOf(signature);
    const x = halves === null ? P : halves[0] + (recoveryId & 2 ? N : 0n);
    const nonce = halves === null || recoveryId >> 2 !== 0 ? null : lift(x, (recoveryId & 1) === 1);
    if (halves === null || nonce === null) throw badSignature();
    const [r, s] = halves;
    const inverse = invert(r, N);
    const key = combine(nonce, (s * inverse) % N, base(), ((N - z) * inverse) % N);
    if (key[2] === 0n) throw badSignature();
    return bytesOf(key);
  },
};

function badSignature(): Error {
  return lngateError("bad-signature", "no public key can be recovered from this signature");
}

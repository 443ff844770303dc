/**
 * The curve port: secp256k1 points and ECDSA. What needs it takes a `Curve` as a parameter, so that a board
 * without curve arithmetic passes null, and one with a native implementation passes its own.
 *
 * Points are 33-byte compressed SEC1, scalars 32 bytes big-endian in 1 … n−1, hashes 32 bytes, signatures
 * 64 bytes compact (r ‖ s).
 */
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { lngateError } from "../errors.ts";

/** What a device needs: nothing that signs. */
export interface PublicCurve {
  /** scalar·G, safe for a secret scalar. Throws `bad-scalar`. */
  publicKey(secret: Uint8Array): Uint8Array;
  /** True for the 33-byte encoding of a point of the curve (which infinity has not). Never throws. */
  isPoint(point: Uint8Array): boolean;
  /** p + q. Throws `bad-point`, and `point-at-infinity` if they cancel out. */
  add(p: Uint8Array, q: Uint8Array): Uint8Array;
  /** a·p + b·q for **public** scalars, faster than two multiplications. Throws like add and multiply. */
  combine(p: Uint8Array, a: Uint8Array, q: Uint8Array, b: Uint8Array): Uint8Array;
  /**
   * ECDSA as Bitcoin relays it: false for any signature out of range, with a high s, or of another hash.
   * Throws `bad-point`.
   */
  verify(signature: Uint8Array, hash: Uint8Array, publicKey: Uint8Array): boolean;
  /** The key that made a signature (either s); recoveryId 0 … 3. Throws `bad-signature`. */
  recover(signature: Uint8Array, recoveryId: number, hash: Uint8Array): Uint8Array;
}

export interface Curve extends PublicCurve {
  /** scalar·p, safe for a secret scalar. Throws `bad-point`, `bad-scalar`. */
  multiply(p: Uint8Array, scalar: Uint8Array): Uint8Array;
  /** RFC 6979 signature with a low s. Throws `bad-scalar`. */
  sign(hash: Uint8Array, secret: Uint8Array): Uint8Array;
}

const { Point, Signature } = secp256k1;
const { Fn } = Point;
type NoblePoint = InstanceType<typeof Point>;

/** The hash is signed as it is, and only low s counts. */
const RAW = { prehash: false, lowS: true } as const;

function pointOf(bytes: Uint8Array): NoblePoint {
  try {
    if (bytes.length === 33) return Point.fromBytes(bytes);
  } catch {
    // Answered below, in our own words.
  }
  throw lngateError("bad-point", "these bytes are not a compressed point of secp256k1");
}

function scalarOf(bytes: Uint8Array): bigint {
  try {
    const scalar = Fn.fromBytes(bytes);
    if (scalar !== 0n) return scalar;
  } catch {
    // Answered below: nothing of a possibly secret value may be in the message.
  }
  throw lngateError("bad-scalar", "a scalar must be 32 bytes, above 0 and below the group order");
}

function bytesOf(point: NoblePoint): Uint8Array {
  if (point.is0()) throw lngateError("point-at-infinity", "the result is the point at infinity");
  return point.toBytes(true);
}

function check32(hash: Uint8Array): void {
  if (hash.length !== 32) throw lngateError("bad-hash", "a hash to sign or verify must be 32 bytes");
}

/**
 * The implementation for Node, by @noble/curves: against @noble/secp256k1 its endomorphism makes a verification
 * nearly twice as fast, and a multiplication by a secret scalar is blinded and still faster.
 */
export const nobleCurve: Curve = {
  publicKey: secret => bytesOf(Point.BASE.multiply(scalarOf(secret))),
  isPoint: point => point.length === 33 && secp256k1.utils.isValidPublicKey(point, true),
  add: (p, q) => bytesOf(pointOf(p).add(pointOf(q))),
  multiply: (p, scalar) => bytesOf(pointOf(p).multiply(scalarOf(scalar))),
  combine: (p, a, q, b) => bytesOf(pointOf(p).mulAddUnsafe(scalarOf(a), pointOf(q), scalarOf(b))),
  verify: (signature, hash, publicKey) => {
    check32(hash);
    const valid =
      signature.length === 64 && publicKey.length === 33 && secp256k1.verify(signature, hash, publicKey, RAW);
    // The library answers false for a bad key too; only then is it worth decoding the key once more.
    if (!valid) pointOf(publicKey);
    return valid;
  },
  sign: (hash, secret) => {
    check32(hash);
    scalarOf(secret);
    return secp256k1.sign(hash, secret, RAW);
  },
  recover: (signature, recoveryId, hash) => {
    check32(hash);
    try {
      return Signature.fromBytes(signature).addRecoveryBit(recoveryId).recoverPublicKey(hash).toBytes(true);
    } catch {
      throw lngateError("bad-signature", "no public key can be recovered from this signature");
    }
  },
};

/** Points of secp256k1 as the ceremonies use them: strict encodings, proofs of knowledge, hashing to the curve. */
import { mulAddUnsafe, normalizeZ } from "@noble/curves/abstract/curve.js";
import type { WeierstrassPoint } from "@noble/curves/abstract/weierstrass.js";
import { secp256k1, secp256k1_hasher } from "@noble/curves/secp256k1.js";
import { ascii, concat } from "../bytes/bytes.ts";
import { fromBigInt, N, toBigInt } from "../crypto/scalar-bigint.ts";
import { lngateError } from "../errors.ts";
import { taggedScalar } from "./hash.ts";
import type { Random } from "./turns.ts";

export type Point = WeierstrassPoint<bigint>;

const Curve = secp256k1.Point;
export const G: Point = Curve.BASE;

/** SEC 1, compressed. */
export const POINT_BYTES = 33;
/** A proof of knowledge: A (33) ‖ z (32). */
export const PROOF_BYTES = 65;

/** A uniform scalar that is not zero. */
export function randomScalar(random: Random): bigint {
  for (;;) {
    const value = toBigInt(random(32));
    if (value !== 0n && value < N) return value;
  }
}

/** A scalar below n; zero is allowed. Throws `threshold-bad-message`. */
export function decodeScalar(bytes: Uint8Array): bigint {
  const value = toBigInt(bytes);
  if (value >= N) throw lngateError("threshold-bad-message", "a scalar is not below n");
  return value;
}

/** A compressed point on the curve, never infinity. Throws `threshold-bad-message`. */
export function decodePoint(bytes: Uint8Array): Point {
  if (bytes.length === POINT_BYTES) {
    try {
      return Curve.fromBytes(bytes);
    } catch {
      // told below
    }
  }
  throw lngateError("threshold-bad-message", "a point is not on the curve");
}

/** Compressed encodings, at the price of one inversion for all. Throws `threshold-bad-message` for infinity. */
export function encodePoints(points: readonly Point[]): Uint8Array[] {
  if (points.some(point => point.is0())) throw lngateError("threshold-bad-message", "a point is infinity");
  return normalizeZ(Curve, [...points]).map(point => point.toBytes());
}

/** A point, compressed: 33 bytes. */
export function encodePoint(point: Point): Uint8Array {
  return encodePoints([point])[0]!;
}

/**
 * x(point) mod n of each: the r of its signature, at the price of one inversion for all. Throws
 * `threshold-bad-message` for infinity and for r = 0.
 */
export function xsModN(points: readonly Point[]): bigint[] {
  if (points.some(point => point.is0())) throw lngateError("threshold-bad-message", "a nonce is infinity");
  return normalizeZ(Curve, [...points]).map(point => {
    const r = point.toAffine().x % N;
    if (r === 0n) throw lngateError("threshold-bad-message", "the r of a nonce is zero");
    return r;
  });
}

// The curve's endomorphism λ·(x, y) = (β·x, y), and a short basis (a1, −b1), (a2, b2) of the pairs (i, j) with
// i + j·λ = 0 mod n (Gallant, Lambert, Vanstone, CRYPTO 2001; for this curve a1 = b2).
const BETA = 0x7ae96a2b657c07106e64479eac3434e99cf0497512f58995c1396c28719501een;
const A1 = 0x3086d221a7d46bcde86c90e49284eb15n;
const B1 = 0xe4437ed6010e88286f547fa90abfe4c3n;
const A2 = 0x114ca50f7a8e2f3f657c1108d9d44cfd8n;
const HALF_WINDOWS = 33;

/** scalar = i + j·λ mod n with 0 ≤ i, j < 2^132. */
function halve(scalar: bigint): [bigint, bigint] {
  const first = (A1 * scalar) / N;
  const second = (B1 * scalar) / N - 5n; // five times (a2, b2) makes both halves positive
  return [scalar - first * A1 - second * A2, first * B1 - second * A1];
}

/** table[digit], every entry looked at. */
function lookUp(table: readonly Point[], digit: number): Point {
  let found = table[0]!;
  for (let i = 1; i < table.length; i++) found = i === digit ? table[i]! : found;
  return found;
}

/**
 * scalar·point for a one-time secret: the same point operations whatever the scalar is. (@noble's own `multiply`
 * blinds the scalar besides, at more than twice the price; a share of the key is multiplied with by that.)
 * Throws `threshold-bad-message` where the product would be infinity.
 */
export function multiply(point: Point, scalar: bigint): Point {
  if (scalar % N === 0n || point.is0()) throw lngateError("threshold-bad-message", "a product is infinity");
  const table = [Curve.ZERO];
  for (let i = 1; i < 16; i++) table.push(table[i - 1]!.add(point));
  const endomorphic = table.map(({ X, Y, Z }) => new Curve(Curve.Fp.mul(X, BETA), Y, Z));
  const [low, high] = halve(scalar);
  let sum = Curve.ZERO;
  for (let at = BigInt(4 * (HALF_WINDOWS - 1)); at >= 0n; at -= 4n) {
    for (let i = 0; i < 4; i++) sum = sum.double();
    sum = sum.add(lookUp(table, Number((low >> at) & 15n)));
    sum = sum.add(lookUp(endomorphic, Number((high >> at) & 15n)));
  }
  return sum;
}

/** Modular inverse of a scalar that is not zero. */
export function invert(scalar: bigint): bigint {
  return Curve.Fn.inv(scalar);
}

/** Who proves what in which session. */
export interface Statement {
  readonly sid: Uint8Array;
  /** The prover's role, so that a proof cannot be sent back to its maker. */
  readonly role: string;
  /** X, compressed. */
  readonly point: Uint8Array;
}

function challenge({ sid, role, point }: Statement, commitment: Uint8Array): bigint {
  return taggedScalar("pok", sid, ascii(role), point, commitment);
}

/** Schnorr proofs of knowledge of each statement's discrete logarithm: A = a·G, z = a + e·x. */
export function prove(
  statements: readonly (Statement & { readonly secret: bigint })[],
  random: Random,
): Uint8Array[] {
  const nonces = statements.map(() => randomScalar(random));
  const commitments = encodePoints(nonces.map(nonce => G.multiply(nonce)));
  return statements.map((statement, i) => {
    const z = (nonces[i]! + challenge(statement, commitments[i]!) * statement.secret) % N;
    return concat([commitments[i]!, fromBigInt(z)]);
  });
}

/**
 * Checks proofs of knowledge together: a random combination of all the equations z·G = A + e·X, which holds by
 * chance with probability 2^-128 if one of them does not.
 *
 * @throws `threshold-bad-message` (encoding), `threshold-bad-proof`
 */
export function verifyProofs(
  claims: readonly (Statement & { readonly decoded: Point; readonly proof: Uint8Array })[],
  random: Random,
): void {
  const points: Point[] = [G];
  const scalars: bigint[] = [0n];
  for (const claim of claims) {
    const commitment = claim.proof.subarray(0, POINT_BYTES);
    const z = decodeScalar(claim.proof.subarray(POINT_BYTES));
    const weight = randomWeight(random);
    scalars[0] = (scalars[0]! + weight * z) % N;
    points.push(decodePoint(commitment).negate(), claim.decoded.negate());
    scalars.push(weight, (weight * challenge(claim, commitment)) % N);
  }
  if (!mulAddUnsafe(Curve, points, scalars).is0()) {
    throw lngateError("threshold-bad-proof", "a proof of knowledge does not verify");
  }
}

/** 128 random bits to weigh an equation with. */
export function randomWeight(random: Random): bigint {
  const bytes = random(16);
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  return (view.getBigUint64(0) << 64n) | view.getBigUint64(8);
}

/** Σ scalars[i]·points[i], in a time that depends on them: for public or freshly weighted scalars only. */
export function sumOfProducts(points: readonly Point[], scalars: readonly bigint[]): Point {
  return mulAddUnsafe(Curve, [...points], [...scalars]);
}

/** A point of unknown discrete logarithm (RFC 9380, secp256k1_XMD:SHA-256_SSWU_RO_). */
export function hashToCurve(message: Uint8Array, domain: Uint8Array): Point {
  return secp256k1_hasher.hashToCurve(message, { DST: domain });
}

/**
 * The group of secp256k1 by the SDK's native arithmetic, in place of src/crypto/group-bigint.ts. Its points are affine: z
 * is 1, or 0 for infinity.
 */
import EC from "moddable:ec";
import ECPoint from "moddable:ecp";
import Mont from "moddable:mont";

/** 2^256 − 2^32 − 977, the prime of the field. */
export const P = 0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2fn;

export type Jacobian = readonly [x: bigint, y: bigint, z: bigint];

const ec = new EC(0n, 7n, P);
/** Its other method for powers, a sliding window, gives wrong ones (SDK 8.2.3). */
const field = new Mont({ m: P });

const pointOf = ([x, y, z]: Jacobian) => new ECPoint(x, y, z === 0n);
const ours = ({ x, y, z }: ECPoint): Jacobian => [x, y, z];

export const base = (): Jacobian => [
  0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
  0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n,
  1n,
];

/** p + q, by the SDK. */
export function add(p: Jacobian, q: Jacobian): Jacobian {
  return ours(ec.add(pointOf(p), pointOf(q)));
}

/**
 * scalar·G for a secret scalar. The native multiplication doubles for every bit and adds for every one, so that its time
 * tells how many ones there are. As k·A + (2^256 − 1 − k)·B + C, with B the point whose x is 1, A = G + B and
 * C = −(2^256 − 1)·B, each bit of any k costs one doubling and one addition.
 */
export function multiplyBase(scalar: bigint): Jacobian {
  const sum = ec.mul2(
    new ECPoint(
      0x57d783579d03d9ab67a8aa7ad9b75a66ebca4ebce1b5be71442db1307f9146a8n,
      0xcb8c57e165f15f29f01c75ece82067f4c143dbf34b10ec35bf26ea094de1c600n,
    ),
    scalar,
    new ECPoint(1n, 0x4218f20ae6c646b363db68605822fb14264ca8d2587fdd6fbc750d587e76a7een),
    2n ** 256n - 1n - scalar,
  );
  const minusB = new ECPoint(
    0x97042edfb4fd512ae06a7145a066c65856b69b1883692dc3045df9fe14739625n,
    0xfe4feccedd86a3d3442c9f75b87ad199e4ae78125f43051af96317477ea6b37fn,
  );
  return ours(ec.add(sum, minusB));
}

/** a·p + b·q for scalars below n. */
export function combine(p: Jacobian, a: bigint, q: Jacobian, b: bigint): Jacobian {
  return ours(ec.mul2(pointOf(p), a, pointOf(q), b));
}

/** a^(−1) mod a prime; a is not zero. */
export function invert(a: bigint, prime: bigint): bigint {
  return new Mont({ m: prime }).mulinv(a);
}

/** A square root, where there is one: a^((p + 1) / 4). */
export function squareRoot(a: bigint): bigint {
  return field.exp(a, (P + 1n) / 4n);
}

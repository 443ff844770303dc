/**
 * The group of secp256k1 over native BigInt, for a microcontroller: no table outlives a call (a precomputed one for the
 * base point alone would not fit a small board's memory). A board that has the group natively puts its own module in this
 * one's place (device/boards/moddable/group.ts).
 *
 * Points are Jacobian, (x/z², y/z³), infinity has z = 0. A scalar is written with odd digits of −15 … 15, so that
 * every window of four bits costs the same four doublings and one addition whatever the scalar is.
 */
import { N } from "./scalar-bigint.ts";

/** 2^256 − 2^32 − 977, the prime of the field. */
export const P = 2n ** 256n - 0x1000003d1n;

export type Jacobian = readonly [x: bigint, y: bigint, z: bigint];

// Made when they are needed: the Moddable SDK's linker (8.2.3) spoils the BigInts of an array that a preloaded module has.
const infinity = (): Jacobian => [1n, 1n, 0n];
export const base = (): Jacobian => [
  0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
  0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n,
  1n,
];

/** Windows of four bits in a scalar. */
const WINDOWS = 64;

function mod(a: bigint): bigint {
  const rest = a % P;
  return rest < 0n ? rest + P : rest;
}

function double([x, y, z]: Jacobian): Jacobian {
  const yy = (y * y) % P;
  const s = (4n * x * yy) % P;
  const m = (3n * x * x) % P;
  const x3 = mod(m * m - 2n * s);
  return [x3, mod(m * (s - x3) - 8n * yy * yy), (2n * y * z) % P];
}

export function add(p: Jacobian, q: Jacobian): Jacobian {
  const [x1, y1, z1] = p;
  const [x2, y2, z2] = q;
  if (z1 === 0n) return q;
  if (z2 === 0n) return p;
  const zz1 = (z1 * z1) % P;
  const zz2 = (z2 * z2) % P;
  const u1 = (x1 * zz2) % P;
  const s1 = (((y1 * z2) % P) * zz2) % P;
  const h = ((x2 * zz1) % P) - u1;
  const r = ((((y2 * z1) % P) * zz1) % P) - s1;
  if (h === 0n) return r === 0n ? double(p) : infinity();
  const hh = (h * h) % P;
  const hhh = (h * hh) % P;
  const v = (u1 * hh) % P;
  const x3 = mod(r * r - hhh - 2n * v);
  return [x3, mod(r * (v - x3) - s1 * hhh), mod(((z1 * z2) % P) * h)];
}

function negate([x, y, z]: Jacobian): Jacobian {
  return [x, P - y, z];
}

/** p, 3p, 5p … 15p. */
function oddMultiples(p: Jacobian): Jacobian[] {
  const twice = double(p);
  const odd = [p];
  for (let i = 1; i < 8; i++) odd.push(add(odd[i - 1]!, twice));
  return odd;
}

/** The odd digits of an odd number below 2^256, lowest first; the highest is positive. */
function digitsOf(scalar: bigint): number[] {
  const digits: number[] = [];
  let rest = scalar;
  for (let i = 1; i < WINDOWS; i++) {
    const digit = Number(rest & 31n) - 16;
    digits.push(digit);
    rest = (rest - BigInt(digit)) >> 4n;
  }
  digits.push(Number(rest));
  return digits;
}

/** scalar·G for a secret scalar, 1 to n − 1. */
export function multiplyBase(scalar: bigint): Jacobian {
  return combine(base(), scalar, base(), 0n);
}

/** a·p + b·q for scalars below n. */
export function combine(p: Jacobian, a: bigint, q: Jacobian, b: bigint): Jacobian {
  const terms = [[p, a] as const, [q, b] as const].filter(([, scalar]) => scalar !== 0n);
  const rows = terms.map(([point, scalar]) => {
    // An even scalar becomes odd as n − scalar, with the opposite point.
    const odd = (scalar & 1n) === 1n;
    return {
      multiples: oddMultiples(odd ? point : negate(point)),
      digits: digitsOf(odd ? scalar : N - scalar),
    };
  });
  let sum = infinity();
  for (let i = WINDOWS - 1; i >= 0; i--) {
    for (let doublings = 0; doublings < 4; doublings++) sum = double(sum);
    for (const { multiples, digits } of rows) {
      const digit = digits[i]!;
      const multiple = multiples[Math.abs(digit) >> 1]!;
      sum = add(sum, digit < 0 ? negate(multiple) : multiple);
    }
  }
  return sum;
}

/** a^(−1) mod a prime, by Euclid's algorithm; a is not zero. */
export function invert(a: bigint, prime: bigint): bigint {
  let [low, high] = [a % prime, prime];
  let [x, y] = [1n, 0n];
  while (low > 1n) {
    const quotient = high / low;
    [low, high] = [high - quotient * low, low];
    [x, y] = [y - quotient * x, x];
  }
  return x < 0n ? x + prime : x;
}

/** A square root, where there is one: a^((p + 1) / 4), by the runs of ones that this exponent consists of. */
export function squareRoot(a: bigint): bigint {
  const squared = (b: bigint, times: number) => {
    let power = b;
    for (let i = 0; i < times; i++) power = (power * power) % P;
    return power;
  };
  const join = (high: bigint, shift: number, low: bigint) => (squared(high, shift) * low) % P;
  const ones2 = join(a, 1, a);
  const ones3 = join(ones2, 1, a);
  const ones6 = join(ones3, 3, ones3);
  const ones11 = join(join(ones6, 3, ones3), 2, ones2);
  const ones22 = join(ones11, 11, ones11);
  const ones44 = join(ones22, 22, ones22);
  const ones88 = join(ones44, 44, ones44);
  const ones220 = join(join(ones88, 88, ones88), 44, ones44);
  const ones223 = join(ones220, 3, ones3);
  return squared(join(join(ones223, 23, ones22), 6, ones2), 2);
}

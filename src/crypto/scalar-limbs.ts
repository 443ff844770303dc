/**
 * Scalars modulo n for engines without BigInt; see scalar.ts for the contract.
 *
 * A number is a row of 24-bit limbs, lowest first, each held in a double: a product of two limbs has 48 bits,
 * and eleven of them still sum below 2^53, so a whole column of a multiplication is added up before one carry.
 * The operations carried out do not depend on the numbers. The working rows are shared, and cleared before a
 * function returns.
 */
import { lngateError } from "../errors.ts";
import { ORDER } from "./scalar-order.ts";

export { isLowS, isReducedScalar, isValidScalar } from "./scalar-order.ts";

const RADIX = 16777216; // 2^24
const PER_RADIX = 1 / RADIX; // exact, as RADIX is a power of two
const LIMBS = 11; // 264 bits; bit 256 is bit 16 of the highest limb
const TOP = 65536;

/** 2^256 − n, which is what 2^256 is worth modulo n. */
const FOLD_256 = [0xc9bebf, 0xa1732f, 0xc4402d, 0x50b75f, 0x512319, 0x000145];
/** The same number eight bits further up: what 2^264 is worth modulo n, so that whole limbs can be folded. */
const FOLD_264 = [0xbebf00, 0x732fc9, 0x402da1, 0xb75fc4, 0x231950, 0x014551];
const FOLDS = 6;

const left = new Float64Array(LIMBS);
const right = new Float64Array(LIMBS);
/** The number being worked on: room for a product, and one limb for its last carry. */
const wide = new Float64Array(2 * LIMBS + 1);

/** Every argument is looked at before the shared rows are touched, so that an error leaves them clean. */
function ensureScalar(bytes: Uint8Array): void {
  if (bytes.length !== 32) throw lngateError("bad-scalar", "a scalar has 32 bytes");
}

/** Adds 32 big-endian bytes to the low limbs of `limbs`. */
function addBytes(limbs: Float64Array, bytes: Uint8Array): void {
  for (let i = 0; i < 10; i++) {
    const at = 31 - 3 * i;
    limbs[i] = limbs[i]! + bytes[at]! + bytes[at - 1]! * 256 + bytes[at - 2]! * 65536;
  }
  limbs[10] = limbs[10]! + bytes[1]! + bytes[0]! * 256;
}

/** Brings the first `count` limbs of `wide` into 0 … 2^24 − 1, the carry going into the limb after them. */
function carry(count: number): void {
  for (let i = 0; i < count; i++) {
    const over = Math.floor(wide[i]! * PER_RADIX);
    wide[i] = wide[i]! - over * RADIX;
    wide[i + 1] = wide[i + 1]! + over;
  }
}

/** Replaces the `count` limbs from 2^264 up by what they are worth modulo n. */
function foldLimbs(count: number): void {
  for (let i = 0; i < count; i++) {
    right[i] = wide[LIMBS + i]!;
    wide[LIMBS + i] = 0;
  }
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < FOLDS; j++) wide[i + j] = wide[i + j]! + right[i]! * FOLD_264[j]!;
  }
  carry(count + FOLDS);
}

/** Adds `times`·(2^256 − n) to the limbs below 2^264. */
function addFold(times: number): void {
  for (let j = 0; j < FOLDS; j++) wide[j] = wide[j]! + times * FOLD_256[j]!;
  carry(LIMBS);
}

/** Takes away what lies from 2^256 up in a number below 2^266, and returns it. */
function takeTop(): number {
  const high = Math.floor(wide[10]! / TOP);
  const top = high + wide[11]! * 256;
  wide[10] = wide[10]! - high * TOP;
  wide[11] = 0;
  return top;
}

/** The number in `wide`, below 2^266, modulo n as bytes; clears the working rows. */
function finish(): Uint8Array {
  addFold(takeTop()); // below 2^256 + 2^139
  addFold(takeTop()); // below 2^256
  for (let i = 0; i < LIMBS; i++) left[i] = wide[i]!;
  addFold(1);
  const reaches = takeTop(); // 1 if the number was n or more: then what is left after the fold is the result
  const out = new Uint8Array(32);
  for (let i = 0; i < LIMBS; i++) {
    const limb = left[i]! + reaches * (wide[i]! - left[i]!);
    const at = 31 - 3 * i;
    out[at] = limb & 255;
    out[at - 1] = (limb >>> 8) & 255;
    if (at > 1) out[at - 2] = limb >>> 16;
  }
  left.fill(0);
  right.fill(0);
  wide.fill(0);
  return out;
}

/** wide + left·right mod n. */
function multiply(): Uint8Array {
  for (let i = 0; i < LIMBS; i++) {
    const limb = left[i]!;
    for (let j = 0; j < LIMBS; j++) wide[i + j] = wide[i + j]! + limb * right[j]!;
  }
  carry(2 * LIMBS);
  foldLimbs(LIMBS); // below 2^386
  foldLimbs(FOLDS); // below 2^265
  return finish();
}

/** a mod n. */
export function reduce(a: Uint8Array): Uint8Array {
  ensureScalar(a);
  addBytes(wide, a);
  return finish();
}

/** a + b mod n. */
export function addMod(a: Uint8Array, b: Uint8Array): Uint8Array {
  ensureScalar(a);
  ensureScalar(b);
  addBytes(wide, a);
  addBytes(wide, b);
  carry(LIMBS);
  return finish();
}

/** −a mod n. */
export function negate(a: Uint8Array): Uint8Array {
  const reduced = reduce(a);
  addBytes(wide, ORDER);
  addBytes(left, reduced);
  for (let i = 0; i < LIMBS; i++) wide[i] = wide[i]! - left[i]!;
  carry(LIMBS); // a floored carry borrows
  reduced.fill(0);
  return finish();
}

/** a·b mod n. */
export function mulMod(a: Uint8Array, b: Uint8Array): Uint8Array {
  ensureScalar(a);
  ensureScalar(b);
  addBytes(left, a);
  addBytes(right, b);
  return multiply();
}

/** a·b + c mod n. */
export function mulAddMod(a: Uint8Array, b: Uint8Array, c: Uint8Array): Uint8Array {
  ensureScalar(a);
  ensureScalar(b);
  ensureScalar(c);
  addBytes(left, a);
  addBytes(right, b);
  addBytes(wide, c);
  return multiply();
}

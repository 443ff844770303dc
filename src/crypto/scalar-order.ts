/** The order n of secp256k1, and what can be asked of a scalar by comparing bytes alone. */

/** n, 32 bytes big-endian (SEC 2 version 2, section 2.4.1). */
export const ORDER = new Uint8Array([
  0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba, 0xae,
  0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
]);

/** (n − 1) / 2, the greatest s that Bitcoin relays (BIP 146). */
const HALF_ORDER = new Uint8Array([
  0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d, 0x57,
  0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
]);

/** a > b for 32-byte big-endian numbers, in a time that does not depend on them. */
function greater(a: Uint8Array, b: Uint8Array): boolean {
  let borrow = 0;
  for (let i = 31; i >= 0; i--) borrow = b[i]! - a[i]! - borrow < 0 ? 1 : 0;
  return borrow === 1;
}

/** True for 32 bytes that encode a number below n; zero included. */
export function isReducedScalar(bytes: Uint8Array): boolean {
  return bytes.length === 32 && greater(ORDER, bytes);
}

/** True for 32 bytes that encode 0 < s < n: a private key, a nonce, a half of a signature. */
export function isValidScalar(bytes: Uint8Array): boolean {
  if (!isReducedScalar(bytes)) return false;
  let any = 0;
  for (let i = 0; i < 32; i++) any |= bytes[i]!;
  return any !== 0;
}

/** True for a scalar of at most (n − 1) / 2. */
export function isLowS(bytes: Uint8Array): boolean {
  return bytes.length === 32 && !greater(bytes, HALF_ORDER);
}

/** Bytes: joining, comparing, hex, big-endian numbers. Nothing here knows a platform. */
import { lngateError } from "../errors.ts";

const HEX = "0123456789abcdef";

/** Joins byte strings in order. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Equal length and content; for equal lengths the time does not depend on the content. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}

/** Order of two byte strings, byte by byte: negative, zero or positive. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length && i < b.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

/** Lower-case hex. */
export function toHex(bytes: Uint8Array): string {
  let out = "";
  for (let i = 0; i < bytes.length; i++) out += HEX[bytes[i]! >> 4]! + HEX[bytes[i]! & 15]!;
  return out;
}

/** Strict hex, either case, whole bytes. Throws `bad-hex`. */
export function fromHex(hex: string): Uint8Array {
  if (hex.length % 2 !== 0) throw lngateError("bad-hex", "hex needs an even number of digits");
  const out = new Uint8Array(hex.length / 2);
  for (let i = 0; i < out.length; i++) {
    const high = HEX.indexOf(hex.charAt(2 * i).toLowerCase());
    const low = HEX.indexOf(hex.charAt(2 * i + 1).toLowerCase());
    if (high < 0 || low < 0) throw lngateError("bad-hex", "hex has a character that is no digit");
    out[i] = high * 16 + low;
  }
  return out;
}

/** Four bytes, big-endian. */
export function u32be(value: number): Uint8Array {
  return new Uint8Array([value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]);
}

/** ASCII text as bytes (a code above 127 is a programming error). */
export function ascii(text: string): Uint8Array {
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

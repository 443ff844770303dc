/** Bytes: joining, comparing, hex, big-endian numbers. Nothing here knows a platform. */
import { lngateError } from "../errors.ts";

const HEX = "0123456789abcdef";

/** Joins byte strings in order. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  // By index: engines for microcontrollers pay dearly for iterators, and this runs all the time.
  let length = 0;
  for (let i = 0; i < parts.length; i++) length += parts[i]!.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (let i = 0; i < parts.length; i++) {
    out.set(parts[i]!, at);
    at += parts[i]!.length;
  }
  return out;
}

/** Bytes that are being written, one part after the other. */
export interface Output {
  /** Their room, which is exchanged for a larger one when it is full. */
  room: Uint8Array;
  length: number;
}

export function output(): Output {
  return { room: new Uint8Array(128), length: 0 };
}

/** Makes room for `count` more bytes; where they begin. */
function extend(out: Output, count: number): number {
  const at = out.length;
  out.length += count;
  if (out.length > out.room.length) {
    const room = new Uint8Array(2 * out.length);
    room.set(out.room);
    out.room = room;
  }
  return at;
}

export function put(out: Output, bytes: Uint8Array): void {
  const at = extend(out, bytes.length);
  out.room.set(bytes, at);
}

export function putByte(out: Output, byte: number): void {
  if (out.length < out.room.length) out.room[out.length++] = byte;
  else put(out, new Uint8Array([byte]));
}

/** A number of up to 53 bits in this many bytes, big-endian. */
export function putBE(out: Output, value: number, width: number): void {
  const at = extend(out, width);
  writeBE(out.room, at, width, value);
}

/** The same, little-endian. */
export function putLE(out: Output, value: number, width: number): void {
  const at = extend(out, width);
  let rest = value;
  for (let i = 0; i < width; i++) {
    const high = Math.floor(rest / 256);
    out.room[at + i] = rest - high * 256;
    rest = high;
  }
}

/** What was written: a view of the room, for who does not write on. */
export function written(out: Output): Uint8Array {
  return out.room.subarray(0, out.length);
}

/** Equal length and content; for equal lengths the time does not depend on the content. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  const { length } = a;
  if (length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < length; i++) difference |= a[i]! ^ b[i]!;
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
    if (high < 0 || low < 0) throw lngateError("bad-hex", "hex has a character that is not a digit");
    out[i] = high * 16 + low;
  }
  return out;
}

/** The number of up to 53 bits in the `width` bytes at `at`, big-endian. */
export function readBE(bytes: Uint8Array, at: number, width: number): number {
  let value = 0;
  for (let i = at; i < at + width; i++) value = value * 256 + bytes[i]!;
  return value;
}

/** Writes a number of up to 53 bits into the `width` bytes at `at`, big-endian. */
export function writeBE(bytes: Uint8Array, at: number, width: number, value: number): void {
  let rest = value;
  for (let i = at + width - 1; i >= at; i--) {
    const high = Math.floor(rest / 256);
    bytes[i] = rest - high * 256;
    rest = high;
  }
}

/** Four bytes, big-endian. */
export function u32be(value: number): Uint8Array {
  const out = new Uint8Array(4);
  writeBE(out, 0, 4, value);
  return out;
}

/** ASCII text as bytes (a code above 127 is a programming error). */
export function ascii(text: string): Uint8Array {
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

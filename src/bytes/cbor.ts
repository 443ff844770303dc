/**
 * CBOR (RFC 8949), the part the link uses, in the core deterministic encoding and nothing else: unsigned
 * integers up to 2^53-1, byte strings, text, arrays, maps with unsigned integer keys, false, true, null.
 *
 * A reader accepts exactly one encoding of every value: definite lengths, shortest heads, sorted keys that
 * occur once. Negative numbers, floats, tags and other simple values are refused with a code `cbor-…`.
 *
 * Whole values are written and read by their description (schema.ts), so memory is bounded by the description and not
 * by the sender.
 */
import { lngateError } from "../errors.ts";
import { type Output, putBE, putByte, readBE } from "./bytes.ts";
import { fromUtf8 } from "./utf8.ts";

/** Major types of RFC 8949 section 3.1 that may occur. */
export const CBOR_UINT = 0;
export const CBOR_BYTES = 2;
export const CBOR_TEXT = 3;
export const CBOR_ARRAY = 4;
export const CBOR_MAP = 5;
export const CBOR_SIMPLE = 7;

/** Arguments of major type 7. */
export const CBOR_FALSE = 20;
export const CBOR_TRUE = 21;
export const CBOR_NULL = 22;

const LARGEST = 9007199254740991;
const TWO_32 = 4294967296;

/** The first bytes of an item: its major type and argument in the shortest form. Throws `cbor-bad-value`. */
export function putHead(out: Output, major: number, argument: number): void {
  if (!(argument >= 0 && argument <= LARGEST && Math.floor(argument) === argument)) {
    throw lngateError("cbor-bad-value", "a number is not in 0 to 2^53-1");
  }
  if (argument < 24) {
    putByte(out, (major << 5) | argument);
    return;
  }
  const size = argument < 0x100 ? 0 : argument < 0x10000 ? 1 : argument < TWO_32 ? 2 : 3;
  putByte(out, (major << 5) | (24 + size));
  putBE(out, argument, 1 << size);
}

/** Bytes that are read item by item. No function here reads beyond their end; all throw `cbor-…`. */
export interface Reader {
  readonly bytes: Uint8Array;
  /** Where the next item begins. */
  at: number;
}

export function readerOf(bytes: Uint8Array): Reader {
  return { bytes, at: 0 };
}

/** Throws unless this many bytes are left. */
function expectBytes(reader: Reader, length: number): void {
  if (reader.bytes.length - reader.at < length) {
    throw lngateError("cbor-truncated", "bytes end in the middle of an item");
  }
}

/** The major type of the next item, which is not consumed. */
export function nextMajor(reader: Reader): number {
  expectBytes(reader, 1);
  return reader.bytes[reader.at]! >> 5;
}

/** Consumes the head of the next item: a number, a length, a count, or one of false, true, null. */
export function readHead(reader: Reader): number {
  const { bytes } = reader;
  const type = nextMajor(reader);
  const info = bytes[reader.at++]! & 31;
  if (type === 1 || type === 6 || info > 27 || (type === 7 && (info < CBOR_FALSE || info > CBOR_NULL))) {
    // Negative numbers, tags, floats, other simple values, indefinite lengths.
    throw lngateError("cbor-unsupported", "an item is of a kind that is not used");
  }
  if (info < 24) return info;
  const width = 1 << (info - 24);
  expectBytes(reader, width);
  const value = readBE(bytes, reader.at, width);
  reader.at += width;
  if (value > LARGEST) throw lngateError("cbor-too-large", "a number is above 2^53-1");
  // The next shorter form holds numbers below 24, or of half as many bytes.
  if (value < (width === 1 ? 24 : width === 2 ? 0x100 : width === 4 ? 0x10000 : TWO_32)) {
    throw lngateError("cbor-not-shortest", "a number is not in its shortest form");
  }
  return value;
}

/** The bytes after the head of a byte string or text, as a copy. */
export function readBytes(reader: Reader, length: number): Uint8Array {
  expectBytes(reader, length);
  const out = new Uint8Array(length);
  out.set(reader.bytes.subarray(reader.at, reader.at + length));
  reader.at += length;
  return out;
}

/** `readBytes`, as text. */
export function readText(reader: Reader, length: number): string {
  const text = readBytes(reader, length);
  try {
    return fromUtf8(text);
  } catch {
    throw lngateError("cbor-bad-text", "a text is not UTF-8");
  }
}

/** The next key of a map; keys must rise. `previous` is the key before it, -1 at the start. */
export function readKey(reader: Reader, previous: number): number {
  if (nextMajor(reader) !== CBOR_UINT) throw lngateError("cbor-bad-key", "a key is not an unsigned number");
  const key = readHead(reader);
  if (key <= previous) throw lngateError("cbor-unsorted", "keys are unsorted or occur twice");
  return key;
}

/** Nothing may follow. */
export function readEnd(reader: Reader): void {
  if (reader.at < reader.bytes.length) throw lngateError("cbor-trailing", "bytes follow the end of the item");
}

/**
 * CBOR (RFC 8949), the part the link uses, in the core deterministic encoding and nothing else: unsigned
 * integers up to 2^53-1, byte strings, text, arrays, maps with unsigned integer keys, false, true, null.
 *
 * A reader accepts exactly one encoding of every value: definite lengths, shortest heads, sorted keys that
 * occur once. Negative numbers, floats, tags and other simple values are refused with a code `cbor-…`.
 *
 * The link's messages are read by their description (src/link/schema.ts) with the reader alone, so memory is
 * bounded by the description and not by the sender; `encodeCbor` and `decodeCbor` serve values of any shape.
 */
import { lngateError } from "../errors.ts";
import { concat } from "./bytes.ts";
import { fromUtf8, utf8 } from "./utf8.ts";

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
export function cborHead(major: number, argument: number): Uint8Array {
  if (!(argument >= 0 && argument <= LARGEST && Math.floor(argument) === argument)) {
    throw lngateError("cbor-bad-value", "a number is not in 0 to 2^53-1");
  }
  const lead = major << 5;
  if (argument < 24) return new Uint8Array([lead | argument]);
  if (argument < 0x100) return new Uint8Array([lead | 24, argument]);
  if (argument < 0x10000) return new Uint8Array([lead | 25, argument >> 8, argument & 255]);
  const width = argument < TWO_32 ? 4 : 8;
  const out = new Uint8Array(1 + width);
  out[0] = lead | (width === 4 ? 26 : 27);
  let rest = argument;
  for (let i = width; i > 0; i--) {
    const high = Math.floor(rest / 256);
    out[i] = rest - high * 256;
    rest = high;
  }
  return out;
}

/** Reads items one after the other. Every method throws `cbor-…` and never reads beyond the end. */
export interface CborReader {
  /** The major type of the next item, which is not consumed. */
  major(): number;
  /** Consumes the head of the next item: a number, a length, a count, or one of false, true, null. */
  argument(): number;
  /** The bytes after the head of a byte string or text, as a copy. */
  take(length: number): Uint8Array;
  /** `take`, as text. */
  takeText(length: number): string;
  /** The next key of a map; keys must rise. `previous` is the key before it, -1 at the start. */
  key(previous: number): number;
  /** Nothing may follow. */
  end(): void;
}

export function cborReader(bytes: Uint8Array): CborReader {
  let at = 0;

  function major(): number {
    need(1);
    return bytes[at]! >> 5;
  }

  function argument(): number {
    const type = major();
    const info = bytes[at++]! & 31;
    if (type === 1 || type === 6 || info > 27 || (type === 7 && (info < CBOR_FALSE || info > CBOR_NULL))) {
      // Negative numbers, tags, floats, other simple values, indefinite lengths.
      throw lngateError("cbor-unsupported", "an item is of a kind that is not used");
    }
    if (info < 24) return info;
    const width = 1 << (info - 24);
    let value = 0;
    for (const digit of take(width)) value = value * 256 + digit;
    if (value > LARGEST) throw lngateError("cbor-too-large", "a number is above 2^53-1");
    // The next shorter form holds numbers below 24, or of half as many bytes.
    if (value < (width === 1 ? 24 : width === 2 ? 0x100 : width === 4 ? 0x10000 : TWO_32)) {
      throw lngateError("cbor-not-shortest", "a number is not in its shortest form");
    }
    return value;
  }

  function take(length: number): Uint8Array {
    need(length);
    const out = new Uint8Array(length);
    out.set(bytes.subarray(at, at + length));
    at += length;
    return out;
  }

  function need(length: number): void {
    if (bytes.length - at < length) throw lngateError("cbor-truncated", "bytes end in the middle of an item");
  }

  return {
    major,
    argument,
    take,
    takeText(length) {
      const text = take(length);
      try {
        return fromUtf8(text);
      } catch {
        throw lngateError("cbor-bad-text", "a text is not UTF-8");
      }
    },
    key(previous) {
      if (major() !== CBOR_UINT) throw lngateError("cbor-bad-key", "a key is no unsigned number");
      const key = argument();
      if (key <= previous) throw lngateError("cbor-unsorted", "keys are unsorted or occur twice");
      return key;
    },
    end() {
      if (at < bytes.length) throw lngateError("cbor-trailing", "bytes follow the end of the item");
    },
  };
}

/** What `encodeCbor` takes and `decodeCbor` returns. */
export type Cbor = number | boolean | null | string | Uint8Array | readonly Cbor[] | CborMap;
export interface CborMap {
  readonly [key: number]: Cbor;
}

/** The one encoding of a value. Throws `cbor-bad-value`. */
export function encodeCbor(value: Cbor): Uint8Array {
  const out: Uint8Array[] = [];
  writeValue(value, out);
  return concat(out);
}

function writeValue(value: Cbor, out: Uint8Array[]): void {
  if (typeof value === "number") {
    out.push(cborHead(CBOR_UINT, value));
  } else if (typeof value === "boolean") {
    out.push(cborHead(CBOR_SIMPLE, value ? CBOR_TRUE : CBOR_FALSE));
  } else if (value === null) {
    out.push(cborHead(CBOR_SIMPLE, CBOR_NULL));
  } else if (typeof value === "string") {
    const bytes = utf8(value);
    out.push(cborHead(CBOR_TEXT, bytes.length), bytes);
  } else if (value instanceof Uint8Array) {
    out.push(cborHead(CBOR_BYTES, value.length), value);
  } else if (Array.isArray(value)) {
    out.push(cborHead(CBOR_ARRAY, value.length));
    for (const item of value as readonly Cbor[]) writeValue(item, out);
  } else {
    const map = value as CborMap;
    const keys = Object.keys(map)
      .map(key => Number(key))
      .sort((a, b) => a - b);
    out.push(cborHead(CBOR_MAP, keys.length));
    for (const key of keys) {
      out.push(cborHead(CBOR_UINT, key));
      writeValue(map[key]!, out);
    }
  }
}

/** Reads one value of at most `maxBytes` bytes, nested at most `maxDepth` deep. Throws `cbor-…`. */
export function decodeCbor(bytes: Uint8Array, maxBytes = 65536, maxDepth = 8): Cbor {
  if (bytes.length > maxBytes) throw lngateError("cbor-too-large", `more than ${maxBytes} bytes`);
  const reader = cborReader(bytes);
  const value = readValue(reader, maxDepth);
  reader.end();
  return value;
}

function readValue(reader: CborReader, depth: number): Cbor {
  if (depth < 0) throw lngateError("cbor-too-deep", "items are nested too deep");
  const major = reader.major();
  const argument = reader.argument();
  if (major === CBOR_UINT) return argument;
  if (major === CBOR_BYTES) return reader.take(argument);
  if (major === CBOR_TEXT) return reader.takeText(argument);
  if (major === CBOR_SIMPLE) return argument === CBOR_NULL ? null : argument === CBOR_TRUE;
  if (major === CBOR_ARRAY) {
    const items: Cbor[] = [];
    for (let i = 0; i < argument; i++) items.push(readValue(reader, depth - 1));
    return items;
  }
  const map: { [key: number]: Cbor } = {};
  let key = -1;
  for (let i = 0; i < argument; i++) {
    key = reader.key(key);
    map[key] = readValue(reader, depth - 1);
  }
  return map;
}

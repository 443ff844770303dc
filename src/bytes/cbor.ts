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
    throw lngateError("cbor-bad-value", "only whole numbers from 0 to 2^53-1 can be encoded");
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
export class CborReader {
  private readonly bytes: Uint8Array;
  private at: number;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.at = 0;
  }

  /** The major type of the next item, which is not consumed. */
  major(): number {
    if (this.at >= this.bytes.length) throw truncated();
    return this.bytes[this.at]! >> 5;
  }

  /** Consumes the head of the next item: a number, a length, a count, or one of false, true, null. */
  argument(): number {
    const major = this.major();
    const info = this.bytes[this.at]! & 31;
    if (major === 1 || major === 6 || info > 27 || (major === 7 && (info < CBOR_FALSE || info > CBOR_NULL))) {
      throw lngateError(
        "cbor-unsupported",
        "negative numbers, tags, floats, indefinite lengths and other simple values are not used here",
      );
    }
    this.at++;
    if (info < 24) return info;
    const width = 1 << (info - 24);
    if (this.bytes.length - this.at < width) throw truncated();
    let value = 0;
    for (let i = 0; i < width; i++) value = value * 256 + this.bytes[this.at++]!;
    if (value > LARGEST) throw lngateError("cbor-too-large", "a number is above 2^53-1");
    const smallest = width === 1 ? 24 : width === 2 ? 0x100 : width === 4 ? 0x10000 : TWO_32;
    if (value < smallest) throw lngateError("cbor-not-shortest", "a number is not in its shortest form");
    return value;
  }

  /** The bytes after the head of a byte string or text, as a copy. */
  take(length: number): Uint8Array {
    if (this.bytes.length - this.at < length) throw truncated();
    const out = new Uint8Array(length);
    out.set(this.bytes.subarray(this.at, this.at + length));
    this.at += length;
    return out;
  }

  /** `take`, as text. */
  takeText(length: number): string {
    const bytes = this.take(length);
    try {
      return fromUtf8(bytes);
    } catch {
      throw lngateError("cbor-bad-text", "a text is not UTF-8");
    }
  }

  /** The next key of a map; keys must rise. `previous` is the key before it, -1 at the start. */
  key(previous: number): number {
    if (this.major() !== CBOR_UINT) throw lngateError("cbor-bad-key", "a key is no unsigned number");
    const key = this.argument();
    if (key <= previous) throw lngateError("cbor-unsorted", "a map's keys are unsorted or occur twice");
    return key;
  }

  /** Nothing may follow. */
  end(): void {
    if (this.at !== this.bytes.length) throw lngateError("cbor-trailing", "bytes follow the end of the item");
  }
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
  const reader = new CborReader(bytes);
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

function truncated(): Error {
  return lngateError("cbor-truncated", "the bytes end in the middle of an item");
}

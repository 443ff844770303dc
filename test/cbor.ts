/** CBOR of any shape, written and read with what the link's descriptions are (src/bytes/cbor.ts). */
import { type Output, output, put, written } from "../src/bytes/bytes.ts";
import {
  CBOR_ARRAY,
  CBOR_BYTES,
  CBOR_FALSE,
  CBOR_MAP,
  CBOR_NULL,
  CBOR_SIMPLE,
  CBOR_TEXT,
  CBOR_TRUE,
  CBOR_UINT,
  nextMajor,
  putHead,
  type Reader,
  readBytes,
  readEnd,
  readerOf,
  readHead,
  readKey,
  readText,
} from "../src/bytes/cbor.ts";
import { utf8 } from "../src/bytes/utf8.ts";
import { lngateError } from "../src/errors.ts";

/** What `encodeCbor` takes and `decodeCbor` returns. */
export type Cbor = number | boolean | null | string | Uint8Array | readonly Cbor[] | CborMap;
export interface CborMap {
  readonly [key: number]: Cbor;
}

/** The one encoding of a value. Throws `cbor-bad-value`. */
export function encodeCbor(value: Cbor): Uint8Array {
  const out = output();
  writeValue(value, out);
  return written(out).slice();
}

function writeValue(value: Cbor, out: Output): void {
  if (typeof value === "number") {
    putHead(out, CBOR_UINT, value);
  } else if (typeof value === "boolean") {
    putHead(out, CBOR_SIMPLE, value ? CBOR_TRUE : CBOR_FALSE);
  } else if (value === null) {
    putHead(out, CBOR_SIMPLE, CBOR_NULL);
  } else if (typeof value === "string") {
    const bytes = utf8(value);
    putHead(out, CBOR_TEXT, bytes.length);
    put(out, bytes);
  } else if (value instanceof Uint8Array) {
    putHead(out, CBOR_BYTES, value.length);
    put(out, value);
  } else if (Array.isArray(value)) {
    putHead(out, CBOR_ARRAY, value.length);
    for (const item of value as readonly Cbor[]) writeValue(item, out);
  } else {
    const map = value as CborMap;
    const keys = Object.keys(map)
      .map(key => Number(key))
      .sort((a, b) => a - b);
    putHead(out, CBOR_MAP, keys.length);
    for (const key of keys) {
      putHead(out, CBOR_UINT, key);
      writeValue(map[key]!, out);
    }
  }
}

/** Reads one value of at most `maxBytes` bytes, nested at most `maxDepth` deep. Throws `cbor-…`. */
export function decodeCbor(bytes: Uint8Array, maxBytes = 65536, maxDepth = 8): Cbor {
  if (bytes.length > maxBytes) throw lngateError("cbor-too-large", `more than ${maxBytes} bytes`);
  const reader = readerOf(bytes);
  const value = readValue(reader, maxDepth);
  readEnd(reader);
  return value;
}

function readValue(reader: Reader, depth: number): Cbor {
  if (depth < 0) throw lngateError("cbor-too-deep", "items are nested too deep");
  const major = nextMajor(reader);
  const argument = readHead(reader);
  if (major === CBOR_UINT) return argument;
  if (major === CBOR_BYTES) return readBytes(reader, argument);
  if (major === CBOR_TEXT) return readText(reader, argument);
  if (major === CBOR_SIMPLE) return argument === CBOR_NULL ? null : argument === CBOR_TRUE;
  if (major === CBOR_ARRAY) {
    const items: Cbor[] = [];
    for (let i = 0; i < argument; i++) items.push(readValue(reader, depth - 1));
    return items;
  }
  const map: { [key: number]: Cbor } = {};
  let key = -1;
  for (let i = 0; i < argument; i++) {
    key = readKey(reader, key);
    map[key] = readValue(reader, depth - 1);
  }
  return map;
}

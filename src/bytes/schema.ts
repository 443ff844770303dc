/**
 * Messages described as data. One description encodes, decodes strictly and gives TypeScript the type:
 *
 *     const pay = message(1, "pay", {
 *       id: [1, bytes(16)],
 *       maxFeeMsat: [2, uint(MAX_MSAT)],
 *       note: optional([3, text(80)]),
 *     });
 *     const toGateway = protocol([pay, signed]);
 *     const received = toGateway.decode(bytes); // { type: "pay", id: Uint8Array, maxFeeMsat: number, note?: string } | …
 *
 * On the wire a message is a CBOR map: key 0 is the message's number, the fields follow under their own keys.
 *
 * Errors, when decoding and when encoding: `message-malformed` (a wrong type, out of range, a field missing or
 * unknown) names message and field; `message-unknown` is a type nobody described; faults of the encoding
 * itself keep the codes `cbor-…` of src/bytes/cbor.ts.
 */

import { codeOf, lngateError } from "../errors.ts";
import { type Output, output, put, putByte, written } from "./bytes.ts";
import {
  CBOR_ARRAY,
  CBOR_BYTES,
  CBOR_FALSE,
  CBOR_MAP,
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
} from "./cbor.ts";
import { cutTo, utf8 } from "./utf8.ts";

export const UINT16 = 65535;
export const UINT32 = 4294967295;
export const UINT53 = 9007199254740991;

/** One kind of value, as data for `write` and `read` below, which check alike. `T` is its type. */
export interface Codec<T> {
  /** CBOR's major type. */
  readonly major: number;
  /** Bounds of what CBOR calls the argument: of the number, or of the length. */
  readonly min: number;
  readonly max: number;
  /** Of a text: what is longer is cut when it is written. */
  readonly cut?: true;
  /** Of a list. */
  readonly item?: AnyCodec;
  /** Of a record. */
  readonly layout?: Layout;
  /** Never there: it only carries the type. */
  readonly value?: T;
}
type AnyCodec = Codec<unknown>;

/** A field: its key on the wire and its kind; `optional([key, kind])` may be absent. */
export type Field<T> = readonly [key: number, kind: Codec<T>];
export type OptionalField<T> = readonly [key: number, kind: Codec<T>, optional: true];
export interface Fields {
  readonly [name: string]: Field<unknown> | OptionalField<unknown>;
}

/** The type that a kind describes. */
export type ValueOf<K> = K extends Codec<infer T> ? T : never;
type OptionalNames<F extends Fields> = {
  [N in keyof F]: F[N] extends OptionalField<unknown> ? N : never;
}[keyof F];
type Flat<T> = { [N in keyof T]: T[N] };

/** The object that a set of fields describes. */
export type RecordOf<F extends Fields> = Flat<
  { readonly [N in Exclude<keyof F, OptionalNames<F>>]: ValueOf<F[N][1]> } & {
    readonly [N in OptionalNames<F>]?: ValueOf<F[N][1]>;
  }
>;

/** A whole number from 0 to `max` (at most 2^53-1). */
export function uint(max: number): Codec<number> {
  return { major: CBOR_UINT, min: 0, max };
}

/** False or true. */
export function bool(): Codec<boolean> {
  return { major: CBOR_SIMPLE, min: CBOR_FALSE, max: CBOR_TRUE };
}

/** Exactly `length` bytes. */
export function bytes(length: number): Codec<Uint8Array> {
  return { major: CBOR_BYTES, min: length, max: length };
}

/** 0 to `max` bytes. */
export function bytesUpTo(max: number): Codec<Uint8Array> {
  return { major: CBOR_BYTES, min: 0, max };
}

/** Text of at most `maxBytes` bytes of UTF-8. */
export function text(maxBytes: number): Codec<string> {
  return { major: CBOR_TEXT, min: 0, max: maxBytes };
}

/**
 * Words for people: what is longer is cut where it is written, at a character's border, and not refused. They may be anybody's,
 * in any script, and what is told with them must be told.
 */
export function words(maxBytes: number): Codec<string> {
  return { major: CBOR_TEXT, min: 0, max: maxBytes, cut: true };
}

/** 0 to `maxItems` values of one kind. */
export function list<T>(item: Codec<T>, maxItems: number): Codec<readonly T[]> {
  return { major: CBOR_ARRAY, min: 0, max: maxItems, item };
}

/** A nested map with these fields. */
export function struct<F extends Fields>(fields: F): Codec<RecordOf<F>> {
  return { major: CBOR_MAP, min: 0, max: UINT32, layout: layoutOf(fields, 0) };
}

/** Marks a field that may be absent. */
export function optional<T>(field: Field<T>): OptionalField<T> {
  return [field[0], field[1], true];
}

/** One message: its number on the wire, its name and its fields (keys from 1). */
export interface MessageCodec<Name extends string, F extends Fields> {
  readonly number: number;
  readonly name: Name;
  /** For the types alone: at run time the layout says it, and a small engine has no room for both. */
  readonly fields?: F;
  readonly layout: Layout;
}

/** What a message decodes to: its fields and its name as `type`. */
export type MessageOf<M> =
  M extends MessageCodec<infer Name, infer F> ? Flat<{ readonly type: Name } & RecordOf<F>> : never;

/** Describes a message; a field cannot be called `type`. */
export function message<const Name extends string, F extends Fields>(
  number: number,
  name: Name,
  fields: F & { readonly type?: never },
): MessageCodec<Name, F> {
  return { number, name, layout: layoutOf(fields, 1) };
}

/** The messages that one side may send: encodes and decodes any of them. */
export interface Protocol<M> {
  /** The messages themselves, for who wants to know what there is. */
  readonly kinds: readonly MessageCodec<string, Fields>[];
  encode(value: MessageOf<M>): Uint8Array;
  decode(encoded: Uint8Array): MessageOf<M>;
}

export function protocol<const K extends readonly MessageCodec<string, Fields>[]>(
  kinds: K,
): Protocol<K[number]> {
  return {
    kinds,
    encode: value => {
      const given = value as { readonly type: string };
      const kind = kinds.filter(candidate => candidate.name === given.type)[0];
      if (kind === undefined) throw lngateError("message-unknown", `there is no message "${given.type}"`);
      const out = output();
      inside(kind.name, () => {
        writeFields(value, kind.layout, out, kind.number);
      });
      return written(out);
    },
    decode: encoded => {
      const reader = readerOf(encoded);
      const count = inside("message", () => headOf(reader, CBOR_MAP));
      if (count === 0 || readKey(reader, -1) !== 0)
        throw lngateError("message-malformed", "message has no type");
      const number = inside("message.type", () => headOf(reader, CBOR_UINT));
      const kind = kinds.filter(candidate => candidate.number === number)[0];
      if (kind === undefined) throw lngateError("message-unknown", `there is no message ${number}`);
      return inside(kind.name, () => {
        const value = readFields(reader, count - 1, 0, kind.layout, { type: kind.name });
        readEnd(reader);
        return value as MessageOf<K[number]>;
      });
    },
  };
}

/** One value without a message around it: what a device keeps in flash. */
export function encodeValue<T>(kind: Codec<T>, value: T): Uint8Array {
  const out = output();
  write(kind, value, out);
  return written(out);
}

/** Reads what `encodeValue` wrote, just as strictly as a message. */
export function decodeValue<T>(kind: Codec<T>, encoded: Uint8Array): T {
  const reader = readerOf(encoded);
  const value = read(kind, reader);
  readEnd(reader);
  return value as T;
}

/** What each major type stands for here. */
const WHAT = ["number", "", "byte string", "text", "list", "record", "", "truth value"];

function write(kind: AnyCodec, value: unknown, out: Output): void {
  const { major, layout } = kind;
  if (major === CBOR_UINT) {
    putHead(out, major, within(kind, value as number));
  } else if (major === CBOR_SIMPLE) {
    putHead(out, major, value ? CBOR_TRUE : CBOR_FALSE);
  } else if (layout !== undefined) {
    writeFields(value, layout, out);
  } else if (major === CBOR_ARRAY) {
    if (!Array.isArray(value)) throw isNo(major);
    putHead(out, major, within(kind, value.length));
    for (let i = 0; i < value.length; i++) inside(`[${i}]`, () => write(kind.item!, value[i], out));
  } else {
    if (major === CBOR_TEXT && typeof value !== "string") throw isNo(major);
    const content =
      major === CBOR_TEXT ? utf8(kind.cut ? cutTo(value as string, kind.max) : (value as string)) : value;
    if (!(content instanceof Uint8Array)) throw isNo(major);
    putHead(out, major, within(kind, content.length));
    put(out, content);
  }
}

function read(kind: AnyCodec, reader: Reader): unknown {
  const { major, layout } = kind;
  const argument = within(kind, headOf(reader, major));
  if (major === CBOR_UINT) return argument;
  if (major === CBOR_SIMPLE) return argument === CBOR_TRUE;
  if (major === CBOR_BYTES) return readBytes(reader, argument);
  if (major === CBOR_TEXT) return readText(reader, argument);
  if (layout !== undefined) return readFields(reader, argument, -1, layout, {});
  const values: unknown[] = [];
  for (let i = 0; i < argument; i++) values.push(inside(`[${i}]`, () => read(kind.item!, reader)));
  return values;
}

/** Most entries of a map whose number fits into the first byte. */
const MOST_FIELDS = 23;

/** The fields by rising key. */
export type Layout = readonly { name: string; key: number; kind: AnyCodec; optional: boolean }[];

function layoutOf(fields: Fields, firstKey: number): Layout {
  const layout = Object.keys(fields).map(name => {
    const field = fields[name]!;
    return { name, key: field[0], kind: field[1], optional: field.length === 3 };
  });
  layout.sort((a, b) => a.key - b.key);
  if (layout.length + firstKey > MOST_FIELDS) throw malformed("has too many fields");
  let smallest = firstKey;
  for (const field of layout) {
    if (field.key < smallest) throw malformed(`cannot give ${field.name} the key ${field.key}`);
    smallest = field.key + 1;
  }
  return layout;
}

/** A map of the fields that are there; of a message, with its number under key 0. */
function writeFields(value: unknown, layout: Layout, out: Output, number?: number): void {
  if (typeof value !== "object" || value === null) throw malformed("is not a record");
  const given = value as { readonly [name: string]: unknown };
  const head = out.length;
  let count = 0;
  // How many there are is known in the end; up to MOST_FIELDS it fits into this byte.
  putByte(out, 0);
  if (number !== undefined) {
    putHead(out, CBOR_UINT, 0);
    putHead(out, CBOR_UINT, number);
    count++;
  }
  for (let i = 0; i < layout.length; i++) {
    const field = layout[i]!;
    const item = given[field.name];
    if (field.optional && item === undefined) continue;
    putHead(out, CBOR_UINT, field.key);
    inside(`.${field.name}`, () => write(field.kind, item, out));
    count++;
  }
  out.room[head] = (CBOR_MAP << 5) | count;
}

/** Reads `count` fields with keys above `previous` into `value`. */
function readFields(
  reader: Reader,
  count: number,
  previous: number,
  layout: Layout,
  value: { [name: string]: unknown },
): unknown {
  let key = previous;
  let next = 0;
  for (let i = 0; i < count; i++) {
    key = readKey(reader, key);
    while (next < layout.length && layout[next]!.key < key) missing(layout[next++]!);
    const field = layout[next++];
    if (field === undefined || field.key !== key) throw malformed(`has an unknown field ${key}`);
    value[field.name] = inside(`.${field.name}`, () => read(field.kind, reader));
  }
  while (next < layout.length) missing(layout[next++]!);
  return value;
}

/** A field that did not come. */
function missing(field: Layout[number]): void {
  if (!field.optional) throw malformed(`.${field.name} is missing`);
}

/** The argument of the next item, which must be of this major type. */
function headOf(reader: Reader, major: number): number {
  if (nextMajor(reader) !== major) throw isNo(major);
  return readHead(reader);
}

/** An argument within its bounds. */
function within({ major, min, max }: AnyCodec, argument: number): number {
  if (argument >= min && argument <= max && Math.floor(argument) === argument) return argument;
  if (major === CBOR_UINT) throw malformed(`is not a whole number up to ${max}`);
  if (major === CBOR_SIMPLE) throw isNo(major);
  throw malformed(`has length ${argument}, not ${min} to ${max}`);
}

function isNo(major: number): Error {
  return malformed(`is not a ${WHAT[major]}`);
}

function malformed(sentence: string): Error {
  return lngateError("message-malformed", sentence);
}

/** Runs a step and puts the place before the sentence of its error: "pay.note has 90 bytes …". */
function inside<T>(place: string, step: () => T): T {
  try {
    return step();
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    const sentence = (error as Error).message;
    const nested = sentence.charAt(0) === "." || sentence.charAt(0) === "[";
    throw lngateError(code, `${place}${nested ? "" : " "}${sentence}`);
  }
}

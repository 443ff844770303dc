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
import { concat } from "../bytes/bytes.ts";
import {
  CBOR_ARRAY,
  CBOR_BYTES,
  CBOR_FALSE,
  CBOR_MAP,
  CBOR_SIMPLE,
  CBOR_TEXT,
  CBOR_TRUE,
  CBOR_UINT,
  type CborReader,
  cborHead,
  cborReader,
} from "../bytes/cbor.ts";
import { utf8 } from "../bytes/utf8.ts";
import { codeOf, lngateError } from "../errors.ts";

export const UINT16 = 65535;
export const UINT32 = 4294967295;
export const UINT53 = 9007199254740991;

/** How one kind of value is written and read; `write` checks as strictly as `read`. */
export interface Kind<T> {
  write(value: T, out: Uint8Array[]): void;
  read(reader: CborReader): T;
}

/** A field: its key on the wire and its kind; `optional([key, kind])` may be absent. */
export type Field<T> = readonly [key: number, kind: Kind<T>];
export type OptionalField<T> = readonly [key: number, kind: Kind<T>, optional: true];
export interface Fields {
  readonly [name: string]: Field<unknown> | OptionalField<unknown>;
}

type Value<K> = K extends Kind<infer T> ? T : never;
type OptionalNames<F extends Fields> = {
  [N in keyof F]: F[N] extends OptionalField<unknown> ? N : never;
}[keyof F];
type Flat<T> = { [N in keyof T]: T[N] };

/** The object that a set of fields describes. */
export type RecordOf<F extends Fields> = Flat<
  { readonly [N in Exclude<keyof F, OptionalNames<F>>]: Value<F[N][1]> } & {
    readonly [N in OptionalNames<F>]?: Value<F[N][1]>;
  }
>;

/** A whole number from 0 to `max` (at most 2^53-1). */
export function uint(max: number): Kind<number> {
  function checked(value: number): number {
    if (!(typeof value === "number" && value >= 0 && value <= max && Math.floor(value) === value)) {
      throw malformed(`is no whole number up to ${max}`);
    }
    return value;
  }
  return {
    write: (value, out) => {
      out.push(cborHead(CBOR_UINT, checked(value)));
    },
    read: reader => checked(argumentOf(reader, CBOR_UINT, "number")),
  };
}

/** False or true. */
export function bool(): Kind<boolean> {
  return {
    write: (value, out) => {
      out.push(cborHead(CBOR_SIMPLE, value ? CBOR_TRUE : CBOR_FALSE));
    },
    read: reader => {
      const argument = argumentOf(reader, CBOR_SIMPLE, "truth value");
      if (argument !== CBOR_FALSE && argument !== CBOR_TRUE) throw malformed("is no truth value");
      return argument === CBOR_TRUE;
    },
  };
}

/** Exactly `length` bytes. */
export function bytes(length: number): Kind<Uint8Array> {
  return byteString(length, length);
}

/** 0 to `max` bytes. */
export function bytesUpTo(max: number): Kind<Uint8Array> {
  return byteString(0, max);
}

function byteString(min: number, max: number): Kind<Uint8Array> {
  return {
    write: (value, out) => {
      if (!(value instanceof Uint8Array)) throw malformed("is no byte string");
      out.push(cborHead(CBOR_BYTES, within(value.length, min, max)), value);
    },
    read: reader => reader.take(within(argumentOf(reader, CBOR_BYTES, "byte string"), min, max)),
  };
}

/** Text of at most `maxBytes` bytes of UTF-8. */
export function text(maxBytes: number): Kind<string> {
  return {
    write: (value, out) => {
      if (typeof value !== "string") throw malformed("is no text");
      const encoded = utf8(value);
      out.push(cborHead(CBOR_TEXT, within(encoded.length, 0, maxBytes)), encoded);
    },
    read: reader => reader.takeText(within(argumentOf(reader, CBOR_TEXT, "text"), 0, maxBytes)),
  };
}

/** 0 to `maxItems` values of one kind. */
export function list<T>(item: Kind<T>, maxItems: number): Kind<readonly T[]> {
  return {
    write: (values, out) => {
      if (!Array.isArray(values)) throw malformed("is no list");
      out.push(cborHead(CBOR_ARRAY, within(values.length, 0, maxItems)));
      for (let i = 0; i < values.length; i++) inside(`[${i}]`, () => item.write(values[i]!, out));
    },
    read: reader => {
      const length = within(argumentOf(reader, CBOR_ARRAY, "list"), 0, maxItems);
      const values: T[] = [];
      for (let i = 0; i < length; i++) values.push(inside(`[${i}]`, () => item.read(reader)));
      return values;
    },
  };
}

/** A nested map with these fields. */
export function record<F extends Fields>(fields: F): Kind<RecordOf<F>> {
  const layout = layoutOf(fields, 0);
  return {
    write: (value, out) => {
      const present = presentIn(value, layout);
      out.push(cborHead(CBOR_MAP, present.length));
      writeFields(value, present, out);
    },
    read: reader => {
      const count = argumentOf(reader, CBOR_MAP, "record");
      return readFields(reader, count, -1, layout, {}) as RecordOf<F>;
    },
  };
}

/** Marks a field that may be absent. */
export function optional<T>(field: Field<T>): OptionalField<T> {
  return [field[0], field[1], true];
}

/** One message: its number on the wire, its name and its fields (keys from 1). */
export interface MessageKind<Name extends string, F extends Fields> {
  readonly number: number;
  readonly name: Name;
  readonly fields: F;
  readonly layout: Layout;
}

/** What a message decodes to: its fields and its name as `type`. */
export type MessageOf<M> =
  M extends MessageKind<infer Name, infer F> ? Flat<{ readonly type: Name } & RecordOf<F>> : never;

/** Describes a message; a field cannot be called `type`. */
export function message<const Name extends string, F extends Fields>(
  number: number,
  name: Name,
  fields: F & { readonly type?: never },
): MessageKind<Name, F> {
  return { number, name, fields, layout: layoutOf(fields, 1) };
}

/** The messages that one side may send: encodes and decodes any of them. */
export interface Protocol<M> {
  /** The messages themselves, for who wants to know what there is. */
  readonly kinds: readonly MessageKind<string, Fields>[];
  encode(value: MessageOf<M>): Uint8Array;
  decode(encoded: Uint8Array): MessageOf<M>;
}

export function protocol<const K extends readonly MessageKind<string, Fields>[]>(
  kinds: K,
): Protocol<K[number]> {
  return {
    kinds,
    encode: value => {
      const given = value as { readonly type: string };
      const kind = kinds.filter(candidate => candidate.name === given.type)[0];
      if (kind === undefined) throw lngateError("message-unknown", `there is no message "${given.type}"`);
      const out: Uint8Array[] = [];
      inside(kind.name, () => {
        const present = presentIn(value, kind.layout);
        out.push(
          cborHead(CBOR_MAP, 1 + present.length),
          cborHead(CBOR_UINT, 0),
          cborHead(CBOR_UINT, kind.number),
        );
        writeFields(value, present, out);
      });
      return concat(out);
    },
    decode: encoded => {
      const reader = cborReader(encoded);
      const count = inside("message", () => argumentOf(reader, CBOR_MAP, "record"));
      if (count === 0 || reader.key(-1) !== 0) throw lngateError("message-malformed", "message has no type");
      const number = inside("message.type", () => argumentOf(reader, CBOR_UINT, "number"));
      const kind = kinds.filter(candidate => candidate.number === number)[0];
      if (kind === undefined) throw lngateError("message-unknown", `there is no message ${number}`);
      return inside(kind.name, () => {
        const value = readFields(reader, count - 1, 0, kind.layout, { type: kind.name });
        reader.end();
        return value as MessageOf<K[number]>;
      });
    },
  };
}

/** One value without a message around it: what a device keeps in flash. */
export function encodeValue<T>(kind: Kind<T>, value: T): Uint8Array {
  const out: Uint8Array[] = [];
  kind.write(value, out);
  return concat(out);
}

/** Reads what `encodeValue` wrote, just as strictly as a message. */
export function decodeValue<T>(kind: Kind<T>, encoded: Uint8Array): T {
  const reader = cborReader(encoded);
  const value = kind.read(reader);
  reader.end();
  return value;
}

/** The fields by rising key. */
type Layout = readonly { name: string; key: number; kind: Kind<unknown>; optional: boolean }[];

function layoutOf(fields: Fields, firstKey: number): Layout {
  const layout = Object.keys(fields).map(name => {
    const field = fields[name]!;
    return { name, key: field[0], kind: field[1], optional: field.length === 3 };
  });
  layout.sort((a, b) => a.key - b.key);
  let smallest = firstKey;
  for (const field of layout) {
    if (field.key < smallest) throw malformed(`cannot give ${field.name} the key ${field.key}`);
    smallest = field.key + 1;
  }
  return layout;
}

function presentIn(value: unknown, layout: Layout): Layout {
  if (typeof value !== "object" || value === null) throw malformed("is no record");
  const given = value as { readonly [name: string]: unknown };
  return layout.filter(field => !field.optional || given[field.name] !== undefined);
}

function writeFields(value: unknown, present: Layout, out: Uint8Array[]): void {
  const given = value as { readonly [name: string]: unknown };
  for (const field of present) {
    out.push(cborHead(CBOR_UINT, field.key));
    inside(`.${field.name}`, () => field.kind.write(given[field.name], out));
  }
}

/** Reads `count` fields with keys above `previous` into `value`. */
function readFields(
  reader: CborReader,
  count: number,
  previous: number,
  layout: Layout,
  value: { [name: string]: unknown },
): unknown {
  let key = previous;
  let next = 0;
  for (let i = 0; i < count; i++) {
    key = reader.key(key);
    while (next < layout.length && layout[next]!.key < key) missing(layout[next++]!);
    const field = layout[next++];
    if (field === undefined || field.key !== key) throw malformed(`has an unknown field ${key}`);
    value[field.name] = inside(`.${field.name}`, () => field.kind.read(reader));
  }
  while (next < layout.length) missing(layout[next++]!);
  return value;
}

/** A field that did not come. */
function missing(field: Layout[number]): void {
  if (!field.optional) throw malformed(`.${field.name} is missing`);
}

function argumentOf(reader: CborReader, major: number, what: string): number {
  if (reader.major() !== major) throw malformed(`is no ${what}`);
  return reader.argument();
}

/** A length within its bounds. */
function within(length: number, min: number, max: number): number {
  if (length < min || length > max) throw malformed(`has length ${length}, not ${min} to ${max}`);
  return length;
}

function malformed(what: string): Error {
  return lngateError("message-malformed", what);
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

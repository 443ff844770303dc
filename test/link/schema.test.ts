import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import {
  bool,
  bytes,
  bytesUpTo,
  list,
  type MessageOf,
  message,
  optional,
  protocol,
  struct,
  text,
  UINT32,
  UINT53,
  uint,
  words,
} from "../../src/bytes/schema.ts";
import { codeOf } from "../../src/errors.ts";
import { encodeCbor } from "../cbor.ts";

const pay = message(1, "pay", {
  id: [1, bytes(4)],
  amountMsat: [3, uint(UINT53)],
  note: optional([2, text(8)]),
});
const advance = message(2, "advance", {
  urgent: [1, bool()],
  signatures: [2, list(bytesUpTo(8), 3)],
  point: optional([4, struct({ x: [0, uint(UINT32)], y: optional([7, uint(5)]) })]),
});
const empty = message(40, "empty", {});
const messages = protocol([pay, advance, empty]);

type Sent = MessageOf<typeof pay> | MessageOf<typeof advance> | MessageOf<typeof empty>;
const sent: Sent[] = [
  { type: "pay", id: fromHex("01020304"), amountMsat: 2 ** 53 - 1 },
  { type: "pay", id: fromHex("01020304"), amountMsat: 0, note: "zwölf" },
  { type: "advance", urgent: true, signatures: [] },
  { type: "advance", urgent: false, signatures: [fromHex(""), fromHex("0102")], point: { x: 7, y: 5 } },
  { type: "empty" },
];

function fault(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return `${codeOf(error)}: ${(error as Error).message}`;
  }
  return "no error";
}

describe("messages described as data", () => {
  test.each(sent)("decode to what was encoded: %j", value => {
    expect(messages.decode(messages.encode(value))).toEqual(value);
  });

  test("cut words for people to the bytes that there are, between two characters", () => {
    const said = protocol([message(1, "said", { words: [1, words(20)] })]);
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 40 }), spoken => {
        const heard = said.decode(said.encode({ type: "said", words: spoken })).words;
        const [next = ""] = spoken.slice(heard.length);
        const isAll = next === "" || Buffer.byteLength(heard + next) > 20;
        return spoken.startsWith(heard) && Buffer.byteLength(heard) <= 20 && isAll;
      }),
    );
  });

  test("are maps with the number under key 0 and rising keys", () => {
    const value = { type: "pay", id: fromHex("01020304"), amountMsat: 300, note: "ab" } as const;
    expect(toHex(messages.encode(value))).toBe("a4000101440102030402626162" + "0319012c");
  });

  test("give TypeScript the union of their types", () => {
    const received = messages.decode(messages.encode(sent[0]!));
    if (received.type !== "pay") throw new Error("unreachable");
    const note: string | undefined = received.note;
    // @ts-expect-error a number is no text
    const wrong: string = received.amountMsat;
    expect([note, wrong]).toEqual([undefined, 2 ** 53 - 1]);
  });

  const bad: [string, Record<number, unknown>, string][] = [
    ["a field is missing", { 0: 1, 3: 1 }, "message-malformed: pay.id is missing"],
    ["the last field is missing", { 0: 1, 1: "h:01020304" }, "message-malformed: pay.amountMsat is missing"],
    [
      "a field is unknown",
      { 0: 1, 1: "h:01020304", 3: 1, 4: 1 },
      "message-malformed: pay has an unknown field 4",
    ],
    [
      "bytes are too few",
      { 0: 1, 1: "h:010203", 3: 1 },
      "message-malformed: pay.id has length 3, not 4 to 4",
    ],
    ["bytes are text", { 0: 1, 1: "abcd", 3: 1 }, "message-malformed: pay.id is not a byte string"],
    [
      "text is too long",
      { 0: 1, 1: "h:01020304", 2: "123456789", 3: 1 },
      "message-malformed: pay.note has length 9, not 0 to 8",
    ],
    [
      "a list is too long",
      { 0: 2, 1: true, 2: ["h:", "h:", "h:", "h:"] },
      "message-malformed: advance.signatures has length 4, not 0 to 3",
    ],
    [
      "an item is too long",
      { 0: 2, 1: true, 2: ["h:", "h:010203040506070809"] },
      "message-malformed: advance.signatures[1] has length 9, not 0 to 8",
    ],
    [
      "a nested field is out of range",
      { 0: 2, 1: true, 2: [], 4: { 0: 1, 7: 6 } },
      "message-malformed: advance.point.y is not a whole number up to 5",
    ],
    [
      "null is not a truth value",
      { 0: 2, 1: null, 2: [] },
      "message-malformed: advance.urgent is not a truth value",
    ],
    ["the type is unknown", { 0: 3 }, "message-unknown: there is no message 3"],
    ["there is no type", { 1: 3 }, "message-malformed: message has no type"],
    ["the type is text", { 0: "pay" }, "message-malformed: message.type is not a number"],
  ];
  test.each(bad)("are refused when %s", (_, value, expected) => {
    expect(fault(() => messages.decode(encodeCbor(withBytes(value))))).toBe(expected);
  });

  test("are refused when they are no map, are cut, or something follows", () => {
    const good = messages.encode(sent[3]!);
    expect(fault(() => messages.decode(fromHex("83000102")))).toBe(
      "message-malformed: message is not a record",
    );
    expect(fault(() => messages.decode(good.subarray(0, good.length - 1)))).toContain("cbor-truncated: ");
    expect(fault(() => messages.decode(fromHex(`${toHex(good)}00`)))).toContain("cbor-trailing: ");
    // {0: 40} with its number in two bytes more than needed
    expect(fault(() => messages.decode(fromHex("a100190028")))).toContain("cbor-not-shortest: message.type ");
  });

  test("are checked as strictly when they are encoded", () => {
    const id = fromHex("01020304");
    expect(fault(() => messages.encode({ type: "pay", id, amountMsat: -1 }))).toContain("pay.amountMsat");
    expect(fault(() => messages.encode({ type: "pay", id, amountMsat: 0.5 }))).toContain("pay.amountMsat");
    expect(fault(() => messages.encode({ type: "pay", id: id.subarray(1), amountMsat: 1 }))).toContain(
      "pay.id",
    );
    expect(fault(() => messages.encode({ type: "pay", id } as never))).toContain("pay.amountMsat");
    expect(fault(() => messages.encode({ type: "nothing" } as never))).toContain("message-unknown");
    expect(fault(() => messages.encode({ type: "pay", id, amountMsat: 1, note: "123456789" }))).toContain(
      "note",
    );
  });

  test("never decode to anything else than what their bytes re-encode to", () => {
    const seeds = sent.map(value => messages.encode(value));
    const mutated = fc
      .tuple(fc.constantFrom(...seeds), fc.nat(60), fc.nat(255))
      .map(([seed, at, byte]) => seed.map((old, i) => (i === at % seed.length ? byte : old)));
    fc.assert(
      fc.property(mutated, bytes => {
        let decoded: Sent;
        try {
          decoded = messages.decode(bytes);
        } catch (error) {
          expect(codeOf(error)).toMatch(/^(cbor|message)-/);
          return;
        }
        expect(messages.encode(decoded)).toEqual(bytes);
      }),
      { numRuns: 2000 },
    );
  });

  test("cannot be described with a key twice or with the type's key", () => {
    expect(fault(() => message(1, "a", { x: [1, bool()], y: [1, bool()] }))).toContain("message-malformed");
    expect(fault(() => message(1, "a", { x: [0, bool()] }))).toContain("message-malformed");
  });
});

/** Text "h:…" stands for bytes. */
function withBytes(value: unknown): never {
  if (typeof value === "string" && value.startsWith("h:")) return fromHex(value.slice(2)) as never;
  if (Array.isArray(value)) return value.map(withBytes) as never;
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withBytes(item)])) as never;
  }
  return value as never;
}

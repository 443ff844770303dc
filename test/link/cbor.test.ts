import { describe, expect, test } from "@jest/globals";
import { Encoder } from "cbor-x";
import fc from "fast-check";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { fromUtf8, utf8 } from "../../src/bytes/utf8.ts";
import { codeOf } from "../../src/errors.ts";
import { type Cbor, decodeCbor, encodeCbor } from "../cbor.ts";

/** The independent judge: maps as Map (so that keys stay numbers), nothing of cbor-x's own extensions. */
const judge = new Encoder({ mapsAsObjects: false, useRecords: false, tagUint8Array: false });

/** A value of ours as the judge names it. */
function toJudge(value: Cbor): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return value.map(toJudge);
  if (typeof value !== "object" || value === null) return value;
  return new Map(Object.entries(value).map(([key, item]) => [Number(key), toJudge(item as Cbor)]));
}

/** cbor-x gives large numbers as BigInt and byte strings as Buffer. */
function fromJudge(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return value.map(fromJudge);
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [Number(key), fromJudge(item)]));
  return value;
}

const numbers = fc.oneof(
  fc.nat(300),
  fc.constantFrom(23, 24, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1),
  fc.maxSafeNat(),
);
const { value: values } = fc.letrec<{ value: Cbor }>(tie => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    numbers,
    fc.uint8Array({ maxLength: 300 }),
    fc.string({ unit: "binary", maxLength: 60 }),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 30 }),
    fc.dictionary(numbers.map(String), tie("value"), { maxKeys: 6, noNullPrototype: true }),
  ) as fc.Arbitrary<Cbor>,
}));

function codeThrown(run: () => unknown): string | undefined {
  try {
    run();
  } catch (error) {
    return codeOf(error) ?? `no code: ${error}`;
  }
  return undefined;
}

describe("CBOR", () => {
  test("that we encode is read by cbor-x, and by us, as the same value", () => {
    fc.assert(
      fc.property(values, value => {
        const encoded = encodeCbor(value);
        expect(fromJudge(judge.decode(encoded))).toEqual(fromJudge(toJudge(value)));
        expect(decodeCbor(encoded, 65536, 100)).toEqual(value);
      }),
      { numRuns: 500 },
    );
  });

  test("of cbor-x, given sorted maps and numbers below 2^32, is byte for byte ours", () => {
    // Above 2^32 cbor-x writes floats, so such numbers are only compared when decoding.
    const leaf = fc.oneof(
      fc.nat(2 ** 32 - 1),
      fc.uint8Array({ maxLength: 300 }),
      fc.string({ maxLength: 300 }),
    );
    const list = fc.array(leaf, { maxLength: 30 });
    const map = fc.dictionary(fc.nat(70000).map(String), fc.oneof(leaf, list), {
      maxKeys: 30,
      noNullPrototype: true,
    });
    fc.assert(
      fc.property(fc.oneof(leaf, list, map) as fc.Arbitrary<Cbor>, value => {
        const encoded = judge.encode(toJudge(value));
        expect(toHex(encodeCbor(value))).toBe(toHex(encoded));
        expect(decodeCbor(encoded)).toEqual(value);
      }),
      { numRuns: 300 },
    );
  });

  // RFC 8949 appendix A, the values in our part of CBOR.
  const published: [string, Cbor][] = [
    ["00", 0],
    ["01", 1],
    ["0a", 10],
    ["17", 23],
    ["1818", 24],
    ["1819", 25],
    ["1864", 100],
    ["1903e8", 1000],
    ["1a000f4240", 1000000],
    ["1b000000e8d4a51000", 1000000000000],
    ["f4", false],
    ["f5", true],
    ["f6", null],
    ["40", fromHex("")],
    ["4401020304", fromHex("01020304")],
    ["60", ""],
    ["6161", "a"],
    ["6449455446", "IETF"],
    ["62225c", '"\\'],
    ["62c3bc", "\u00fc"],
    ["63e6b0b4", "\u6c34"],
    ["64f0908591", "\ud800\udd51"],
    ["80", []],
    ["83010203", [1, 2, 3]],
    ["8301820203820405", [1, [2, 3], [4, 5]]],
    [
      "98190102030405060708090a0b0c0d0e0f101112131415161718181819",
      Array.from({ length: 25 }, (_, i) => i + 1),
    ],
    ["a0", {}],
    ["a201020304", { 1: 2, 3: 4 }],
  ];
  test.each(published)("%s is the one encoding of its value", (hex, value) => {
    expect(toHex(encodeCbor(value))).toBe(hex);
    expect(decodeCbor(fromHex(hex))).toEqual(value);
  });

  const refused: [string, string, string][] = [
    ["nothing", "", "cbor-truncated"],
    ["a number cut off", "19", "cbor-truncated"],
    ["a byte string longer than the bytes", "5affffffff00", "cbor-truncated"],
    ["an array longer than the bytes", "9b001fffffffffffff", "cbor-truncated"],
    ["a second item", "0000", "cbor-trailing"],
    ["a long form of 23", "1817", "cbor-not-shortest"],
    ["a long form of 255", "1900ff", "cbor-not-shortest"],
    ["a long form of 65535", "1a0000ffff", "cbor-not-shortest"],
    ["a long form of 2^32-1", "1b00000000ffffffff", "cbor-not-shortest"],
    ["a long form of a length", "580100", "cbor-not-shortest"],
    ["2^53", "1b0020000000000000", "cbor-too-large"],
    ["2^53+1, which a double cannot hold", "1b0020000000000001", "cbor-too-large"],
    ["2^64-1", "1bffffffffffffffff", "cbor-too-large"],
    ["-1", "20", "cbor-unsupported"],
    ["a tag", "c000", "cbor-unsupported"],
    ["a half float", "f90000", "cbor-unsupported"],
    ["a single float", "fa47c35000", "cbor-unsupported"],
    ["a double", "fb3ff199999999999a", "cbor-unsupported"],
    ["undefined", "f7", "cbor-unsupported"],
    ["an unassigned simple value", "f0", "cbor-unsupported"],
    ["a two-byte simple value", "f8ff", "cbor-unsupported"],
    ["a break", "ff", "cbor-unsupported"],
    ["indefinite bytes", "5f42010243030405ff", "cbor-unsupported"],
    ["an indefinite text", "7f61616162ff", "cbor-unsupported"],
    ["an indefinite array", "9f01ff", "cbor-unsupported"],
    ["an indefinite map", "bf0102ff", "cbor-unsupported"],
    ["a reserved head", "1c", "cbor-unsupported"],
    ["a key twice", "a201020103", "cbor-unsorted"],
    ["keys out of order", "a203040102", "cbor-unsorted"],
    ["a text as key", "a1616101", "cbor-bad-key"],
    ["a negative key", "a12001", "cbor-bad-key"],
    ["text that is no UTF-8", "61ff", "cbor-bad-text"],
    ["nine nested arrays", "818181818181818181" + "00", "cbor-too-deep"],
  ];
  test.each(refused)("refuses %s", (_, hex, code) => {
    expect(codeThrown(() => decodeCbor(fromHex(hex)))).toBe(code);
  });

  test("refuses more bytes than asked for before reading any", () => {
    expect(codeThrown(() => decodeCbor(new Uint8Array(101), 100))).toBe("cbor-too-large");
  });

  test("does not encode what it would not decode", () => {
    for (const value of [-1, 0.5, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY, { "-1": 0 }, { a: 0 }]) {
      expect(codeThrown(() => encodeCbor(value as Cbor))).toBe("cbor-bad-value");
    }
  });

  test("either refuses any bytes with a code, or re-encodes what it read to the same bytes", () => {
    const seeds = values.map(value => encodeCbor(value));
    const mutated = fc
      .tuple(seeds, fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 3 }))
      .map(([seed, changes]) => {
        const bytes = seed.slice();
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
        return bytes;
      });
    fc.assert(
      fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 40 })), bytes => {
        let value: Cbor;
        try {
          value = decodeCbor(bytes);
        } catch (error) {
          expect(codeOf(error)).toMatch(/^cbor-/);
          return;
        }
        expect(encodeCbor(value)).toEqual(bytes);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("UTF-8 without TextEncoder", () => {
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  test("is what the platform's encoder gives, and back", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), text => {
        expect(utf8(text)).toEqual(encoder.encode(text));
        expect(fromUtf8(utf8(text))).toBe(text);
      }),
      { numRuns: 500 },
    );
  });

  test("accepts exactly the bytes that the platform's strict decoder accepts", () => {
    const leads = fc.constantFrom(
      0x41,
      0x80,
      0xbf,
      0xc1,
      0xc2,
      0xe0,
      0xed,
      0xef,
      0xf0,
      0xf4,
      0xf5,
      0xff,
      0x9f,
      0xa0,
    );
    const bytes = fc
      .array(fc.oneof(leads, fc.nat(255)), { maxLength: 5 })
      .map(items => new Uint8Array(items));
    function platform(given: Uint8Array): string | undefined {
      try {
        return decoder.decode(given);
      } catch {
        return undefined;
      }
    }
    fc.assert(
      fc.property(bytes, given => {
        const expected = platform(given);
        if (expected === undefined) expect(codeThrown(() => fromUtf8(given))).toBe("bad-text");
        else expect(fromUtf8(given)).toBe(expected);
      }),
      { numRuns: 5000 },
    );
  });

  test("refuses half a surrogate pair", () => {
    for (const text of ["\ud800", "a\udc00", "\ud800a", "\udc00\ud800"]) {
      expect(codeThrown(() => utf8(text))).toBe("bad-text");
    }
  });
});

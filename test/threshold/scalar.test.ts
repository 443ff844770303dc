import { describe, expect, test } from "@jest/globals";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import fc from "fast-check";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import * as port from "../../src/crypto/scalar.ts";
import * as big from "../../src/crypto/scalar-bigint.ts";
import * as limbs from "../../src/crypto/scalar-limbs.ts";
import { codeThrownBy } from "../thrown.ts";

const Fn = secp256k1.Point.Fn;
const N = Fn.ORDER;
const bytes = (value: bigint) => fromHex(value.toString(16).padStart(64, "0"));
const MAX = 2n ** 256n - 1n;
const edges = [
  0n,
  1n,
  2n,
  N - 2n,
  N - 1n,
  N,
  N + 1n,
  MAX - 1n,
  MAX,
  N >> 1n,
  (N >> 1n) + 1n,
  2n ** 255n,
  2n ** 128n,
  2n ** 128n - 1n,
  MAX - N,
  2n ** 24n - 1n,
  2n ** 240n,
  MAX - (2n ** 24n - 1n),
  2n ** 256n - 2n ** 240n,
];

/** Any 256-bit number, the awkward ones often. */
const anyScalar = fc.oneof(
  fc.constantFrom(...edges),
  fc.bigInt({ min: 0n, max: MAX }),
  fc.bigInt({ min: N - 1000n, max: N + 1000n }),
  fc.bigInt({ min: 0n, max: 255n }).chain(shift => fc.constant(2n ** shift)),
);

const implementations = [
  { name: "BigInt", scalars: big as typeof port },
  { name: "24-bit limbs", scalars: limbs as typeof port },
];

describe.each(implementations)("scalars by $name", ({ scalars }) => {
  /** What differs from @noble/curves; compared as text, which is quick enough for thousands. */
  function differences(a: bigint, b: bigint, c: bigint): string[] {
    const [A, B, C] = [bytes(a), bytes(b), bytes(c)];
    const [x, y, z] = [Fn.create(a), Fn.create(b), Fn.create(c)];
    const results: [string, Uint8Array, bigint][] = [
      ["reduce", scalars.reduce(A), x],
      ["add", scalars.addMod(A, B), Fn.add(x, y)],
      ["multiply", scalars.mulMod(A, B), Fn.mul(x, y)],
      ["multiply and add", scalars.mulAddMod(A, B, C), Fn.add(Fn.mul(x, y), z)],
      ["negate", scalars.negate(A), Fn.neg(x)],
      ["argument", A, a],
      ["argument", B, b],
      ["argument", C, c],
    ];
    return results
      .filter(([, found, expected]) => toHex(found) !== toHex(bytes(expected)))
      .map(([name]) => `${name} of ${a}, ${b}, ${c}`);
  }

  test("agree with @noble/curves on every triple of edge values", () => {
    for (const a of edges)
      for (const b of edges) for (const c of [0n, N - 1n, MAX]) expect(differences(a, b, c)).toEqual([]);
  });

  test("agree with @noble/curves on random values", () => {
    fc.assert(
      fc.property(anyScalar, anyScalar, anyScalar, (a, b, c) => differences(a, b, c).length === 0),
      {
        numRuns: 2_000,
      },
    );
  });

  test("know which bytes are a scalar, and which s is low", () => {
    fc.assert(
      fc.property(anyScalar, a => {
        expect(scalars.isReducedScalar(bytes(a))).toBe(a < N);
        expect(scalars.isValidScalar(bytes(a))).toBe(a > 0n && a < N);
        expect(scalars.isLowS(bytes(a))).toBe(a <= N >> 1n);
      }),
      { numRuns: 2_000 },
    );
    for (const length of [0, 31, 33]) {
      expect(scalars.isValidScalar(new Uint8Array(length).fill(1))).toBe(false);
      expect(scalars.isReducedScalar(new Uint8Array(length))).toBe(false);
      expect(scalars.isLowS(new Uint8Array(length))).toBe(false);
    }
  });

  test("refuse another length and stay clean after it", () => {
    const one = bytes(1n);
    const tooShort = new Uint8Array(31);
    const refused = [
      () => scalars.reduce(tooShort),
      () => scalars.negate(new Uint8Array(33)),
      () => scalars.addMod(one, tooShort),
      () => scalars.mulMod(one, tooShort),
      () => scalars.mulAddMod(one, one, tooShort),
    ];
    for (const attempt of refused) {
      expect(codeThrownBy(attempt)).toBe("bad-scalar");
      expect(toHex(scalars.mulMod(bytes(6n), bytes(7n)))).toBe(toHex(bytes(42n)));
    }
  });
});

test("the port and both implementations export the same functions", () => {
  const functions = Object.keys(port).sort();
  for (const { scalars } of implementations) {
    expect(functions.filter(name => typeof scalars[name as keyof typeof scalars] !== "function")).toEqual([]);
  }
  expect(functions).toHaveLength(8);
});

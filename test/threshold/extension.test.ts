import { beforeAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { toHex } from "../../src/bytes/bytes.ts";
import { extendP1, extendP2, extensionBytes, rowBytesFor } from "../../src/threshold/transfer/extension.ts";
import { combine, prepareWeights } from "../../src/threshold/transfer/field128.ts";
import { transpose128 } from "../../src/threshold/transfer/transpose.ts";
import { codeThrownBy } from "../thrown.ts";
import { copyOf, generateKey, type Setups, seededRandom, setUp } from "./parties.ts";

const random = seededRandom("extension");
const element = fc.uint8Array({ minLength: 16, maxLength: 16 });
const bit = (bytes: Uint8Array, at: number) => (bytes[at >> 3]! >> (at & 7)) & 1;

/** a·b by the module under test: one weight, nothing hidden in the last element. */
function times(a: Uint8Array, b: Uint8Array): Uint8Array {
  return combine(prepareWeights(a, 1), new Uint8Array([...b, ...new Uint8Array(16)]));
}

const plus = (a: Uint8Array, b: Uint8Array) => a.map((byte, i) => byte ^ b[i]!);

/** a·b by the schoolbook: polynomials as BigInts, reduced from the top. */
function timesByHand(a: Uint8Array, b: Uint8Array): Uint8Array {
  const number = (bytes: Uint8Array) => BigInt(`0x${toHex(bytes.slice().reverse())}`);
  const modulus = (1n << 128n) | 0x87n;
  let product = 0n;
  for (let power = 0n; power < 128n; power++) {
    if ((number(a) >> power) & 1n) product ^= number(b) << power;
  }
  for (let power = 254n; power >= 128n; power--) {
    if ((product >> power) & 1n) product ^= modulus << (power - 128n);
  }
  return Uint8Array.from({ length: 16 }, (_, i) => Number((product >> BigInt(8 * i)) & 255n));
}

describe("the field of 2^128", () => {
  const one = new Uint8Array(16);
  one[0] = 1;

  test("multiplies as polynomials do", () => {
    fc.assert(fc.property(element, element, (a, b) => toHex(times(a, b)) === toHex(timesByHand(a, b))));
  });

  test("is a commutative ring with one", () => {
    fc.assert(
      fc.property(element, element, element, (a, b, c) => {
        expect(times(a, b)).toEqual(times(b, a));
        expect(times(a, times(b, c))).toEqual(times(times(a, b), c));
        expect(times(a, plus(b, c))).toEqual(plus(times(a, b), times(a, c)));
        expect(times(a, one)).toEqual(a);
      }),
    );
  });

  test("every element but zero has an inverse, a^(2^128 − 2)", () => {
    fc.assert(
      fc.property(
        element.filter(a => a.some(byte => byte !== 0)),
        a => {
          let inverse: Uint8Array = one;
          let power: Uint8Array = a;
          for (let i = 1; i < 128; i++) {
            power = times(power, power);
            inverse = times(inverse, power);
          }
          expect(times(a, inverse)).toEqual(one);
        },
      ),
      { numRuns: 20 },
    );
  });

  test("a combination is the sum of its products and of the last element", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(element, element), { maxLength: 6 }), element, (pairs, last) => {
        const weights = prepareWeights(
          Uint8Array.from(pairs.flatMap(([weight]) => [...weight])),
          pairs.length,
        );
        const row = Uint8Array.from([...pairs.flatMap(([, value]) => [...value]), ...last]);
        const expected = pairs.reduce((sum, [weight, value]) => plus(sum, timesByHand(weight, value)), last);
        expect(combine(weights, row)).toEqual(expected);
      }),
    );
  });
});

test("transposition puts bit j of row i into bit i of column j", () => {
  fc.assert(
    fc.property(
      fc.nat({ max: 3 }),
      fc.integer({ min: 1, max: 4 }),
      fc.nat({ max: 9 }),
      (before, width, after) => {
        const rowBytes = 4 * before + 4 * width + after;
        const matrix = random(128 * rowBytes);
        const columns = transpose128(matrix, rowBytes, 32 * before, 32 * width);
        let wrong = columns.length === 32 * width * 16 ? 0 : 1;
        for (let j = 0; j < 32 * width; j++) {
          for (let i = 0; i < 128; i++) {
            const row = matrix.subarray(i * rowBytes, (i + 1) * rowBytes);
            if (bit(columns.subarray(16 * j, 16 * j + 16), i) !== bit(row, 32 * before + j)) wrong++;
          }
        }
        return wrong === 0;
      },
    ),
    { numRuns: 20 },
  );
});

describe("OT extension", () => {
  let setups: Setups;
  const columns = 416 * 4;
  const session = random(32);

  beforeAll(() => {
    setups = setUp(generateKey(random), "A", random);
  });

  test("after the setup P1 knows one seed of each pair, the one its bit names", () => {
    for (let i = 0; i < 128; i++) {
      const chosen = bit(setups.p1.delta, i) as 0 | 1;
      expect(setups.p1.seed(i)).toEqual(setups.p2.seed(i, chosen));
      expect(setups.p1.seed(i)).not.toEqual(setups.p2.seed(i, chosen === 0 ? 1 : 0));
    }
  });

  test("q_j = t_j ⊕ x_j·Δ for every transfer", () => {
    const { message, choices, matrix } = extendP2(setups.p2, session, columns, random);
    expect(message).toHaveLength(extensionBytes(columns));
    const q = transpose128(extendP1(setups.p1, session, columns, message), rowBytesFor(columns), 0, columns);
    const t = transpose128(matrix, rowBytesFor(columns), 0, columns);
    for (let j = 0; j < columns; j++) {
      const expected = t.slice(16 * j, 16 * j + 16);
      if (bit(choices, j) === 1)
        expected.forEach((byte, i) => {
          expected[i] = byte ^ setups.p1.delta[i]!;
        });
      expect(toHex(q.subarray(16 * j, 16 * j + 16))).toBe(toHex(expected));
    }
  });

  test("a change anywhere in P2's message, or another session, fails the check", () => {
    const { message } = extendP2(setups.p2, session, columns, random);
    const rowBytes = rowBytesFor(columns);
    const places = [
      0,
      rowBytes - 1,
      77 * rowBytes + 5,
      128 * rowBytes - 1,
      128 * rowBytes,
      message.length - 1,
    ];
    for (const at of places) {
      const changed = message.slice();
      changed[at] = changed[at]! ^ 1;
      const check = () => extendP1(copyOf(setups).p1, session, columns, changed);
      expect(codeThrownBy(check)).toBe("threshold-extension-check");
    }
    const elsewhere = () => extendP1(copyOf(setups).p1, random(32), columns, message);
    expect(codeThrownBy(elsewhere)).toBe("threshold-extension-check");
    expect(extendP1(setups.p1, session, columns, message)).toHaveLength(128 * rowBytes);
  });
});

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { concat, fromHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { bigintCurve } from "../../src/crypto/curve-bigint.ts";
import { bytesOf, ORDER, scalars } from "../scalars.ts";
import { codeThrownBy } from "../thrown.ts";

const PRIME = 2n ** 256n - 2n ** 32n - 977n;
const G = fromHex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");

const points = scalars.map(scalar => nobleCurve.publicKey(scalar));
const hashes = fc.uint8Array({ minLength: 32, maxLength: 32 });

/** The same result, or the same refusal, from both. */
function same<T>(run: (curve: typeof nobleCurve | typeof bigintCurve) => T): void {
  const outcome = (curve: typeof nobleCurve | typeof bigintCurve) => {
    try {
      return run(curve);
    } catch (error) {
      return (error as { code?: string }).code ?? error;
    }
  };
  expect(outcome(bigintCurve)).toEqual(outcome(nobleCurve));
}

describe("the curve without tables", () => {
  test("multiplies and adds as the library does, infinity and equal points included", () => {
    fc.assert(
      fc.property(scalars, scalars, points, points, (a, b, p, q) => {
        same(curve => curve.publicKey(a));
        same(curve => curve.add(p, q));
        same(curve => curve.combine(p, a, q, b));
        same(curve => curve.combine(p, a, p, bytesOf(ORDER - BigInt(`0x${Buffer.from(a).toString("hex")}`))));
        same(curve => curve.combine(p, a, p, a));
        same(curve => curve.add(p, p));
        same(curve => curve.add(p, concat([new Uint8Array([p[0]! ^ 1]), p.subarray(1)])));
      }),
      { numRuns: 60 },
    );
  });

  test("knows a point from what is none", () => {
    fc.assert(
      fc.property(fc.constantFrom(0, 2, 3, 4), fc.bigInt(0n, 2n ** 256n - 1n), (first, x) => {
        const point = concat([new Uint8Array([first]), bytesOf(x)]);
        same(curve => curve.isPoint(point));
        same(curve => curve.add(G, point));
      }),
      { numRuns: 100 },
    );
    for (const x of [0n, 1n, PRIME - 1n, PRIME, PRIME + 1n, 2n ** 256n - 1n]) {
      same(curve => curve.isPoint(concat([new Uint8Array([2]), bytesOf(x)])));
    }
    for (const length of [0, 1, 32, 34, 65])
      expect(bigintCurve.isPoint(new Uint8Array(length).fill(2))).toBe(false);
  });

  test("verifies and recovers as the library does, whatever was changed", () => {
    fc.assert(
      fc.property(
        scalars,
        hashes,
        fc.nat(63),
        fc.integer({ min: 1, max: 255 }),
        fc.nat(7),
        (secret, hash, at, flip, id) => {
          const key = nobleCurve.publicKey(secret);
          const signature = nobleCurve.sign(hash, secret);
          expect(bigintCurve.verify(signature, hash, key)).toBe(true);
          same(curve => curve.recover(signature, id, hash));
          const s = BigInt(`0x${Buffer.from(signature.subarray(32)).toString("hex")}`);
          const high = concat([signature.subarray(0, 32), bytesOf(ORDER - s)]);
          expect(bigintCurve.verify(high, hash, key)).toBe(false);
          same(curve => curve.recover(high, id, hash));
          const changed = signature.slice();
          changed[at] = changed[at]! ^ flip;
          same(curve => curve.verify(changed, hash, key));
          same(curve => curve.recover(changed, id, hash));
          same(curve => curve.verify(signature, bytesOf(0n), key));
        },
      ),
      { numRuns: 40 },
    );
  });

  test("refuses what is out of range", () => {
    const [key, hash] = [nobleCurve.publicKey(bytesOf(7n)), new Uint8Array(32).fill(1)];
    const halves = [0n, 1n, ORDER - 1n, ORDER, ORDER + 1n, 2n ** 256n - 1n, PRIME - ORDER].map(bytesOf);
    for (const r of halves) {
      for (const s of halves) {
        same(curve => curve.verify(concat([r, s]), hash, key));
        for (let id = 0; id < 5; id++) same(curve => curve.recover(concat([r, s]), id, hash));
      }
      same(curve => curve.publicKey(r));
    }
    for (const length of [0, 63, 65]) same(curve => curve.verify(new Uint8Array(length), hash, key));
    expect(codeThrownBy(() => bigintCurve.verify(new Uint8Array(64), hash, new Uint8Array(33)))).toBe(
      "bad-point",
    );
    expect(codeThrownBy(() => bigintCurve.verify(new Uint8Array(64), new Uint8Array(31), key))).toBe(
      "bad-hash",
    );
  });

  test("accepts an r that stands for an x above the group order", () => {
    // A nonce point whose x is n + something is one in 2^127: it is found by its x, and the key made to fit it.
    let x = ORDER + 1n;
    while (!nobleCurve.isPoint(concat([new Uint8Array([2]), bytesOf(x)]))) x++;
    const hash = new Uint8Array(32).fill(9);
    const signature = concat([bytesOf(x - ORDER), bytesOf(5n)]);
    const key = bigintCurve.recover(signature, 2, hash);
    expect(key).toEqual(nobleCurve.recover(signature, 2, hash));
    expect(bigintCurve.verify(signature, hash, key)).toBe(true);
    expect(nobleCurve.verify(signature, hash, key)).toBe(true);
  });
});

import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";
import { describe, expect, jest, test } from "@jest/globals";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import fc from "fast-check";
import { bundleOnline } from "../../scripts/bench/online-bundle.ts";
import { concat, fromHex } from "../../src/bytes/bytes.ts";
import * as limbs from "../../src/bytes/scalar-limbs.ts";
import * as onlineByBigInt from "../../src/threshold/online.ts";
import { codeThrownBy } from "../thrown.ts";

const Fn = secp256k1.Point.Fn;
const N = Fn.ORDER;
const bytes = (value: bigint) => fromHex(value.toString(16).padStart(64, "0"));
const scalar = fc.bigInt({ min: 1n, max: N - 1n });
const any256 = fc.bigInt({ min: 0n, max: 2n ** 256n - 1n });

// The same module again, the scalar port replaced as a build for an engine without BigInt replaces it.
jest.resetModules();
jest.unstable_mockModule("../../src/bytes/scalar.ts", () => limbs);
const onlineByLimbs: typeof onlineByBigInt = await import("../../src/threshold/online.ts");

/** What the two parties' offline work amounts to, done here by someone who knows everything. */
function records(x: bigint, k1: bigint, k2: bigint, x1: bigint) {
  const r = Fn.create(secp256k1.Point.BASE.multiply(Fn.mul(k1, k2)).x);
  const w = Fn.inv(k2);
  const x2 = Fn.sub(x, Fn.mul(x1, k2));
  const kappa = Fn.inv(k1);
  return {
    answering: concat([bytes(w), bytes(Fn.mul(Fn.mul(w, r), x2))]),
    completing: concat([bytes(r), bytes(kappa), bytes(Fn.mul(Fn.mul(kappa, r), x1))]),
  };
}

describe.each([
  { scalars: "BigInt", online: onlineByBigInt },
  { scalars: "24-bit limbs", online: onlineByLimbs },
])("online signing with $scalars", ({ online }) => {
  test("answer and completion make a low-S signature that @noble accepts, for any message", () => {
    fc.assert(
      fc.property(scalar, scalar, scalar, scalar, any256, (x, k1, k2, x1, z) => {
        const { answering, completing } = records(x, k1, k2, x1);
        const signature = online.complete(completing, online.answer(answering, bytes(z)));
        const key = secp256k1.getPublicKey(bytes(x));
        expect(secp256k1.verify(signature, bytes(z), key, { prehash: false, lowS: true })).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  test("records and messages in Node Buffers stay as they are", () => {
    const { answering, completing } = records(5n, 7n, 11n, 13n);
    const z = bytes(99n);
    const [recordA, recordB] = [Buffer.from(answering), Buffer.from(completing)];
    const s2 = online.answer(recordA, Buffer.from(z));
    expect(online.complete(recordB, Buffer.from(s2))).toEqual(online.complete(completing, s2));
    online.signWithNonce(recordA, bytes(3n), z);
    expect([recordA.equals(answering), recordB.equals(completing)]).toEqual([true, true]);
  });

  test("a prepared nonce makes a low-S signature that @noble accepts", () => {
    fc.assert(
      fc.property(scalar, scalar, any256, (x, k, z) => {
        const r = Fn.create(secp256k1.Point.BASE.multiply(k).x);
        const signature = online.signWithNonce(concat([bytes(Fn.inv(k)), bytes(r)]), bytes(x), bytes(z));
        const key = secp256k1.getPublicKey(bytes(x));
        expect(secp256k1.verify(signature, bytes(z), key, { prehash: false, lowS: true })).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  test("refuses erased records, records of another kind, and answers that are no scalars", () => {
    const { answering, completing } = records(5n, 7n, 11n, 13n);
    const z = bytes(1n);
    const refusals: [() => unknown, string][] = [
      [() => online.answer(new Uint8Array(64), z), "bad-record"],
      [() => online.answer(completing, z), "bad-record"],
      [() => online.answer(answering.subarray(1), z), "bad-record"],
      [() => online.answer(answering, z.subarray(1)), "bad-sighash"],
      [() => online.complete(answering, z), "bad-record"],
      [() => online.complete(new Uint8Array(96), z), "bad-record"],
      [() => online.complete(completing, bytes(N)), "bad-answer"],
      [() => online.complete(completing, z.subarray(1)), "bad-answer"],
      [() => online.signWithNonce(new Uint8Array(64), z, z), "bad-record"],
      [() => online.signWithNonce(answering, bytes(0n), z), "bad-key"],
      [() => online.signWithNonce(answering, z, new Uint8Array(33)), "bad-sighash"],
    ];
    for (const [action, code] of refusals) expect(codeThrownBy(action)).toBe(code);
  });

  test("a completion that would have s = 0 is refused", () => {
    const { completing } = records(5n, 7n, 11n, 13n);
    const kappa = BigInt(`0x${Buffer.from(completing.slice(32, 64)).toString("hex")}`);
    const c = BigInt(`0x${Buffer.from(completing.slice(64)).toString("hex")}`);
    const toZero = bytes(Fn.mul(Fn.neg(c), Fn.inv(kappa)));
    expect(codeThrownBy(() => online.complete(completing, toZero))).toBe("bad-answer");
  });
});

test("bundled as ES5 with limbs, the online half runs where there is no BigInt and no curve", async () => {
  const script = await bundleOnline("limbs", fileURLToPath(new URL("../..", import.meta.url)));
  const engine = createContext({});
  runInContext(
    "for (const name of ['BigInt','BigInt64Array','BigUint64Array','Symbol']) delete this[name]",
    engine,
  );
  runInContext(script, engine);
  const { answering, completing } = records(5n, 7n, 11n, 13n);
  const z = bytes(2n ** 256n - 1n);
  Object.assign(engine, { answering: [...answering], completing: [...completing], z: [...z] });
  const signature: ArrayLike<number> = runInContext(
    `online.complete(new Uint8Array(completing), online.answer(new Uint8Array(answering), new Uint8Array(z)))`,
    engine,
  );
  expect(Uint8Array.from(signature)).toEqual(
    onlineByBigInt.complete(completing, onlineByBigInt.answer(answering, z)),
  );
  expect(runInContext("typeof BigInt", engine)).toBe("undefined");
});

import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";
import { describe, expect, jest, test } from "@jest/globals";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import fc from "fast-check";
import { bundleOnline } from "../../scripts/bench/online-bundle.ts";
import { concat, fromHex } from "../../src/bytes/bytes.ts";
import * as limbs from "../../src/crypto/scalar-limbs.ts";
import * as onlineByBigInt from "../../src/threshold/online.ts";
import { codeThrownBy } from "../thrown.ts";

const Fn = secp256k1.Point.Fn;
const N = Fn.ORDER;
const bytes = (value: bigint) => fromHex(value.toString(16).padStart(64, "0"));
const scalar = fc.bigInt({ min: 1n, max: N - 1n });
const any256 = fc.bigInt({ min: 0n, max: 2n ** 256n - 1n });

// The same module again, the scalar port replaced as a build for an engine without BigInt replaces it.
jest.resetModules();
jest.unstable_mockModule("../../src/crypto/scalar.ts", () => limbs);
const onlineByLimbs: typeof onlineByBigInt = await import("../../src/threshold/online.ts");

/** The MACs of a record under α, b_w and b_v, by someone who knows everything. */
function withMacs(answering: Uint8Array, alpha: bigint, bw: bigint, bv: bigint) {
  const [w, v] = [0, 32].map(at => BigInt(`0x${Buffer.from(answering.slice(at, at + 32)).toString("hex")}`));
  const macs = [Fn.add(Fn.mul(alpha, w!), bw), Fn.add(Fn.mul(alpha, v!), bv)];
  return { record: concat([answering, ...macs.map(bytes)]), keys: concat([alpha, bw, bv].map(bytes)) };
}

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

  test("an answer with its MAC is authentic for its message, and for no other", () => {
    fc.assert(
      fc.property(scalar, scalar, scalar, any256, any256, (alpha, bw, bv, z, other) => {
        const { record, keys } = withMacs(records(5n, 7n, 11n, 13n).answering, alpha, bw, bv);
        const whole = online.answerWithMac(record, bytes(z));
        const [s2, mac] = [whole.slice(0, 32), whole.slice(32)];
        expect(s2).toEqual(online.answer(record.slice(0, 64), bytes(z)));
        expect(online.isAuthentic(keys, bytes(z), s2, mac)).toBe(true);
        if ((other - z) % N !== 0n) expect(online.isAuthentic(keys, bytes(other), s2, mac)).toBe(false);
      }),
      { numRuns: 60 },
    );
  });

  test("a wrong answer is refused by arithmetic alone, whatever is wrong with it", () => {
    const { answering } = records(5n, 7n, 11n, 13n);
    const { record, keys } = withMacs(answering, 17n ** 50n % N, 19n ** 50n % N, 23n ** 50n % N);
    const z = bytes(2n ** 200n + 1n);
    const whole = online.answerWithMac(record, z);
    const [s2, mac] = [whole.slice(0, 32), whole.slice(32)];
    const flip = (which: Uint8Array, bit: number) =>
      which.map((byte, at) => (at === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
    for (let bit = 0; bit < 256; bit++) expect(online.isAuthentic(keys, z, flip(s2, bit), mac)).toBe(false);
    for (let bit = 0; bit < 128; bit++) expect(online.isAuthentic(keys, z, s2, flip(mac, bit))).toBe(false);
    const s2Value = BigInt(`0x${Buffer.from(s2).toString("hex")}`);
    const wrong: [Uint8Array, Uint8Array][] = [
      [bytes(Fn.neg(s2Value)), mac], // the same signature but for its sign
      [bytes(0n), mac],
      [new Uint8Array(32).fill(255), mac],
      [s2.slice(1), mac],
      [s2, new Uint8Array(16)],
      [s2, new Uint8Array(0)],
      [s2, mac.slice(1)],
      [s2, concat([mac, new Uint8Array(1)])],
    ];
    for (const [a, b] of wrong) expect(online.isAuthentic(keys, z, a, b)).toBe(false);
    // The same number once more, as 256 bits may say it: no scalar.
    const small = withMacs(concat([bytes(1n), bytes(1n)]), 3n, 5n, 7n);
    const ofSmall = online.answerWithMac(small.record, bytes(2n));
    expect(online.isAuthentic(small.keys, bytes(2n), ofSmall.slice(0, 32), ofSmall.slice(32))).toBe(true);
    expect(online.isAuthentic(small.keys, bytes(2n), bytes(3n + N), ofSmall.slice(32))).toBe(false);
  });

  test("refuses erased records, records of another kind, and answers that are no scalars", () => {
    const { answering, completing } = records(5n, 7n, 11n, 13n);
    const z = bytes(1n);
    const refusals: [() => unknown, string][] = [
      [() => online.answer(new Uint8Array(64), z), "bad-record"],
      [() => online.answer(completing, z), "bad-record"],
      [() => online.answer(answering.subarray(1), z), "bad-record"],
      [() => online.answer(answering, z.subarray(1)), "bad-sighash"],
      [() => online.answerWithMac(answering, z), "bad-record"],
      [() => online.answerWithMac(new Uint8Array(128), z), "bad-record"],
      [() => online.answerWithMac(concat([answering, answering]), z.subarray(1)), "bad-sighash"],
      [() => online.isAuthentic(new Uint8Array(96), z.subarray(1), z, z.subarray(16)), "bad-sighash"],
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
  const { record, keys } = withMacs(answering, 3n ** 99n % N, 5n ** 99n % N, 7n ** 99n % N);
  Object.assign(engine, { record: [...record], keys: [...keys] });
  const check = `(function () {
    var zBytes = new Uint8Array(z), whole = online.answerWithMac(new Uint8Array(record), zBytes);
    var s2 = whole.slice(0, 32), mac = whole.slice(32), all = new Uint8Array(keys);
    var right = online.isAuthentic(all, zBytes, s2, mac);
    s2[31] ^= 1;
    return [right, online.isAuthentic(all, zBytes, s2, mac)].join();
  })()`;
  expect(runInContext(check, engine)).toBe("true,false");
  expect(runInContext("typeof BigInt", engine)).toBe("undefined");
});

import { describe, expect, test } from "@jest/globals";
import { depositScript } from "../../src/bitcoin/deposit.ts";
import { p2wpkh } from "../../src/bitcoin/script.ts";
import { weightOf } from "../../src/bitcoin/transaction.ts";
import { nobleCurve as curve } from "../../src/crypto/curve.ts";
import {
  buildSweep,
  punishToLocal,
  signedSweep,
  spendDeposit,
  timeOutHtlc,
} from "../../src/lightning/sweep.ts";
import { codeThrownBy } from "../thrown.ts";

const SECRET = new Uint8Array(32).fill(2);
const KEY = curve.publicKey(SECRET);
const OWNER = p2wpkh(KEY);
const found = (valueSat: number, vout = 0) => {
  return { txid: new Uint8Array(32).fill(1), vout, valueSat, witnessScript: depositScript(KEY, KEY, 144) };
};

describe("a sweep", () => {
  test("pays the feerate asked for, of what it sweeps", () => {
    const spends = [spendDeposit(found(40_000), 144), spendDeposit(found(2_000, 1), 144)];
    const sweep = buildSweep(spends, OWNER, 2500);
    const signed = signedSweep(
      sweep,
      sweep.sighashes.map(hash => curve.sign(hash, SECRET)),
    );
    expect(signed.outputs).toEqual([{ valueSat: 42_000 - sweep.feeSat, script: OWNER }]);
    const feerate = (sweep.feeSat * 1000) / weightOf(signed);
    expect(feerate).toBeGreaterThanOrEqual(2500);
    expect(feerate).toBeLessThan(2550);
    expect(signed.inputs.map(input => input.sequence)).toEqual([144, 144]);
  });

  test("waits for the latest of its expiries", () => {
    const spends = [
      timeOutHtlc(found(9000), 800),
      timeOutHtlc(found(9000, 1), 700),
      punishToLocal(found(9000, 2)),
    ];
    const { transaction } = buildSweep(spends, OWNER, 300);
    expect(transaction.locktime).toBe(800);
    expect(transaction.inputs.map(input => input.sequence)).toEqual([1, 1, 0xfffffffd]);
  });

  test("is not made where the fee would leave nothing worth an output", () => {
    expect(codeThrownBy(() => buildSweep([punishToLocal(found(1000))], OWNER, 2000))).toBe("sweep-too-small");
    expect(codeThrownBy(() => buildSweep([punishToLocal(found(700))], OWNER, 2000))).toBe("sweep-too-small");
    expect(codeThrownBy(() => buildSweep([], OWNER, 253))).toBe("sweep-too-small");
  });
});

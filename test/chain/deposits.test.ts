import { describe, expect, test } from "@jest/globals";
import { depositsToSpend } from "../../gateway/channel/deposits.ts";
import { MAX_DEPOSITS } from "../../src/channel/terms.ts";

const SCRIPT = new Uint8Array(77);
let made = 0;
function deposit(valueSat: number) {
  return { txid: new Uint8Array(32).fill(++made), vout: 0, valueSat, confirmations: 1 };
}
const values = (feerate: number, ...sats: number[]) =>
  depositsToSpend(sats.map(deposit), SCRIPT, feerate).deposits.map(({ valueSat }) => valueSat);

describe("the deposits that fund a channel", () => {
  test("are the largest, as many as one transaction may spend", () => {
    const sats = Array.from({ length: 3 * MAX_DEPOSITS }, (_, i) => 10_000 + i);
    expect(values(1_000, ...sats)).toEqual(sats.reverse().slice(0, MAX_DEPOSITS));
  });

  test("are none that costs more to spend than would be left of it, at the feerate of the day", () => {
    expect(values(250, 400, 100_000, 400)).toEqual([100_000, 400, 400]);
    expect(values(1_000, 400, 100_000, 400)).toEqual([100_000]);
    expect(values(1_000_000, 400, 100_000)).toEqual([]);
    expect(values(1_000)).toEqual([]);
  });

  test("are chosen with the fee that the transaction will have", () => {
    const { deposits, valueSat, feeSat } = depositsToSpend([deposit(50_000), deposit(30_000)], SCRIPT, 1_000);
    expect([deposits.length, valueSat]).toEqual([2, 80_000]);
    const one = depositsToSpend([deposit(50_000)], SCRIPT, 1_000).feeSat;
    expect(feeSat).toBeGreaterThan(one);
    expect(feeSat).toBeLessThan(2 * one);
  });
});

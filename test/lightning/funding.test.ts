import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { depositScript } from "../../src/bitcoin/deposit.ts";
import { multisig2of2, p2wsh, witnessSignature } from "../../src/bitcoin/script.ts";
import { sighash } from "../../src/bitcoin/sighash.ts";
import {
  parseTransaction,
  strippedBytes,
  transactionBytes,
  txidOf,
  weightOf,
} from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve as curve } from "../../src/crypto/curve.ts";
import { buildFunding, FUNDING_VOUT, fundingWeight, signedFunding } from "../../src/lightning/funding.ts";
import { codeThrownBy } from "../thrown.ts";

const SECRET = new Uint8Array(32).fill(3);
const SHARED = curve.publicKey(SECRET);
const BRIDGE = curve.publicKey(new Uint8Array(32).fill(4));
const OWNER = curve.publicKey(new Uint8Array(32).fill(5));
const DEPOSIT = depositScript(SHARED, OWNER, 4320);
const CHANNEL = multisig2of2(SHARED, BRIDGE);

const deposits = fc.array(
  fc.record({
    txid: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    vout: fc.nat(100),
    valueSat: fc.integer({ min: 10_000, max: 50_000_000 }),
  }),
  { minLength: 1, maxLength: 5 },
);

describe("the funding transaction", () => {
  test("makes the channel's output and pays the change back to the deposit, signed by the shared key", () => {
    fc.assert(
      fc.property(deposits, fc.boolean(), (found, change) => {
        const total = found.reduce((sum, deposit) => sum + deposit.valueSat, 0);
        const changeSat = change ? Math.floor(total / 3) : 0;
        const fundingSat = total - changeSat - 1000;
        const funding = buildFunding(found, DEPOSIT, CHANNEL, fundingSat, changeSat);
        expect(funding.feeSat).toBe(1000);
        const signed = signedFunding(
          funding,
          funding.sighashes.map(hash => curve.sign(hash, SECRET)),
        );
        const read = parseTransaction(transactionBytes(signed));
        expect(read.outputs[FUNDING_VOUT]).toEqual({ valueSat: fundingSat, script: p2wsh(CHANNEL) });
        expect(read.outputs.slice(1)).toEqual(
          change ? [{ valueSat: changeSat, script: p2wsh(DEPOSIT) }] : [],
        );
        expect(toHex(funding.txid)).toBe(toHex(txidOf(read)));
        expect(strippedBytes(read)).toEqual(strippedBytes(funding.transaction));
        found.forEach((deposit, i) => {
          const signature = curve.sign(sighash(read, i, DEPOSIT, deposit.valueSat), SECRET);
          const witness = [witnessSignature(signature), new Uint8Array([1]), DEPOSIT];
          expect(read.inputs[i]!.witness!.map(toHex)).toEqual(witness.map(toHex));
        });
        const spare = fundingWeight(funding) - weightOf(read);
        expect(spare).toBeGreaterThanOrEqual(0);
        expect(spare).toBeLessThanOrEqual(5 * found.length);
      }),
      { numRuns: 15 },
    );
  });

  test.each([
    [90_001, 10_000],
    [0, 10_000],
    [50_000, -1],
    [Number.NaN, 0],
  ])("does not take %d and %d sat out of 100000", (fundingSat, changeSat) => {
    const deposit = { txid: new Uint8Array(32), vout: 0, valueSat: 100_000 };
    const build = () => buildFunding([deposit], DEPOSIT, CHANNEL, fundingSat, changeSat);
    expect(codeThrownBy(build)).toBe("bad-funding");
  });
});

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { depositScript, depositSpendWitness } from "../../src/bitcoin/deposit.ts";
import {
  multisig2of2,
  OP_CHECKSIG,
  script,
  scriptNumber,
  witnessSignature,
} from "../../src/bitcoin/script.ts";
import { concat, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeThrownBy } from "../thrown.ts";

const KEY_A = fromHex("023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb");
const KEY_B = fromHex("030e9f7b623d2ccc7c9bd44d66d5ce21ce504c0acf6385a132cec6d3c39fa711c1");

describe("scripts", () => {
  test.each([
    [0, "00"],
    [1, "51"],
    [16, "60"],
    [17, "0111"],
    [127, "017f"],
    [128, "028000"],
    [144, "029000"],
    [255, "02ff00"],
    [256, "020001"],
    [32767, "02ff7f"],
    [32768, "03008000"],
    [500000, "0320a107"],
    [0x7fffffff, "04ffffff7f"],
  ])("write the number %d the shortest way", (value, hex) => {
    expect(toHex(script([scriptNumber(value)]))).toBe(hex);
  });

  test.each([-1, 1.5, 0x80000000, Number.NaN])("refuse %d as a number", value => {
    expect(codeThrownBy(() => scriptNumber(value))).toBe("bad-script");
  });

  test("push bytes by their length", () => {
    expect(toHex(script([new Uint8Array(75)]))).toBe(`4b${"00".repeat(75)}`);
    expect(toHex(script([new Uint8Array(76)]))).toBe(`4c4c${"00".repeat(76)}`);
    expect(toHex(script([new Uint8Array(255), OP_CHECKSIG]))).toBe(`4cff${"00".repeat(255)}ac`);
    expect(codeThrownBy(() => script([new Uint8Array(256)]))).toBe("bad-script");
  });

  test("of a 2-of-2 sort its keys (BOLT #3's funding script)", () => {
    const hex = `5221${toHex(KEY_A)}21${toHex(KEY_B)}52ae`;
    expect(toHex(multisig2of2(KEY_A, KEY_B))).toBe(hex);
    expect(toHex(multisig2of2(KEY_B, KEY_A))).toBe(hex);
  });
});

describe("a signature in a witness", () => {
  test("is strict DER with its sighash type, whatever its numbers are", () => {
    const number = fc
      .tuple(fc.nat(31), fc.uint8Array({ minLength: 32, maxLength: 32 }))
      .map(([zeros, bytes]) => {
        const out = bytes.fill(0, 0, zeros);
        out[31]! |= 1;
        return out;
      });
    fc.assert(
      fc.property(number, number, (r, s) => {
        const der = witnessSignature(concat([r, s]), 0x83);
        const [rBack, next] = readDerInteger(der, 2);
        const [sBack, end] = readDerInteger(der, next);
        expect([der[0], der[1], der[end]]).toEqual([48, der.length - 3, 0x83]);
        expect(end).toBe(der.length - 1);
        expect([rBack, sBack]).toEqual([toHex(r), toHex(s)]);
      }),
    );
  });
});

describe("the deposit", () => {
  test("is spent by the common key at once, or by the owner after the delay", () => {
    const deposit = depositScript(KEY_A, KEY_B, 4320);
    expect(toHex(deposit)).toBe(`6321${toHex(KEY_A)}ac6702e010b27521${toHex(KEY_B)}ac68`);
    const signature = new Uint8Array(64).fill(1);
    const spend = depositSpendWitness(signature, deposit);
    expect(spend.map(toHex)).toEqual([toHex(witnessSignature(signature)), "01", toHex(deposit)]);
  });

  test.each([0, -1, 65536, Number.NaN, 1.5])("has no delay of %d blocks", delay => {
    expect(codeThrownBy(() => depositScript(KEY_A, KEY_B, delay))).toBe("bad-script");
  });
});

/** The integer at `at` as 64 hex digits, and where it ends; checks that it is minimal and positive. */
function readDerInteger(der: Uint8Array, at: number): [string, number] {
  expect(der[at]).toBe(2);
  const bytes = der.subarray(at + 2, at + 2 + der[at + 1]!);
  expect(bytes[0]! < 128).toBe(true);
  if (bytes.length > 1 && bytes[0] === 0) expect(bytes[1]! > 127).toBe(true);
  return [toHex(bytes).slice(-64).padStart(64, "0"), at + 2 + bytes.length];
}

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import {
  compareOutputs,
  type Input,
  MAX_SAT,
  type Output,
  parseTransaction,
  strippedBytes,
  type Transaction,
  transactionBytes,
  txidOf,
  weightOf,
} from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeThrownBy } from "../thrown.ts";

/** The signed transaction of BIP 143's native P2WPKH example: a legacy input and a segwit one. */
const EXAMPLE =
  "01000000000102fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f00000000494830450221008b9d1dc26b" +
  "a6a9cb62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd30be022040529b194ba3f9281a99f2b1c0a19c0489bc22ede944ccf4ecba" +
  "b4cc618ef3ed01eeffffffef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202c" +
  "b206000000001976a9148280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2" +
  "d50ce2f0167faa815988ac000247304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a95" +
  "4c4518331561406f90300e8f3358f51928d43c212a8caed02de67eebee0121025476c2e83188368da1ff3e292e7acafcdb3566bb0ad253" +
  "f62fc70f07aeee635711000000";
const STRIPPED =
  "0100000002fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f00000000494830450221008b9d1dc26ba6a9" +
  "cb62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd30be022040529b194ba3f9281a99f2b1c0a19c0489bc22ede944ccf4ecbab4cc" +
  "618ef3ed01eeffffffef51e1b804cc89d182d279655c3aa89e815b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206" +
  "000000001976a9148280b37df378db99f66f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50c" +
  "e2f0167faa815988ac11000000";

const u32 = fc.nat(0xffffffff);
const bytes = (maxLength: number) => fc.uint8Array({ maxLength, size: "max" });
const outpoint = { txid: fc.uint8Array({ minLength: 32, maxLength: 32 }), vout: u32 };
const inputs: fc.Arbitrary<Input> = fc.record(
  {
    ...outpoint,
    sequence: u32,
    scriptSig: fc.uint8Array({ minLength: 1, maxLength: 20 }),
    witness: fc.array(bytes(300), { minLength: 1, maxLength: 4 }),
  },
  { requiredKeys: ["txid", "vout", "sequence"] },
);
const outputs: fc.Arbitrary<Output> = fc.record({
  valueSat: fc.maxSafeNat().map(n => n % (MAX_SAT + 1)),
  script: bytes(60),
});
const transactions: fc.Arbitrary<Transaction> = fc.record({
  version: u32,
  locktime: u32,
  inputs: fc.array(inputs, { minLength: 1, maxLength: 4 }),
  outputs: fc.array(outputs, { minLength: 1, maxLength: 4 }),
});

describe("transactions", () => {
  test("read and write a published transaction", () => {
    const tx = parseTransaction(fromHex(EXAMPLE));
    expect(tx.version).toBe(1);
    expect(tx.locktime).toBe(17);
    expect(tx.inputs.map(input => input.sequence)).toEqual([0xffffffee, 0xffffffff]);
    expect(tx.outputs.map(output => output.valueSat)).toEqual([112340000, 223450000]);
    expect(tx.inputs[0]!.scriptSig!.length).toBe(73);
    expect(tx.inputs[1]!.witness!.length).toBe(2);
    expect(toHex(transactionBytes(tx))).toBe(EXAMPLE);
    expect(toHex(strippedBytes(tx))).toBe(STRIPPED);
    const [whole, stripped] = [EXAMPLE.length / 2, STRIPPED.length / 2];
    expect(weightOf(tx)).toBe(3 * stripped + whole);
  });

  test("have the txid that explorers show, reversed", () => {
    const genesisCoinbase = parseTransaction(
      fromHex(
        "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d010445" +
          "5468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f" +
          "6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a671" +
          "30b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf1" +
          "1d5fac00000000",
      ),
    );
    expect(toHex(txidOf(genesisCoinbase).reverse())).toBe(
      "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
    );
  });

  test("survive a round trip whatever they hold", () => {
    fc.assert(
      fc.property(transactions, tx => {
        expect(parseTransaction(transactionBytes(tx))).toEqual(tx);
      }),
    );
  });

  test("are read from random bytes or not at all, and never two ways", () => {
    fc.assert(
      fc.property(fc.oneof(bytes(200), fc.tuple(transactions, fc.nat(), fc.nat(255)).map(mutated)), raw => {
        let tx: Transaction;
        try {
          tx = parseTransaction(raw);
        } catch (error) {
          expect((error as { code?: string }).code).toBe("bad-transaction");
          return;
        }
        expect(transactionBytes(tx)).toEqual(raw);
      }),
      { numRuns: 500 },
    );
  });

  test.each([
    ["nothing", ""],
    ["a byte too few", EXAMPLE.slice(0, -2)],
    ["a byte too many", `${EXAMPLE}00`],
    ["no input", "0100000000010000000000000000000000"],
    ["no output", `${STRIPPED.slice(0, 10)}${"00".repeat(36)}00ffffffff0000000000`],
    ["a count written the long way", EXAMPLE.replace("01000000000102", "010000000001fd0200")],
    ["a count beyond the bytes", EXAMPLE.replace("01000000000102", "010000000001feffffffff")],
    ["a 64-bit count", EXAMPLE.replace("01000000000102", "010000000001ff0200000000000000")],
    ["more than all bitcoin", EXAMPLE.replace("202cb20600000000", "0140075af0750700")],
    [
      "a witness flag without a witness",
      `01000000000101${"00".repeat(36)}00ffffffff01${"00".repeat(9)}0000000000`,
    ],
  ])("refuse %s", (_, hex) => {
    expect(codeThrownBy(() => parseTransaction(fromHex(hex)))).toBe("bad-transaction");
  });

  test.each([-1, 0.5, Number.NaN, MAX_SAT + 1, Number.POSITIVE_INFINITY])("do not write %d sat", valueSat => {
    const tx = { ...parseTransaction(fromHex(EXAMPLE)), outputs: [{ valueSat, script: new Uint8Array(0) }] };
    expect(codeThrownBy(() => transactionBytes(tx))).toBe("bad-transaction");
  });

  test("order outputs by BIP 69", () => {
    const output = (valueSat: number, hex: string) => ({ valueSat, script: fromHex(hex) });
    const sorted = [output(1, "ff"), output(2, "aa"), output(2, "aa00"), output(2, "ab")];
    expect(sorted.slice().reverse().sort(compareOutputs)).toEqual(sorted);
  });
});

function mutated([tx, at, value]: [Transaction, number, number]): Uint8Array {
  const raw = transactionBytes(tx);
  raw[at % raw.length] = value;
  return raw;
}

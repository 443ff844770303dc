import { beforeAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import * as ldk from "lightningdevkit";
import { p2wpkh } from "../../src/bitcoin/script.ts";
import { parseTransaction, strippedBytes, transactionBytes } from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve as curve } from "../../src/crypto/curve.ts";
import {
  type ChannelParameters,
  COUNTERPARTY,
  fundingScript,
  HOLDER,
  type Side,
} from "../../src/lightning/channel.ts";
import { buildClosing } from "../../src/lightning/closing.ts";
import { codeThrownBy } from "../thrown.ts";
import { closingAmounts, signedClosing } from "./balances.ts";
import { startLdk } from "./ldk.ts";

const secretOf = (n: number) => new Uint8Array(32).fill(n);
const keyOf = (n: number) => curve.publicKey(secretOf(n));

function party(n: number) {
  const basepoints = { revocation: keyOf(n), payment: keyOf(n), delayed: keyOf(n), htlc: keyOf(n) };
  return { fundingPubkey: keyOf(n), basepoints, toLocalDelay: 144, dustLimitSat: 354 };
}

const CHANNEL: ChannelParameters = {
  funding: { txid: new Uint8Array(32).map((_, i) => i), vout: 1 },
  fundingSat: 1_000_000,
  funder: HOLDER as Side,
  holder: party(1),
  counterparty: party(2),
};

const scripts = fc.oneof(
  fc.uint8Array({ minLength: 20, maxLength: 20 }).map(hash => new Uint8Array([0, 20, ...hash])),
  fc.uint8Array({ minLength: 32, maxLength: 32 }).map(hash => new Uint8Array([0, 32, ...hash])),
  fc.uint8Array({ minLength: 32, maxLength: 32 }).map(key => new Uint8Array([0x51, 32, ...key])),
);

describe("the mutual close", () => {
  beforeAll(startLdk);

  test("is LDK's, byte for byte", () => {
    const amounts = fc.oneof(fc.constant(0), fc.integer({ min: 355, max: 499_999 }), fc.constant(77_777));
    fc.assert(
      fc.property(
        amounts,
        amounts,
        scripts,
        scripts,
        (holderSat, counterpartySat, holderScript, counterpartyScript) => {
          fc.pre(holderSat + counterpartySat > 0);
          const { transaction } = buildClosing(CHANNEL, {
            holderSat,
            counterpartySat,
            holderScript,
            counterpartyScript,
          });
          const outpoint = ldk.OutPoint.constructor_new(CHANNEL.funding.txid, CHANNEL.funding.vout);
          const theirs = ldk.ClosingTransaction.constructor_new(
            BigInt(holderSat),
            BigInt(counterpartySat),
            holderScript,
            counterpartyScript,
            outpoint,
          ).trust();
          expect(toHex(strippedBytes(transaction))).toBe(toHex(theirs.built_transaction()));
          const hash = theirs.get_sighash_all(fundingScript(CHANNEL), BigInt(CHANNEL.fundingSat));
          expect(
            toHex(
              buildClosing(CHANNEL, { holderSat, counterpartySat, holderScript, counterpartyScript }).sighash,
            ),
          ).toBe(toHex(hash));
        },
      ),
    );
  });

  test("is signed by both keys in the script's order", () => {
    const content = {
      holderSat: 600_000,
      counterpartySat: 399_000,
      holderScript: p2wpkh(keyOf(5)),
      counterpartyScript: p2wpkh(keyOf(6)),
    };
    const closing = buildClosing(CHANNEL, content);
    const [ours, theirs] = [
      curve.sign(closing.sighash, secretOf(1)),
      curve.sign(closing.sighash, secretOf(2)),
    ];
    const signed = signedClosing(CHANNEL, closing, ours, theirs);
    const mirrored = { ...CHANNEL, holder: CHANNEL.counterparty, counterparty: CHANNEL.holder };
    expect(transactionBytes(signedClosing(mirrored, closing, theirs, ours))).toEqual(
      transactionBytes(signed),
    );
    expect(parseTransaction(transactionBytes(signed)).inputs[0]!.witness!.length).toBe(4);
  });

  test("charges the funder, rounds down and leaves out dust", () => {
    const theirs = { ...CHANNEL, funder: COUNTERPARTY as Side };
    expect(closingAmounts(CHANNEL, 600_000_999, 399_999_001, 250)).toEqual({
      holderSat: 599_750,
      counterpartySat: 399_999,
    });
    expect(closingAmounts(theirs, 600_000_999, 399_999_001, 250)).toEqual({
      holderSat: 600_000,
      counterpartySat: 399_749,
    });
    expect(closingAmounts(CHANNEL, 999_645_000, 355_000, 1)).toEqual({
      holderSat: 999_644,
      counterpartySat: 355,
    });
    expect(closingAmounts(CHANNEL, 999_645_001, 354_999, 1)).toEqual({
      holderSat: 999_644,
      counterpartySat: 0,
    });
    expect(closingAmounts(CHANNEL, 500_000, 999_500_000, 501)).toEqual({
      holderSat: 0,
      counterpartySat: 999_500,
    });
  });

  test.each([
    [600_000, 400_001],
    [-1, 400_000],
    [0, 0],
    [Number.NaN, 5000],
  ])("is not built of %d and %d sat", (holderSat, counterpartySat) => {
    const script = p2wpkh(keyOf(5));
    const build = () =>
      buildClosing(CHANNEL, { holderSat, counterpartySat, holderScript: script, counterpartyScript: script });
    expect(codeThrownBy(build)).toBe("bad-closing");
  });
});

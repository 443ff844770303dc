import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { p2wpkh, p2wsh } from "../../src/bitcoin/script.ts";
import { SIGHASH_SINGLE_ANYONECANPAY, sighash } from "../../src/bitcoin/sighash.ts";
import { compareOutputs } from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve as curve } from "../../src/crypto/curve.ts";
import {
  type ChannelParameters,
  COUNTERPARTY,
  HOLDER,
  type Htlc,
  otherSide,
  type Side,
} from "../../src/lightning/channel.ts";
import {
  ANCHOR_SAT,
  anchorBump,
  buildCommitment,
  type CommitmentContent,
  commitmentFeeSat,
  commitmentNumberOf,
  signedAnchorBump,
} from "../../src/lightning/commitment.ts";
import { codeThrownBy } from "../thrown.ts";
import { commitmentContent, isDust } from "./balances.ts";

const keyOf = (n: number) => curve.publicKey(new Uint8Array(32).fill(n));

const party = (n: number) => ({
  fundingPubkey: keyOf(n),
  basepoints: { revocation: keyOf(n + 1), payment: keyOf(n + 2), delayed: keyOf(n + 3), htlc: keyOf(n + 4) },
  toLocalDelay: 100 + n,
  dustLimitSat: 354,
});

const CHANNEL: ChannelParameters = {
  funding: { txid: new Uint8Array(32).fill(7), vout: 3 },
  fundingSat: 1_000_000,
  funder: HOLDER,
  holder: party(10),
  counterparty: party(20),
};

const KEYS = {
  revocation: keyOf(31),
  delayed: keyOf(32),
  broadcasterHtlc: keyOf(33),
  countersignatoryHtlc: keyOf(34),
};

const HTLC: Htlc = {
  offered: true,
  amountMsat: 5_000_500,
  cltvExpiry: 800_000,
  paymentHash: new Uint8Array(32).fill(9),
};

const CONTENT: CommitmentContent = {
  feeratePerKw: 1000,
  toBroadcasterSat: 500_000,
  toCountersignatorySat: 400_000,
  htlcs: [HTLC],
};

const htlcs: fc.Arbitrary<Htlc> = fc.record({
  offered: fc.boolean(),
  amountMsat: fc.oneof(fc.nat(1_000_000), fc.constantFrom(353_999, 354_000, 354_001), fc.nat(50_000_000)),
  cltvExpiry: fc.integer({ min: 1, max: 900_000 }),
  paymentHash: fc.uint8Array({ minLength: 32, maxLength: 32 }),
});

const states = fc.record({
  broadcaster: fc.constantFrom<Side>(HOLDER, COUNTERPARTY),
  funder: fc.constantFrom<Side>(HOLDER, COUNTERPARTY),
  feeratePerKw: fc.oneof(fc.integer({ min: 253, max: 20_000 }), fc.nat(1_000_000)),
  htlcs: fc.array(htlcs, { maxLength: 12 }),
  share: fc.oneof(fc.constantFrom(0, 1), fc.double({ min: 0, max: 1, noNaN: true })),
  number: fc.maxSafeNat().map(n => n % 2 ** 48),
});

describe("a commitment", () => {
  test("of any balances hands out the whole channel, but for the fee, what was trimmed and rounding", () => {
    fc.assert(
      fc.property(states, state => {
        const inHtlcs = state.htlcs.reduce((sum, htlc) => sum + htlc.amountMsat, 0);
        const rest = CHANNEL.fundingSat * 1000 - inHtlcs;
        const toBroadcasterMsat = Math.floor(rest * state.share);
        const balances = { ...state, toBroadcasterMsat, toCountersignatoryMsat: rest - toBroadcasterMsat };
        const content = commitmentContent(balances, 354, state.broadcaster === state.funder);
        const funderMsat = state.broadcaster === state.funder ? toBroadcasterMsat : rest - toBroadcasterMsat;
        // The reserve keeps a funder from having less than the anchors cost; the builder would refuse it.
        fc.pre(funderMsat >= 2 * ANCHOR_SAT * 1000);
        fc.pre(content.toBroadcasterSat + content.toCountersignatorySat + content.htlcs.length > 0);
        const channel = { ...CHANNEL, funder: state.funder };
        const built = buildCommitment(channel, state.broadcaster, state.number, KEYS, content);

        const feeSat = channel.fundingSat - built.outputs.reduce((sum, output) => sum + output.valueSat, 0);
        const dustMsat = state.htlcs.reduce(
          (sum, htlc) => sum + (isDust(htlc.amountMsat, 354) ? htlc.amountMsat : 0),
          0,
        );
        const due = commitmentFeeSat(state.feeratePerKw, content.htlcs.length);
        const rounding = state.htlcs.length + 2;
        // The funder pays the fee and the anchors, or all it has (its part of which may leave an anchor).
        expect(feeSat).toBeGreaterThanOrEqual(Math.min(due, Math.floor(funderMsat / 1000) - 2 * ANCHOR_SAT));
        expect(feeSat).toBeLessThanOrEqual(due + 2 * ANCHOR_SAT + dustMsat / 1000 + 2 * 353 + rounding);
        for (const output of built.outputs) expect(output.valueSat).toBeGreaterThanOrEqual(ANCHOR_SAT);

        const kinds = built.outputs.map(output => output.kind);
        const any = content.htlcs.length > 0;
        expect(kinds.includes("local-anchor")).toBe(any || kinds.includes("to-local"));
        expect(kinds.includes("remote-anchor")).toBe(any || kinds.includes("to-remote"));
        expect(built.htlcs.length).toBe(content.htlcs.length);
        for (const { htlc, vout, valueSat } of built.htlcs) {
          expect(built.outputs[vout]).toMatchObject({ kind: "htlc", htlc, valueSat });
        }
        const sorted = built.outputs.slice().sort(compareOutputs);
        expect(built.outputs.map(output => toHex(output.script))).toEqual(
          sorted.map(output => toHex(output.script)),
        );
      }),
      { numRuns: 150 },
    );
  });

  test("is the same transaction seen from the other side", () => {
    fc.assert(
      fc.property(states, state => {
        const mirrored: ChannelParameters = {
          ...CHANNEL,
          funder: otherSide(state.funder),
          holder: CHANNEL.counterparty,
          counterparty: CHANNEL.holder,
        };
        const content = {
          ...CONTENT,
          htlcs: state.htlcs.filter(htlc => !isDust(htlc.amountMsat, 354)).slice(0, 4),
        };
        fc.pre(content.htlcs.reduce((sum, htlc) => sum + htlc.amountMsat, 0) < 99_000_000);
        const channel = { ...CHANNEL, funder: state.funder };
        const here = buildCommitment(channel, state.broadcaster, state.number, KEYS, content);
        const there = buildCommitment(mirrored, otherSide(state.broadcaster), state.number, KEYS, content);
        expect(toHex(here.sighash)).toBe(toHex(there.sighash));
        expect(here.htlcs.map(htlc => toHex(htlc.sighash))).toEqual(
          there.htlcs.map(htlc => toHex(htlc.sighash)),
        );
      }),
      { numRuns: 30 },
    );
  });

  test("carries its number where only the two sides can read it", () => {
    const locktimes = [0, 1, 2 ** 24, 2 ** 48 - 1].map(number => {
      const { transaction } = buildCommitment(CHANNEL, HOLDER, number, KEYS, CONTENT);
      return [transaction.inputs[0]!.sequence, transaction.locktime] as const;
    });
    const [sequence0, locktime0] = locktimes[0]!;
    expect(sequence0 >>> 24).toBe(0x80);
    expect(locktime0 >>> 24).toBe(0x20);
    expect(locktimes[1]).toEqual([sequence0, locktime0 ^ 1]);
    expect(locktimes[2]).toEqual([(sequence0 ^ 1) >>> 0, locktime0]);
    expect(locktimes[3]).toEqual([(sequence0 ^ 0xffffff) >>> 0, locktime0 ^ 0xffffff]);
  });

  test.each<[string, Partial<CommitmentContent>]>([
    ["more than the channel holds", { toBroadcasterSat: 600_001 }],
    ["nothing at all", { toBroadcasterSat: 0, toCountersignatorySat: 0, htlcs: [] }],
    ["a negative amount", { toBroadcasterSat: -1 }],
    ["no number as an amount", { toCountersignatorySat: Number.NaN }],
    ["an HTLC of less than a satoshi", { htlcs: [{ ...HTLC, amountMsat: 999 }] }],
    ["an HTLC of half a millisatoshi", { htlcs: [{ ...HTLC, amountMsat: 5000.5 }] }],
    ["an HTLC that expires at a time of day", { htlcs: [{ ...HTLC, cltvExpiry: 500_000_000 }] }],
    ["an HTLC that never expires", { htlcs: [{ ...HTLC, cltvExpiry: 0 }] }],
    ["a short payment hash", { htlcs: [{ ...HTLC, paymentHash: new Uint8Array(31) }] }],
  ])("is not built of %s", (_, broken) => {
    const build = () => buildCommitment(CHANNEL, HOLDER, 5, KEYS, { ...CONTENT, ...broken });
    expect(codeThrownBy(build)).toBe("bad-commitment");
  });

  test.each([0, 1, 2 ** 24 - 1, 2 ** 24, 123_456_789_012, 2 ** 48 - 1])(
    "tells its number %d to who knows the channel, whichever side's it is",
    number => {
      for (const side of [HOLDER, COUNTERPARTY] as const) {
        const { transaction } = buildCommitment(CHANNEL, side, number, KEYS, CONTENT);
        expect(commitmentNumberOf(CHANNEL, transaction)).toBe(number);
      }
    },
  );

  test("is not seen in a mutual close, nor in what spends anything else than the channel", () => {
    const { transaction } = buildCommitment(CHANNEL, HOLDER, 5, KEYS, CONTENT);
    const [input] = transaction.inputs as [(typeof transaction.inputs)[number]];
    const spending = (changed: Partial<typeof input>) => ({
      ...transaction,
      inputs: [{ ...input, ...changed }],
    });
    for (const other of [
      { ...transaction, locktime: 0 },
      { ...transaction, locktime: 0x21000000 },
      { ...transaction, inputs: [input, { ...input, vout: 9 }] },
      spending({ sequence: 0xfffffffd }),
      spending({ sequence: 0x7fffffff }),
      spending({ vout: 4 }),
      spending({ txid: new Uint8Array(32) }),
    ])
      expect(commitmentNumberOf(CHANNEL, other)).toBeNull();
  });

  test.each([-1, 0.5, 2 ** 48, Number.NaN])("has no number %d", number => {
    expect(codeThrownBy(() => buildCommitment(CHANNEL, HOLDER, number, KEYS, CONTENT))).toBe(
      "bad-commitment",
    );
  });

  test("trims at the dust limit, not above", () => {
    expect([353_999, 354_000].map(msat => isDust(msat, 354))).toEqual([true, false]);
    const balances = {
      feeratePerKw: 0,
      toBroadcasterMsat: 1_014_000,
      toCountersignatoryMsat: 353_999,
      htlcs: [],
    };
    expect(commitmentContent(balances, 354, true)).toMatchObject({
      toBroadcasterSat: 354,
      toCountersignatorySat: 0,
    });
    expect(commitmentContent({ ...balances, toBroadcasterMsat: 1_013_999 }, 354, true).toBroadcasterSat).toBe(
      0,
    );
  });
});

describe("the anchor's bump", () => {
  const owner = p2wpkh(keyOf(50));

  test("can be signed before the coins that pay are known", () => {
    const commitment = buildCommitment(CHANNEL, HOLDER, 5, KEYS, CONTENT);
    const bump = anchorBump(commitment, "local-anchor", owner)!;
    const anchor = commitment.outputs[bump.transaction.inputs[0]!.vout]!;
    expect(toHex(anchor.script)).toBe(toHex(p2wsh(bump.witnessScript)));
    const signature = curve.sign(bump.sighash, new Uint8Array(32).fill(10));
    const signed = signedAnchorBump(bump, signature);
    const paid = {
      ...signed,
      inputs: [...signed.inputs, { txid: new Uint8Array(32).fill(1), vout: 0, sequence: 0xffffffff }],
      outputs: [...signed.outputs, { valueSat: 9000, script: owner }],
    };
    const hash = sighash(paid, 0, anchor.witnessScript, ANCHOR_SAT, SIGHASH_SINGLE_ANYONECANPAY);
    expect(curve.verify(signature, hash, CHANNEL.holder.fundingPubkey)).toBe(true);
    expect(signed.outputs).toEqual([{ valueSat: 330, script: owner }]);
  });

  test("is ours in the other side's commitment too, where there is one", () => {
    const commitment = buildCommitment(CHANNEL, COUNTERPARTY, 5, KEYS, CONTENT);
    const bump = anchorBump(commitment, "remote-anchor", owner)!;
    expect(toHex(bump.witnessScript)).toContain(toHex(CHANNEL.holder.fundingPubkey));
    const nothingOfOurs = { ...CONTENT, toCountersignatorySat: 0, htlcs: [] };
    const lonely = buildCommitment(CHANNEL, COUNTERPARTY, 5, KEYS, nothingOfOurs);
    expect(anchorBump(lonely, "remote-anchor", owner)).toBe(null);
  });
});

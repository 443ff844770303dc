/** What both ends of the link make of a proposal and a view, field by field: they use the same code, so none checks the other. */

import { expect, test } from "@jest/globals";
import { depositScript } from "../../src/bitcoin/deposit.ts";
import { multisig2of2, p2wpkh, p2wsh } from "../../src/bitcoin/script.ts";
import { SIGHASH_SINGLE_ANYONECANPAY, sighash } from "../../src/bitcoin/sighash.ts";
import { txidOf } from "../../src/bitcoin/transaction.ts";
import {
  counterpartyBasepoints,
  type DeviceKeys,
  depositScriptOf,
  holderBasepoints,
} from "../../src/channel/device-keys.ts";
import type { CommitmentSpec, Proposal } from "../../src/channel/terms.ts";
import {
  anchorOf,
  anchorSighash,
  channelOf,
  closingSighash,
  commitmentOf,
  contentOf,
  fundingOf,
  viewOf,
} from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { anchorScript, COUNTERPARTY, HOLDER, toLocalScript } from "../../src/lightning/channel.ts";
import { buildCommitment, type CommitmentContent } from "../../src/lightning/commitment.ts";
import { deriveCommitmentKeys } from "../../src/lightning/keys.ts";
import { derived } from "../device/dealer.ts";

const point = (name: string) => nobleCurve.publicKey(derived(name));
const txid = (name: string) => derived(`transaction ${name}`);

const KEYS: DeviceKeys = {
  fundingKey: point("our funding"),
  revocationBasepoint: point("our revocation"),
  paymentBasepoint: point("our payment"),
  delayedPaymentBasepoint: point("our delayed payment"),
  htlcBasepoint: point("our HTLCs"),
  depositOwnerKey: point("the deposit's owner"),
  depositDelay: 4321,
  shutdownScript: p2wpkh(point("the owner")),
};
const PROPOSAL: Proposal = {
  index: 7,
  fundingKey: point("their funding"),
  revocationBasepoint: point("their revocation"),
  paymentBasepoint: point("their payment"),
  delayedPaymentBasepoint: point("their delayed payment"),
  htlcBasepoint: point("their HTLCs"),
  deposits: [
    { txid: txid("one"), vout: 3, valueSat: 150_000 },
    { txid: txid("two"), vout: 0, valueSat: 81_000 },
  ],
  channelSat: 200_000,
  changeSat: 30_000,
  holderDelay: 720,
  counterpartyDelay: 144,
  holderDustLimitSat: 354,
  counterpartyDustLimitSat: 546,
  reserveSat: 2000,
};
const DEPOSIT = depositScript(KEYS.fundingKey, KEYS.depositOwnerKey, 4321);
const CHANNEL = multisig2of2(KEYS.fundingKey, PROPOSAL.fundingKey);
const FUNDING = {
  version: 2,
  inputs: [
    { txid: txid("one"), vout: 3, sequence: 0xffffffff },
    { txid: txid("two"), vout: 0, sequence: 0xffffffff },
  ],
  outputs: [
    { valueSat: 200_000, script: p2wsh(CHANNEL) },
    { valueSat: 30_000, script: p2wsh(DEPOSIT) },
  ],
  locktime: 7,
};

test("each basepoint has its own name, on either side", () => {
  expect(holderBasepoints(KEYS)).toEqual({
    revocation: point("our revocation"),
    payment: point("our payment"),
    delayed: point("our delayed payment"),
    htlc: point("our HTLCs"),
  });
  expect(counterpartyBasepoints(PROPOSAL)).toEqual({
    revocation: point("their revocation"),
    payment: point("their payment"),
    delayed: point("their delayed payment"),
    htlc: point("their HTLCs"),
  });
});

test("the funding transaction spends the deposits to the channel and back, and has the channel's number for its lock time", () => {
  expect(depositScriptOf(KEYS)).toEqual(DEPOSIT);
  expect(fundingOf(KEYS, PROPOSAL)).toEqual({
    transaction: FUNDING,
    txid: txidOf(FUNDING),
    sighashes: [sighash(FUNDING, 0, DEPOSIT, 150_000), sighash(FUNDING, 1, DEPOSIT, 81_000)],
    feeSat: 1000,
    depositScript: DEPOSIT,
  });
});

test("the channel is the funding's first output, and each side has its own keys, delay and dust limit", () => {
  expect(channelOf(KEYS, PROPOSAL)).toEqual({
    funding: { txid: txidOf(FUNDING), vout: 0 },
    fundingSat: 200_000,
    funder: HOLDER,
    holder: {
      fundingPubkey: KEYS.fundingKey,
      basepoints: holderBasepoints(KEYS),
      toLocalDelay: 720,
      dustLimitSat: 354,
    },
    counterparty: {
      fundingPubkey: PROPOSAL.fundingKey,
      basepoints: counterpartyBasepoints(PROPOSAL),
      toLocalDelay: 144,
      dustLimitSat: 546,
    },
  });
});

// In the order that viewOf gives them: by payment hash, then by amount.
const [early, late] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
const VIEW: CommitmentSpec = {
  feeratePerKw: 1500,
  holderSat: 150_000,
  counterpartySat: 20_000,
  htlcs: [
    { paymentHash: early, amountMsat: 5_000_000, cltvExpiry: 200 },
    { paymentHash: late, amountMsat: 3_000_000, cltvExpiry: 201, incoming: true },
    { paymentHash: late, amountMsat: 4_000_000, cltvExpiry: 202 },
  ],
};
const htlc = (at: number, offered: boolean) => {
  const { incoming: _, ...rest } = VIEW.htlcs[at]!;
  return { ...rest, offered };
};
const CONTENT: Record<"holder" | "counterparty", CommitmentContent> = {
  holder: {
    feeratePerKw: 1500,
    toBroadcasterSat: 150_000,
    toCountersignatorySat: 20_000,
    htlcs: [htlc(0, true), htlc(1, false), htlc(2, true)],
  },
  counterparty: {
    feeratePerKw: 1500,
    toBroadcasterSat: 20_000,
    toCountersignatorySat: 150_000,
    htlcs: [htlc(0, false), htlc(1, true), htlc(2, false)],
  },
};

test.each([
  ["holder", true],
  ["counterparty", false],
] as const)("a view as %s and back, whatever the order of its HTLCs", (side, ours) => {
  expect(contentOf(VIEW, ours)).toEqual(CONTENT[side]);
  const [first, second, third] = CONTENT[side].htlcs;
  for (const htlcs of [
    [first!, second!, third!],
    [third!, second!, first!],
    [second!, third!, first!],
  ]) {
    const given = htlcs.slice();
    const view = viewOf({ ...CONTENT[side], htlcs: given }, ours);
    expect(view).toEqual(VIEW);
    expect("incoming" in view.htlcs[0]!).toBe(false);
    // Whose order was another keeps it.
    expect(given).toEqual(htlcs);
  }
});

test.each([
  ["holder", true],
  ["counterparty", false],
] as const)("a commitment is %s with its broadcaster's to_local", (side, ours) => {
  const channel = channelOf(KEYS, PROPOSAL);
  const [own, other] = [holderBasepoints(KEYS), counterpartyBasepoints(PROPOSAL)];
  const keys = deriveCommitmentKeys(nobleCurve, point("commitment"), ours ? own : other, ours ? other : own);
  const commitment = commitmentOf(channel, ours, 42, keys, VIEW);
  expect(commitment).toEqual(buildCommitment(channel, ours ? HOLDER : COUNTERPARTY, 42, keys, CONTENT[side]));
  const toLocal = commitment.outputs.find(({ kind }) => kind === "to-local")!;
  expect(toLocal.witnessScript).toEqual(toLocalScript(keys, ours ? 720 : 144));
  expect(toLocal.valueSat).toBe(ours ? 150_000 : 20_000);
});

test("our anchor of our commitment is spent to the owner, so that any input can be added", () => {
  const keys = deriveCommitmentKeys(
    nobleCurve,
    point("commitment"),
    holderBasepoints(KEYS),
    counterpartyBasepoints(PROPOSAL),
  );
  const commitment = commitmentOf(channelOf(KEYS, PROPOSAL), true, 42, keys, VIEW);
  const script = anchorScript(KEYS.fundingKey);
  const vout = commitment.outputs.findIndex(({ witnessScript }) => witnessScript.join() === script.join());
  const spend = {
    version: 2,
    inputs: [{ txid: commitment.txid, vout, sequence: 0xfffffffd }],
    outputs: [{ valueSat: 330, script: KEYS.shutdownScript }],
    locktime: 0,
  };
  const hash = sighash(spend, 0, script, 330, SIGHASH_SINGLE_ANYONECANPAY);
  expect(anchorOf(KEYS, commitment)).toEqual({ transaction: spend, witnessScript: script, sighash: hash });
  expect(anchorSighash(KEYS, commitment)).toEqual(hash);
  const without = {
    ...commitment,
    outputs: commitment.outputs.filter(({ kind }) => kind !== "local-anchor"),
  };
  expect(anchorOf(KEYS, without)).toBeNull();
  expect(anchorSighash(KEYS, without)).toBeNull();
});

test("a close pays the owner's script ours, and the script that was named theirs", () => {
  const counterpartyScript = p2wpkh(point("their wallet"));
  const outputs = [
    { valueSat: 20_000, script: counterpartyScript },
    { valueSat: 179_000, script: KEYS.shutdownScript },
  ];
  const close = {
    version: 2,
    inputs: [{ txid: txidOf(FUNDING), vout: 0, sequence: 0xffffffff }],
    outputs,
    locktime: 0,
  };
  expect(
    closingSighash(KEYS, PROPOSAL, { holderSat: 179_000, counterpartySat: 20_000, counterpartyScript }),
  ).toEqual(sighash(close, 0, CHANNEL, 200_000));
});

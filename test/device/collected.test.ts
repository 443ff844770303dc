/** What collecting several outputs in one transaction may cost. */
import { expect, test } from "@jest/globals";
import { equal } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import type { Step } from "../../src/messages/device.ts";
import { derived } from "./dealer.ts";
import { HEIGHT, NOW_MS, proposalWith } from "./parties.ts";
import { bridgePoint } from "./peer.ts";
import { Rig } from "./rig.ts";

test("outputs that are collected in one transaction burn together no more than the highest fee that the owner allows", () => {
  const unlimited = { perPaymentMsat: 1e12, perHourMsat: 1e12, perDayMsat: 1e12 };
  const rig = new Rig({ policy: unlimited }).open();
  // Four payments of 40,000 sat time out in a commitment that the bridge has published.
  const names = ["a", "b", "c", "d"];
  for (const name of names) rig.pay(name, 40_000);
  const view = rig.view(
    0,
    names.map(name => rig.htlc(name, 40_000)),
  );
  rig.move(view);
  expect(rig.refusals).toEqual([]);
  const commitment = rig.build(false, 1, bridgePoint(1), view);
  const inputs = commitment.htlcs.map(({ vout }) => ({ txid: commitment.txid, vout, sequence: 1 }));
  const collecting = { inputs, locktime: HEIGHT + 80, valueSat: 15_000 };
  const codes = commitment.htlcs.map(({ htlc }, input) => {
    const asked = view.htlcs.find(({ paymentHash }) => paymentHash === htlc.paymentHash)!;
    const spend: NonNullable<Step["spend"]> = {
      ...collecting,
      index: 1,
      point: bridgePoint(1),
      htlc: asked,
      input,
      amountSat: 40_000,
    };
    const { completeSignature: own, refused } = rig.step({ spend });
    expect(own === undefined).toBe(refused !== undefined);
    return refused?.code;
  });
  // 25,000 sat may go: that is so with the first input's value alone, and no more with the second's.
  expect(rig.identity.policy.maxCloseFeeSat).toBe(25_000);
  const refused = "policy-close-balance";
  expect(codes).toEqual([undefined, refused, refused, refused]);
});

/** Two payments in a commitment of the bridge's, of which the invoices expire at once; and what is asked to be collected of it. */
function twoPending() {
  const unlimited = { perPaymentMsat: 1e12, perHourMsat: 1e12, perDayMsat: 1e12 };
  const rig = new Rig({ policy: unlimited, charge: { A: 60, B: 70, H: 300 } }).open();
  const names = ["one", "two"];
  for (const name of names) rig.pay(name, 50_000, { expiresAt: NOW_MS / 1000 - 1 });
  const htlcs = names.map(name => rig.htlc(name, 50_000));
  const view = rig.view(0, htlcs);
  rig.move(view);
  expect(rig.refusals).toEqual([]);
  const commitment = rig.build(false, 1, bridgePoint(1), view);
  const both = commitment.htlcs.map(({ vout }) => ({ txid: commitment.txid, vout, sequence: 1 }));
  const htlcOf = (input: number) =>
    htlcs.find(({ paymentHash }) => equal(paymentHash, commitment.htlcs[input]!.htlc.paymentHash))!;
  const ask = (input: number, changed: Partial<NonNullable<Step["spend"]>> = {}) =>
    rig.step({
      spend: {
        index: 1,
        point: bridgePoint(1),
        htlc: htlcOf(input),
        inputs: both,
        input,
        amountSat: 50_000,
        valueSat: 49_000,
        locktime: HEIGHT + 80,
        ...changed,
      },
    });
  return { rig, names, both, htlcOf, ask };
}

/** An output that is none. */
const none = (i: number, vout: number) => ({ txid: sha256(new Uint8Array([i])), vout, sequence: 1 });
const LITTLE = { amountSat: 1_000, valueSat: 1_000 };

test("nothing that is asked in between makes the device forget what it has signed of a transaction", () => {
  const { both, htlcOf, ask } = twoPending();
  expect(ask(0).completeSignature).toBeDefined();
  expect(ask(1).refused?.code).toBe("policy-close-balance");
  // Of those one each, or two.
  for (let i = 0; i < 20; i++)
    expect(ask(0, { ...LITTLE, inputs: [none(i, 0)] }).completeSignature).toBeDefined();
  let isTaken = 0;
  for (let i = 0; i < 100; i++) {
    const { completeSignature: own, refused } = ask(0, { ...LITTLE, inputs: [none(i, 0), none(i, 1)] });
    if (own) isTaken++;
    else expect(refused?.code).toBe("policy-close-state");
  }
  expect(isTaken).toBeGreaterThan(60);
  expect(ask(1).refused?.code).toBe("policy-close-balance");
  // Alone it can be collected.
  expect(ask(1, { inputs: [both[1]!], input: 0, htlc: htlcOf(1) }).completeSignature).toBeDefined();
});

test("nor does another channel: what was signed of a transaction in the one before counts", () => {
  const { rig, names, ask } = twoPending();
  expect(rig.identity.policy.maxCloseFeeSat).toBe(25_000);
  expect(ask(0).completeSignature).toBeDefined();
  expect(ask(1).refused?.code).toBe("policy-close-balance");

  // 32 others, of nothing at all.
  for (let i = 0; i < 32; i++)
    expect(ask(0, { ...LITTLE, inputs: [none(i, 0), none(i, 1)] }).completeSignature).toBeDefined();
  expect(ask(1).refused?.code).toBe("policy-close-balance");

  // The bridge has published that state: the channel has ended, and the owner's application wants another.
  for (const name of names) rig.failed(name);
  rig.say({ type: "channel", index: 1, state: "closed" });
  rig.app("open");
  rig.proposal = proposalWith({
    index: 2,
    deposits: [{ txid: derived("deposit 2"), vout: 0, valueSat: 201_000 }],
  });
  rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
  rig.step({ holder: rig.holder(rig.view(), 0) });
  rig.step({ fund: true });
  expect(rig.state.books).toMatchObject({ index: 2, phase: "open" });

  expect(ask(1).refused?.code).toBe("policy-close-balance");
});

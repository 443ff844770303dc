/** What is remembered of paid invoices has its bounds, and at them further payments are refused. */
import { expect, test } from "@jest/globals";
import { knownPayment } from "../../device/channel/payments/remembered.ts";
import { MAX_PAID } from "../../device/channel/state.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { derived } from "./dealer.ts";
import { NOW_MS, proposalWith, SERVICE_FEE } from "./parties.ts";
import { Rig } from "./rig.ts";

/** A channel's end left its payment undecided; another channel is open. */
function lost(rig: Rig): Rig {
  const now = NOW_MS / 1000;
  rig.open();
  rig.pay("toll", 4000, { expiresAt: now + 60 });
  rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 4000)])) });
  rig.failed("toll");
  rig.box.nowMs += 61_000;
  rig.say({ type: "channel", index: 1, state: "closed" });
  expect(knownPayment(rig.state, sha256(rig.preimage("toll")))?.failure).toBe("payment-channel-ended");
  rig.app("open");
  const deposits = [{ txid: derived("more"), vout: 0, valueSat: 201_000 }];
  rig.proposal = proposalWith({ index: 2, deposits });
  rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
  rig.step({ holder: rig.holder(rig.view(), 0) });
  rig.step({ fund: true });
  return rig;
}

test("what its channel's end left undecided is not paid again, by no invoice with the same payment hash", () => {
  const rig = lost(new Rig());
  rig.pay("toll", 4000, { expiresAt: NOW_MS / 1000 + 86_400 });
  expect(rig.refusals).toEqual(["payment-channel-ended"]);
  const again = rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 4000)])) });
  expect(again.signed).toBeUndefined();
});

test("also when others have needed its place, and after that invoice had expired for long", () => {
  const rig = lost(new Rig());
  const hash = sha256(rig.preimage("toll"));
  let expiresAt = NOW_MS / 1000 + 86_400;
  for (let i = 0; knownPayment(rig.state, hash) !== null && i < 200; i++) {
    rig.pay(`tiny ${i}`, 1, { expiresAt, maxFeeMsat: 0 });
    rig.failed(`tiny ${i}`);
  }
  expect(knownPayment(rig.state, hash)).toBeNull();
  expect(rig.refusals).toEqual([]);
  rig.box.nowMs += 10 * 86_400_000;
  expiresAt += 20 * 86_400;
  rig.pay("toll", 4000, { expiresAt });
  expect(rig.refusals).toEqual(["already-paying"]);
});

test("so many paid invoices are remembered that had to make room, and then no more is paid: by a code of its own", () => {
  const serviceFee = { ...SERVICE_FEE, baseMsat: 10_000, settleFromMsat: 1_000_000 };
  const rig = new Rig({ serviceFee }).open();
  const expiresAt = NOW_MS / 1000 + 30 * 86_400;
  for (let i = 0; rig.refusals.length === 0 && i < 600; i++) {
    rig.pay(`tiny ${i}`, 1, { expiresAt, maxFeeMsat: 0 });
    rig.paid(`tiny ${i}`);
  }
  expect(rig.refusals).toEqual(["too-many-payments"]);
  expect(rig.state.paid!.length).toBeLessThanOrEqual(MAX_PAID);
  rig.refusals.length = 0;
  for (let i = 0; i < 3; i++) rig.settle(`fee ${i}`, 1_000_000);
  expect(rig.refusals.filter(code => code !== "too-many-payments" && code !== "policy-service-fee")).toEqual(
    [],
  );
  // When they have expired there is room again.
  rig.box.nowMs += 31 * 86_400_000;
  rig.refusals.length = 0;
  rig.pay("later", 1, { expiresAt: expiresAt + 31 * 86_400, maxFeeMsat: 0 });
  expect(rig.refusals).toEqual([]);
});

test("that a payment may yet be taken on the chain only the device says: the gateway's word for it is any failure", () => {
  const unlimited = { perPaymentMsat: 1e12, perHourMsat: 1e12, perDayMsat: 1e12 };
  const rig = new Rig({ policy: unlimited }).open();
  for (let i = 0; i < 400; i++) {
    rig.pay(`toll ${i}`, 1_000);
    const paymentHash = sha256(rig.preimage(`toll ${i}`));
    rig.say({ type: "failed", paymentHash, code: "payment-channel-ended", sentence: "" });
  }
  expect(rig.refusals).toEqual([]);
  expect(rig.box.decided.map(({ failure }) => failure)).toEqual(Array(400).fill("payment-failed"));
  expect(rig.tried("a year later", 1_000)).toEqual([]);
});

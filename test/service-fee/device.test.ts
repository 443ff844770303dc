/** The service fee on the device: what is asked of the limits, kept aside, owed and settled. */
import { describe, expect, test } from "@jest/globals";
import { spendableMsat } from "../../device/channel/payments/balance.ts";
import { knownPayment } from "../../device/channel/payments/remembered.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { SERVICE_FEE } from "../device/parties.ts";
import { Rig } from "../device/rig.ts";

const rigWith = (options: ConstructorParameters<typeof Rig>[0] = {}) =>
  new Rig({ serviceFee: SERVICE_FEE, charge: { A: 150, B: 200, H: 200 }, ...options }).open();

const spendable = (rig: Rig) => spendableMsat(rig.state, rig.identity);
const owed = (rig: Rig) => rig.state.books.owedMsat;

/** A payment that goes through, and nothing else is in flight; what the bridge has then, sat. */
function through(rig: Rig, name: string, sat: number, bridgeSat: number): number {
  rig.pay(name, sat);
  rig.move(rig.view(bridgeSat, [rig.htlc(name, sat)]));
  rig.paid(name);
  rig.move(rig.view(bridgeSat + sat));
  return bridgeSat + sat;
}

/** 1,000 sat are owed at 5 %; 20,000 sat have left. */
function owing(options: ConstructorParameters<typeof Rig>[0] = {}): Rig {
  const policy = { perPaymentMsat: 1e9, perHourMsat: 1e9, perDayMsat: 1e9 };
  const rig = rigWith({ policy, ...options });
  through(rig, "one", 12_000, 0);
  through(rig, "two", 8_000, 12_000);
  return rig;
}

describe("the owner's limits", () => {
  test("count the service fee: for a payment, an hour and a day", () => {
    // 4,000 sat, 5 for routing and 200 for the service.
    expect(rigWith({ policy: { perPaymentMsat: 4_205_000 } }).tried("toll", 4000)).toEqual([]);
    expect(rigWith({ policy: { perPaymentMsat: 4_204_999 } }).tried("toll", 4000)).toEqual([
      "policy-payment-limit",
    ]);
    const rig = rigWith({ policy: { perHourMsat: 8_409_999 } });
    expect(rig.tried("one", 4000)).toEqual([]);
    expect(rig.tried("two", 4000)).toEqual(["policy-velocity"]);
  });

  test("get back what a payment did not cost: routing when it is paid, the service too when it fails", () => {
    const rig = rigWith();
    rig.pay("fails", 4000);
    expect(rig.state.books.hour.spentMsat).toBe(4_205_000);
    rig.failed("fails");
    expect(rig.state.books.hour.spentMsat).toBe(0);
    through(rig, "toll", 4000, 0);
    expect(rig.state.books.day.spentMsat).toBe(4_200_000);
  });

  test("do not count a settlement: it was counted when it accrued", () => {
    const rig = owing();
    const before = rig.state.books.hour.spentMsat;
    rig.settle("fee", 990_000, 10_000);
    expect(rig.state.books.hour.spentMsat).toBe(before);
    rig.failed("fee");
    expect(rig.state.books.hour.spentMsat).toBe(before);
  });

  test("of payees do not concern a settlement", () => {
    const rig = owing();
    const { policy } = rig.box.context.identity;
    Object.assign(policy, { payees: [new Uint8Array(33).fill(2)] });
    expect(rig.tried("somebody else's", 100)).toEqual(["policy-payee"]);
    rig.refusals.length = 0;
    rig.settle("fee", 1_000_000);
    expect(rig.refusals).toEqual([]);
  });
});

describe("what is owed", () => {
  test("grows when the preimage comes, once, and not for a payment that fails", () => {
    const rig = rigWith();
    rig.pay("toll", 4000);
    rig.pay("fails", 4000);
    expect(owed(rig)).toBe(0);
    rig.paid("toll");
    rig.paid("toll");
    rig.failed("fails");
    expect(owed(rig)).toBe(200_000);
    rig.box.restart();
    rig.paid("toll");
    expect(owed(rig)).toBe(200_000);
  });

  test("and what will be owed for payments in flight is kept aside, so that it can be paid at any time", () => {
    const rig = rigWith();
    const first = spendable(rig);
    rig.pay("toll", 4000);
    const HTLC_FEE_MSAT = 172 * 1.5 * 1000;
    expect(spendable(rig)).toBe(first - 4_005_000 - 200_000 - HTLC_FEE_MSAT);
    rig.move(rig.view(0, [rig.htlc("toll", 4000)]));
    rig.paid("toll");
    rig.move(rig.view(4000));
    expect(spendable(rig)).toBe(first - 4_000_000 - 200_000);
  });

  test("can be settled when nothing else can be paid any more", () => {
    const rig = owing();
    const rest = Math.floor(spendable(rig) / 1050);
    rig.pay("all the rest", rest, { maxFeeMsat: 0 });
    expect(rig.refusals).toEqual([]);
    rig.move(rig.view(20_000, [rig.htlc("all the rest", rest)]));
    rig.paid("all the rest");
    rig.move(rig.view(20_000 + rest));
    expect(spendable(rig)).toBeLessThan(1050);
    rig.settle("fee", owed(rig));
    expect(rig.refusals).toEqual([]);
  });
});

describe("a settlement", () => {
  test("reduces what is owed by what its HTLC held, when that is gone", () => {
    const rig = owing();
    rig.settle("fee", 990_000, 10_000);
    rig.move(rig.view(20_000, [rig.htlc("fee", 994)]));
    rig.paid("fee");
    expect(owed(rig)).toBe(1_000_000);
    rig.move(rig.view(20_994));
    expect(owed(rig)).toBe(6_000);
    expect(rig.refusals).toEqual([]);
    // No fee for the fee.
    rig.box.restart();
    expect(owed(rig)).toBe(6_000);
  });

  test("that fails leaves what is owed as it was, and may be asked for again", () => {
    const rig = owing();
    rig.settle("fee", 1_000_000);
    rig.settle("another", 1_000_000);
    expect(rig.refusals).toEqual(["policy-service-fee"]);
    rig.failed("fee");
    expect(owed(rig)).toBe(1_000_000);
    rig.settle("another", 1_000_000);
    expect(rig.refusals).toHaveLength(1);
  });

  test("that its channel's end left undecided may be taken on the chain, and is not asked for again", () => {
    const rig = owing();
    rig.settle("fee", 1_000_000);
    rig.step({ counterparty: rig.counterparty(rig.view(20_000, [rig.htlc("fee", 1000)])) });
    rig.failed("fee");
    rig.say({ type: "channel", index: 1, state: "closed" });
    expect(rig.state.books).toMatchObject({ phase: "none", owedMsat: 0 });
  });

  test("asked for twice is one payment, also after a restart", () => {
    const rig = owing();
    rig.settle("fee", 1_000_000);
    rig.box.restart();
    rig.settle("fee", 1_000_000);
    expect(rig.refusals).toEqual([]);
    expect(rig.state.payments.filter(each => each?.settlement)).toHaveLength(1);
    rig.box.run({ type: "connected", generation: 1 });
    expect(rig.box.takeSent().filter(each => each.type === "settling")).toHaveLength(1);
  });

  test("can't take the place of a payment that the application made, nor of one that failed", () => {
    const rig = owing();
    rig.pay("toll", 4000);
    rig.settle("toll", 1_000_000);
    rig.settle("one", 1_000_000);
    expect(rig.refusals).toEqual(["already-paying", "already-paying"]);
    rig.failed("toll");
    rig.settle("toll", 1_000_000);
    expect(rig.refusals).toHaveLength(3);
    expect(knownPayment(rig.state, sha256(rig.preimage("toll")))?.settlement).toBeUndefined();
  });

  test("is refused without a channel to pay it from, and with too few records", () => {
    const closing = owing();
    closing.app("close");
    closing.close(179_000, 20_000);
    closing.settle("fee", 1_000_000);
    expect(closing.refusals).toEqual(["channel-not-open"]);
    const rig = owing({ charge: { A: 11, B: 60, H: 20 } });
    rig.refusals.length = 0;
    rig.settle("fee", 1_000_000);
    expect(rig.refusals).toEqual(["records-used-up"]);
    expect(rig.state.payments.some(each => each?.settlement)).toBe(false);
  });

  test("stays owed when the channel is closed, for the next one", () => {
    const rig = owing();
    rig.app("close");
    rig.close(179_000, 20_000);
    rig.say({ type: "channel", index: 1, state: "closed" });
    expect(rig.state.books.phase).toBe("none");
    expect(owed(rig)).toBe(1_000_000);
  });
});

import { describe, expect, test } from "@jest/globals";
import { MAX_CLOSES } from "../../device/channel/closing.ts";
import { spendableMsat } from "../../device/channel/payments/balance.ts";
import { highestExpiry } from "../../device/channel/payments/policy.ts";
import { knownPayment, MAX_PAYMENTS } from "../../device/channel/payments/remembered.ts";
import { type ChannelState, changesBetween, EMPTY, type Payment } from "../../device/channel/state.ts";
import { memoryFlash } from "../../device/vault/memory-flash.ts";
import { formatVault, openVault } from "../../device/vault/vault.ts";
import { MAX_DEPOSITS, MAX_HTLCS, MAX_INCOMING } from "../../src/channel/terms.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { derived } from "./dealer.ts";
import { keyPair, NOW_MS, PAGE_BYTES, proposalWith, SERVICE_FEE } from "./parties.ts";
import { Rig } from "./rig.ts";

const HOUR_MS = 3_600_000;

describe("the owner's limits", () => {
  test("allow what is paid, not what was authorised: the unused part of a fee limit comes back", () => {
    const rig = new Rig().open();
    for (let i = 0; i < 4; i++) {
      rig.pay(`toll ${i}`, 4000, { maxFeeMsat: 1_000_000 });
      rig.move(rig.view(4000 * i, [rig.htlc(`toll ${i}`, 4000)]));
      rig.paid(`toll ${i}`);
      rig.move(rig.view(4000 * (i + 1)));
    }
    expect(rig.refusals).toEqual([]);
    expect(rig.state.books.hour.spentMsat).toBe(16_000_000);
  });

  test("begin again after an hour, those of the day do not", () => {
    const rig = new Rig({ policy: { perHourMsat: 5_000_000, perDayMsat: 12_000_000 } }).open();
    const pay = (name: string) => {
      rig.refusals.length = 0;
      rig.pay(name, 4000);
      return rig.refusals[0] ?? "taken";
    };
    expect([pay("one"), pay("two")]).toEqual(["taken", "policy-velocity"]);
    rig.box.nowMs = NOW_MS + HOUR_MS;
    expect([pay("two"), pay("three")]).toEqual(["taken", "policy-velocity"]);
    rig.box.nowMs = NOW_MS + 2 * HOUR_MS;
    expect(pay("three")).toBe("policy-velocity");
    rig.box.nowMs = NOW_MS + 24 * HOUR_MS;
    expect(pay("three")).toBe("taken");
  });

  test("do not grow by a payment of an earlier hour that fails now", () => {
    const rig = new Rig().open();
    rig.pay("old", 4000);
    rig.box.nowMs = NOW_MS + HOUR_MS;
    rig.pay("new", 3000);
    rig.failed("old");
    expect(rig.state.books.hour.spentMsat).toBe(3_005_000);
    // The day is the same.
    expect(rig.state.books.day.spentMsat).toBe(3_005_000);
  });

  test("know the payees, if there is a list of them", () => {
    const station = keyPair("the toll station").point;
    const rig = new Rig({ policy: { payees: [keyPair("the ferry").point, station] } }).open();
    rig.pay("toll", 100, { payee: station });
    expect(rig.refusals).toEqual([]);
  });
});

describe("what can be spent", () => {
  test("is the balance without what is in flight, the reserve, and the fee with two HTLCs more", () => {
    const rig = new Rig().open();
    expect(spendableMsat(rig.state, rig.identity)).toBe(
      (200_000 - 2000 - 660 - Math.floor(1.5 * (1124 + 2 * 172))) * 1000,
    );
    const before = spendableMsat(rig.state, rig.identity);
    rig.pay("toll", 1000);
    expect(spendableMsat(rig.state, rig.identity)).toBe(before - 1_005_000 - 1.5 * 172_000);
    expect(spendableMsat(EMPTY, rig.identity)).toBe(0);
  });

  test("is nothing before the channel is funded, and after its close is signed", () => {
    const rig = new Rig();
    rig.app("open");
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
    rig.step({ holder: rig.holder(rig.view()) });
    expect(spendableMsat(rig.state, rig.identity)).toBe(0);
    rig.step({ fund: true });
    expect(spendableMsat(rig.state, rig.identity)).toBeGreaterThan(0);
    rig.close(199_000, 0);
    expect(spendableMsat(rig.state, rig.identity)).toBe(0);
  });

  test("leaves aside what is owed for the gateway's service, or will be for what is in flight", () => {
    const rig = new Rig({ serviceFee: { ...SERVICE_FEE, settleFromMsat: 50_000 } }).open();
    const spendable = () => spendableMsat(rig.state, rig.identity);
    const before = spendable();
    const feeOfHtlc = 1.5 * 172_000;
    rig.pay("toll", 1000);
    expect(spendable()).toBe(before - 1_005_000 - 50_000 - feeOfHtlc);
    // It is paid: owed now, and only once. What the way there has cost is known from its HTLC.
    rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    rig.paid("toll");
    expect(spendable()).toBe(before - 1_000_000 - 50_000 - feeOfHtlc);
    rig.move(rig.view(1000));
    expect(spendable()).toBe(before - 1_000_000 - 50_000);
    rig.settle("fee", 50_000);
    expect(spendable()).toBe(before - 1_000_000 - 50_000 - feeOfHtlc);
    rig.move(rig.view(1050));
    rig.paid("fee");
    expect(rig.refusals).toEqual([]);
    expect(spendable()).toBe(before - 1_000_000 - 50_000);
  });

  test("is never exceeded", () => {
    const rig = new Rig({ policy: { perPaymentMsat: 1e12, perHourMsat: 1e12, perDayMsat: 1e12 } }).open();
    rig.pay("all", 200_000);
    expect(rig.refusals).toEqual(["balance-too-low"]);
  });
});

describe("a service fee that is being settled", () => {
  const owing = () => {
    const rig = new Rig({ serviceFee: { ...SERVICE_FEE, settleFromMsat: 50_000 } }).open();
    rig.pay("toll", 1000);
    rig.paid("toll");
    return rig;
  };

  test("is one payment, however often it is asked for", () => {
    const rig = owing();
    rig.settle("fee", 50_000);
    const { payments } = rig.state;
    rig.settle("fee", 50_000);
    expect(rig.refusals).toEqual([]);
    expect(rig.state.payments).toBe(payments);
  });

  test("may be asked for again when it has failed, and then may be another sum", () => {
    const rig = owing();
    rig.settle("fee", 50_000);
    rig.failed("fee");
    rig.settle("fee", 49_000, 1000);
    expect(rig.refusals).toEqual([]);
    expect(knownPayment(rig.state, sha256(rig.preimage("fee")))).toMatchObject({ amountMsat: 49_000 });
  });

  test("never takes the place of a payment that has failed, nor a payment its place", () => {
    const rig = owing();
    rig.pay("another", 1000);
    rig.failed("another");
    rig.settle("another", 50_000);
    rig.settle("fee", 50_000);
    rig.failed("fee");
    rig.pay("fee", 1000);
    expect(rig.refusals).toEqual(["already-paying", "already-paying"]);
  });

  test("may not be held back longer than a payment", () => {
    const rig = owing();
    const { birthHeight, birthTime, policy } = rig.identity;
    const after = (seconds: number) =>
      highestExpiry(rig.identity, (birthTime + seconds) * 1000) - birthHeight - policy.maxCltvExpiryDelta;
    // Three days' blocks for good measure, and a twentieth more than one every ten minutes.
    expect([-1000, 0, 6000, 12_000].map(after)).toEqual([432, 432, 443, 453]);
    // After four years the bound is 76 days ahead of one block in ten minutes, and no more.
    expect(after(4 * 365.25 * 86_400) - 4 * 52_596).toBeLessThan(77 * 144);
    rig.settle("fee", 50_000);
    const { maxCltvExpiry } = knownPayment(rig.state, sha256(rig.preimage("fee")))!;
    expect(maxCltvExpiry).toBe(highestExpiry(rig.identity, rig.box.nowMs));
  });
});

describe("the journal", () => {
  test("has room for all that may come of the payments that were taken", () => {
    const rig = new Rig({ charge: { A: 150, B: 200, H: 200 } }).open();
    for (let i = 0; rig.refusals.length === 0; i++)
      rig.pay(`toll ${i}`, 100, { invoice: new Uint8Array(1400) });
    expect(rig.refusals).toEqual(["too-many-payments"]);
    const count = rig.state.payments.length;
    expect(count).toBeGreaterThan(2);
    // The most that can become of it: every commitment full, every signature there, all closes.
    expect(bytesOf(worstOf(rig.state, count))).toBeLessThan(rig.box.context.capacityBytes);
  });

  test("has room for eight payments at once where there is enough", () => {
    const rig = new Rig({ charge: { A: 150, B: 200, H: 200 } }).open();
    for (let i = 0; i < 9; i++) rig.pay(`toll ${i}`, 600, { invoice: new Uint8Array(100) });
    expect(rig.refusals).toEqual(["too-many-payments"]);
    expect(rig.state.payments).toHaveLength(MAX_HTLCS - MAX_INCOMING);
    expect(bytesOf(worstOf(rig.state, 8))).toBeLessThan(rig.box.context.capacityBytes);
  });

  test("forgets decided payments when there is no room, those first whose invoices expire first", () => {
    const rig = new Rig().open();
    for (let i = 0; i < MAX_PAYMENTS + 3; i++) {
      // The third of them expires first, then the second.
      rig.pay(`toll ${i}`, 600, { expiresAt: NOW_MS / 1000 + (i < 3 ? 10 - i : 60) });
      rig.failed(`toll ${i}`);
    }
    expect(rig.refusals).toEqual([]);
    const count = rig.state.payments.filter(each => each).length;
    expect(count).toBeGreaterThan(50);
    expect(count).toBeLessThanOrEqual(MAX_PAYMENTS);
    rig.box.restart();
    const remembered = (name: string) => knownPayment(rig.state, sha256(rig.preimage(name))) !== null;
    expect([0, 1, 2].map(i => remembered(`toll ${i}`))).toEqual([false, false, false]);
    expect(remembered(`toll ${MAX_PAYMENTS + 2}`)).toBe(true);
  });

  test("uses a place again that became free", () => {
    const rig = new Rig().open();
    for (let i = 0; i < MAX_PAYMENTS + 3; i++) {
      // The first of them expires first.
      rig.pay(`toll ${i}`, 600, { expiresAt: NOW_MS / 1000 + i });
      rig.failed(`toll ${i}`);
    }
    const taken = rig.state.payments.filter(each => each).length;
    expect(rig.state.payments.length - taken).toBe(1);
    const before = rig.state.payments.indexOf(null);
    rig.pay("another", 600);
    expect(rig.state.payments[before]?.paymentHash).toEqual(sha256(rig.preimage("another")));
  });

  test("forgets as many payments as one with a long invoice needs", () => {
    const rig = new Rig().open();
    for (let i = 0; i < MAX_PAYMENTS; i++) {
      rig.pay(`toll ${i}`, 600, { invoice: new Uint8Array(100) });
      rig.failed(`toll ${i}`);
    }
    const before = rig.state.payments.filter(each => each).length;
    rig.pay("another", 600, { invoice: new Uint8Array(1400) });
    expect(rig.refusals).toEqual([]);
    expect(rig.state.payments.filter(each => each).length).toBeLessThan(before - 2);
    // The places that are free now are in nobody's way.
    rig.move(rig.view(0, [rig.htlc("another", 600)]));
    expect(rig.refusals).toEqual([]);
  });

  test("remembers so many payments and no more, however large it is", () => {
    const rig = new Rig().open();
    Object.defineProperty(rig.box.context, "capacityBytes", { value: 1e6 });
    for (let i = 0; i < MAX_PAYMENTS + 2; i++) {
      rig.pay(`toll ${i}`, 600);
      rig.failed(`toll ${i}`);
    }
    expect(rig.refusals).toEqual([]);
    expect(rig.state.payments.filter(each => each)).toHaveLength(MAX_PAYMENTS);
  });

  test("has the room that the largest channel may need, with its deposits and the exits of former channels", () => {
    for (const former of [0, 3]) {
      const rig = openedAfter(former, MAX_DEPOSITS);
      expect(rig.state.former ?? []).toHaveLength(former);
      // The least room with which a payment is taken.
      let [least, enough] = [0, 1e5];
      while (enough - least > 1) {
        const capacityBytes = Math.floor((least + enough) / 2);
        Object.defineProperty(rig.box.context, "capacityBytes", { value: capacityBytes });
        rig.refusals.length = 0;
        rig.pay("toll", 100);
        if (rig.refusals.length > 0) least = capacityBytes;
        else {
          enough = capacityBytes;
          rig.failed("toll");
        }
      }
      rig.pay("toll", 100);
      expect(bytesOf(worstOf(rig.state, 1, MAX_DEPOSITS))).toBeLessThanOrEqual(enough);
    }
  });

  test("never forgets a payment that is not decided", () => {
    const rig = new Rig().open();
    rig.pay("first", 600, { expiresAt: 1 });
    for (let i = 0; i < MAX_PAYMENTS + 3; i++) {
      rig.pay(`toll ${i}`, 600);
      rig.failed(`toll ${i}`);
    }
    expect(knownPayment(rig.state, sha256(rig.preimage("first")))?.settled).toBeUndefined();
  });

  test.each([0, 1])("has room for payments on the smallest flash after %i closed channels", former => {
    const rig = openedAfter(former, 1);
    const flash = memoryFlash(PAGE_BYTES, 16);
    formatVault(flash, rig.box.context.identity);
    const capacityBytes = openVault(flash).journal.capacity;
    Object.defineProperty(rig.box.context, "capacityBytes", { value: capacityBytes });
    for (let i = 0; i < 5; i++) {
      rig.pay(`toll ${i}`, 600);
      rig.paid(`toll ${i}`);
    }
    expect(rig.refusals).toEqual([]);
    expect(bytesOf(worstOf(rig.state, 1))).toBeLessThan(capacityBytes);
  });
});

/** A device with an open channel, after so many that were opened and closed. */
function openedAfter(former: number, depositsEach: number): Rig {
  const rig = new Rig({ charge: { A: 150, B: 200, H: 200 } });
  for (let index = 1; index <= former + 1; index++) {
    const deposits = Array.from({ length: depositsEach }, (_, vout) => ({
      txid: derived(`deposit of ${index}`),
      vout,
      valueSat: 201_000 / depositsEach,
    }));
    rig.proposal = proposalWith({ index, deposits });
    rig.app("open");
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
    rig.step({ holder: rig.holder(rig.view(), 0) });
    rig.step({ fund: true });
    if (index > former) break;
    rig.close(199_000, 0);
    rig.say({ type: "channel", index, state: "closed" });
  }
  expect(rig.refusals).toEqual([]);
  return rig;
}

function somePayment(): Payment {
  return {
    paymentHash: new Uint8Array(32).fill(7),
    amountMsat: 2 ** 40,
    limitMsat: 2 ** 40,
    maxCltvExpiry: 2 ** 31,
    expiresAt: 2 ** 40,
    startedAtMs: 2 ** 41,
    htlcMsat: 2 ** 40,
    preimage: new Uint8Array(32),
    feeMsat: 2 ** 40,
    ms: 2 ** 31,
    attempt: 2 ** 31,
    settled: true,
  };
}

/** Bytes of values in the journal, each with the 16 that the journal adds. */
function bytesOf(state: ChannelState): number {
  return changesBetween({ ...EMPTY, books: { ...EMPTY.books } }, state).reduce(
    (sum, change) => sum + 16 + (change.value?.length ?? 0),
    0,
  );
}

/** The largest state that these payments can lead to. */
function worstOf(state: ChannelState, payments: number, deposits = 1): ChannelState {
  const htlc = { paymentHash: new Uint8Array(32), amountMsat: 2 ** 42, cltvExpiry: 2 ** 20, incoming: true };
  const htlcs = Array.from({ length: Math.min(MAX_HTLCS, payments + MAX_INCOMING) }, () => htlc);
  const view = { feeratePerKw: 2 ** 20, holderSat: 2 ** 40, counterpartySat: 2 ** 40, htlcs };
  const htlcSignatures = htlcs.map(() => new Uint8Array(64));
  const partial = { id: 2 ** 31, scalar: new Uint8Array(32) };
  const deposit = { txid: new Uint8Array(32), vout: 2 ** 31, valueSat: 2 ** 40 };
  return {
    ...state,
    parameters: {
      proposal: proposalWith({ deposits: Array.from({ length: deposits }, () => deposit) }),
      funding: { partials: Array.from({ length: deposits }, () => partial) },
      closes: Array.from({ length: MAX_CLOSES }, () => ({
        sighash: new Uint8Array(32),
        answer: { partials: [partial] },
      })),
    },
    holder: {
      number: 2 ** 47,
      view,
      bridgeSignature: new Uint8Array(64),
      ownSignature: new Uint8Array(64),
      anchorSignature: new Uint8Array(64),
      htlcSignatures,
    },
    counterparty: {
      number: 2 ** 47,
      view,
      point: new Uint8Array(33),
      previous: { view, point: new Uint8Array(33) },
      answer: { partials: [partial], htlcSignatures },
      nextPoint: new Uint8Array(33),
    },
    former: state.former,
    payments: state.payments.map(
      payment => payment && { ...somePayment(), invoice: payment.invoice ?? new Uint8Array(0) },
    ),
  };
}

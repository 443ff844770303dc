/**
 * The service fee on both sides' books, with the real code of both: the device in its box, the gateway's payments and
 * fees in lmdb, and between them real commitments. Whatever fails, in the end every msat that has left the channel was
 * delivered, or paid for routing, or paid for the service, and both sides say the same of it.
 */

import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { knownPayment } from "../../device/channel/payments/remembered.ts";
import type { Payment } from "../../device/channel/state.ts";
import { paymentIdOf } from "../../gateway/device/payment-rows.ts";
import { Payments } from "../../gateway/device/payments.ts";
import { ServiceFees } from "../../gateway/fees/service-fees.ts";
import { createLog } from "../../gateway/log.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { serviceFeeMsat } from "../../src/channel/service-fee.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { codeOf } from "../../src/errors.ts";
import { decodeInvoice, packInvoice } from "../../src/lightning/bolt11.ts";
import { encodeInvoice } from "../../src/lightning/bolt11-write.ts";
import { HOLDER } from "../../src/lightning/channel.ts";
import { type ToDevice, type ToGateway, toDevice } from "../../src/messages/device.ts";
import { Box } from "../device/box.ts";
import { derived } from "../device/dealer.ts";
import { chargedFlash, HEIGHT, identityWith, keyPair, NOW_MS } from "../device/parties.ts";
import { type Fate, Peer } from "../device/peer.ts";
import { storeTable } from "../store-table.ts";

/** So much that a few payments lead to a settlement, and it to an output in the commitments. */
const TERMS = { ratePpm: 200_000, baseMsat: 3, settleFromMsat: 600_000, creditMsat: 2_000_000 };
const POLICY = { perPaymentMsat: 1e11, perHourMsat: 1e12, perDayMsat: 1e12, maxDustSat: 5000 };
const CHARGE = { A: 150, B: 200, H: 200 };

const table = storeTable("payments");
let worlds = 0;

class FeeWorld {
  readonly box: Box;
  readonly peer: Peer;
  readonly fates: Fate[] = [];
  /** Whether the gateway's own node can be paid, and whether a payment to it arrives. */
  tillIsOpen = true;
  wayIsOpen = true;
  /** Codes that payments failed with, or were refused with. */
  readonly codes: string[] = [];
  private readonly deviceId = `device ${worlds++}`;
  private payments!: Payments;
  fees!: ServiceFees;
  private later: (() => void) | undefined;
  private toDevice: Uint8Array[] = [];
  private toPeer: ToGateway[] = [];
  private made = 0;

  constructor() {
    this.box = new Box({ image: chargedFlash(POLICY, CHARGE, TERMS) });
    this.peer = new Peer({
      keys: identityWith(POLICY, TERMS),
      charge: CHARGE,
      fates: this.fates,
      send: message => void this.send(message),
      books: {
        received: message => this.received(message),
        decided: (fate, isPaid) => this.decided(fate, isPaid),
      },
    });
    this.startGateway();
    this.connect();
    this.run(() => this.box.run({ type: "open" }));
    this.deliver(1000);
  }

  private send(message: ToDevice): boolean {
    this.toDevice.push(toDevice.encode(message));
    return true;
  }

  /** A new one, with what the old one has stored. Events that LDK told just before are told again. */
  startGateway(): void {
    this.later = undefined;
    this.fees = new ServiceFees({
      deviceId: this.deviceId,
      terms: TERMS,
      feeReceiver: {
        canReceive: () => this.tillIsOpen,
        routingMsat: amountMsat => 1_000 + Math.ceil(amountMsat / 1000),
        invoice: amountMsat =>
          this.invoice({
            amountMsat,
            feeMsat: 1_000 + Math.floor(amountMsat / 2000),
            fails: !this.wayIsOpen,
          }),
      },
      table,
      log: createLog("error", () => {}),
      send: message => this.send(message),
      soon: work => {
        this.later = work;
      },
      now: () => NOW_MS,
    });
    this.payments = new Payments({
      deviceId: this.deviceId,
      network: "regtest",
      table,
      fees: this.fees,
      limits: () => undefined,
      log: createLog("error", () => {}),
      failed: (paymentHash, code, sentence) => {
        this.codes.push(code);
        this.send({ type: "failed", paymentHash, code, sentence });
      },
      paid: preimage => void this.send({ type: "paid", preimage }),
      start: invoice => this.peer.offer(this.fateOf(invoice.paymentHash)),
      underWay: paymentId => this.fates.some(fate => isIdOf(fate, paymentId) && this.peer.outcomeOf(fate)),
      now: () => NOW_MS,
    });
    for (const fate of this.fates.slice(-2)) {
      const outcome = this.peer.outcomeOf(fate);
      if (outcome === "paid" || outcome === "failed") this.decided(fate, outcome === "paid");
    }
  }

  private fateOf(paymentHash: Uint8Array): Fate {
    return this.fates.find(({ preimage }) => equal(sha256(preimage), paymentHash))!;
  }

  private received(message: Extract<ToGateway, { type: "pay" | "settling" }>): void {
    if (message.type === "pay") this.payments.asked(message.invoice, message, message.attempt ?? 0);
    else if (message.refused) this.fees.refused(message.refused.code, message.refused.sentence);
    else this.payments.settling(message.paymentHash);
  }

  private decided(fate: Fate, isPaid: boolean): void {
    const hash = sha256(fate.preimage);
    if (isPaid) this.payments.sent(hash, fate.preimage, fate.feeMsat);
    else this.payments.failed(hash, idOf(fate), "payment-failed");
  }

  private invoice(fate: Omit<Fate, "preimage">): string {
    const preimage = derived(`${this.deviceId} ${this.made++}`);
    this.fates.push({ ...fate, preimage });
    return encodeInvoice(
      {
        network: "regtest",
        amountMsat: fate.amountMsat,
        timestamp: NOW_MS / 1000,
        paymentHash: sha256(preimage),
        paymentSecret: derived("payment secret"),
        description: "",
        features: [8, 14],
      },
      keyPair("a payee").secret,
      nobleCurve,
    );
  }

  pay(fate: Omit<Fate, "preimage">): void {
    const text = this.invoice(fate);
    const { paymentHash, amountMsat } = decodeInvoice(text, nobleCurve);
    const order = {
      paymentHash,
      amountMsat: amountMsat!,
      maxFeeMsat: fate.feeMsat + 500,
      payee: null,
      maxCltvExpiry: HEIGHT + 2016,
      expiresAt: NOW_MS / 1000 + 3600,
      invoice: packInvoice(text),
    };
    try {
      this.run(() => this.box.run({ type: "pay", order }));
    } catch (error) {
      if (codeOf(error) === undefined) throw error;
      this.codes.push(codeOf(error)!);
    }
  }

  /** The gateway's moment has come. */
  ask(): void {
    const { later } = this;
    this.later = undefined;
    later?.();
  }

  /** So many messages arrive, those to the device first. */
  deliver(count: number): void {
    for (let i = 0; i < count && this.toDevice.length + this.toPeer.length > 0; i++) {
      const [message] = this.toDevice.splice(0, 1);
      if (message) this.run(() => this.box.receive(message));
      else this.peer.receive(this.toPeer.shift()!);
    }
  }

  /** What is on its way to the device arrives a second time. */
  repeat(): void {
    for (const message of [...this.toDevice]) this.run(() => this.box.receive(message));
  }

  /** What was on the way is lost. */
  connect(): void {
    this.toDevice = [];
    this.toPeer = [];
    this.run(() => this.box.run({ type: "connected", generation: this.box.vault.journal.generation }));
    this.fees.askSoon();
  }

  restartDevice(): void {
    this.box.restart();
    this.connect();
  }

  private run(step: () => boolean): void {
    expect(step()).toBe(true);
    this.toPeer.push(...this.box.takeSent());
  }

  /** All that is under way comes to its end. */
  end(): void {
    this.connect();
    for (let i = 0; i < 4; i++) {
      this.deliver(10_000);
      this.ask();
    }
    this.deliver(10_000);
    this.peer.rest();
    this.deliver(10_000);
    expect(this.peer.problems).toEqual([]);
    expect(this.peer.idle).toBe(true);
  }

  /** What the way there has cost: the receipt says it, or for what no output shows the most that it can have been. */
  private routedMsat({ paymentHash, amountMsat, limitMsat, feeMsat }: Payment): number {
    const fate = this.fateOf(paymentHash);
    const { holderDustLimitSat, counterpartyDustLimitSat } = this.peer.proposal;
    const isShown = amountMsat >= 1000 * Math.max(holderDustLimitSat, counterpartyDustLimitSat);
    expect(feeMsat).toBe(isShown ? fate.feeMsat : limitMsat - amountMsat);
    return fate.feeMsat;
  }

  /** Every msat, on the device's books, on the gateway's, and in the channel. */
  check(): void {
    const { payments, books } = this.box.state;
    const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
    const tolls = payments.flatMap(each => (each?.preimage && !each.settlement ? [each] : []));
    const delivered = sum(tolls.map(each => each.amountMsat));
    const routing = sum(tolls.map(each => this.routedMsat(each)));
    const accrued = sum(tolls.map(each => serviceFeeMsat(TERMS, each.amountMsat)));
    const owed = books.owedMsat;
    const settled = accrued - owed;
    const gone = 200_000_000 - this.peer.balances(HOLDER).holderMsat;
    expect(gone).toBe(delivered + routing + settled);
    expect(this.fees.books).toMatchObject({ earnedMsat: accrued, settledMsat: settled });
    // What the payees say: they have been paid once each, and nobody else was.
    const fates = this.fates.filter(fate => this.peer.outcomeOf(fate) === "paid");
    const isSettlement = ({ preimage }: Fate) => knownPayment(this.box.state, sha256(preimage))?.settlement;
    expect(sum(fates.filter(fate => !isSettlement(fate)).map(fate => fate.amountMsat))).toBe(delivered);
    expect(sum(fates.filter(isSettlement).map(fate => fate.amountMsat))).toBe(
      settled - this.fees.books.routingMsat,
    );
    expect(payments.every(each => !each || each.settled)).toBe(true);
  }
}

const idOf = ({ preimage }: Fate) => paymentIdOf(sha256(preimage), 0);
const isIdOf = (fate: Fate, paymentId: Uint8Array) => equal(idOf(fate), paymentId);

const action = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      what: fc.constant("pay" as const),
      amountMsat: fc.oneof(
        fc.integer({ min: 1, max: 900_000 }),
        fc.integer({ min: 900_000, max: 6_000_000 }),
      ),
      feeMsat: fc.integer({ min: 0, max: 4_000 }),
      fails: fc.nat(3).map(n => n === 0),
    }),
  },
  { weight: 4, arbitrary: fc.record({ what: fc.constant("deliver" as const), count: fc.nat(60) }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant("ask" as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      what: fc.constantFrom(
        "connect" as const,
        "repeat" as const,
        "restart device" as const,
        "restart gateway" as const,
      ),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ what: fc.constantFrom("feeReceiver" as const, "way" as const) }),
  },
);

test("paid is delivered, routing and service fees, on both sides' books, to the msat, whatever fails", () => {
  let settlements = 0;
  const codes = new Set<string>();
  fc.assert(
    fc.property(fc.array(action, { minLength: 10, maxLength: 40 }), actions => {
      const world = new FeeWorld();
      for (const each of actions) {
        if (each.what === "pay") world.pay(each);
        else if (each.what === "deliver") world.deliver(each.count);
        else if (each.what === "ask") world.ask();
        else if (each.what === "connect") world.connect();
        else if (each.what === "repeat") world.repeat();
        else if (each.what === "restart device") world.restartDevice();
        else if (each.what === "restart gateway") world.startGateway();
        else if (each.what === "feeReceiver") world.tillIsOpen = !world.tillIsOpen;
        else world.wayIsOpen = !world.wayIsOpen;
      }
      world.end();
      world.check();
      // Whatever was in the way: once the gateway can be paid, what is owed is settled.
      world.tillIsOpen = true;
      world.wayIsOpen = true;
      world.end();
      world.check();
      expect(world.fees.owedMsat).toBeLessThan(TERMS.settleFromMsat);
      settlements += world.fees.books.settlements;
      for (const code of world.codes) codes.add(code);
    }),
    { numRuns: 40, seed: 7 },
  );
  expect(settlements).toBeGreaterThan(20);
  expect([...codes]).toEqual(expect.arrayContaining(["payment-failed", "service-fee-due"]));
});

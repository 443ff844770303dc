/** The owner's limits at the gateway: the real payments and what they have spent, without LDK. */

import { describe, expect, test } from "@jest/globals";
import { KEPT_FAILURES, paymentIdOf } from "../../gateway/device/payment-rows.ts";
import { Payments } from "../../gateway/device/payments.ts";
import { ServiceFees } from "../../gateway/fees/service-fees.ts";
import { createLog } from "../../gateway/log.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import type { ServiceFee } from "../../src/channel/service-fee.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import { packInvoice } from "../../src/lightning/bolt11.ts";
import { encodeInvoice } from "../../src/lightning/bolt11-write.ts";
import type { SpendingLimits } from "../../src/messages/owner.ts";
import { storeTable } from "../store-table.ts";

const HOUR_MS = 3_600_000;
const LIMITS: SpendingLimits = { perPaymentMsat: 5_000, perHourMsat: 10_000, perDayMsat: 25_000, payees: [] };

const table = storeTable("payments");

const bytesOf = (name: string) => sha256(new TextEncoder().encode(name));
let count = 0;

interface Asked {
  readonly maxFeeMsat?: number;
  readonly attempt?: number;
  /** Another invoice of the same payment hash. */
  readonly hashOf?: string;
  readonly payee?: string;
}

/** One device of a gateway: what it asks for, what becomes of it, and what LDK is asked to pay. */
class Desk {
  readonly deviceId = `device ${count++}`;
  limits: SpendingLimits | undefined = LIMITS;
  nowMs = 1_750_000_000_000;
  /** Amount and fee limit, msat. */
  readonly started: [amountMsat: number, maxFeeMsat: number][] = [];
  readonly failures: string[] = [];
  /** By payment id. */
  readonly underWay = new Set<string>();
  /** LDK refuses at once. */
  refusal: string | undefined;
  /** The power fails after so many writes. */
  writesLeft = Number.POSITIVE_INFINITY;
  private readonly terms: ServiceFee | undefined;
  payments!: Payments;

  constructor(terms?: ServiceFee) {
    this.terms = terms;
    this.restart();
  }

  restart(): void {
    const now = () => this.nowMs;
    const log = createLog("error", () => {});
    const { deviceId } = this;
    this.payments = new Payments({
      deviceId,
      network: "regtest",
      table: new Proxy(table, {
        get: (target, name) =>
          name === "transactionSync" && this.writesLeft-- <= 0
            ? () => {
                throw new Error("power cut");
              }
            : (Reflect.get(target, name).bind?.(target) ?? Reflect.get(target, name)),
      }),
      fees: new ServiceFees({
        deviceId,
        table,
        log,
        send: () => true,
        soon: () => {},
        now,
        ...(this.terms ? { terms: this.terms } : {}),
      }),
      limits: () => this.limits,
      log,
      failed: (_, code) => void this.failures.push(code),
      paid: () => {},
      start: (invoice, _text, paymentId, { maxFeeMsat }) => {
        if (this.refusal) throw lngateError(this.refusal, "not now");
        this.started.push([invoice.amountMsat!, maxFeeMsat]);
        this.underWay.add(toHex(paymentId));
      },
      underWay: paymentId => this.underWay.has(toHex(paymentId)),
      now,
    });
  }

  ask(name: string, amountMsat: number, { maxFeeMsat = 0, attempt = 0, hashOf, payee }: Asked = {}): void {
    const fields = {
      network: "regtest" as const,
      amountMsat,
      timestamp: Math.floor(this.nowMs / 1000),
      paymentHash: sha256(bytesOf(hashOf ?? name)),
      paymentSecret: bytesOf(`secret of ${name}`),
      description: "",
      features: [8, 14],
      expirySeconds: 3600,
    };
    const invoice = encodeInvoice(fields, bytesOf(payee ?? "a payee"), nobleCurve);
    this.payments.asked(packInvoice(invoice), { maxFeeMsat }, attempt);
  }

  arrives(name: string, feeMsat = 0, attempt = 0): void {
    this.underWay.delete(toHex(idOf(name, attempt)));
    this.payments.sent(sha256(bytesOf(name)), bytesOf(name), feeMsat, idOf(name, attempt));
  }

  fails(name: string, attempt = 0): void {
    this.underWay.delete(toHex(idOf(name, attempt)));
    this.payments.failed(sha256(bytesOf(name)), idOf(name, attempt), "no-route");
  }

  /** What may still be spent now, by trying: the largest payment that begins. It ends as one that failed. */
  room(): number {
    let [fits, exceeds] = [0, 30_000];
    while (exceeds - fits > 1) {
      const amountMsat = Math.floor((fits + exceeds) / 2);
      const name = `try ${count++}`;
      const before = this.started.length;
      this.ask(name, amountMsat);
      if (this.started.length > before) {
        this.fails(name);
        fits = amountMsat;
      } else exceeds = amountMsat;
    }
    this.failures.splice(0);
    return fits;
  }
}

const idOf = (name: string, attempt: number) => paymentIdOf(sha256(bytesOf(name)), attempt);

describe("the owner's limits at the gateway", () => {
  test("bound a payment, with all that its way may cost, and with the service fee", () => {
    const desk = new Desk({ ratePpm: 100_000, baseMsat: 0, settleFromMsat: 1e6, creditMsat: 2e6 });
    desk.ask("fits", 4_000, { maxFeeMsat: 600 });
    desk.ask("its way", 4_000, { maxFeeMsat: 601 });
    desk.ask("the service", 4_547);
    expect(desk.failures).toEqual(["policy-payment-limit", "policy-payment-limit"]);
    expect(desk.started).toEqual([[4_000, 600]]);
  });

  test("bound an hour and a day, also while nothing of it is decided", () => {
    const desk = new Desk();
    for (const name of ["one", "two"]) desk.ask(name, 5_000);
    desk.ask("three", 1);
    expect(desk.failures).toEqual(["policy-velocity"]);
    desk.nowMs += HOUR_MS - 1;
    desk.ask("four", 1);
    expect(desk.failures).toEqual(["policy-velocity", "policy-velocity"]);
    desk.nowMs += 1;
    for (const name of ["five", "six"]) desk.ask(name, 5_000);
    desk.nowMs += HOUR_MS;
    expect(desk.room()).toBe(5_000);
    desk.ask("seven", 5_000);
    desk.ask("the day is over", 1);
    expect(desk.failures).toEqual(["policy-velocity"]);
    desk.nowMs += 22 * HOUR_MS;
    desk.ask("the next day", 5_000);
    expect(desk.failures).toEqual(["policy-velocity"]);
  });

  test("have a list of payees, if there is one", () => {
    const desk = new Desk();
    desk.limits = { ...LIMITS, payees: [nobleCurve.publicKey(bytesOf("toll station"))] };
    desk.ask("somebody", 1_000);
    desk.ask("the toll station", 1_000, { payee: "toll station" });
    expect(desk.failures).toEqual(["policy-payee"]);
    expect(desk.started).toHaveLength(1);
  });

  test("get back what is known not to have left, once", () => {
    const desk = new Desk();
    desk.ask("paid", 4_000, { maxFeeMsat: 1_000 });
    desk.ask("failed", 4_000, { maxFeeMsat: 1_000 });
    expect(desk.room()).toBe(0);
    desk.arrives("paid", 300);
    expect(desk.room()).toBe(700);
    for (let i = 0; i < 3; i++) {
      desk.arrives("paid", 300);
      desk.fails("failed");
      desk.restart();
    }
    expect(desk.room()).toBe(5_000);
    desk.ask("all that is left", 5_000);
    desk.ask("and more", 701);
    expect(desk.failures).toEqual(["policy-velocity"]);
  });

  test("get nothing back into another hour than that in which it was counted", () => {
    const desk = new Desk();
    for (const name of ["one", "two"]) desk.ask(name, 5_000);
    desk.nowMs += HOUR_MS;
    for (const name of ["three", "four"]) desk.ask(name, 5_000);
    desk.fails("one");
    desk.arrives("two");
    expect(desk.room()).toBe(0);
    // But into the same day: 15,000 of 25,000 are spent.
    desk.nowMs += HOUR_MS;
    desk.ask("five", 5_000);
    desk.ask("six", 5_000);
    desk.nowMs += HOUR_MS;
    expect(desk.room()).toBe(0);
  });

  test("count on after a restart, and what was under way then counts once", () => {
    const desk = new Desk();
    desk.ask("one", 5_000);
    // LDK had not stored it: it is begun again.
    desk.underWay.clear();
    desk.restart();
    desk.ask("one", 5_000);
    expect(desk.started).toHaveLength(2);
    desk.ask("two", 5_000);
    desk.restart();
    desk.ask("three", 1);
    expect(desk.failures).toEqual(["policy-velocity"]);
  });

  test("count what failed and has left all the same", () => {
    const desk = new Desk();
    desk.ask("one", 5_000);
    desk.fails("one");
    desk.arrives("one");
    desk.ask("two", 5_000);
    expect(desk.room()).toBe(0);
  });

  test("refuse an attempt for good, so that a device that was told so never sees it paid; a new one may be made", () => {
    const desk = new Desk();
    desk.ask("toll", 9_000);
    desk.limits = { ...LIMITS, perPaymentMsat: 10_000 };
    desk.ask("toll", 9_000);
    desk.restart();
    desk.ask("toll", 9_000);
    expect(desk.failures).toEqual(Array(3).fill("policy-payment-limit"));
    expect(desk.started).toEqual([]);
    desk.ask("toll", 9_000, { attempt: 1 });
    expect(desk.started).toHaveLength(1);
  });

  test("keep refusing what they have refused, also if the power failed right after that was written", () => {
    for (const writes of [0, 1]) {
      const desk = new Desk();
      const name = `all, ${writes}`;
      desk.writesLeft = writes;
      try {
        desk.ask(name, 400_000_000);
      } catch (error) {
        expect((error as Error).message).toBe("power cut");
      }
      desk.writesLeft = Number.POSITIVE_INFINITY;
      desk.failures.splice(0);
      desk.restart();
      desk.ask(name, 400_000_000);
      expect(desk.started).toEqual([]);
      expect(desk.failures).toEqual(["policy-payment-limit"]);
    }
  });

  test("count what LDK has and was called failed, behind however many others that failed", async () => {
    const desk = new Desk();
    desk.ask("one", 5_000);
    const hash = sha256(bytesOf("one"));
    desk.payments.failed(hash, idOf("one", 0), "payment-failed");
    for (let i = 0; i <= KEPT_FAILURES; i++) desk.ask(`junk ${i}`, 9_000);
    await desk.payments.prune(0);
    desk.arrives("one");
    expect(desk.room()).toBe(5_000);
  });

  test("are those of the moment, and hold of what was spent before", () => {
    const desk = new Desk();
    desk.limits = undefined;
    for (const name of ["one", "two", "three"]) desk.ask(name, 1_000_000);
    expect(desk.failures).toEqual([]);
    desk.limits = LIMITS;
    desk.ask("four", 1);
    expect(desk.failures).toEqual(["policy-velocity"]);
    desk.limits = { ...LIMITS, perHourMsat: 1e9, perDayMsat: 1e9 };
    desk.ask("five", 1);
    expect(desk.failures).toEqual(["policy-velocity"]);
  });

  test("are not lengthened by a clock that was ahead when an hour began", () => {
    const desk = new Desk();
    desk.nowMs += 1000 * HOUR_MS;
    for (const name of ["one", "two"]) desk.ask(name, 5_000);
    desk.nowMs -= 1000 * HOUR_MS;
    expect(desk.room()).toBe(0);
    desk.nowMs += HOUR_MS;
    expect(desk.room()).toBe(5_000);
  });
});

describe("a device with a program of its own", () => {
  test("that asks for one invoice and then for another of the same hash, or for a higher fee, gets the first", () => {
    const desk = new Desk();
    desk.ask("small", 1_000, { maxFeeMsat: 1 });
    desk.underWay.clear();
    desk.ask("large", 400_000_000, { hashOf: "small", maxFeeMsat: 1_000_000 });
    desk.underWay.clear();
    desk.ask("small", 1_000, { maxFeeMsat: 1_000_000 });
    expect(desk.started).toEqual(Array(3).fill([1_000, 1]));
  });

  test("begins no second attempt beside one that is under way", () => {
    const desk = new Desk();
    desk.ask("toll", 5_000);
    for (let attempt = 1; attempt < 5; attempt++) desk.ask("toll", 5_000, { attempt });
    expect(desk.started).toHaveLength(1);
    desk.fails("toll");
    desk.ask("toll", 5_000, { attempt: 5 });
    expect(desk.started).toHaveLength(2);
  });

  test("whose attempts overtake each other before LDK has them is counted for each", () => {
    const desk = new Desk();
    desk.ask("toll", 1_000);
    // The bridge is away for a moment: LDK has nothing of it yet.
    desk.underWay.clear();
    desk.ask("toll", 1_000, { attempt: 1, maxFeeMsat: 4_000 });
    // The first arrives for nothing, the second for all of its fee.
    desk.arrives("toll", 0, 0);
    desk.arrives("toll", 4_000, 1);
    expect(desk.room()).toBe(4_000);
  });

  test("can't ask for sums that no longer count", () => {
    const desk = new Desk();
    desk.ask("huge", 1_000, { maxFeeMsat: Number.MAX_SAFE_INTEGER });
    desk.limits = undefined;
    desk.ask("huge too", 1_000, { maxFeeMsat: Number.MAX_SAFE_INTEGER });
    desk.limits = LIMITS;
    desk.ask("one", 1_000);
    expect(desk.failures).toEqual(["policy-payment-limit", "policy-velocity"]);
  });
});

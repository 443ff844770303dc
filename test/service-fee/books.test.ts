/** The gateway's books of one device, and what it asks: the real payments and fees, without LDK. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { paymentIdOf } from "../../gateway/device/payment-rows.ts";
import { Payments } from "../../gateway/device/payments.ts";
import { ServiceFees } from "../../gateway/fees/service-fees.ts";
import { createLog } from "../../gateway/log.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import { packInvoice } from "../../src/lightning/bolt11.ts";
import { encodeInvoice } from "../../src/lightning/bolt11-write.ts";
import type { ToDevice } from "../../src/messages/device.ts";
import { storeTable } from "../store-table.ts";
import { codeThrownBy } from "../thrown.ts";

const TERMS = { ratePpm: 50_000, baseMsat: 0, settleFromMsat: 1_000_000, creditMsat: 2_000_000 };
const ROUTING_MSAT = 1_000;

const table = storeTable("payments");

let count = 0;
function preimageOf(name: string): Uint8Array {
  return sha256(new TextEncoder().encode(name));
}

/** One device of a gateway. What it is told is noted, as is what LDK is asked to pay. */
class Desk {
  readonly deviceId = `device ${count++}`;
  readonly said: ToDevice[] = [];
  readonly started: string[] = [];
  /** What LDK has, or has had, by payment id. */
  readonly inLdk = new Set<string>();
  readonly lines: string[] = [];
  online = true;
  canReceive = true;
  /** LDK is not even asked, and this is why. */
  refusal: string | undefined;
  nowMs = 1_750_000_000_000;
  private invoices = 0;
  private later: (() => void) | undefined;
  fees!: ServiceFees;
  payments!: Payments;

  constructor() {
    this.start();
  }

  start(): void {
    const now = () => this.nowMs;
    const say = (message: ToDevice) => {
      if (this.online) this.said.push(message);
      return this.online;
    };
    this.fees = new ServiceFees({
      deviceId: this.deviceId,
      terms: TERMS,
      feeReceiver: {
        canReceive: () => this.canReceive,
        routingMsat: () => ROUTING_MSAT,
        invoice: (amountMsat, _description, expirySeconds) =>
          this.invoice(`${this.deviceId} settlement ${++this.invoices}`, amountMsat, expirySeconds),
      },
      table,
      log: createLog("error", () => {}),
      send: say,
      soon: work => {
        this.later = work;
      },
      now,
    });
    this.payments = new Payments({
      deviceId: this.deviceId,
      network: "regtest",
      table,
      fees: this.fees,
      limits: () => undefined,
      log: createLog("info", line => void this.lines.push(line.slice(24).trim())),
      failed: (paymentHash, code, sentence) => void say({ type: "failed", paymentHash, code, sentence }),
      paid: preimage => void say({ type: "paid", preimage }),
      start: (invoice, _text, paymentId) => {
        if (this.refusal) throw lngateError(this.refusal, "not now");
        this.started.push(toHex(invoice.paymentHash));
        this.inLdk.add(toHex(paymentId));
      },
      underWay: paymentId => this.inLdk.has(toHex(paymentId)),
      now,
    });
  }

  invoice(name: string, amountMsat: number, expirySeconds = 3600): string {
    const fields = {
      network: "regtest" as const,
      amountMsat,
      timestamp: this.nowMs / 1000,
      paymentHash: sha256(preimageOf(name)),
      paymentSecret: preimageOf("payment secret"),
      description: "",
      features: [8, 14],
      expirySeconds,
    };
    return encodeInvoice(fields, preimageOf("a payee"), nobleCurve);
  }

  ask(name: string, amountMsat: number): void {
    this.payments.asked(packInvoice(this.invoice(name, amountMsat)), { maxFeeMsat: 1_000 }, 0);
  }

  /** A payment that arrives. */
  pay(name: string, amountMsat: number): void {
    this.ask(name, amountMsat);
    this.payments.sent(sha256(preimageOf(name)), preimageOf(name), 0);
  }

  /** The gateway's moment; what it asks for, if it asks. */
  settlement(): Extract<ToDevice, { type: "settle" }> | undefined {
    const before = this.said.length;
    this.fees.askSoon();
    this.later?.();
    return this.said.slice(before).find(message => message.type === "settle");
  }

  /** LDK says that the settlement number `i` has arrived. */
  settles(i: number, routingMsat = ROUTING_MSAT): void {
    const preimage = preimageOf(`${this.deviceId} settlement ${i}`);
    this.payments.sent(sha256(preimage), preimage, routingMsat);
  }

  failedCodes(): string[] {
    return this.said.flatMap(message => (message.type === "failed" ? [message.code] : []));
  }
}

describe("the gateway's books", () => {
  test("count each payment once, however often LDK and the device speak of it, and no payment that failed", () => {
    const desk = new Desk();
    desk.pay("toll", 1_000_000);
    desk.pay("toll", 1_000_000);
    desk.start();
    desk.pay("toll", 1_000_000);
    desk.ask("fails", 3_000_000);
    const hash = sha256(preimageOf("fails"));
    const id = paymentIdOf(hash, 0);
    desk.payments.failed(hash, id, "no-route");
    expect(desk.fees.books).toMatchObject({ earnedMsat: 50_000, settledMsat: 0 });
  });

  test("keep why a payment has failed, for a device that was away when it was said", () => {
    const desk = new Desk();
    const why = "the cheapest way costs 3000 msat, and the limit is 1000";
    desk.ask("fails", 3_000_000);
    const paymentHash = sha256(preimageOf("fails"));
    const id = paymentIdOf(paymentHash, 0);
    desk.payments.failed(paymentHash, id, "fee-limit-too-low", why);
    desk.start();
    desk.ask("fails", 3_000_000);
    const told = { type: "failed", paymentHash, code: "fee-limit-too-low", sentence: why };
    expect(desk.said).toEqual([told, told]);
    expect(desk.lines.join()).toContain(`code=fee-limit-too-low why="${why}"`);
  });
});

describe("the gateway's log", () => {
  test("has one line for each payment, made or failed, however often it is spoken of", () => {
    const desk = new Desk();
    const hash = (name: string) => toHex(sha256(preimageOf(name)));
    desk.ask("arrives", 1_000_000);
    desk.nowMs += 412;
    desk.payments.sent(sha256(preimageOf("arrives")), preimageOf("arrives"), 1_000);
    desk.pay("arrives", 1_000_000);
    desk.ask("fails", 3_000_000);
    const id = paymentIdOf(sha256(preimageOf("fails")), 0);
    desk.nowMs += 77;
    desk.payments.failed(sha256(preimageOf("fails")), id, "no-route");
    desk.payments.failed(sha256(preimageOf("fails")), id, "no-route");
    desk.ask("fails", 3_000_000);
    expect(codeThrownBy(() => desk.payments.asked(new Uint8Array(40), { maxFeeMsat: 1_000 }, 0))).toBe(
      "invoice-malformed",
    );
    expect(desk.lines).toEqual([
      `info  gateway: paid amountMsat=1000000 feeMsat=1000 ms=412 hash=${hash("arrives")}`,
      `info  gateway: payment failed amountMsat=3000000 code=no-route ms=77 hash=${hash("fails")}`,
      "info  gateway: a payment was refused code=invoice-malformed",
    ]);
  });
});

describe("a settlement", () => {
  test("is asked for when it is worth a payment, of all that is owed, the way there included", () => {
    const desk = new Desk();
    desk.pay("one", 19_999_999);
    expect(desk.settlement()).toBeUndefined();
    desk.pay("two", 20);
    expect(desk.settlement()).toMatchObject({
      amountMsat: 1_000_000 - ROUTING_MSAT,
      maxFeeMsat: ROUTING_MSAT,
    });
  });

  test("is one and the same until the device agrees, however often it is asked for, also after a restart", () => {
    const desk = new Desk();
    desk.pay("one", 20_000_000);
    const first = desk.settlement()!;
    desk.pay("two", 10_000_000);
    desk.start();
    expect(desk.settlement()).toEqual(first);
    desk.fees.refused("balance-too-low", "not now");
    expect(desk.settlement()).toEqual(first);
    desk.payments.settling(first.paymentHash);
    desk.payments.settling(first.paymentHash);
    expect(new Set(desk.started.slice(2))).toEqual(new Set([toHex(first.paymentHash)]));
    expect(desk.settlement()).toBeUndefined();
    desk.settles(1);
    desk.settles(1);
    expect(desk.fees.books).toEqual({
      earnedMsat: 1_500_000,
      settledMsat: 1_000_000,
      routingMsat: ROUTING_MSAT,
      settlements: 1,
    });
  });

  test("takes less than it might: what the way did not cost stays owed", () => {
    const desk = new Desk();
    desk.pay("one", 20_000_000);
    desk.payments.settling(desk.settlement()!.paymentHash);
    desk.settles(1, 400);
    expect(desk.fees.owedMsat).toBe(600);
  });

  test("has a new invoice when the old one is about to expire, and after it has failed", () => {
    const desk = new Desk();
    desk.pay("one", 20_000_000);
    const first = desk.settlement()!;
    desk.nowMs += 3_500_000;
    const second = desk.settlement()!;
    expect(second.paymentHash).not.toEqual(first.paymentHash);
    // The device agrees to the old one, too late: it is told, so that it does not wait.
    desk.payments.settling(first.paymentHash);
    expect(desk.failedCodes()).toEqual(["payment-failed"]);
    desk.payments.settling(second.paymentHash);
    const id = paymentIdOf(second.paymentHash, 0);
    desk.payments.failed(second.paymentHash, id, "no-route");
    const third = desk.settlement()!;
    expect(third.paymentHash).not.toEqual(second.paymentHash);
    desk.payments.settling(third.paymentHash);
    desk.settles(3);
    expect(desk.fees.books).toMatchObject({ settledMsat: 1_000_000, settlements: 1 });
  });

  test("is not asked for while nothing could arrive, nor of a device that is away", () => {
    const desk = new Desk();
    desk.canReceive = false;
    desk.pay("one", 20_000_000);
    expect(desk.settlement()).toBeUndefined();
    desk.canReceive = true;
    desk.online = false;
    expect(desk.settlement()).toBeUndefined();
    desk.online = true;
    expect(desk.settlement()).toBeDefined();
  });
});

describe("a device that owes as much as it may", () => {
  const overdue = () => {
    const desk = new Desk();
    desk.pay("one", 20_000_000);
    desk.settlement();
    desk.pay("two", 20_000_000);
    return desk;
  };

  test("makes no further payment before it settles: nothing is sent, and nothing accrues", () => {
    const desk = overdue();
    desk.ask("three", 1_000_000);
    expect(desk.failedCodes()).toEqual(["service-fee-due"]);
    expect(desk.started).toHaveLength(2);
    desk.payments.settling(desk.settlement()!.paymentHash);
    desk.ask("four", 1_000_000);
    expect(desk.started).toHaveLength(4);
  });

  test("makes none either after it agreed, if the settlement got lost in a power cut and it does not agree again", () => {
    const desk = overdue();
    desk.payments.settling(desk.settlement()!.paymentHash);
    desk.inLdk.clear();
    desk.start();
    desk.ask("three", 1_000_000);
    expect(desk.failedCodes()).toEqual(["service-fee-due"]);
    desk.payments.settling(desk.fees.books.pending!.paymentHash);
    desk.ask("four", 1_000_000);
    expect(desk.failedCodes()).toEqual(["service-fee-due"]);
  });

  test("may end what was begun before", () => {
    const desk = new Desk();
    desk.ask("under way", 1_000_000);
    desk.pay("one", 20_000_000);
    desk.settlement();
    desk.pay("two", 20_000_000);
    desk.ask("under way", 1_000_000);
    expect(desk.failedCodes()).toEqual([]);
  });

  const OWN = [
    "policy-htlc-expiry",
    "device-clock-behind",
    "records-used-up",
    "in-flight-limit",
    "balance-too-low",
  ];
  test.each(OWN)("owes it still if it agrees, and by %s of its own nothing can be paid", code => {
    const desk = overdue();
    for (let i = 0; i < 3; i++) {
      desk.refusal = code;
      desk.payments.settling(desk.settlement()!.paymentHash);
      desk.refusal = undefined;
      desk.ask(`toll ${i}`, 1_000_000);
    }
    expect(desk.failedCodes()).toEqual(Array(3).fill([code, "service-fee-due"]).flat());
    // When nothing is in the way any more, it is settled, and the device is served.
    desk.payments.settling(desk.settlement()!.paymentHash);
    desk.settles(4);
    desk.ask("after that", 1_000_000);
    expect(desk.failedCodes()).toHaveLength(6);
    expect(desk.fees.books).toMatchObject({ settledMsat: 2_000_000, settlements: 1 });
  });

  test.each(["no-route", "fee-limit-too-low", "bridge-unreachable"])(
    "is served all the same if it agrees, and the gateway finds no way to itself (%s)",
    code => {
      const desk = overdue();
      desk.refusal = code;
      desk.payments.settling(desk.settlement()!.paymentHash);
      desk.refusal = undefined;
      desk.ask("toll", 1_000_000);
      expect(desk.failedCodes()).toEqual([code]);
    },
  );

  test("is served all the same if the gateway can't be paid, or if settlements fail on their way", () => {
    const desk = new Desk();
    desk.canReceive = false;
    for (let i = 0; i < 4; i++) {
      desk.pay(`toll ${i}`, 20_000_000);
      expect(desk.settlement()).toBeUndefined();
    }
    expect(desk.fees.owedMsat).toBe(4_000_000);
    desk.canReceive = true;
    const { paymentHash } = desk.settlement()!;
    desk.payments.settling(paymentHash);
    const id = paymentIdOf(paymentHash, 0);
    desk.payments.failed(paymentHash, id, "no-route");
    desk.pay("after that", 1_000_000);
    expect(desk.failedCodes()).toEqual(["no-route"]);
    expect(desk.fees.owedMsat).toBe(4_050_000);
  });
});

describe("the article's car: two tolls of 0.75 USD a day, of which the gateway takes 5 %", () => {
  /** At 100,000 USD for a bitcoin. */
  const SAT_PER_USD = 1_000;

  function year(): {
    tollsSat: number;
    feesSat: number;
    settlements: number;
    routingSat: number;
    mostOwedSat: number;
  } {
    const desk = new Desk();
    let most = 0;
    for (let toll = 0; toll < 2 * 365; toll++) {
      desk.nowMs += 43_200_000;
      desk.pay(`toll ${toll}`, 0.75 * SAT_PER_USD * 1000);
      most = Math.max(most, desk.fees.owedMsat);
      const settlement = desk.settlement();
      if (!settlement) continue;
      desk.payments.settling(settlement.paymentHash);
      desk.settles(desk.fees.books.settlements + 1);
    }
    const { earnedMsat, settlements, routingMsat } = desk.fees.books;
    return {
      tollsSat: 730 * 0.75 * SAT_PER_USD,
      feesSat: earnedMsat / 1000,
      settlements,
      routingSat: routingMsat / 1000,
      mostOwedSat: most / 1000,
    };
  }

  test("pays 27.375 USD for it in a year, in 27 settlements, as docs/operating.md says", () => {
    const { tollsSat, feesSat, settlements, routingSat, mostOwedSat } = year();
    expect(feesSat / SAT_PER_USD).toBe(27.375);
    expect({ tollsSat, feesSat, settlements, routingSat, mostOwedSat }).toEqual({
      tollsSat: 547_500,
      feesSat: 27_375,
      settlements: 27,
      routingSat: 27,
      mostOwedSat: 1_012.5,
    });
    const doc = readFileSync(new URL("../../docs/operating.md", import.meta.url), "utf8");
    const rows = [
      ["a toll", 0.75, 750, 37.5],
      ["a day", 1.5, 1_500, 75],
      ["a year", 547.5, 547_500, 27_375],
    ] as const;
    for (const [what, usd, sat, fee] of rows) {
      expect(fee).toBe(sat * 0.05);
      const number = (value: number) => value.toLocaleString("en-US");
      expect(doc).toContain(
        `| ${what} | ${usd.toFixed(2)} | ${number(sat)} | ${fee / SAT_PER_USD} | ${number(fee)} |`,
      );
    }
    expect(doc).toContain(`${settlements} settlements a year`);
  });
});

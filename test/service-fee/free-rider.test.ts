/** A device that does not mean to pay the gateway's fee, and orders payments that are to be taken for its settlement. */
import { expect, test } from "@jest/globals";
import { storeTable } from "../store-table.ts";
import { codeThrownBy } from "../thrown.ts";
import { besides, Desk, TERMS } from "./desk.ts";

const table = storeTable("payments");
const HOUR_MS = 3_600_000;

/** As much as the owner's limits let through in so many hours. Returns how many payments were refused for the fee. */
function spend(desk: Desk, hours: number, tag: string): number {
  let due = 0;
  for (let hour = 0; hour < hours; hour++) {
    desk.nowMs += HOUR_MS;
    for (let i = 0; i < 4; i++) desk.toll(`${tag} ${hour} ${i}`, 4_700_000);
    due += desk.failures.splice(0).filter(code => code === "service-fee-due").length;
  }
  return due;
}

/** Up to where the gateway asks, and the device is to answer. */
function asked(desk: Desk): Uint8Array {
  for (let i = 0; i < 4; i++) {
    desk.nowMs += 2 * HOUR_MS;
    for (let j = 0; j < 2; j++) desk.toll(`first ${i} ${j}`, 4_700_000);
  }
  desk.askForFee();
  expect(desk.settle).toBeDefined();
  desk.failures.splice(0);
  return desk.settle!.paymentHash;
}

test("a device that does not answer is refused once it owes its credit", () => {
  const desk = new Desk(table);
  asked(desk);
  expect(spend(desk, 60, "more")).toBeGreaterThan(0);
  expect(desk.fees.owedMsat).toBeLessThan(TERMS.creditMsat + 5_000_000 * 0.05);
});

test("an order that shares 28 bytes of the settlement's hash is another payment, and settles nothing", () => {
  const desk = new Desk(table);
  const settlement = asked(desk);
  desk.pay(besides(settlement, 1), 1_000);
  desk.payments.settling(settlement);
  // LDK has both: neither stands for the other.
  expect(desk.ldk.size).toBe(2);
  desk.fails(settlement);
  expect(spend(desk, 60, "more")).toBeGreaterThan(0);
  expect(desk.fees.owedMsat).toBeLessThan(2 * TERMS.creditMsat);
});

test("an order of the very hash of a settlement is refused, whether it was agreed on or lost in a restart", () => {
  const desk = new Desk(table);
  const settlement = asked(desk);
  const order = () => desk.pay(settlement, 1_000, 1);
  expect(codeThrownBy(order)).toBe("payment-rejected");
  desk.payments.settling(settlement);
  desk.ldk.clear();
  desk.restart();
  expect(codeThrownBy(order)).toBe("payment-rejected");
  expect(spend(desk, 60, "more")).toBeGreaterThan(0);
  // Asked again, it can still be settled.
  desk.payments.settling(settlement);
  expect(desk.ldk.size).toBe(1);
});

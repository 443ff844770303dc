/**
 * The gateway asks for its fee a second after it was first made to think of it: whatever a device says in that second puts nothing off. And
 * one that could never be asked is asked when it owes its credit.
 */
import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import { DeviceGateway } from "../../gateway/device/device.ts";
import { DeviceSession } from "../../gateway/device/session.ts";
import { createLog } from "../../gateway/log.ts";
import { packInvoice } from "../../src/lightning/bolt11.ts";
import { toGateway } from "../../src/messages/device.ts";
import { storeTable } from "../store-table.ts";
import { bytesOf, Desk, hashOf, TERMS } from "./desk.ts";

const payments = storeTable("payments");
const rollbackGuard = storeTable("sightings");

beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ["Date", "performance", "setImmediate", "nextTick", "queueMicrotask"] });
});
afterEach(() => {
  jest.useRealTimers();
});

/** The gateway's real way of a message, with its real timer; channel and signer are stand-ins that have nothing to say. */
function gatewayOf(desk: Desk) {
  const log = createLog("error", () => {});
  const { deviceId } = desk;
  const link = new DeviceSession({ deviceId, rollbackGuard, log, send: () => true });
  link.changed(true);
  const gateway = Object.assign(Object.create(DeviceGateway.prototype) as object, {
    options: { deviceId, log },
    link,
    payments: desk.payments,
    fees: desk.fees,
    deviceSigner: { greeted() {} },
    channel: { row: { stage: "ready" }, rows: () => [], knowsMoreThan: () => false },
    signer: {},
    guarded: (work: () => void) => work(),
  }) as unknown as DeviceGateway;
  desk.soon = work => (gateway as unknown as { settleSoon(work: () => void): void }).settleSoon(work);
  const hello = toGateway.encode({
    type: "hello",
    generation: 1,
    phase: "open",
    index: 1,
    recordsLeft: [99, 99, 99],
  });
  let count = 0;
  return {
    hello: () => gateway.received(hello),
    /** False: it was refused. */
    toll(): boolean {
      const name = `toll ${count++}`;
      const before = desk.failures.length;
      desk.nowMs += 20 * 60_000;
      const invoice = packInvoice(desk.invoice(hashOf(name), 500_000));
      gateway.received(toGateway.encode({ type: "pay", invoice, maxFeeMsat: 0 }));
      if (desk.failures.length > before) return false;
      desk.arrives(bytesOf(name));
      return true;
    },
  };
}

test.each([
  ["gives the gateway a second between payments", 1, 1_100],
  ["says hello more often than each second", 5, 900],
])("a device that %s is asked, and refused when it does not settle", (_, hellos, ms) => {
  const desk = new Desk(payments);
  const gateway = gatewayOf(desk);
  gateway.hello();
  let paid = 0;
  while (paid < 500 && gateway.toll()) {
    paid++;
    for (let i = 0; i < hellos; i++) {
      jest.advanceTimersByTime(ms);
      gateway.hello();
    }
  }
  expect(desk.settle).toBeDefined();
  expect(desk.failures).toEqual(["service-fee-due"]);
  expect(desk.fees.owedMsat).toBe(TERMS.creditMsat);
});

test("so is one that was never asked, when it owes its credit", () => {
  const desk = new Desk(payments);
  desk.soon = () => {};
  let paid = 0;
  while (paid < 500 && desk.toll(`toll ${paid}`, 500_000)) {
    paid++;
    desk.nowMs += 20 * 60_000;
  }
  expect(desk.failures).toEqual(["service-fee-due"]);
  expect(desk.fees.books.pending).toBeDefined();
  // The one at which the settlement was made is the last.
  expect(desk.fees.owedMsat).toBe(TERMS.creditMsat + 25_000);
});

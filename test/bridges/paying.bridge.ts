/** Payments through real bridges to real destinations. The gateway is a process of its own, which can be killed. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Program } from "../../scripts/program.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import { type Car, untilAtRest, waitFor } from "../e2e/world.ts";
import { nameOf, PAIRS } from "./kinds.ts";
import {
  type BridgeScene,
  MAX_FEE_MSAT,
  PAYING,
  payToll,
  startBridges,
  stopBridges,
  untilHeld,
} from "./world.ts";

/** LDK lets a tenth of a channel be in flight. */
const DEPOSIT_SAT = 1_500_000;
/** Below this a payment has no output of its own, and no commitment shows what it has cost: the receipt says the most. */
const SEEN_MSAT = 354_000;

const hashOf = (invoice: string) => toHex(decodeInvoice(invoice, nobleCurve).paymentHash);

describe.each(PAIRS.map(pair => ({ name: nameOf(pair), pair })))("$name", ({ pair }) => {
  let scene: BridgeScene;
  let gateway: Program;
  let car: Car;
  /** Of everything that has arrived: amounts and fees. */
  let spentMsat = 0;

  beforeAll(async () => {
    scene = await startBridges(pair);
    const policy = { perPaymentMsat: 1e9, perHourMsat: 1e12, perDayMsat: 1e12 };
    // A copy of a device that was made before needs the gateway's folder for itself.
    const deviceId = await scene.world.makeDevice("car", { payments: 30, policy });
    gateway = await scene.world.runGatewayProgram();
    await scene.world.deposit(deviceId, DEPOSIT_SAT);
    car = await scene.world.startCar(deviceId);
    scene.cars.push(car);
    await scene.world.mineUntil(car.device.openChannel());
    await payToll(scene, car, 1_000_000);
    arrived(1_000_000);
  });
  afterAll(() => stopBridges(scene));

  function arrived(amountMsat: number): void {
    spentMsat += amountMsat + pair.bridge.feeMsat(amountMsat);
  }

  test.each([
    ["of 1,000 sat", 1_000_000],
    ["of a number of msat that is no whole sat", 1_234_567],
    ["of the smallest amount that has an output of its own", SEEN_MSAT],
    ["too small for an output of its own", 20_000],
    ["of the least that the bridge forwards", pair.bridge.leastMsat],
    ["of 100,000 sat", 100_000_000],
  ])("a payment %s arrives, and the receipt is right", async (_, amountMsat) => {
    const { toll } = scene.world;
    const invoice = await toll.invoice(amountMsat, "toll");
    const feeMsat = pair.bridge.feeMsat(amountMsat);
    const receipt = await car.device.pay(invoice, PAYING);
    arrived(amountMsat);
    expect(receipt.hash).toBe(hashOf(invoice));
    expect(toHex(sha256(fromHex(receipt.preimage)))).toBe(receipt.hash);
    const toldFeeMsat = amountMsat < SEEN_MSAT ? MAX_FEE_MSAT : feeMsat;
    expect(receipt).toMatchObject({ amountMsat, feeMsat: toldFeeMsat });
    await waitFor(
      "the destination to have it",
      async () => (await toll.receivedMsat(receipt.hash)) === amountMsat,
    );
  });

  test("several payments at once all arrive, each once", async () => {
    const { toll } = scene.world;
    await untilAtRest(car);
    const amounts = [100_000, 700_000, 30_000, 555_000, 1_100_000];
    const receipts = await Promise.all(
      amounts.map(async amountMsat => car.device.pay(await toll.invoice(amountMsat, "toll"), PAYING)),
    );
    for (const [i, { hash }] of receipts.entries()) {
      const amountMsat = amounts[i]!;
      arrived(amountMsat);
      await waitFor("the destination", async () => (await toll.receivedMsat(hash)) === amountMsat);
    }
  });

  test("an invoice that is paid already gives the same receipt, and is not paid again", async () => {
    const invoice = await scene.world.toll.invoice(400_000, "toll");
    const first = await car.device.pay(invoice, PAYING);
    arrived(400_000);
    expect(await car.device.pay(invoice, PAYING)).toEqual(first);
    await untilAtRest(car);
    expect(await scene.world.toll.receivedMsat(first.hash)).toBe(400_000);
  });

  test("a payment that the destination lets go comes back whole", async () => {
    const held = await scene.world.toll.heldInvoice(2_000_000);
    const paying = car.device.pay(held.invoice, PAYING);
    await untilHeld(held, paying);
    await held.cancel();
    await expect(paying).rejects.toMatchObject({ code: "payment-rejected" });
    await untilAtRest(car);
  });

  test("a payment that is held outlives a killed gateway", async () => {
    const held = await scene.world.toll.heldInvoice(2_000_000);
    const paying = car.device.pay(held.invoice, PAYING);
    await untilHeld(held, paying);
    await gateway.kill();
    gateway = await scene.world.runGatewayProgram();
    await held.settle();
    expect((await paying).hash).toBe(hashOf(held.invoice));
    arrived(2_000_000);
    await untilAtRest(car);
  });

  test("…and a killed bridge", async () => {
    const held = await scene.world.toll.heldInvoice(2_000_000);
    const paying = car.device.pay(held.invoice, PAYING);
    await untilHeld(held, paying);
    await scene.world.bridge.kill();
    await scene.world.bridge.restart();
    await held.settle();
    expect((await paying).hash).toBe(hashOf(held.invoice));
    arrived(2_000_000);
    await untilAtRest(car);
  });

  test("what is left in the channel is right to the satoshi, and the channel lives", async () => {
    const { bridge } = scene.world;
    const channels = await bridge.channels();
    const ours = channels.find(each => each.peer !== scene.world.toll.nodeId)!;
    expect(ours.usable).toBe(true);
    const left = Math.floor(ours.sat - spentMsat / 1000);
    await waitFor(`a balance of ${left} sat`, () => Math.abs(car.device.balance().balanceSat - left) <= 1);
  });
});

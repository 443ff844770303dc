import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import * as ldk from "lightningdevkit";
import { askStatus } from "../../owner/client/channel.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import { type Car, untilAtRest, World, waitFor } from "./world.ts";

const BRIDGE_FEE_MSAT = 1000;

describe("behind a bridge that lets a tenth of the channel be in flight, and answers questions only", () => {
  let world: World;
  let car: Car;
  /** What may be in flight. */
  let mostMsat: number;

  beforeAll(async () => {
    world = await World.start({ bridgeInFlightPercent: 10, quietBridge: true });
    await world.startGateway();
    const policy = { perPaymentMsat: 1e9, perHourMsat: 1e12, perDayMsat: 1e12 };
    car = await world.makeCar("car", 500_000, { payments: 60, policy });
    mostMsat = car.device.balance().balanceSat * 100;
  });
  afterAll(async () => {
    car?.stop();
    await world?.stop();
  });
  beforeEach(() => untilAtRest(car));

  const pay = (amountMsat: number, maxFeeMsat = BRIDGE_FEE_MSAT) =>
    car.device.pay(world.toll.invoice(amountMsat), { maxFeeMsat, timeoutMs: 86_400_000 });

  test("what can be spent is what may be in flight, and all of it can be paid at once", async () => {
    const { spendableMsat } = car.device.balance();
    expect(spendableMsat).toBe(mostMsat);
    expect(await pay(spendableMsat - BRIDGE_FEE_MSAT)).toMatchObject({ feeMsat: BRIDGE_FEE_MSAT });
  });

  test("the owner hears it", async () => {
    const { inFlightSat, graph } = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
    expect(inFlightSat).toBe(Math.floor(mostMsat / 1000));
    expect(graph!.channels).toBe(1);
    const line = `the bridge lets only a part of the channel be in flight at a time: no payment can be larger sat=${inFlightSat}`;
    expect(world.log.filter(each => each.includes(line))).toHaveLength(1);
  });

  test("one more than that is refused by a code of its own, with the limit", async () => {
    await expect(pay(mostMsat)).rejects.toMatchObject({
      code: "in-flight-limit",
      message: expect.stringContaining(`more than the ${mostMsat} that the bridge lets be in flight`),
    });
  });

  test("large payments one right after the other wait for the moment until the one before is settled", async () => {
    const amountMsat = Math.floor(mostMsat * 0.7);
    for (let i = 0; i < 3; i++) await pay(amountMsat);
  });

  test("one beside another that is held is told that it is for what is in flight", async () => {
    const amountMsat = Math.floor(mostMsat * 0.7);
    const held = world.toll.hold();
    const first = pay(amountMsat);
    try {
      await Promise.race([held, first]);
      expect(car.device.balance().spendableMsat).toBeLessThan(amountMsat);
      await expect(pay(amountMsat)).rejects.toMatchObject({
        code: "in-flight-limit",
        message: expect.stringContaining("beside what is in flight"),
      });
    } finally {
      world.toll.claimHeld();
    }
    await first;
  });

  test("one that waits while its device starts again has one end: it is not made after it was called failed", async () => {
    const held = world.toll.hold();
    const first = car.device.pay(world.toll.invoice(Math.floor(mostMsat * 0.7)));
    first.catch(() => {});
    await held;
    const second = world.toll.invoice(Math.floor(mostMsat * 0.5));
    car.device.pay(second).catch(() => {});
    // Ten seconds it waits; half of them are for the second waiter that there must not be.
    await new Promise(resolve => setTimeout(resolve, 5_000));
    car.stop();
    car = await world.startCar(car.deviceId);
    // What is asked for again, as a device does by itself, joins what waits.
    await expect(car.device.pay(second)).rejects.toMatchObject({ code: "in-flight-limit" });
    world.toll.claimHeld();
    await untilAtRest(car);
    await pay(400_000);
    const { trouble } = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
    expect(trouble).toBeUndefined();
    expect(world.toll.timesPaid(toHex(decodeInvoice(second, null).paymentHash))).toBe(0);
  });

  test("eight at once, and eight more as soon as the receipts are there", async () => {
    const eight = () => Promise.all(Array.from({ length: 8 }, (_, i) => pay(400_000 + i)));
    await eight();
    expect(await eight()).toHaveLength(8);
  });

  test("a fee limit that is too low is told with what the way costs", async () => {
    await expect(pay(400_000, BRIDGE_FEE_MSAT - 1)).rejects.toMatchObject({
      code: "fee-limit-too-low",
      message: `the cheapest way costs ${BRIDGE_FEE_MSAT} msat, and the limit is ${BRIDGE_FEE_MSAT - 1}`,
    });
  });

  test("a small payment may cost 3,000 msat unless the script says otherwise", () => {
    expect(car.device.quote(world.toll.invoice(1000)).maxFeeMsat).toBe(3_000);
    expect(car.device.quote(world.toll.invoice(1_000_000)).maxFeeMsat).toBe(10_000);
  });

  test("a bridge that was away for long is dialled as soon as somebody wants to pay", async () => {
    const before = world.bridgeWire.refused;
    world.bridgeWire.cut();
    // After these the pause is longer than a payment waits. A call that has only begun might still get through.
    await waitFor("some calls in vain", () => world.bridgeWire.refused >= before + 4);
    world.bridgeWire.mend();
    await pay(400_000);
  });

  test("a fee that the bridge has raised is learnt from the failure, and the same pay() pays it", async () => {
    const [channel] = world.bridge.channels().filter(({ announced }) => announced);
    // Twice: LDK takes what it asked before for a while.
    for (const msat of [2 * BRIDGE_FEE_MSAT, 3 * BRIDGE_FEE_MSAT]) {
      const config = ldk.ChannelConfig.constructor_default();
      config.set_forwarding_fee_base_msat(msat);
      const id = ldk.ChannelId.constructor_new(fromHex(channel!.channelId));
      world.bridge.node.manager.update_channel_config(world.toll.peer.node.nodeId, [id], config);
    }
    world.bridge.node.wake();
    expect(await pay(400_000, 3 * BRIDGE_FEE_MSAT)).toMatchObject({ feeMsat: 3 * BRIDGE_FEE_MSAT });
    await expect(pay(400_000, 2 * BRIDGE_FEE_MSAT)).rejects.toMatchObject({ code: "fee-limit-too-low" });
  });
});

describe("where no single channel carries a payment", () => {
  const AMOUNT_MSAT = 10_000_000_000;
  let world: World;
  let car: Car;

  beforeAll(async () => {
    world = await World.start();
    // Beside one that can send 8,900,000 sat.
    const second = world.bridge.open(world.toll.peer.address, 4_000_000, { announced: true });
    await world.mineUntil(second);
    await world.startGateway();
    const policy = { perPaymentMsat: 1e12, perHourMsat: 1e12, perDayMsat: 1e12 };
    car = await world.makeCar("car", 15_000_000, { payments: 60, policy });
    await waitFor("the network", async () => {
      const { graph } = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
      return graph!.channels === 2;
    });
  });
  afterAll(async () => {
    car?.stop();
    await world?.stop();
  });

  beforeEach(() => untilAtRest(car));

  test("a payee that does not take its parts gives back all of them", async () => {
    const before = car.device.balance();
    const held = world.toll.hold();
    const paying = car.device.pay(world.toll.invoice(AMOUNT_MSAT));
    await held;
    world.toll.failHeld();
    await expect(paying).rejects.toMatchObject({ code: "payment-rejected" });
    await untilAtRest(car);
    const { recordsLeft: _, ...rest } = before;
    expect(car.device.balance()).toMatchObject(rest);
  });

  test("it goes in parts, with one receipt, and the books are right", async () => {
    const { balanceSat } = car.device.balance();
    const paid = await car.device.pay(world.toll.invoice(AMOUNT_MSAT));
    expect(paid).toMatchObject({ amountMsat: AMOUNT_MSAT, feeMsat: 2 * BRIDGE_FEE_MSAT });
    expect(world.toll.claimed.filter(({ hash }) => hash === paid.hash)).toHaveLength(1);
    await untilAtRest(car);
    expect(car.device.balance()).toMatchObject({
      balanceSat: balanceSat - (AMOUNT_MSAT + 2 * BRIDGE_FEE_MSAT) / 1000,
      phase: "open",
      wrongAnswers: 0,
    });
    await car.device.pay(world.toll.invoice(400_000));
  });
});

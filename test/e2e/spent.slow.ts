import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { codeOf } from "../../src/errors.ts";
import { untilAtRest, World, waitFor } from "./world.ts";

const BRIDGE_FEE_MSAT = 1000;

describe("a car pays until nothing is left", () => {
  let world: World;

  beforeAll(async () => {
    world = await World.start();
    await world.startGateway();
  });

  afterAll(async () => {
    await world?.stop();
  });

  test("of its balance: what it says can be spent is what can be paid, to the millisatoshi", async () => {
    const policy = { perPaymentMsat: 1e12, perHourMsat: 1e12, perDayMsat: 1e12 };
    const car = await world.makeCar("spender", 200_000, { payments: 10, policy });
    const { device } = car;
    try {
      for (const shareOfRest of [0.3, 1, 1]) {
        await untilAtRest(car);
        const { spendableMsat, balanceSat } = device.balance();
        const amountMsat = Math.floor(spendableMsat * shareOfRest) - BRIDGE_FEE_MSAT;
        if (amountMsat <= 0) break;
        const tooMuch = world.toll.invoice(spendableMsat - BRIDGE_FEE_MSAT + 1);
        await expect(device.pay(tooMuch, { maxFeeMsat: BRIDGE_FEE_MSAT })).rejects.toMatchObject({
          code: "balance-too-low",
        });
        await device.pay(world.toll.invoice(amountMsat), { maxFeeMsat: BRIDGE_FEE_MSAT });
        const left = balanceSat - (amountMsat + BRIDGE_FEE_MSAT) / 1000;
        await waitFor("the balance", () => Math.abs(device.balance().balanceSat - left) < 1);
      }
      await expect(device.pay(world.toll.invoice(400_000))).rejects.toMatchObject({
        code: "balance-too-low",
      });
    } finally {
      car.stop();
    }
  });

  test("of its presignatures: it says that it must be charged, and then it pays again", async () => {
    let car = await world.makeCar("tired", 100_000, { payments: 1 });
    try {
      let paid = 0;
      let refusal: Error | undefined;
      while (!refusal) {
        expect(paid).toBeLessThan(20);
        await untilAtRest(car);
        await car.device.pay(world.toll.invoice(400_000)).then(
          () => paid++,
          error => {
            refusal = error as Error;
          },
        );
      }
      expect(codeOf(refusal)).toBe("records-used-up");
      expect(refusal.message).toMatch(/charge the device/);
      expect(paid).toBeGreaterThanOrEqual(1);
      const { balanceSat } = car.device.balance();
      car.stop();
      await world.charge(car.deviceId, 3);
      car = await world.startCar(car.deviceId);
      expect(car.device.balance().balanceSat).toBe(balanceSat);
      for (let i = 0; i < 3; i++) await car.device.pay(world.toll.invoice(400_000));
    } finally {
      car.stop();
    }
  });
});

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/bytes/hash.ts";
import { type Car, World, waitFor } from "./world.ts";

describe("a car pays tolls through an unmodified bridge", () => {
  let world: World;
  let deviceId: string;
  let car: Car;

  beforeAll(async () => {
    world = await World.start();
    deviceId = await world.makeDevice("car", 10);
    await world.deposit(deviceId, 500_000);
    car = await world.startCar(deviceId);
  }, 120_000);

  afterAll(async () => {
    car?.stop();
    await world?.stop();
  });

  test("its channel opens from the deposit, and tolls are paid", async () => {
    const opening = car.device.openChannel();
    await waitFor(
      "the funding transaction",
      async () => (await world.bitcoind.rpc<string[]>("getrawmempool")).length > 0,
    );
    await world.bitcoind.mine(6);
    await opening;
    for (let i = 0; i < 3; i++) {
      const receipt = await car.device.pay(world.toll.invoice(10_000 + i), { maxFeeMsat: 5_000 });
      expect(toHex(sha256(fromHex(receipt.preimage)))).toBe(receipt.hash);
    }
  });
});

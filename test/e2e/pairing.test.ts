/** From the pairing code to a payment, all of it for once; other tests copy devices that were made before. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { untilAtRest, World } from "./world.ts";

let world: World;

beforeAll(async () => {
  world = await World.start();
  await world.startGateway();
});
afterAll(() => world?.stop());

test("a device is paired and charged while the gateway runs, gets a channel, pays, and closes it to its owner", async () => {
  const deviceId = await world.pairDevice("car", { payments: 2 });
  await world.deposit(deviceId, 200_000);
  const car = await world.startCar(deviceId);
  try {
    await world.mineUntil(car.device.openChannel());
    const { hash } = await car.device.pay(world.toll.invoice(1_000_000), { maxFeeMsat: 5_000 });
    expect(world.toll.timesPaid(hash)).toBe(1);
    await untilAtRest(car);
    const { txid } = await world.mineUntil(car.device.close());
    const { outputs } = await world.minedTransaction(txid);
    expect(outputs.map(({ script }) => script)).toContain(world.closeScript(deviceId));
  } finally {
    car.stop();
  }
});

test("a gateway that is closed while it starts the node of a new device closes that one too", async () => {
  const deviceId = await world.pairDevice("late", { payments: 0 });
  await world.stopGateway();
  expect(world.log.filter(line => / error /.test(line))).toEqual([]);
  await world.startGateway();
  const car = await world.startCar(deviceId);
  expect(car.device.isConnected()).toBe(true);
  car.stop();
});

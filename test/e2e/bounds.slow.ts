/** The device's own bounds hold: what it would refuse to sign is never begun, and so the channel never stops. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { highestExpiry } from "../../device/channel/payments/policy.ts";
import { openDevice } from "../../device/device.ts";
import { askStatus } from "../../owner/client/channel.ts";
import { type Car, untilAtRest, World, waitFor } from "./world.ts";

const BLOCK_MS = 600_000;
const DAY_MS = 86_400_000;
const TOLL_MSAT = 1_000_000;
/** Invoices that are good for a device whose clock is ahead, too. */
const LONG_SECONDS = 5 * 86_400;

let world: World;
beforeAll(async () => {
  world = await World.start();
  await world.startGateway();
});
afterAll(() => world?.stop());

describe("how long a payment may be locked", () => {
  let car: Car;
  let channelSat: number;

  beforeAll(async () => {
    const policy = { maxCltvExpiryDelta: 0, perHourMsat: 1e12, perDayMsat: 1e12 };
    car = await world.makeCar("clockwork", 300_000, { payments: 20, policy });
    channelSat = car.device.balance().balanceSat;
  });
  afterAll(() => car?.stop());

  /** The same device, whose clock is off by so much. */
  async function withClock(offMs: number): Promise<void> {
    await car.device.disconnect();
    const { board } = car;
    const device = openDevice({ ...board, now: () => Date.now() + offMs });
    const stop = () => {
      device.disconnect();
      board.close();
    };
    car = { ...car, device, stop };
    await device.connect();
  }

  /** The highest block at which the device allows an HTLC to expire, by a clock that has not moved. */
  const lastExpiry = () => highestExpiry(car.board.vault.identity, Date.now());

  async function mineTo(height: number): Promise<void> {
    const missing = height - (await world.bitcoind.rpc<number>("getblockcount"));
    for (let mined = 0; mined < missing; mined += 50)
      await world.bitcoind.mine(Math.min(50, missing - mined));
    // The gateway reckons by its own tip. Some blocks in a row may have the same time: so many do not matter here.
    const { time } = await world.bitcoind.rpc<{ time: number }>("getblockchaininfo");
    const status = () => askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
    await waitFor("the gateway to be there", async () => (await status()).blockTime >= time);
  }

  const pay = () => car.device.pay(world.toll.invoice(TOLL_MSAT, LONG_SECONDS));

  test("a way is chosen that ends before what the device allows, where there is little room", async () => {
    // The shortest way takes about a hundred blocks; LDK would add some more, or many, to hide who pays.
    await mineTo(lastExpiry() - 200);
    for (let i = 0; i < 3; i++) await pay();
    await untilAtRest(car);
  });

  test("a device whose clock is behind is told so, once for each payment, and nothing stays in flight", async () => {
    await mineTo(lastExpiry() - 50);
    await withClock(-10 * DAY_MS);
    const before = car.device.balance();
    for (let i = 0; i < 7; i++) await expect(pay()).rejects.toMatchObject({ code: "device-clock-behind" });
    expect(car.device.isAtRest()).toBe(true);
    expect(car.device.balance()).toEqual(before);
    const { seen, time } = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
    expect(time - seen!.clock!).toBeGreaterThan((9 * DAY_MS) / 1000);
  });

  test("one whose clock is not behind, but whose owner allows too little, is told that", async () => {
    await withClock(0);
    await expect(pay()).rejects.toMatchObject({ code: "policy-htlc-expiry" });
    expect(car.device.isAtRest()).toBe(true);
  });

  test("with the clock where the chain is it pays, and closes: to the satoshi", async () => {
    await withClock(310 * BLOCK_MS);
    await pay();
    await untilAtRest(car);
    const paidSat = (4 * (TOLL_MSAT + 1000)) / 1000;
    const { txid } = await world.mineUntil(car.device.close());
    const { outputs, feeSat } = await world.minedTransaction(txid);
    const home = outputs.find(({ script }) => script === world.closeScript(car.deviceId));
    expect(home?.sat).toBe(channelSat - paidSat - feeSat);
  });
});

test("a channel is opened with a feerate that the device signs, whatever the one of the day is", async () => {
  const policy = { maxFeeratePerKw: 700, perHourMsat: 1e12 };
  const car = await world.makeCar("thrifty", 200_000, { payments: 10, policy });
  try {
    await car.device.pay(world.toll.invoice(TOLL_MSAT));
    await untilAtRest(car);
    await world.mineUntil(car.device.close());
    await waitFor("the end", () => car.device.balance().phase === "none");
  } finally {
    car.stop();
  }
});

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { askClose, askDeposit, askStatus, type DeviceReport } from "../../owner/client/channel.ts";
import { type Car, untilAtRest, World, waitFor } from "./world.ts";

const BRIDGE_FEE_MSAT = 1000;
const TOLL_MSAT = 20_000_000;

describe("a channel opens by itself from a deposit, and a mutual close pays the owner's address", () => {
  let world: World;
  let car: Car;

  beforeAll(async () => {
    world = await World.start();
    await world.startGateway();
    const policy = { perPaymentMsat: 1e9, perHourMsat: 1e12, perDayMsat: 1e12 };
    const deviceId = await world.makeDevice("car", { payments: 30, policy });
    car = await world.startCar(deviceId);
  });

  afterAll(async () => {
    car?.stop();
    await world?.stop();
  });

  const status = (): Promise<DeviceReport> =>
    askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });

  /** A new deposit opens a channel by itself; a payment makes it two-sided. */
  async function openAndPay(): Promise<void> {
    // The owner has seen on the chain what the closes before have paid.
    car.device.forget(100);
    const opened = car.device.openChannel();
    await world.deposit(car.deviceId, 200_000);
    await world.mineUntil(opened);
    await car.device.pay(world.toll.invoice(TOLL_MSAT));
    await untilAtRest(car);
  }

  async function untilClosed(): Promise<DeviceReport> {
    await world.mineUntil(waitFor("the close", async () => (await status()).channel === "closed"));
    await waitFor("the device to know", () => car.device.balance().phase === "none");
    return status();
  }

  /** To the satoshi: the owner gets what is left less the miners' fee, the bridge what was paid. */
  async function expectRightAmounts({ fundingTxid, closeTxid }: DeviceReport): Promise<void> {
    const [channel] = (await world.minedTransaction(fundingTxid!)).outputs;
    const { outputs, feeSat } = await world.minedTransaction(closeTxid!);
    const paidSat = (TOLL_MSAT + BRIDGE_FEE_MSAT) / 1000;
    const owner = world.closeScript(car.deviceId);
    expect(outputs.find(({ script }) => script === owner)?.sat).toBe(channel!.sat - paidSat - feeSat);
    expect(outputs.filter(({ script }) => script !== owner).map(({ sat }) => sat)).toEqual([paidSat]);
    expect(feeSat).toBeLessThan(2_000);
  }

  test("a deposit that is confirmed while the bridge is away waits for the bridge", async () => {
    const opened = car.device.openChannel();
    world.bridgeWire.cut();
    await world.deposit(car.deviceId, 200_000);
    const given = world.nextLine(/bridge-unreachable/);
    await world.bitcoind.mine(1);
    await given;
    expect((await status()).channel).toBe("none");
    world.bridgeWire.mend();
    await world.bitcoind.mine(1);
    await world.mineUntil(opened);
  });

  test("a bridge that goes away while the channel is being opened: another is opened when it is back", async () => {
    await world.mineUntil(car.device.close());
    const proposed = new Promise<void>(resolve => {
      const end = world.onLink(({ way, type }) => {
        if (way !== "down" || type !== "step") return;
        end();
        world.bridgeWire.cut();
        world.bridgeWire.mend();
        resolve();
      });
    });
    const opened = car.device.openChannel();
    await world.deposit(car.deviceId, 200_000);
    await world.bitcoind.mine(1);
    await proposed;
    await world.mineUntil(opened);
    expect((await status()).channel).toBe("ready");
    await world.mineUntil(car.device.close());
  });

  test("dust on the deposit address keeps no channel from opening, and is not spent", async () => {
    const { address } = await askDeposit({ folder: world.ownerFolder, deviceId: car.deviceId });
    for (let i = 0; i < 22; i++) await world.bitcoind.fund(address, 400);
    await openAndPay();
    const report = await status();
    expect(report.depositSat).toBe(22 * 400);
    const funding = await world.minedTransaction(report.fundingTxid!);
    expect(funding.outputs.map(({ sat }) => sat)).toEqual([200_000 - funding.feeSat]);
    expect(funding.feeSat).toBeLessThan(1_000);
    await world.mineUntil(car.device.close());
    await expectRightAmounts(await untilClosed());
  });

  test("asked for by the device", async () => {
    await openAndPay();
    const { txid } = await world.mineUntil(car.device.close());
    const report = await untilClosed();
    expect(report.closeTxid).toBe(txid);
    await expectRightAmounts(report);
    expect(car.device.balance()).toMatchObject({ balanceSat: 0, spendableMsat: 0, phase: "none" });
    await expect(car.device.pay(world.toll.invoice(1000))).rejects.toMatchObject({
      code: "channel-not-open",
    });
    await expect(car.device.close()).rejects.toMatchObject({ code: "policy-close-state" });
  });

  test("asked for by the owner", async () => {
    await openAndPay();
    await askClose({ folder: world.ownerFolder, deviceId: car.deviceId });
    await expectRightAmounts(await untilClosed());
  });

  test("asked for by the bridge", async () => {
    await openAndPay();
    const { fundingTxid } = await status();
    const channel = world.bridge.channels().find(({ funding }) => funding?.startsWith(fundingTxid!));
    world.bridge.close(channel!.channelId);
    await expectRightAmounts(await untilClosed());
  });

  test("asked for while the device is away, which signs when it is back", async () => {
    await openAndPay();
    const { deviceId } = car;
    car.stop();
    const asked = await askClose({ folder: world.ownerFolder, deviceId });
    expect(asked.channel).toBe("closing");
    await world.stopGateway();
    await world.startGateway();
    expect((await status()).channel).toBe("closing");
    car = await world.startCar(deviceId);
    await expectRightAmounts(await untilClosed());
  });

  test("a close that is asked for while a payment is in flight waits for it", async () => {
    await openAndPay();
    const held = world.toll.hold();
    const paying = car.device.pay(world.toll.invoice(50_000_000));
    await held;
    await expect(car.device.close()).rejects.toMatchObject({ code: "policy-close-pending" });
    await askClose({ folder: world.ownerFolder, deviceId: car.deviceId });
    expect((await status()).channel).toBe("closing");
    await expect(car.device.pay(world.toll.invoice(1000))).rejects.toMatchObject({
      code: "channel-not-ready",
    });
    world.toll.claimHeld();
    expect(await paying).toMatchObject({ amountMsat: 50_000_000 });
    const report = await untilClosed();
    const { outputs } = await world.minedTransaction(report.closeTxid!);
    expect(outputs.map(({ script }) => script)).toContain(world.closeScript(car.deviceId));
  });
});

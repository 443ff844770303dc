/** What ends is not the device: it is charged again, gets another channel, and pays on. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { openNodeBoard } from "../../device/boards/node/board.ts";
import { openDevice } from "../../device/device.ts";
import { askStatus } from "../../owner/client/channel.ts";
import { Program } from "../../scripts/program.ts";
import { type Car, untilAtRest, waitFor } from "../e2e/world.ts";
import {
  booksOf,
  carOf,
  payTolls,
  recoverAll,
  type Scene,
  spentMsat,
  startScene,
  stopScene,
  told,
  tracked,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 200_000;
const DUST_MSAT = 20_000;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => stopScene(scene));

async function statusOf({ deviceId }: Car) {
  return askStatus({ folder: scene.world.ownerFolder, deviceId });
}

async function fundingOf(car: Car): Promise<string> {
  return (await statusOf(car)).fundingTxid ?? "";
}

/** Another deposit, and the channel that opens from it. */
async function openAnother(car: Car): Promise<string> {
  await scene.world.deposit(car.deviceId, DEPOSIT_SAT);
  await scene.world.mineUntil(car.device.openChannel());
  return fundingOf(car);
}

async function closeMutually(car: Car): Promise<void> {
  await untilAtRest(car);
  await scene.world.mineUntil(car.device.close());
  await waitFor("the device to know", () => car.device.balance().phase === "none");
}

const bridgeChannel = (funding: string) =>
  scene.world.bridge.channels().find(each => each.funding === `${funding}:0`);

describe("the records run out", () => {
  test("the last payment that begins is settled through restarts; then there is a close, or charging and paying on", async () => {
    const { world } = scene;
    let car = await carOf(scene, "used up", DEPOSIT_SAT, { payments: 4 });
    const funding = await fundingOf(car);
    const left = () => car.device.balance().recordsLeft.B;
    let paidMsat = 0;
    // A payment takes three of them, one without an output of its own four: eight must be there for the last to begin.
    while (left() > 8) {
      paidMsat += await payTolls(scene, car, [(left() - 8) % 3 === 0 ? 500_000 : DUST_MSAT]);
      await untilSilent(car);
    }
    expect(left()).toBe(8);
    const invoice = world.toll.invoice(DUST_MSAT);
    const held = world.toll.hold();
    car.device.pay(invoice, { maxFeeMsat: 5_000 }).catch(() => {});
    await held;
    const later = car.device.pay(world.toll.invoice(DUST_MSAT), { maxFeeMsat: 5_000 });
    await expect(later).rejects.toMatchObject({ code: "records-used-up" });
    car.stop();
    await world.stopGateway();
    await world.startGateway();
    car = tracked(scene, await world.startCar(car.deviceId));
    world.toll.claimHeld();
    paidMsat += spentMsat(await car.device.pay(invoice, { maxFeeMsat: 5_000 }));
    await untilAtRest(car);
    await untilSilent(car);
    expect(left()).toBe(4);
    const tooMany = car.device.pay(world.toll.invoice(500_000), { maxFeeMsat: 5_000 });
    await expect(tooMany).rejects.toMatchObject({ code: "records-used-up" });
    expect(world.log.some(line => line.includes("records-exhausted"))).toBe(false);

    await closeMutually(car);
    const books = await booksOf(scene, car.deviceId, funding);
    expect(told("records used up, then closed", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: Math.floor(paidMsat / 1000), anchorsSat: 0 });

    car.stop();
    await world.charge(car.deviceId, 4);
    car = tracked(scene, await world.startCar(car.deviceId));
    const second = await openAnother(car);
    paidMsat += await payTolls(scene, car, [500_000, DUST_MSAT]);
    await closeMutually(car);
    const both = await booksOf(scene, car.deviceId, funding, second);
    expect(told("charged again", 2 * DEPOSIT_SAT, both)).toBe(0);
  });
});

describe("a channel ends without the device", () => {
  test("the bridge closes alone: the device hears of it and opens another; the exit of the first is still there", async () => {
    const { world } = scene;
    const car = await carOf(scene, "closed by the bridge", DEPOSIT_SAT);
    const first = await fundingOf(car);
    let paidMsat = await payTolls(scene, car, [1_000_000]);
    await untilSilent(car);
    const { balanceSat } = car.device.balance();
    world.bridge.close(bridgeChannel(first)!.channelId, true);
    await world.mineUntil(waitFor("the device to know", () => car.device.balance().phase === "none"));
    const exitSat = car.device.balance().formerSat;
    expect(exitSat).toBeGreaterThan(balanceSat - 3_000);
    await expect(car.device.pay(world.toll.invoice(1_000))).rejects.toMatchObject({
      code: "channel-not-open",
    });
    const second = await openAnother(car);
    expect(second).not.toBe(first);
    expect(car.device.balance()).toMatchObject({ phase: "open", formerSat: exitSat });
    paidMsat += await payTolls(scene, car, [700_000]);
    await closeMutually(car);
    await recoverAll(scene);
    const books = await booksOf(scene, car.deviceId, first, second);
    expect(told("the bridge closes, another channel is opened", 2 * DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: Math.floor(paidMsat / 1000), anchorsSat: 660 });
    // The owner has seen both; the exit of the second is that of the channel that was closed last.
    const before = car.device.balance().formerSat;
    car.stop();
    const args = [
      "device",
      "forget",
      "--data",
      world.ownerFolder,
      "--device",
      car.deviceId,
      "--channel",
      "2",
    ];
    await new Program("device forget", ["dist/lngate.mjs", ...args, "--json"]).result();
    const { device } = tracked(scene, world.openCar(car.deviceId));
    expect(device.balance().formerSat).toBe(before - exitSat);
  });

  test("the bridge drops it after the device has signed the funding: the deposit goes into another", async () => {
    const { world } = scene;
    const deviceId = await world.makeDevice("dropped");
    await world.deposit(deviceId, DEPOSIT_SAT);
    const board = openNodeBoard(world.folderOf(deviceId));
    let isMute = true;
    const device = openDevice({
      ...board,
      mqtt(options) {
        const connection = board.mqtt(options);
        return {
          ...connection,
          // What the device says once it has signed the funding gets lost.
          publish: payload => {
            if (!isMute || device.balance().phase !== "open") connection.publish(payload);
          },
        };
      },
    });
    const stop = () => {
      device.disconnect();
      board.close();
    };
    const car = tracked(scene, { deviceId, board, device, stop });
    await device.connect();
    const opened = device.openChannel();
    const before = world.bridge.channels().map(({ channelId }) => channelId);
    await world.bitcoind.mine(1);
    await waitFor("the device's signature", () => device.balance().phase === "open");
    const dropped = world.bridge.channels().find(({ channelId }) => !before.includes(channelId))!;
    world.bridge.close(dropped.channelId, true);
    await waitFor("the device to know", () => device.balance().phase === "none");
    isMute = false;
    await world.mineUntil(opened);
    const funding = await fundingOf(car);
    expect(`${funding}:0`).not.toBe(dropped.funding);
    const paidMsat = await payTolls(scene, car, [600_000]);
    await closeMutually(car);
    const books = await booksOf(scene, deviceId, funding);
    expect(told("dropped before its funding, another opened", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: Math.floor(paidMsat / 1000), anchorsSat: 0 });
  });
});

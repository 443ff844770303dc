/** Ends that have to come to their end, with bridges that behave as other implementations do, and with feerates apart. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { askClose, askFreeze, askStatus } from "../../owner/client/channel.ts";
import { lookAtExit } from "../../owner/recovery/held-exits.ts";
import { parseTransaction, txidOf } from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { type Estimates, estimatesBefore } from "../e2e/estimates.ts";
import { OWNER_WORDS } from "../e2e/made-devices.ts";
import { type Car, World, waitFor } from "../e2e/world.ts";
import { Manners } from "./manners.ts";
import {
  booksOf,
  carOf,
  Ledger,
  payTolls,
  recoverAll,
  type Scene,
  stopScene,
  told,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 200_000;
const manners = new Manners();
let estimates: Estimates;
let scene: Scene;

beforeAll(async () => {
  const world = await World.start({ bridgeBehaviour: manners.behaviour });
  estimates = await estimatesBefore(world.bitcoind.rpcOptions);
  Object.assign(world.config, { bitcoind: estimates.rpc });
  await world.startGateway();
  scene = { world, words: OWNER_WORDS, cars: [] };
});
afterAll(async () => {
  await stopScene(scene);
  estimates?.close();
});

interface Opened {
  readonly car: Car;
  readonly deviceId: string;
  readonly funding: string;
  readonly paidSat: number;
}

const statusOf = (deviceId: string) => askStatus({ folder: scene.world.ownerFolder, deviceId });

async function opened(name: string): Promise<Opened> {
  const car = await carOf(scene, name, DEPOSIT_SAT);
  const { deviceId } = car;
  const paidMsat = await payTolls(scene, car, [1_500_000]);
  await untilSilent(car);
  const { fundingTxid = "" } = await statusOf(deviceId);
  return { car, deviceId, funding: fundingTxid, paidSat: Math.floor(paidMsat / 1000) };
}

async function untilSpent(funding: string): Promise<void> {
  const { bitcoind } = scene.world;
  await waitFor("the close", async () => (await bitcoind.rpc("gettxout", [funding, 0, true])) === null);
  await bitcoind.mine(1);
}

const isOpen = async (funding: string) =>
  (await scene.world.bitcoind.rpc("gettxout", [funding, 0, true])) !== null;

async function closesMutually({ deviceId, funding, paidSat }: Opened, what: string): Promise<number> {
  await untilSpent(funding);
  const books = await booksOf(scene, deviceId, funding);
  expect(told(what, DEPOSIT_SAT, books)).toBe(0);
  expect(books).toMatchObject({ bridgeSat: paidSat, anchorsSat: 0 });
  return books.feesSat["close"]!;
}

describe("a frozen device's channel with a bridge that keeps it whatever it is told", () => {
  test("is closed by the bridge when it is called again", async () => {
    const { world } = scene;
    const { deviceId, funding, paidSat } = await opened("kept");
    manners.keepsChannels = true;
    manners.errors.length = 0;
    await askFreeze({ folder: world.ownerFolder, deviceId });
    await waitFor("the bridge to be told", () => manners.errors.length > 0);
    expect(await isOpen(funding)).toBe(true);
    await untilSpent(funding);
    manners.keepsChannels = false;
    await recoverAll(scene);
    const books = await booksOf(scene, deviceId, funding);
    expect(told("frozen, with a bridge that keeps channels", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: paidSat, anchorsSat: 660 });
  });

  test("that is away: the owner is told until it has closed, also over a restart of the gateway", async () => {
    const { world } = scene;
    const { deviceId, funding } = await opened("kept and away");
    manners.keepsChannels = true;
    world.bridgeWire.cut();
    await askFreeze({ folder: world.ownerFolder, deviceId });
    const isTold = async () => (await statusOf(deviceId)).trouble === "awaiting-bridge";
    await waitFor("the owner to be told", isTold);
    await world.stopGateway();
    await world.startGateway();
    await waitFor("the owner to be told again", isTold);
    expect(await isOpen(funding)).toBe(true);
    world.bridgeWire.mend();
    await untilSpent(funding);
    manners.keepsChannels = false;
    await waitFor("the end to be told", async () => {
      const { trouble, channel } = await statusOf(deviceId);
      return trouble === undefined && channel === "closed";
    });
  });
});

describe("a mutual close", () => {
  test("costs what brings it into the next two blocks, whoever takes the most, and nothing is added", async () => {
    const { world } = scene;
    const channel = await opened("cheap");
    manners.closing = { least: 300, most: 300 };
    await askClose({ folder: world.ownerFolder, deviceId: channel.deviceId });
    // No estimate on regtest: 1,000 for 674 weight units or a little more.
    expect(await closesMutually(channel, "mutual close, the most taken")).toBeLessThan(780);
    channel.car.stop();
  });

  test("with a bridge that names a fee and no range ends at that fee, which is above our own most", async () => {
    const { world } = scene;
    const channel = await opened("without range");
    manners.closesWithoutRange = true;
    manners.closing = { least: 9_000, most: 9_000 };
    await askClose({ folder: world.ownerFolder, deviceId: channel.deviceId });
    const feeSat = await closesMutually(channel, "mutual close at the bridge's fee");
    expect(feeSat).toBeGreaterThan(5_900);
    expect(feeSat).toBeLessThan(7_000);
    manners.closesWithoutRange = false;
    manners.closing = { least: 253, most: 253 };
    channel.car.stop();
  });

  test("with a bridge whose fee is more than the device signs is told, and ends when the bridge wants less", async () => {
    const { world } = scene;
    const channel = await opened("too dear");
    manners.closesWithoutRange = true;
    manners.closing = { least: 60_000, most: 60_000 };
    await askClose({ folder: world.ownerFolder, deviceId: channel.deviceId });
    const status = () => statusOf(channel.deviceId);
    await waitFor("the owner to be told", async () => (await status()).trouble === "close-stalled");
    expect((await status()).bridgeWords).toMatch(/a fee of 4\d{4} sat .* more than the device signs/);
    expect(await isOpen(channel.funding)).toBe(true);
    manners.closing = { least: 300, most: 300 };
    expect(await closesMutually(channel, "mutual close when the bridge wants less")).toBeLessThan(300);
    manners.closesWithoutRange = false;
    channel.car.stop();
  });

  test("that the bridge does not end is told with its words, tried again, and not forced", async () => {
    const { world } = scene;
    const channel = await opened("stalled");
    manners.closeWarning = "no fee like that\nplease";
    manners.closeFees.length = 0;
    await askClose({ folder: world.ownerFolder, deviceId: channel.deviceId });
    const toldIt = async () => (await statusOf(channel.deviceId)).trouble === "close-stalled";
    await waitFor("the owner to be told", toldIt);
    expect((await statusOf(channel.deviceId)).bridgeWords).toMatch(/^no fee like that.please$/);
    expect(world.log.some(line => /close-stalled/.test(line) && line.includes("no fee like that"))).toBe(
      true,
    );
    const tries = manners.closeFees.length;
    await waitFor("it to be tried again", () => manners.closeFees.length > tries);
    // The same transaction each time: a device signs few of them.
    expect(new Set(manners.closeFees).size).toBe(1);
    manners.closeWarning = undefined;
    await closesMutually(channel, "mutual close after some tries");
    channel.car.stop();
  });
});

describe("our own forced close while feerates have risen above the commitment's", () => {
  test("is signed by the device and gets into a block", async () => {
    const { world } = scene;
    estimates.urgent = 6_000;
    await world.stopGateway();
    await world.startGateway();
    const { car, deviceId, funding } = await opened("forced by us");
    const held = world.toll.hold();
    car.device.pay(world.toll.invoice(2_000_000), { maxFeeMsat: 5_000 }).catch(() => {});
    await held;
    await untilSilent(car);
    world.bridgeWire.cut();
    await waitFor("the payment to expire and our commitment to be in a block", async () => {
      await world.bitcoind.mine(3);
      await new Promise(resolve => setTimeout(resolve, 150));
      return !(await isOpen(funding));
    });
    await world.bitcoind.mine(1);
    const close = (await new Ledger(world).spenderOf(funding, 0))!;
    world.bridgeWire.mend();
    world.toll.failHeld();
    car.stop();
    const { exit } = lookAtExit(world.folderOf(deviceId));
    expect(close).toBe(toHex(txidOf(parseTransaction(exit.commitment)).reverse()));
    estimates.urgent = undefined;
  });
});

/** The chain takes back what it had: funding transactions and closes, shallow and deep, come back or are replaced. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { askStatus } from "../../owner/client/channel.ts";
import { checkExit } from "../../owner/recovery/exit-file.ts";
import { takeExitOut } from "../../owner/recovery/held-exits.ts";
import { transactionBytes } from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { type Car, untilAtRest, waitFor } from "../e2e/world.ts";
import {
  booksOf,
  carOf,
  Ledger,
  payTolls,
  recoverAll,
  type Scene,
  sealed,
  startScene,
  stopScene,
  told,
  tracked,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 200_000;
/** Bitcoind puts the transactions of so many blocks back into its mempool, and forgets those of deeper ones. */
const REMEMBERED_BLOCKS = 10;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene({ bridgeDepth: 3 });
});
afterAll(() => stopScene(scene));

async function fundingOf({ deviceId }: Car): Promise<string> {
  return (await askStatus({ folder: scene.world.ownerFolder, deviceId })).fundingTxid ?? "";
}

/** The block of a transaction and all above it are gone. */
async function takeBack(txid: string): Promise<void> {
  const { bitcoind } = scene.world;
  await bitcoind.rpc("invalidateblock", [await new Ledger(scene.world).blockOf(txid)]);
}

/** Blocks without any transaction but those that are given (hex); not from the mempool. */
async function mineOnly(count: number, transactions: readonly string[] = []): Promise<void> {
  const { bitcoind } = scene.world;
  const address = await bitcoind.rpc<string>("getnewaddress", ["", "bech32"]);
  for (let i = 0; i < count; i++) await bitcoind.rpc("generateblock", [address, i === 0 ? transactions : []]);
}

async function untilInMempool(txid: string): Promise<void> {
  const { bitcoind } = scene.world;
  await waitFor("the transaction to be sent again", async () =>
    (await bitcoind.rpc<string[]>("getrawmempool")).includes(txid),
  );
}

/** Mines whatever comes until the channel's output is spent in a block. */
async function untilClosed(funding: string): Promise<void> {
  const { bitcoind } = scene.world;
  await waitFor("the close", async () => {
    if ((await bitcoind.rpc<string[]>("getrawmempool")).length > 0) await bitcoind.mine(1);
    return (await bitcoind.rpc("gettxout", [funding, 0, true])) === null;
  });
  await bitcoind.mine(1);
}

async function closeMutually(car: Car): Promise<void> {
  await untilAtRest(car);
  await scene.world.mineUntil(car.device.close());
  await waitFor("the device to know", () => car.device.balance().phase === "none");
}

describe("the funding transaction", () => {
  test("is taken back before the channel is ready, and comes in another block: the channel opens", async () => {
    const { world } = scene;
    const deviceId = await world.makeDevice("shallow");
    await world.deposit(deviceId, DEPOSIT_SAT);
    const car = tracked(scene, await world.startCar(deviceId));
    const opened = car.device.openChannel();
    await world.bitcoind.mine(1);
    await waitFor("the funding", async () => (await fundingOf(car)) !== "");
    const funding = await fundingOf(car);
    await untilInMempool(funding);
    await world.bitcoind.mine(1);
    await takeBack(funding);
    await untilInMempool(funding);
    await mineOnly(2);
    await world.mineUntil(opened);
    expect(await fundingOf(car)).toBe(funding);
    const paidMsat = await payTolls(scene, car, [900_000]);
    await closeMutually(car);
    const books = await booksOf(scene, deviceId, funding);
    expect(told("funding in another block, before it was ready", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: Math.floor(paidMsat / 1000), anchorsSat: 0 });
    car.stop();
  });

  test("is taken back after payments, and bitcoind has forgotten it: it is sent again, and the channel ends with all that is the owner's", async () => {
    const { world } = scene;
    const car = await carOf(scene, "deep", DEPOSIT_SAT);
    const { deviceId } = car;
    const funding = await fundingOf(car);
    const paidMsat = await payTolls(scene, car, [700_000, 30_000]);
    await untilSilent(car);
    await mineOnly(REMEMBERED_BLOCKS + 2);
    await takeBack(funding);
    expect(await world.bitcoind.rpc<string[]>("getrawmempool")).not.toContain(funding);
    await mineOnly(2);
    // Lightning nodes give up a channel whose funding was taken back: both publish what they have.
    await untilInMempool(funding);
    await untilClosed(funding);
    await waitFor("the device to know", () => car.device.balance().phase === "none");
    car.stop();
    const exit = sealed(scene.words, takeExitOut(world.folderOf(deviceId), 1), true);
    await recoverAll(scene, { exits: [exit] });
    const books = await booksOf(scene, deviceId, funding);
    expect(told("funding taken back after payments", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: Math.floor(paidMsat / 1000) });
  });
});

describe("a close", () => {
  test("by both is taken back, and bitcoind has forgotten it: it is sent again", async () => {
    const { world } = scene;
    const car = await carOf(scene, "mutual", DEPOSIT_SAT);
    const funding = await fundingOf(car);
    const paidMsat = await payTolls(scene, car, [600_000]);
    await closeMutually(car);
    const { closes } = await booksOf(scene, car.deviceId, funding);
    const close = closes[0]!;
    await mineOnly(REMEMBERED_BLOCKS + 2);
    await takeBack(close);
    expect(await world.bitcoind.rpc<string[]>("getrawmempool")).not.toContain(close);
    await mineOnly(1);
    await untilInMempool(close);
    await world.bitcoind.mine(1);
    const books = await booksOf(scene, car.deviceId, funding);
    expect(told("mutual close taken back", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ closes, bridgeSat: Math.floor(paidMsat / 1000), anchorsSat: 0 });
    car.stop();
  });

  test("by the bridge is taken back, and the owner's exit is there instead: nothing is missing", async () => {
    const { world } = scene;
    const car = await carOf(scene, "replaced", DEPOSIT_SAT);
    const { deviceId } = car;
    const funding = await fundingOf(car);
    const paidMsat = await payTolls(scene, car, [500_000]);
    await untilSilent(car);
    const channel = world.bridge.channels().find(each => each.funding === `${funding}:0`)!;
    world.bridge.close(channel.channelId, true);
    await untilClosed(funding);
    await waitFor("the device to know", () => car.device.balance().phase === "none");
    const [bridges] = (await booksOf(scene, deviceId, funding)).closes;
    car.stop();
    const exit = sealed(scene.words, takeExitOut(world.folderOf(deviceId), 1), true);
    await takeBack(bridges!);
    await mineOnly(2, [toHex(transactionBytes(checkExit(exit).transaction))]);
    await recoverAll(scene, { exits: [exit] });
    const books = await booksOf(scene, deviceId, funding);
    expect(books.closes).not.toEqual([bridges]);
    expect(told("the bridge's close replaced by the exit", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: Math.floor(paidMsat / 1000), anchorsSat: 660 });
    const { closeTxid } = await askStatus({ folder: world.ownerFolder, deviceId });
    expect([closeTxid]).toEqual(books.closes);
  });
});

test("the bridge is away for days, and nothing is in flight: the channel goes on when it is back", async () => {
  const { world } = scene;
  const car = await carOf(scene, "days", DEPOSIT_SAT);
  const funding = await fundingOf(car);
  let paidMsat = await payTolls(scene, car, [400_000]);
  await untilSilent(car);
  world.bridgeWire.cut();
  await world.bitcoind.mine(2 * 144);
  await expect(car.device.pay(world.toll.invoice(1_000))).rejects.toMatchObject({
    code: "bridge-unreachable",
  });
  world.bridgeWire.mend();
  await waitFor("the bridge", () =>
    world.bridge.channels().some(each => each.usable && each.funding === `${funding}:0`),
  );
  paidMsat += await payTolls(scene, car, [300_000]);
  await closeMutually(car);
  const books = await booksOf(scene, car.deviceId, funding);
  expect(told("the bridge away for two days", DEPOSIT_SAT, books)).toBe(0);
  expect(books).toMatchObject({ bridgeSat: Math.floor(paidMsat / 1000), anchorsSat: 0 });
});

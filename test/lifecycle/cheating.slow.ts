/** Old states on the chain: of the bridge's, of a gateway's old copy, and what a gateway could make of what it has. */
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { open } from "lmdb";
import { openNodeStore } from "../../gateway/lightning/store.ts";
import { askStatus } from "../../owner/client/channel.ts";
import { checkExit } from "../../owner/recovery/exit-file.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { waitFor } from "../e2e/world.ts";
import {
  booksOf,
  carOf,
  cheatFrom,
  exitOf,
  payTolls,
  recoverAll,
  type Scene,
  startScene,
  stopScene,
  told,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 200_000;
let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => stopScene(scene));

async function fundingOf(deviceId: string): Promise<string> {
  return (await askStatus({ folder: scene.world.ownerFolder, deviceId })).fundingTxid ?? "";
}

async function untilSpent(funding: string): Promise<void> {
  const { bitcoind } = scene.world;
  await waitFor("the close", async () => {
    if ((await bitcoind.rpc<string[]>("getrawmempool")).length > 0) await bitcoind.mine(1);
    return (await bitcoind.rpc("gettxout", [funding, 0, true])) === null;
  });
}

describe("a gateway's folder is put back from an old copy", () => {
  test("it costs nothing: the bridge closes with its newest state, nothing old is published", async () => {
    const { world } = scene;
    const car = await carOf(scene, "old copy", DEPOSIT_SAT);
    const { deviceId } = car;
    const before = await payTolls(scene, car, [500_000]);
    await untilSilent(car);
    const funding = await fundingOf(deviceId);
    const { dataDir } = world.config;
    await world.stopGateway();
    cpSync(dataDir, `${dataDir}.old`, { recursive: true });
    await world.startGateway();
    await car.device.connect();
    await waitFor("the device to be back", () => car.device.isConnected());
    await waitFor("the channel", () =>
      world.bridge.channels().some(each => each.usable && each.funding === `${funding}:0`),
    );
    const after = await payTolls(scene, car, [700_000, 900_000, 400_000]);
    await untilSilent(car);

    await world.stopGateway();
    rmSync(dataDir, { recursive: true });
    cpSync(`${dataDir}.old`, dataDir, { recursive: true });
    await world.startGateway();
    await untilSpent(funding);
    car.stop();
    await world.bitcoind.mine(1);
    await recoverAll(scene);
    const books = await booksOf(scene, deviceId, funding);
    expect(told("the gateway's old copy", DEPOSIT_SAT, books)).toBe(0);
    expect(books.bridgeSat).toBe(Math.floor((before + after) / 1000));
    expect(world.log.some(line => line.includes("gateway-rolled-back"))).toBe(true);
  });
});

describe("what a gateway has", () => {
  test("no signature by the channel's key for any state of ours is among it", async () => {
    const { world } = scene;
    const car = await carOf(scene, "nothing to steal", DEPOSIT_SAT);
    await payTolls(scene, car, [500_000, 500_000]);
    await untilSilent(car);
    car.stop();
    await world.stopGateway();
    const exit = checkExit(exitOf(scene, car.deviceId));
    const { sighash } = exit.commitment;
    const { fundingKey } = exit.file.proposal;

    const store = open({ path: join(world.config.dataDir, "store"), readOnly: true });
    const table = store.openDB<Uint8Array, string>({ name: "lightning", encoding: "binary" });
    const rows = openNodeStore(table, car.deviceId);
    const books = rows.keys("book/").map(key => new Uint8Array(rows.get(key)!));
    await store.close();
    let bridges = 0;
    let ours = 0;
    const isSignature = (bytes: Uint8Array, key: Uint8Array) => nobleCurve.verify(bytes, sighash, key);
    for (const book of books) {
      for (let at = 0; at + 64 <= book.length; at++) {
        const window = book.slice(at, at + 64);
        if (isSignature(window, fundingKey)) bridges++;
        if (isSignature(window, exit.file.keys.fundingKey)) ours++;
      }
    }
    // The search finds what is there: the bridge's signature. Ours is not.
    expect(bridges).toBeGreaterThan(0);
    expect(ours).toBe(0);
    await world.startGateway();
  });
});

describe("the bridge publishes a revoked state", () => {
  test.each([
    ["while the gateway watches", false],
    ["while the gateway is down, and 20 blocks come at once when it is back", true],
  ])("%s: the device signs the penalty, all of the channel is the owner's", async (_, down) => {
    const { world } = scene;
    const car = await carOf(scene, `cheated ${down}`, DEPOSIT_SAT);
    const { deviceId } = car;
    const early = await payTolls(scene, car, [1_000_000]);
    await untilSilent(car);
    const funding = await fundingOf(deviceId);
    const old = join(world.folder, `bridge.old.${down}`);
    cpSync(join(world.folder, "bridge"), old, { recursive: true });
    await payTolls(scene, car, [2_000_000, 3_000_000]);
    await untilSilent(car);

    if (down) await world.stopGateway();

    const thief = await cheatFrom(scene, old, funding);
    await untilSpent(funding);
    await thief.stop();
    if (down) {
      await world.bitcoind.mine(20);
      await world.startGateway();
    }
    const home = world.closeScript(deviceId);
    await waitFor("the penalty", async () => {
      await world.bitcoind.mine(1);
      const { total_amount } = await world.bitcoind.rpc<{ total_amount: number }>("scantxoutset", [
        "start",
        [`raw(${home})`],
      ]);
      return total_amount > 0;
    });
    await recoverAll(scene);
    car.stop();
    const books = await booksOf(scene, deviceId, funding);
    expect(told(`a revoked state of the bridge's${down ? ", seen late" : ""}`, DEPOSIT_SAT, books)).toBe(0);
    // Even what it had earned by then.
    expect(early).toBeGreaterThan(0);
    expect(books.bridgeSat).toBe(0);
  });
});

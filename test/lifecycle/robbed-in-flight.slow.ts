/**
 * A device is gone with a payment in flight. The bridge's commitment holds that payment, or ours does, which a thief has
 * published: when it expires the owner takes it back with the words and what the gateway has told, without the device.
 */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { askFreeze, askStatus } from "../../owner/client/channel.ts";
import { readHeldChannels } from "../../owner/folder/device-files.ts";
import { CHANNEL_FILE } from "../../owner/folder/folder.ts";
import { lookAtExit } from "../../owner/recovery/held-exits.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { waitFor } from "../e2e/world.ts";
import {
  booksOf,
  carOf,
  changeScript,
  coinOf,
  homeScript,
  Ledger,
  look,
  recoverAll,
  type Scene,
  startScene,
  stopScene,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 200_000;
const IN_FLIGHT_SAT = 3_000;
const COIN_SAT = 50_000;

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => stopScene(scene));

/** A device that is gone, with a payment that the toll company neither takes nor refuses. */
async function goneInFlight(name: string) {
  const { world } = scene;
  const car = await carOf(scene, name, DEPOSIT_SAT);
  const { deviceId } = car;
  const held = world.toll.hold();
  car.device.pay(world.toll.invoice(IN_FLIGHT_SAT * 1000), { maxFeeMsat: 5_000 }).catch(() => {});
  await held;
  await untilSilent(car);
  car.stop();
  const owner = { folder: world.ownerFolder, deviceId };
  const { fundingTxid = "" } = await askStatus(owner);
  return { deviceId, owner, fundingTxid, file: join(world.folderOf(deviceId), CHANNEL_FILE) };
}

async function untilClosed(fundingTxid: string): Promise<void> {
  const { bitcoind } = scene.world;
  await waitFor("the close", async () => {
    if ((await bitcoind.rpc<string[]>("getrawmempool")).length > 0) await bitcoind.mine(1);
    return (await bitcoind.rpc("gettxout", [fundingTxid, 0, true])) === null;
  });
  await bitcoind.mine(1);
}

test("in the bridge's close: it comes home when it expires", async () => {
  const { world } = scene;
  const { deviceId, owner, fundingTxid, file } = await goneInFlight("lost in flight");
  await askFreeze(owner);
  await untilClosed(fundingTxid);
  world.toll.failHeld();
  const channels = readHeldChannels(file)!;
  const payment = (await look(scene, { channels })).waiting.find(({ what }) => what.includes("delivered"));
  expect(payment!.valueSat).toBeGreaterThanOrEqual(IN_FLIGHT_SAT);
  await recoverAll(scene, { channels });
  const books = await booksOf(scene, deviceId, fundingTxid);
  expect(books).toMatchObject({ bridgeSat: 0, anchorsSat: 660 });
});

test("in our own commitment, which a thief has published: a coin pays for it", async () => {
  const { world } = scene;
  const { deviceId, owner, fundingTxid, file } = await goneInFlight("stolen in flight");
  const { exit } = lookAtExit(world.folderOf(deviceId));
  expect(exit.view.htlcs).toHaveLength(1);
  await world.bitcoind.rpc("sendrawtransaction", [toHex(exit.commitment)]);
  await untilClosed(fundingTxid);
  await askFreeze(owner);
  const channels = readHeldChannels(file)!;
  world.toll.failHeld();

  const coin = await coinOf(scene, COIN_SAT);
  const ledger = new Ledger(world);
  const changeBefore = await ledger.unspentSat([changeScript(scene)]);
  const published = await recoverAll(scene, { channels, coin });
  // The payment's transaction, and what collects from it and from the exit.
  expect(published).toHaveLength(3);
  const closeTxid = await ledger.spenderOf(fundingTxid, 0);
  let feesSat = await ledger.feeOf(fundingTxid);
  for (const each of [closeTxid!, ...published]) feesSat += await ledger.feeOf(each);
  const home = await ledger.unspentSat([homeScript(scene, deviceId)]);
  const change = (await ledger.unspentSat([changeScript(scene)])) - changeBefore;
  expect(home + change).toBe(DEPOSIT_SAT + COIN_SAT - 660 - feesSat);
});

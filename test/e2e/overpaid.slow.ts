/**
 * A node that asks the bridge for HTLCs of a least size, above what its invoice says: LDK could give it the rest out of the fee
 * limit, and call it no fee. The owner's limits count amount and fee, so such a way is none.
 */
import { copyFileSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import * as ldk from "lightningdevkit";
import type { Device } from "../../device/api.ts";
import { openNodeBoard } from "../../device/boards/node/board.ts";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { openDevice } from "../../device/device.ts";
import { writeOwnersWord } from "../../device/vault/charging.ts";
import { openVault } from "../../device/vault/vault.ts";
import { createLog } from "../../gateway/log.ts";
import { PlainPeer } from "../../scripts/peer/plain-peer.ts";
import { codeOf } from "../../src/errors.ts";
import { untilAtRest, World } from "../e2e/world.ts";

const MUCH = { perPaymentMsat: 1e12, perHourMsat: 1e12, perDayMsat: 1e12 };
/** What is said, what is taken, and what the owner's limit for a payment leaves for "the way". */
const SAID_MSAT = 1_250_000;
const TAKEN_MSAT = 3 * SAID_MSAT;
const WAY_MSAT = 3_740_000;

let world: World;
let thief: PlainPeer;
beforeAll(async () => {
  world = await World.start();
  thief = await greedy();
  await world.mineUntil(world.bridge.open(thief.address, 2_000_000, { announced: true }));
  await world.bitcoind.mine(6);
  await world.startGateway();
});
afterAll(async () => {
  await thief?.stop();
  await world?.stop();
});

/** A stock LDK node, with one of its settings. */
async function greedy(): Promise<PlainPeer> {
  const { prototype } = ldk.ChannelHandshakeConfig;
  const { set_our_to_self_delay } = prototype;
  prototype.set_our_to_self_delay = function (this: ldk.ChannelHandshakeConfig, blocks: number) {
    set_our_to_self_delay.call(this, blocks);
    this.set_our_htlc_minimum_msat(BigInt(TAKEN_MSAT));
  };
  try {
    return await PlainPeer.start({
      dataDir: join(world.folder, "greedy"),
      network: "regtest",
      rpc: world.bitcoind.rpcOptions,
      wallet: "regtest",
      port: 0,
      log: createLog("error", () => {}),
    });
  } finally {
    prototype.set_our_to_self_delay = set_our_to_self_delay;
  }
}

test("a payee is paid what its invoice says and no more, or not at all", async () => {
  const car = await world.makeCar("car", 500_000, { payments: 60 });
  await untilAtRest(car);
  car.stop();
  const folder = mkdtempSync(join(world.folder, "thief-"));
  copyFileSync(join(world.folderOf(car.deviceId), "flash.bin"), join(folder, "flash.bin"));
  const flash = openFileFlash(folder);
  const { identity } = openVault(flash);
  const policy = { ...identity.policy, ...MUCH, payees: [] };
  writeOwnersWord(flash, { policy, height: identity.birthHeight, time: identity.birthTime });
  flash.close();
  const board = openNodeBoard(folder);
  const device: Device = openDevice(board);
  await device.connect();
  const before = device.balance().balanceSat;
  const outcomes: (string | undefined)[] = [];
  for (let i = 0; i < 12; i++) {
    const invoice = thief.invoice(SAID_MSAT, "nothing much");
    outcomes.push(await device.pay(invoice, { maxFeeMsat: WAY_MSAT }).then(() => "paid", codeOf));
    await device.settled();
  }
  const claimedMsat = [...thief.claimedMsat().values()].reduce((sum, msat) => sum + msat, 0);
  expect(outcomes).toEqual(Array(12).fill("no-route"));
  expect(claimedMsat).toBe(0);
  expect(before - device.balance().balanceSat).toBe(0);
  await device.disconnect();
  board.close();
});

/**
 * What docs/security.md says of a copy of the flash, with real gateway, bridge, bitcoind and link, all of them honest: who has it needs one
 * payment of one satoshi to have the bridge take the whole channel. It is the limit of what the device can protect from, and no more than that:
 * before the payment the copy pays the owner.
 */
import { copyFileSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { openNodeBoard } from "../../device/boards/node/board.ts";
import { openDevice } from "../../device/device.ts";
import { lookAtExit } from "../../owner/recovery/held-exits.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { World, waitFor } from "./world.ts";

let world: World;
beforeAll(async () => {
  world = await World.start();
  await world.startGateway();
});
afterAll(async () => {
  await world?.stop();
});

test("an exit that was copied before a payment gives the channel to the bridge, which is honest", async () => {
  const car = await world.makeCar("car", 300_000, { payments: 20 });
  const { deviceId } = car;
  await waitFor("rest", () => car.device.isAtRest());
  car.stop();
  const folder = mkdtempSync(join(world.folder, "thief-"));
  copyFileSync(join(world.folderOf(deviceId), "flash.bin"), join(folder, "flash.bin"));
  const copied = lookAtExit(world.folderOf(deviceId)).exit;
  const board = openNodeBoard(folder);
  const device = openDevice(board);
  await device.connect();
  await device.pay(world.toll.invoice(1_000), { maxFeeMsat: 3_000 });
  await device.settled();
  const exitId = await world.bitcoind.rpc<string>("sendrawtransaction", [toHex(copied.commitment)]);
  const outputs = await Promise.all(
    [0, 1, 2, 3].map(vout => world.bitcoind.rpc<{ value: number } | null>("gettxout", [exitId, vout, true])),
  );
  const toLocal = outputs.findIndex(
    output => Math.round((output?.value ?? 0) * 1e8) === copied.view.holderSat,
  );
  let blocks = 0;
  await waitFor("the bridge's penalty", async () => {
    if ((await world.bitcoind.rpc("gettxout", [exitId, toLocal, true])) === null) return true;
    await world.bitcoind.mine(1);
    blocks++;
    return false;
  });
  // Long before the owner could collect it.
  expect(blocks).toBeLessThan(copied.proposal.holderDelay);
  await device.disconnect();
  board.close();
});

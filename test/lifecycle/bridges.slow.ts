/** The configuration names another bridge: channels stay with theirs to their end, and the next one goes to the new one. */
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { gatewayCommands } from "../../gateway/cli/gateway-commands.ts";
import { askStatus } from "../../owner/client/channel.ts";
import { runCommandLine } from "../../src/node/command.ts";
import { untilAtRest, waitFor } from "../e2e/world.ts";
import { booksOf, carOf, payTolls, type Scene, startScene, stopScene, told } from "./scene.ts";

const DEPOSIT_SAT = 200_000;
let scene: Scene;

beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => stopScene(scene));

async function check(): Promise<{ code: number; said: string }> {
  let said = "";
  const terminal = { out: (text: string) => (said += text), err: () => {}, interactive: false };
  const args = ["gateway", "check", "--config", scene.world.config.file];
  const code = await runCommandLine(gatewayCommands, { intro: "", version: "0" }, args, terminal);
  return { code, said };
}

test("payments and a close go on with the old one, which is said at the start and by `gateway check`", async () => {
  const { world } = scene;
  const { config, toll } = world;
  const car = await carOf(scene, "faithful", DEPOSIT_SAT);
  await payTolls(scene, car, [1_000_000]);
  await untilAtRest(car);
  const { fundingTxid = "" } = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
  await world.stopGateway();

  const former = `${config.bridge.nodeId}@127.0.0.1:${config.bridge.port}`;
  const bridge = { nodeId: toll.peer.nodeId, host: "127.0.0.1", port: toll.peer.port };
  writeFileSync(
    config.file,
    readFileSync(config.file, "utf8").replace(former, `${bridge.nodeId}@127.0.0.1:${bridge.port}`),
  );
  Object.assign(config, { bridge });
  const said = world.nextLine(/bridge-changed/);
  await world.startGateway();
  expect(await said).toContain(`stays with ${former}`);
  const checked = await check();
  expect(checked.said).toMatch(new RegExp(`ok +bridge of "faithful": .*${former}`));
  expect(checked.code).toBe(0);

  await waitFor("the device to be back", () => car.device.isConnected());
  await payTolls(scene, car, [1_000_000, 1_500_000]);
  await untilAtRest(car);
  const held = world.toll.hold();
  const paying = car.device.pay(world.toll.invoice(1_000_000), { maxFeeMsat: 5_000 });
  await held;
  world.toll.claimHeld();
  await paying;
  await untilAtRest(car);

  await world.mineUntil(car.device.close());
  const books = await booksOf(scene, car.deviceId, fundingTxid);
  expect(told("closed with the bridge of before", DEPOSIT_SAT, books)).toBe(0);
  expect(books).toMatchObject({ bridgeSat: 4_504, anchorsSat: 0 });

  car.device.forget(100);
  await world.deposit(car.deviceId, DEPOSIT_SAT);
  await world.mineUntil(car.device.openChannel());
  const next = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
  expect(toll.peer.channels().map(({ funding }) => funding)).toContain(`${next.fundingTxid}:0`);
  await car.device.pay(world.toll.invoice(1_000_000));
  car.stop();
});

/** The gateway was off for so long that its bitcoind has pruned the blocks of that time. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { gatewayCommands } from "../../gateway/cli/gateway-commands.ts";
import { askDeposit, askStatus } from "../../owner/client/channel.ts";
import { runCommandLine } from "../../src/node/command.ts";
import { PRUNABLE, pruneAll } from "../chain/prune.ts";
import { untilAtRest, waitFor } from "../e2e/world.ts";
import {
  carOf,
  homeScript,
  payTolls,
  recoverAll,
  type Scene,
  startScene,
  stopScene,
  tracked,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 200_000;
let scene: Scene;

beforeAll(async () => {
  scene = await startScene({ bitcoindArgs: PRUNABLE });
});
afterAll(() => stopScene(scene));

async function check(): Promise<string> {
  let said = "";
  const terminal = { out: (text: string) => (said += text), err: () => {}, interactive: false };
  const args = ["gateway", "check", "--config", scene.world.config.file];
  await runCommandLine(gatewayCommands, { intro: "", version: "0" }, args, terminal);
  return said;
}

test("a channel in which nothing has happened goes on, one that has ended meanwhile waits, and the others are served", async () => {
  const { world } = scene;
  const { ownerFolder } = world;
  const rested = await carOf(scene, "rested", DEPOSIT_SAT);
  const ended = await carOf(scene, "ended", DEPOSIT_SAT);
  const channelSat = ended.device.balance().balanceSat;
  const waiting = await world.makeDevice("waiting");
  for (const car of [rested, ended]) {
    await waitFor("the connection", () => car.device.isConnected());
    await payTolls(scene, car, [1_000_000]);
    await untilAtRest(car);
    await untilSilent(car);
  }
  const fundingOf = async (deviceId: string) =>
    (await askStatus({ folder: ownerFolder, deviceId })).fundingTxid ?? "";
  const fundings = [await fundingOf(rested.deviceId), await fundingOf(ended.deviceId)] as const;
  const { address } = await askDeposit({ folder: ownerFolder, deviceId: waiting });
  await world.stopGateway();
  await world.bitcoind.fund(address, DEPOSIT_SAT);
  const channel = world.bridge.channels().find(({ funding }) => funding === `${fundings[1]}:0`)!;
  world.bridge.close(channel.channelId, true);
  await waitFor("the bridge's close", async () => {
    if ((await world.bitcoind.rpc<string[]>("getrawmempool")).length > 0) await world.bitcoind.mine(1);
    return (await world.bitcoind.rpc("gettxout", [fundings[1], 0, true])) === null;
  });
  await pruneAll(world.bitcoind);

  expect(await check()).toMatch(/FAILED +bitcoind: it has pruned its blocks below \d+/);
  const said = world.nextLine(/the device "ended" \(\w+\) waits for blocks/);
  await world.startGateway();
  await said;
  expect(world.log.some(line => line.includes("block-pruned"))).toBe(true);

  // In the first channel nothing has happened.
  await waitFor("the device to be back", () => rested.device.isConnected());
  await payTolls(scene, rested, [1_000_000]);
  await untilAtRest(rested);
  // (The books of other tests need the blocks of before; here the last transactions tell the same.)
  const { txid } = await world.mineUntil(rested.device.close());
  const close = await world.minedTransaction(txid);
  expect(close.outputs.map(({ sat }) => sat).sort((x, y) => x - y)).toEqual([
    2_002,
    channelSat - 2_002 - close.feeSat,
  ]);

  // A deposit of that time is found.
  const car = tracked(scene, await world.startCar(waiting));
  await world.mineUntil(car.device.openChannel());
  await payTolls(scene, car, [1_000_000]);

  // The other one is with the words.
  const [collecting = ""] = await recoverAll(scene);
  const { outputs, feeSat } = await world.minedTransaction(collecting);
  // The bridge's commitment without HTLCs pays 1,124 sat to the miners at 1,000 sat/kw, and has two anchors of 330.
  const expected = channelSat - 1_001 - 1_124 - 660 - feeSat;
  expect(outputs).toEqual([{ script: homeScript(scene, ended.deviceId), sat: expected }]);
});

/** A channel's feerate follows what peers take and mempools want, in steps; with a real peer that checks each. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Option_u32Z_Some } from "lightningdevkit";
import { askStatus } from "../../owner/client/channel.ts";
import { type Estimates, estimatesBefore } from "../e2e/estimates.ts";
import { OWNER_WORDS } from "../e2e/made-devices.ts";
import { untilAtRest, World, waitFor } from "../e2e/world.ts";
import { carOf, payTolls, type Scene, stopScene } from "./scene.ts";

let estimates: Estimates;
let scene: Scene;

beforeAll(async () => {
  const world = await World.start();
  estimates = await estimatesBefore(world.bitcoind.rpcOptions);
  estimates.normal = 9_000;
  Object.assign(world.config, { bitcoind: estimates.rpc });
  await world.startGateway();
  scene = { world, words: OWNER_WORDS, cars: [] };
});
afterAll(async () => {
  await stopScene(scene);
  estimates?.close();
});

test("it opens as a busy market wants, falls to what all take and is ample, and rises to what all take, not beyond at once", async () => {
  const { world } = scene;
  const car = await carOf(scene, "market", 300_000);
  const { fundingTxid } = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
  const channelId = world.bridge.channels().find(each => each.funding === `${fundingTxid}:0`)!.channelId;
  const seen: number[] = [];
  /** As the bridge has it; blocks go by, since with them the gateway asks for estimates. */
  const look = async () => {
    await world.bitcoind.mine(1);
    await new Promise(resolve => setTimeout(resolve, 1_000));
    const details = world.bridge.node
      .channels()
      .find(each => Buffer.from(each.get_channel_id().get_a()).toString("hex") === channelId)!;
    const feerate = details.get_feerate_sat_per_1000_weight();
    const now = feerate instanceof Option_u32Z_Some ? feerate.some : 0;
    if (now !== seen.at(-1)) seen.push(now);
    return now;
  };
  await look();
  expect(seen).toEqual([5_400]);
  await waitFor("what is twice too much to fall", async () => (await look()) === 2_500);
  estimates.normal = 500;
  await waitFor("the feerate to fall", async () => (await look()) === 1_000);
  estimates.minimum = 1_500;
  await waitFor("it to be above what mempools take", async () => (await look()) === 1_600);
  estimates.minimum = 7_000;
  await waitFor("it to rise to what all take", async () => (await look()) === 2_500);
  expect(seen).toEqual([5_400, 2_500, 1_000, 1_600, 2_500]);
  await payTolls(scene, car, [1_000_000]);
  await untilAtRest(car);
  car.stop();
});

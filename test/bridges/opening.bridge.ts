/** Channels to real bridges, from the least that each takes. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { askStatus } from "../../owner/client/channel.ts";
import { untilAtRest } from "../e2e/world.ts";
import { AS_BRIDGE, nameOf } from "./kinds.ts";
import { type BridgeScene, carWith, payToll, startBridges, stopBridges } from "./world.ts";

/** The funding transaction's fee is less. */
const FUNDING_FEE_SAT = 2_000;
/** A smaller channel no gateway asks for by default. */
const LEAST_CHANNEL_SAT = 20_000;

describe.each(AS_BRIDGE.map(pair => ({ name: nameOf(pair), pair })))("$name", ({ pair }) => {
  let scene: BridgeScene;

  beforeAll(async () => {
    scene = await startBridges(pair);
    await scene.world.startGateway();
  });
  afterAll(() => stopBridges(scene));

  test.each([
    ["least", Math.max(LEAST_CHANNEL_SAT, pair.bridge.leastChannelSat) + FUNDING_FEE_SAT],
    ["small", 100_000],
    ["medium", 1_000_000],
    ["large", 16_000_000],
  ])("a %s channel (deposit of %d sat) opens, and pays", async (name, depositSat) => {
    const { world } = scene;
    const car = await carWith(scene, name, depositSat, { payments: 3 });
    const { fundingTxid, channel } = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
    expect(channel).toBe("ready");
    const opened = (await world.bridge.channels()).find(each => each.funding === `${fundingTxid}:0`);
    expect(opened).toMatchObject({ sat: car.device.balance().balanceSat, usable: true });
    expect(depositSat - opened!.sat).toBeLessThan(FUNDING_FEE_SAT);
    const receipt = await payToll(scene, car, 1_000_000);
    expect(receipt).toMatchObject({ amountMsat: 1_000_000, feeMsat: pair.bridge.feeMsat(1_000_000) });
    await untilAtRest(car);
    car.stop();
  });
});

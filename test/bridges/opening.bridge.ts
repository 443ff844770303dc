/** Channels to real bridges, from the least that each takes, and at feerates that one of them minds. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { askStatus } from "../../owner/client/channel.ts";
import type { CurrentLdkNode } from "../../scripts/nodes/ldk-node.ts";
import { untilAtRest, waitFor } from "../e2e/world.ts";
import { tracked } from "../lifecycle/scene.ts";
import { AS_BRIDGE, LDK_NODE, nameOf } from "./kinds.ts";
import { type BridgeScene, carWith, FEERATE, payToll, startBridges, stopBridges } from "./world.ts";

/** The funding transaction's fee is less. */
const FUNDING_FEE_SAT = 2_000;
/** A smaller channel no gateway asks for by default. */
const LEAST_CHANNEL_SAT = 20_000;
/** What mempools take at least when they are full, sat/vB: more than a commitment of ours pays at quiet times. */
const FULL = 7;
/** LDK closes a channel alone whose commitment has paid less than mempools took in each of so many blocks. */
const PATIENCE_BLOCKS = 144;

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

const current = AS_BRIDGE.find(({ bridge }) => bridge === LDK_NODE);

(current ? describe : describe.skip)("LDK Node as bridge, when mempools are full", () => {
  let scene: BridgeScene;

  beforeEach(async () => {
    scene = await startBridges(current!);
    await scene.world.startGateway();
  });
  afterEach(() => stopBridges(scene));

  const bridge = () => scene.world.bridge as CurrentLdkNode;

  async function bridgeBelieves(minimum: number): Promise<void> {
    scene.estimates.bridge.set(FEERATE + minimum, minimum);
    await bridge().sync();
  }

  test("a channel that pays less than the bridge's mempool takes is refused in words, and opens when it takes it", async () => {
    const { world } = scene;
    await bridgeBelieves(FULL);
    const deviceId = await world.makeDevice("early");
    await world.deposit(deviceId, 100_000);
    const car = tracked(scene, await world.startCar(deviceId));
    const refused = world.nextLine(/code=bridge-refuses/);
    const opened = car.device.openChannel();
    opened.catch(() => {});
    expect(await world.mineUntil(refused)).toContain("feerate much too low");
    const { bridgeWords } = await askStatus({ folder: world.ownerFolder, deviceId });
    expect(bridgeWords).toContain("feerate much too low");
    await bridgeBelieves(1);
    await world.mineUntil(opened);
    await payToll(scene, car, 1_000_000);
  });

  test("a channel that is there rises to what mempools take, and outlives the bridge's patience", async () => {
    const { world, estimates } = scene;
    const car = await carWith(scene, "rising", 200_000);
    await payToll(scene, car, 1_000_000);
    await untilAtRest(car);
    const { fundingTxid } = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
    await bridgeBelieves(FULL);
    estimates.gateway.set(FEERATE + FULL, FULL);
    await world.stopGateway();
    await world.startGateway();
    await car.device.connect();
    // LDK looks after feerates once a minute.
    await waitFor(
      "the commitments to pay enough",
      async () => (await bridge().feerateOf(`${fundingTxid}:0`)) >= FULL * 250,
    );
    await payToll(scene, car, 1_000_000);
    await untilAtRest(car);
    for (let mined = 0; mined <= PATIENCE_BLOCKS; mined += 5) {
      await world.bitcoind.mine(5);
      await new Promise(resolve => setTimeout(resolve, 400));
    }
    await bridge().sync();
    expect(await world.bitcoind.rpc("gettxout", [fundingTxid, 0, true])).not.toBeNull();
    await payToll(scene, car, 1_000_000);
  });
});

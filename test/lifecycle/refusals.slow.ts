/** A bridge that does not open the channel: whoever has to know hears its words, and it is asked again when that is worth it. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { askDeposit, askStatus } from "../../owner/client/channel.ts";
import { OWNER_WORDS } from "../e2e/made-devices.ts";
import { World, waitFor } from "../e2e/world.ts";
import { Manners } from "./manners.ts";
import { type Scene, stopScene, tracked } from "./scene.ts";

const manners = new Manners();
let scene: Scene;

beforeAll(async () => {
  const world = await World.start({ bridgeBehaviour: manners.behaviour });
  await world.startGateway();
  scene = { world, words: OWNER_WORDS, cars: [] };
});
afterAll(() => stopScene(scene));

/** Peers of the bridge's. */
const peers = () => scene.world.bridge.node.peerCount;

test("its words reach owner and log; it is asked once each time, with pauses, and opens after all", async () => {
  const { world } = scene;
  const first = await world.makeDevice("first");
  const deviceId = await world.makeDevice("refused");
  tracked(scene, await world.startCar(first));
  const car = tracked(scene, await world.startCar(deviceId));
  // The toll company, and of two devices without money the one that learns the network for all.
  await waitFor("that one", () => peers() === 2);

  manners.openRefusal = "Synchronizing blockchain\u001b[2J";
  await world.deposit(deviceId, 200_000);
  expect(peers()).toBe(2);
  const opened = car.device.openChannel();
  const status = () => askStatus({ folder: world.ownerFolder, deviceId });
  await world.bitcoind.mine(1);
  await waitFor("the owner to be told", async () => (await status()).bridgeWords !== undefined);
  expect(await status()).toMatchObject({ bridgeWords: "Synchronizing blockchain [2J", channel: "none" });
  expect(world.log.filter(line => line.includes("code=channel-refused")).at(-1)).toContain("Synchronizing");
  // Not again as something older, as LDK would.
  expect(manners.asked).toEqual([199_467]);
  const blocks = await world.bitcoind.rpc("getblockcount");
  await waitFor("it to be asked again without a block", () => manners.asked.length >= 2);
  expect(await world.bitcoind.rpc("getblockcount")).toBe(blocks);
  manners.openRefusal = undefined;
  await world.mineUntil(opened);
  expect(car.device.balance().balanceSat).toBe(199_467);
  expect((await status()).bridgeWords).toBeUndefined();
  car.stop();
});

test("one that wants more than the deposit makes is asked again when there is more", async () => {
  const { world } = scene;
  const deviceId = await world.makeDevice("small");
  const car = tracked(scene, await world.startCar(deviceId));
  const leastSat = async () => (await askDeposit({ folder: world.ownerFolder, deviceId })).minimumSat;
  expect(await leastSat()).toBeGreaterThan(20_000);
  expect(await leastSat()).toBeLessThan(25_000);
  manners.openRefusal = "chan size of 0.00199467 BTC is below min chan size of 0.003 BTC";
  manners.asked.length = 0;
  await world.deposit(deviceId, 200_000);
  const opened = car.device.openChannel();
  await world.bitcoind.mine(1);
  await waitFor("the owner to be told of the least", async () => (await leastSat()) > 300_000);
  manners.openRefusal = undefined;
  // The pause after the first refusal is over, and there is a block.
  await new Promise(resolve => setTimeout(resolve, 7_000));
  await world.bitcoind.mine(1);
  expect(manners.asked).toEqual([199_467]);
  await world.deposit(deviceId, 150_000);
  await world.mineUntil(opened);
  expect(manners.asked).toHaveLength(2);
  expect(manners.asked[1]).toBeGreaterThan(300_000);
  car.stop();
});

/** How channels with real bridges end, each counted on the chain to the satoshi. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { askClose, askStatus } from "../../owner/client/channel.ts";
import { type Car, untilAtRest, waitFor } from "../e2e/world.ts";
import { booksOf, recoverAll, told } from "../lifecycle/scene.ts";
import { AS_BRIDGE, nameOf } from "./kinds.ts";
import { type BridgeScene, carWith, payToll, startBridges, stopBridges } from "./world.ts";

const DEPOSIT_SAT = 200_000;

describe.each(AS_BRIDGE.map(pair => ({ name: nameOf(pair), pair })))("$name", ({ pair }) => {
  let scene: BridgeScene;

  beforeAll(async () => {
    scene = await startBridges(pair);
    await scene.world.startGateway();
  });
  afterAll(() => stopBridges(scene));

  interface Opened {
    readonly car: Car;
    readonly funding: string;
    /** What the bridge has of the channel: the payments, and its fees for them. */
    readonly bridgeSat: number;
  }

  /** A channel that has paid these amounts, at rest. */
  async function opened(name: string, amountsMsat: readonly number[]): Promise<Opened> {
    const { world } = scene;
    const car = await carWith(scene, name, DEPOSIT_SAT);
    let paidMsat = 0;
    for (const amountMsat of amountsMsat) {
      await payToll(scene, car, amountMsat);
      paidMsat += amountMsat + pair.bridge.feeMsat(amountMsat);
    }
    await untilAtRest(car);
    const { fundingTxid = "" } = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
    return { car, funding: fundingTxid, bridgeSat: Math.floor(paidMsat / 1000) };
  }

  async function untilClosed({ funding }: Opened): Promise<void> {
    const { bitcoind } = scene.world;
    await waitFor("the close", async () => {
      if ((await bitcoind.rpc<string[]>("getrawmempool")).length > 0) await bitcoind.mine(1);
      return (await bitcoind.rpc("gettxout", [funding, 0, true])) === null;
    });
    await bitcoind.mine(1);
  }

  const closes: [string, (channel: Opened) => void][] = [
    ["the device", ({ car }) => void car.device.close().catch(() => {})],
    [
      "the owner",
      ({ car: { deviceId } }) => void askClose({ folder: scene.world.ownerFolder, deviceId }).catch(() => {}),
    ],
    // LND says no more of it if the negotiation goes on after a reconnection, until it is stopped: the chain tells.
    ["the bridge", ({ funding }) => void scene.world.bridge.close(`${funding}:0`).catch(() => {})],
  ];

  test.each(closes)("a mutual close that %s asks for pays the owner's address", async (who, ask) => {
    const channel = await opened(`mutual ${who}`, [1_500_000, 400_000]);
    ask(channel);
    await untilClosed(channel);
    const books = await booksOf(scene, channel.car.deviceId, channel.funding);
    expect(told(`${pair.bridge.name}: mutual close, asked by ${who}`, DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: channel.bridgeSat, anchorsSat: 0 });
    channel.car.stop();
  });

  test("a mutual close in which the bridge has hardly more than dust", async () => {
    const channel = await opened("mutual dust", [400_000]);
    void channel.car.device.close().catch(() => {});
    await untilClosed(channel);
    const books = await booksOf(scene, channel.car.deviceId, channel.funding);
    expect(told(`${pair.bridge.name}: mutual close with 401 sat`, DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: 401, anchorsSat: 0 });
    channel.car.stop();
  });

  test("the bridge closes alone: the words are enough to take what it pays", async () => {
    const channel = await opened("alone", [1_500_000]);
    channel.car.stop();
    await scene.world.bridge.close(`${channel.funding}:0`, true);
    await untilClosed(channel);
    await recoverAll(scene);
    const books = await booksOf(scene, channel.car.deviceId, channel.funding);
    expect(told(`${pair.bridge.name} closes alone`, DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: channel.bridgeSat, anchorsSat: 660 });
  });

  test("a device that leaves at its receipt, and is back later, has lost nothing", async () => {
    const { world } = scene;
    const { car, funding } = await opened("leaves", []);
    const feeMsat = pair.bridge.feeMsat(2_000_000);
    await payToll(scene, car, 2_000_000);
    car.stop();
    // Some blocks go by, far fewer than the HTLC has left.
    await world.bitcoind.mine(6);
    const again = await world.startCar(car.deviceId);
    scene.cars.push(again);
    await untilAtRest(again);
    await payToll(scene, again, 1_000_000);
    await untilAtRest(again);
    const channel = (await world.bridge.channels()).find(each => each.funding === `${funding}:0`)!;
    expect(channel.usable).toBe(true);
    const leftMsat = channel.sat * 1000 - 3_000_000 - feeMsat - pair.bridge.feeMsat(1_000_000);
    await waitFor("the balance", () => again.device.balance().balanceSat === Math.floor(leftMsat / 1000));
  });
});

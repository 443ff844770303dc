/** What has failed with real bridges once, a case each. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { askDeposit, askFreeze, askStatus } from "../../owner/client/channel.ts";
import { type Car, untilAtRest, waitFor } from "../e2e/world.ts";
import { booksOf, recoverAll, told, tracked } from "../lifecycle/scene.ts";
import { AS_BRIDGE, LDK_NODE, nameOf } from "./kinds.ts";
import { type BridgeScene, carWith, FEERATE, payToll, startBridges, stopBridges } from "./world.ts";

const DEPOSIT_SAT = 200_000;

describe.each(AS_BRIDGE.map(pair => ({ name: nameOf(pair), pair })))("$name", ({ pair }) => {
  let scene: BridgeScene;
  let car: Car;
  beforeAll(async () => {
    scene = await startBridges(pair);
    await scene.world.startGateway();
    car = await carWith(scene, "car", DEPOSIT_SAT, { payments: 30 });
    await payToll(scene, car, 1_000);
  });
  afterAll(() => stopBridges(scene));

  async function fundingOf({ deviceId }: Car): Promise<string> {
    const { fundingTxid = "" } = await askStatus({ folder: scene.world.ownerFolder, deviceId });
    return fundingTxid;
  }

  async function untilClosed(funding: string): Promise<void> {
    const { bitcoind } = scene.world;
    await waitFor("the close", async () => {
      if ((await bitcoind.rpc<string[]>("getrawmempool")).length > 0) await bitcoind.mine(1);
      return (await bitcoind.rpc("gettxout", [funding, 0, true])) === null;
    });
    await bitcoind.mine(1);
  }

  test("the bridge raises its fee: the next payment arrives all the same", async () => {
    const { world } = scene;
    await world.bridge.setPolicy({ baseMsat: 2_000, ppm: 10, cltvDelta: 100 });
    const receipt = await car.device.pay(await world.toll.invoice(1_000_000, "toll"), { maxFeeMsat: 10_000 });
    expect(receipt).toMatchObject({ amountMsat: 1_000_000, feeMsat: 2_010 });
  });

  test("a destination that is away for a moment is paid when it is back", async () => {
    const { world } = scene;
    await untilAtRest(car);
    const invoice = await world.toll.invoice(1_000_000, "toll");
    await world.toll.stop();
    const paying = car.device.pay(invoice, { maxFeeMsat: 10_000 });
    const failed = expect(paying).rejects.toMatchObject({
      code: expect.stringMatching(/^(payment-failed|no-route)$/),
    });
    await paying.catch(() => {});
    await world.toll.restart();
    await failed;
    await waitFor("the bridge to have it back", async () =>
      (await world.bridge.channels()).some(({ peer, usable }) => peer === world.toll.nodeId && usable),
    );
    const receipt = await car.device.pay(await world.toll.invoice(1_000_000, "toll"), { maxFeeMsat: 10_000 });
    expect(receipt.amountMsat).toBe(1_000_000);
  });

  test("a freeze of the owner's has the bridge close", async () => {
    const frozen = await carWith(scene, "frozen", DEPOSIT_SAT);
    const funding = await fundingOf(frozen);
    await askFreeze({ folder: scene.world.ownerFolder, deviceId: frozen.deviceId });
    frozen.stop();
    await untilClosed(funding);
    await recoverAll(scene);
    expect(
      told(`${pair.bridge.name}: freeze`, DEPOSIT_SAT, await booksOf(scene, frozen.deviceId, funding)),
    ).toBe(0);
  });

  test("a device that leaves at its receipt leaves nothing open that ends its channel", async () => {
    const { world } = scene;
    const leaving = await carWith(scene, "leaving", DEPOSIT_SAT);
    const funding = await fundingOf(leaving);
    await leaving.device.pay(await world.toll.invoice(1_000_000, "toll"), { maxFeeMsat: 10_000 });
    await leaving.device.disconnect();
    leaving.stop();
    // Both see the blocks in which an HTLC that was left would expire, and have time to do what they do then.
    for (let i = 0; i < 15; i++) {
      await world.bitcoind.mine(20);
      await new Promise(resolve => setTimeout(resolve, 1_500));
    }
    expect(await world.bitcoind.rpc("gettxout", [funding, 0, true])).not.toBeNull();
  });

  test("the smallest deposit that the owner is told of opens", async () => {
    const { world } = scene;
    const deviceId = await world.makeDevice("smallest");
    const { minimumSat } = await askDeposit({ folder: world.ownerFolder, deviceId });
    await world.deposit(deviceId, minimumSat);
    const smallest = tracked(scene, await world.startCar(deviceId));
    await world.mineUntil(smallest.device.openChannel());
  });

  test("openChannel() resolves although the bridge refuses at first, as it is a block behind", async () => {
    tracked(scene, await scene.world.makeCar("patient", DEPOSIT_SAT));
  });

  const apart = [
    { what: "5 for us, 25 for the bridge", ours: 5, theirs: 25 },
    { what: "25 for us, 5 for the bridge", ours: 25, theirs: 5 },
    { what: "1 for us, 100 for the bridge", ours: 1, theirs: 100 },
    { what: "100 for us, 1 for the bridge", ours: 100, theirs: 1 },
  ].map(each => {
    // Its least is its estimate for a day, and it waits two minutes for more than we offer.
    const isForced = pair.bridge === LDK_NODE && each.ours < each.theirs;
    return { ...each, isForced, how: isForced ? "ends by a commitment" : "is mutual" };
  });

  test.each(apart)(
    "a mutual close with feerates of $what sat/vB $how",
    async ({ what, ours, theirs, isForced }) => {
      scene.estimates.gateway.set(FEERATE);
      scene.estimates.bridge.set(FEERATE);
      await scene.world.bridge.sync?.();
      await scene.world.stopGateway();
      await scene.world.startGateway();
      const closing = await carWith(scene, `closing ${ours} ${theirs}`, DEPOSIT_SAT);
      await closing.device.pay(await scene.world.toll.invoice(2_000_000, "toll"), { maxFeeMsat: 10_000 });
      await untilAtRest(closing);
      const funding = await fundingOf(closing);
      scene.estimates.gateway.set(ours);
      scene.estimates.bridge.set(theirs);
      await scene.world.bridge.sync?.();
      await scene.world.stopGateway();
      await scene.world.startGateway();
      await closing.device.connect();
      void closing.device.close().catch(() => {});
      await untilClosed(funding);
      if (isForced) await recoverAll(scene);
      const books = await booksOf(scene, closing.deviceId, funding);
      expect(told(`${pair.bridge.name}: mutual close, ${what}`, DEPOSIT_SAT, books)).toBe(0);
      expect(books.anchorsSat).toBe(isForced ? 660 : 0);
      closing.stop();
    },
  );
});

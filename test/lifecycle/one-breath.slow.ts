/** A bridge that says in one breath that a payment has arrived and that the channel is over. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { askStatus } from "../../owner/client/channel.ts";
import { untilAtRest, waitFor } from "../e2e/world.ts";
import { carOf, payTolls, type Scene, startScene, stopScene } from "./scene.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => stopScene(scene));

test("a preimage, the revocation for another payment and an error that come together end only this channel", async () => {
  const { world } = scene;
  const { bridge, bridgeWire, toll } = world;
  const car = await carOf(scene, "breathless", 300_000);
  const other = await carOf(scene, "other", 300_000);
  await waitFor("the first one to be back", () => car.device.isConnected());
  await payTolls(scene, car, [1_000_000]);
  await untilAtRest(car);
  const { fundingTxid } = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
  const { channelId } = bridge.channels().find(({ funding }) => funding === `${fundingTxid}:0`)!;
  const pay = (amountMsat: number) => car.device.pay(toll.invoice(amountMsat), { maxFeeMsat: 5_000 });

  const isHeld = toll.hold();
  const first = pay(1_000_000);
  await isHeld;
  bridgeWire.hold();
  const more = async (what: string, act: () => unknown) => {
    const before = bridgeWire.heldBytes;
    await act();
    await waitFor(what, () => bridgeWire.heldBytes > before);
  };
  await more("the preimage", () => toll.claimHeld());
  await more("the revocation", () => void pay(2_000_000).catch(() => {}));
  await more("the error", () => bridge.close(channelId, true));
  bridgeWire.release();

  expect((await first).amountMsat).toBe(1_000_000);
  await waitFor("the gateway to see the end", () => car.device.balance().phase !== "open");
  await payTolls(scene, other, [1_000_000]);
  await untilAtRest(other);
});

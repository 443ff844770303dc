/** A device that is switched off once it has its receipt: whoever asks it first leaves no payment for the chain to decide. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { type Car, waitFor } from "../e2e/world.ts";
import { carOf, type Scene, startScene, stopScene } from "./scene.ts";

const DEPOSIT_SAT = 200_000;
let scene: Scene;

beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => stopScene(scene));

/** Payments that the bridge still finds in the car's channel. */
function inFlight(): number {
  const { bridge, toll } = scene.world;
  return bridge.node
    .channels()
    .filter(each => Buffer.from(each.get_counterparty().get_node_id()).toString("hex") !== toll.peer.nodeId)
    .reduce((sum, each) => sum + each.get_pending_inbound_htlcs().length, 0);
}

const pay = ({ device }: Car) => device.pay(scene.world.toll.invoice(1_000_000), { maxFeeMsat: 5_000 });

test("a power cut at the receipt leaves the payment in the channel; disconnect() and settled() do not", async () => {
  const { world } = scene;
  let car = await carOf(scene, "hasty", DEPOSIT_SAT);
  const again = async () => {
    car = await world.startCar(car.deviceId);
    scene.cars.push(car);
    await car.device.settled();
  };

  await pay(car);
  car.stop();
  // The bridge has been told nothing of it: it waits for the revocation.
  expect(inFlight()).toBe(1);
  await again();
  expect(inFlight()).toBe(0);

  await pay(car);
  await car.device.disconnect();
  expect(car.device.isConnected()).toBe(false);
  await waitFor("the gateway to pass it on", () => inFlight() === 0);
  car.stop();
  await again();

  await pay(car);
  await car.device.settled();
  car.stop();
  await waitFor("the gateway to pass it on", () => inFlight() === 0);

  // A payment that nobody has decided does not keep a device that is to leave.
  await again();
  const held = world.toll.hold();
  const paying = car.device.pay(world.toll.invoice(1_000_000), { maxFeeMsat: 5_000 });
  await held;
  const left = car.device.disconnect();
  await expect(paying).rejects.toMatchObject({ code: "payment-pending" });
  await left;
  car.stop();
  world.toll.claimHeld();
  await again();
  await waitFor("the payment to settle", () => inFlight() === 0);
  car.stop();
});

test.each(["SIGTERM", "end of input"])(
  "a device's process that is ended by %s leaves none either",
  async how => {
    const { world } = scene;
    const { deviceId, stop } = await carOf(scene, `process ${how}`, DEPOSIT_SAT);
    stop();
    const program = world.runCarProgram(deviceId);
    await program.line(line => line["event"] === "ready");
    await program.ask(`pay ${world.toll.invoice(1_000_000)} 5000`);
    if (how === "SIGTERM") expect(await program.kill("SIGTERM")).toBe(0);
    else await program.result();
    await waitFor("the gateway to pass it on", () => inFlight() === 0);
  },
);

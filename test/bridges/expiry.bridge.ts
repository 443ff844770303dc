/** The gateway stands still while a payment waits at its destination, until long after that has expired. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { openDevice } from "../../device/device.ts";
import { askStatus } from "../../owner/client/channel.ts";
import { lookAtExit } from "../../owner/recovery/held-exits.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import { type Car, untilAtRest, waitFor } from "../e2e/world.ts";
import { booksOf, type ChannelSummary, recoverAll, told, tracked } from "../lifecycle/scene.ts";
import { AS_BRIDGE, nameOf } from "./kinds.ts";
import { type BridgeScene, carWith, PAYING, payToll, startBridges, stopBridges, untilHeld } from "./world.ts";

const DEPOSIT_SAT = 300_000;
const PAID_MSAT = 1_500_000;
const HELD_MSAT = 2_000_000;
/** Blocks that go by after the expiry. */
const LATE_BLOCKS = 20;
/** Until an invoice of these tests has expired. */
const LATER_MS = 2 * 3_600_000;

describe.each(AS_BRIDGE.map(pair => ({ name: nameOf(pair), pair })))("$name", ({ pair }) => {
  let scene: BridgeScene;

  beforeAll(async () => {
    scene = await startBridges(pair);
    await scene.world.startGateway();
  });
  afterAll(() => stopBridges(scene));

  interface Waiting {
    readonly deviceId: string;
    readonly funding: string;
    readonly invoice: string;
    readonly hash: string;
    readonly expiry: number;
    settle(): Promise<void>;
  }

  /** A channel with a payment that its destination holds. The gateway has stopped, and the device is off. */
  async function stoppedInTheMiddle(name: string): Promise<Waiting> {
    const { world } = scene;
    const car = await carWith(scene, name, DEPOSIT_SAT);
    const { deviceId } = car;
    await payToll(scene, car, PAID_MSAT);
    await untilAtRest(car);
    const { fundingTxid: funding = "" } = await askStatus({ folder: world.ownerFolder, deviceId });
    const { invoice, settle, ...held } = await world.toll.heldInvoice(HELD_MSAT);
    const paying = car.device.pay(invoice, PAYING);
    await untilHeld({ invoice, settle, ...held }, paying);
    const htlcs = () => lookAtExit(world.folderOf(deviceId)).exit.view.htlcs;
    await waitFor("the HTLC in the exit", () => htlcs().length === 1);
    await world.stopGateway();
    car.stop();
    await expect(paying).rejects.toBeDefined();
    const hash = toHex(decodeInvoice(invoice, nobleCurve).paymentHash);
    return { deviceId, funding, invoice, hash, expiry: htlcs()[0]!.cltvExpiry, settle };
  }

  /** Slowly enough for the nodes to do what they do at each block. */
  async function mineTo(height: number): Promise<void> {
    const { bitcoind } = scene.world;
    while ((await bitcoind.rpc<number>("getblockcount")) < height) {
      await bitcoind.mine(5);
      await new Promise(resolve => setTimeout(resolve, 400));
    }
  }

  async function untilClosed({ funding }: Waiting): Promise<void> {
    const { bitcoind } = scene.world;
    await waitFor("the bridge to close", async () => {
      if ((await bitcoind.rpc<string[]>("getrawmempool")).length > 0) await bitcoind.mine(1);
      return (await bitcoind.rpc("gettxout", [funding, 0, true])) === null;
    });
  }

  /** The device as it is when the invoice can't be paid any more. */
  async function carLater({ deviceId }: Waiting): Promise<Car> {
    const car = scene.world.openCar(deviceId);
    const device = openDevice({ ...car.board, now: () => Date.now() + LATER_MS });
    const stop = () => {
      void device.disconnect();
      void device.disconnect();
      car.stop();
    };
    const later = tracked(scene, { ...car, device, stop });
    await device.connect();
    return later;
  }

  /** Mines on until it has happened. */
  async function mineUntilDone<T>(happening: Promise<T>): Promise<T> {
    let over = false;
    const watched = happening.finally(() => {
      over = true;
    });
    watched.catch(() => {});
    while (!over) {
      await scene.world.bitcoind.mine(1);
      await Promise.race([watched.catch(() => {}), new Promise(resolve => setTimeout(resolve, 1_000))]);
    }
    return watched;
  }

  async function counted(what: string, { deviceId, funding }: Waiting): Promise<ChannelSummary> {
    await recoverAll(scene);
    const books = await booksOf(scene, deviceId, funding);
    expect(told(`${pair.bridge.name}: ${what}`, DEPOSIT_SAT, books)).toBe(0);
    return books;
  }

  const sentMsat = PAID_MSAT + pair.bridge.feeMsat(PAID_MSAT);

  test("a payment that came to nothing meanwhile comes back by the chain, and the device hears that", async () => {
    const { world } = scene;
    const waiting = await stoppedInTheMiddle("came to nothing");
    await mineTo(waiting.expiry + LATE_BLOCKS);
    // Before its expiry the destination has let it go: for the bridge that is no reason to close.
    expect(await world.bitcoind.rpc("gettxout", [waiting.funding, 0, true])).not.toBeNull();
    await world.startGateway();
    await untilClosed(waiting);
    const car = await carLater(waiting);
    const pay = () => car.device.pay(waiting.invoice, PAYING);
    await expect(mineUntilDone(pay())).rejects.toMatchObject({ code: "payment-channel-ended" });
    await waitFor("the end", () => car.device.balance().phase === "none");
    expect(await world.toll.receivedMsat(waiting.hash)).toBe(0);
    const books = await counted("expired while the gateway stood still", waiting);
    expect(books).toMatchObject({ bridgeSat: Math.floor(sentMsat / 1000), anchorsSat: 660 });
  });

  // The plain LDK of these tests closes too, and has no coins for what comes then.
  const testClaim = pair.bridge.claimsHtlcs ? test : test.skip;
  testClaim(
    "a payment that arrived meanwhile is taken by the bridge on the chain, and the device has its receipt",
    async () => {
      const { world } = scene;
      const waiting = await stoppedInTheMiddle("arrived");
      await waiting.settle();
      await waitFor(
        "the destination",
        async () => (await world.toll.receivedMsat(waiting.hash)) === HELD_MSAT,
      );
      await mineTo(waiting.expiry + LATE_BLOCKS);
      expect(await world.bitcoind.rpc("gettxout", [waiting.funding, 0, true])).toBeNull();
      await world.startGateway();
      const car = tracked(scene, await world.startCar(waiting.deviceId));
      const receipt = await mineUntilDone(car.device.pay(waiting.invoice, PAYING));
      expect(receipt).toMatchObject({ hash: waiting.hash, amountMsat: HELD_MSAT });
      expect(toHex(sha256(fromHex(receipt.preimage)))).toBe(waiting.hash);
      await waitFor("the end", () => car.device.balance().phase === "none");
      expect(await car.device.pay(waiting.invoice, PAYING)).toEqual(receipt);
      expect(await world.toll.receivedMsat(waiting.hash)).toBe(HELD_MSAT);
      const books = await counted("arrived while the gateway stood still", waiting);
      const takenMsat = sentMsat + HELD_MSAT + pair.bridge.feeMsat(HELD_MSAT);
      expect(books).toMatchObject({ bridgeSat: Math.floor(takenMsat / 1000), anchorsSat: 660 });
    },
  );
});

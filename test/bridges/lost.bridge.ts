/** A bridge that has lost what it had: it is gone for good, comes back from its backup, or from an old copy of itself. */
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "@jest/globals";
import { askClose, askStatus } from "../../owner/client/channel.ts";
import { lookAtExit } from "../../owner/recovery/held-exits.ts";
import type { LndNode } from "../../scripts/nodes/lnd.ts";
import { type Car, untilAtRest, waitFor } from "../e2e/world.ts";
import {
  booksOf,
  changeScript,
  coinOf,
  exitOf,
  homeScript,
  Ledger,
  recoverAll,
  told,
} from "../lifecycle/scene.ts";
import { AS_BRIDGE, LND } from "./kinds.ts";
import { type BridgeScene, carWith, PAYING, payToll, startBridges, stopBridges, untilHeld } from "./world.ts";

const DEPOSIT_SAT = 300_000;
const COIN_SAT = 50_000;
const PAID_MSAT = [1_500_000, 400_000];

const pair = AS_BRIDGE.find(({ bridge }) => bridge === LND);

(pair ? describe : describe.skip)("LND as bridge, LDK behind it", () => {
  let scene: BridgeScene;
  afterEach(() => stopBridges(scene));

  async function start(): Promise<LndNode> {
    scene = await startBridges(pair!);
    await scene.world.startGateway();
    return scene.world.bridge as LndNode;
  }

  interface Opened {
    readonly car: Car;
    readonly deviceId: string;
    readonly funding: string;
    /** What the bridge has of the channel. */
    readonly bridgeSat: number;
  }

  async function opened(name: string): Promise<Opened> {
    const { world } = scene;
    const car = await carWith(scene, name, DEPOSIT_SAT);
    const { deviceId } = car;
    const bridgeMsat = await paid(car);
    const { fundingTxid: funding = "" } = await askStatus({ folder: world.ownerFolder, deviceId });
    return { car, deviceId, funding, bridgeSat: Math.floor(bridgeMsat / 1000) };
  }

  /** Pays some tolls, and waits until they are settled; what the bridge got of them, msat. */
  async function paid(car: Car): Promise<number> {
    let msat = 0;
    for (const amountMsat of PAID_MSAT) {
      await payToll(scene, car, amountMsat);
      msat += amountMsat + pair!.bridge.feeMsat(amountMsat);
    }
    await untilAtRest(car);
    return msat;
  }

  const bridgeFolder = () => join(scene.world.folder, "bridge");

  async function isOpen({ funding }: Opened): Promise<boolean> {
    return (await scene.world.bitcoind.rpc("gettxout", [funding, 0, true])) !== null;
  }

  async function untilClosed(channel: Opened): Promise<void> {
    const { bitcoind } = scene.world;
    await waitFor("the close", async () => {
      if ((await bitcoind.rpc<string[]>("getrawmempool")).length > 0) await bitcoind.mine(1);
      return !(await isOpen(channel));
    });
  }

  /** What the owner gets with the exit, counted; the transaction that closed the channel. */
  async function broughtHome(what: string, channel: Opened): Promise<string> {
    channel.car.stop();
    await recoverAll(scene, { exits: [exitOf(scene, channel.deviceId)] });
    const books = await booksOf(scene, channel.deviceId, channel.funding);
    expect(told(`LND: ${what}`, DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: channel.bridgeSat, anchorsSat: 660 });
    return books.closes[0]!;
  }

  /** The bridge's output of this close has come to its wallet. */
  async function untilBridgeHas(close: string, { bridgeSat }: Opened): Promise<void> {
    const { bitcoind } = scene.world;
    const ledger = new Ledger(scene.world);
    const { vout } = await ledger.transaction(close);
    const index = vout.findIndex(({ value }) => Math.round(value * 1e8) === bridgeSat);
    await waitFor("the bridge to take its part", async () => {
      await bitcoind.mine(1);
      await new Promise(resolve => setTimeout(resolve, 500));
      return (await bitcoind.rpc("gettxout", [close, index])) === null;
    });
    const sweep = (await ledger.spenderOf(close, index))!;
    const bridge = scene.world.bridge as LndNode;
    await waitFor("it to be its own", async () => (await bridge.transactions()).includes(sweep));
  }

  test("gone for good: a channel at rest comes home by the exit, one with a payment in it by the gateway's own close", async () => {
    await start();
    const { world } = scene;
    const resting = await opened("resting");
    const busy = await opened("busy");
    const held = await world.toll.heldInvoice(2_000_000);
    const paying = busy.car.device.pay(held.invoice, PAYING);
    await untilHeld(held, paying);
    const htlcs = () => lookAtExit(world.folderOf(busy.deviceId)).exit.view.htlcs;
    await waitFor("the HTLC in the exit", () => htlcs().length === 1);
    await world.bridge.kill();
    rmSync(bridgeFolder(), { recursive: true });

    // A mutual close takes two: nothing comes of it, and nothing breaks.
    await askClose({ folder: world.ownerFolder, deviceId: resting.deviceId }).catch(() => {});
    const { bitcoind } = world;
    const expiry = htlcs()[0]!.cltvExpiry;
    while ((await bitcoind.rpc<number>("getblockcount")) < expiry) await bitcoind.mine(10);
    await waitFor("the gateway to close alone", async () => {
      await bitcoind.mine(1);
      await new Promise(resolve => setTimeout(resolve, 500));
      return !(await isOpen(busy));
    });
    expect(await isOpen(resting)).toBe(true);
    await broughtHome("gone for good", resting);

    busy.car.stop();
    await expect(paying).rejects.toMatchObject({ code: "payment-pending" });
    const coin = await coinOf(scene, COIN_SAT);
    const published = await recoverAll(scene, { exits: [exitOf(scene, busy.deviceId)], coin });
    const ledger = new Ledger(world);
    const close = (await ledger.spenderOf(busy.funding, 0))!;
    let feesSat = 0;
    for (const each of new Set([busy.funding, close, ...published])) feesSat += await ledger.feeOf(each);
    const homeSat = await ledger.unspentSat([homeScript(scene, busy.deviceId)]);
    const changeSat = await ledger.unspentSat([changeScript(scene)]);
    process.stdout.write(
      `LND: gone for good with a payment in flight: ${DEPOSIT_SAT} + coin ${COIN_SAT} sat = ${homeSat} home + ${changeSat} change + ${busy.bridgeSat} bridge + 660 anchors + ${feesSat} fees\n`,
    );
    expect(homeSat + changeSat).toBe(DEPOSIT_SAT + COIN_SAT - busy.bridgeSat - 660 - feesSat);
  });

  test("put back from its channel backup: our side closes for it, and each has what is its own", async () => {
    const bridge = await start();
    const channel = await opened("backed up");
    const backup = await bridge.channelBackup();
    await bridge.kill();
    rmSync(bridgeFolder(), { recursive: true });
    await bridge.restore(backup);
    await untilClosed(channel);
    const close = await broughtHome("put back from its channel backup", channel);
    await untilBridgeHas(close, channel);
  });

  test("put back from an old copy of its data: our side closes for it, and each has what is its own", async () => {
    const bridge = await start();
    const before = await opened("old copy");
    const copy = join(scene.world.folder, "bridge-before");
    await bridge.stop();
    cpSync(bridgeFolder(), copy, { recursive: true });
    await bridge.restart();
    await waitFor("the bridge to be back", async () => (await bridge.channels()).every(each => each.usable));
    const moreMsat = await paid(before.car);
    const channel = { ...before, bridgeSat: before.bridgeSat + Math.floor(moreMsat / 1000) };
    await bridge.stop();
    rmSync(bridgeFolder(), { recursive: true });
    cpSync(copy, bridgeFolder(), { recursive: true });
    await bridge.restart();
    await untilClosed(channel);
    const close = await broughtHome("put back from an old copy", channel);
    await untilBridgeHas(close, channel);
  });
});

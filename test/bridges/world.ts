/** The world of test/e2e with real bridges and destinations. Gateway and bridge have feerate estimates of their own. */
import { join } from "node:path";
import type { PayOptions, Receipt } from "../../device/api.ts";
import { Estimates } from "../../scripts/nodes/estimates.ts";
import type { HeldInvoice, RealNode } from "../../scripts/nodes/node.ts";
import { codeOf } from "../../src/errors.ts";
import { OWNER_WORDS } from "../e2e/made-devices.ts";
import {
  type Car,
  type DeviceOptions,
  type Ground,
  mineUntil,
  type Peers,
  World,
  waitFor,
} from "../e2e/world.ts";
import { type Scene, stopScene, tracked } from "../lifecycle/scene.ts";
import type { Pair } from "./kinds.ts";

export interface BridgeScene extends Scene<World<RealNode, RealNode>> {
  readonly pair: Pair;
  /** What each believes of the fee market. */
  readonly estimates: { readonly gateway: Estimates; readonly bridge: Estimates };
  /** A payment has arrived. */
  wayKnown: boolean;
}

/** What both believe at first, sat/vB. */
export const FEERATE = 4;
/** How the payments of these tests are made: at what cost, and without giving up, however slow the machine is. */
export const MAX_FEE_MSAT = 5_000;
export const PAYING: PayOptions = { maxFeeMsat: MAX_FEE_MSAT, timeoutMs: 86_400_000 };
const CHANNEL_SAT = 10_000_000;
const COINS_SAT = 20_000_000;
/** LDK Node takes no channel while it has nothing to get it through the chain with. */
const TOLL_COINS_SAT = 100_000;

/** Everything but the gateway. */
export async function startBridges(pair: Pair): Promise<BridgeScene> {
  const estimates: Estimates[] = [];
  const world = await World.startWith(ground => startPeers(ground, pair, estimates));
  const [gateway, bridge] = estimates as [Estimates, Estimates];
  return { world, words: OWNER_WORDS, cars: [], pair, estimates: { gateway, bridge }, wayKnown: false };
}

async function startPeers(
  { folder, bitcoind, log }: Ground,
  pair: Pair,
  estimates: Estimates[],
): Promise<Peers<RealNode, RealNode>> {
  for (let i = 0; i < 2; i++) estimates.push(await Estimates.of(bitcoind.rpcOptions, FEERATE));
  const [forGateway, forBridge] = estimates as [Estimates, Estimates];
  const options = (name: string) => ({
    name,
    dataDir: join(folder, name),
    rpc: forBridge.rpcOptions,
    onLog: (line: string) => log.debug(line),
  });
  const bridge = await pair.bridge.start(options("bridge"));
  const toll = await pair.toll.start({ ...options("toll"), args: pair.toll.gossipsAtOnce });
  await bridge.fund(bitcoind, COINS_SAT);
  await toll.fund(bitcoind, TOLL_COINS_SAT);
  const request = { peer: toll.address, sat: CHANNEL_SAT, pushSat: CHANNEL_SAT / 10, announced: true };
  await mineUntil(bitcoind, bridge.open(request));
  return {
    bridge,
    toll,
    gatewayRpc: forGateway.rpcOptions,
    async stop() {
      await bridge.stop();
      await toll.stop();
      for (const each of estimates) await each.stop();
    },
  };
}

/** A car with an open channel. */
export async function carWith(
  scene: BridgeScene,
  name: string,
  depositSat: number,
  options?: DeviceOptions,
): Promise<Car> {
  const { world } = scene;
  const deviceId = await world.makeDevice(name, options);
  await world.deposit(deviceId, depositSat);
  const car = tracked(scene, await world.startCar(deviceId));
  await world.mineUntil(car.device.openChannel());
  return car;
}

/**
 * Pays the destination. The gateway may not have heard of the channel behind the bridge yet, since both of its ends have
 * to announce it first: then there is no way, which is waited for with the scene's first payment.
 */
export async function payToll(scene: BridgeScene, { device }: Car, amountMsat: number): Promise<Receipt> {
  for (;;) {
    try {
      const invoice = await scene.world.toll.invoice(amountMsat, "toll");
      const receipt = await device.pay(invoice, PAYING);
      scene.wayKnown = true;
      return receipt;
    } catch (error) {
      if (scene.wayKnown || codeOf(error) !== "no-route") throw error;
    }
    await new Promise(resolve => setTimeout(resolve, 500));
  }
}

/** Resolves when the destination holds the payment; rejects if the payment fails before. */
export async function untilHeld(held: HeldInvoice, paying: Promise<unknown>): Promise<void> {
  let failure: unknown;
  paying.catch(error => {
    failure = error;
  });
  await waitFor("the payment to be held", () => {
    if (failure) throw failure;
    return held.isHeld();
  });
}

export const stopBridges = (scene: BridgeScene | undefined): Promise<void> => stopScene(scene);

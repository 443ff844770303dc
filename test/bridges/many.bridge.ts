/** More devices want a channel at once than the bridge takes from peers that it does not know. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import * as ldk from "lightningdevkit";
import { type Chain, createChain } from "../../gateway/chain/chain.ts";
import { LightningNode } from "../../gateway/lightning/node.ts";
import { type LightningRuntime, startRuntime } from "../../gateway/lightning/runtime.ts";
import type { NodeStore } from "../../gateway/lightning/store.ts";
import { createLog } from "../../gateway/log.ts";
import { fromHex } from "../../src/bytes/bytes.ts";
import { tracked } from "../lifecycle/scene.ts";
import { LDK } from "./kinds.ts";
import { type BridgeScene, payToll, startBridges, stopBridges } from "./world.ts";

/** Peers that LDK keeps channels for which are not funded yet (MAX_UNFUNDED_CHANNEL_PEERS). */
const PLACES = 50;
/** With LNGATE_DEVICES=64 all of them are devices; otherwise most are strangers, as devices take long to make. */
const DEVICES = Number(process.env["LNGATE_DEVICES"] ?? 4);
const STRANGERS = DEVICES > PLACES ? 0 : PLACES - 3;
const DEPOSIT_SAT = 100_000;

describe("LDK as bridge, LDK behind it", () => {
  let scene: BridgeScene;
  let chain: Chain;
  const strangers: LightningNode[] = [];

  beforeAll(async () => {
    scene = await startBridges({ bridge: LDK, toll: LDK });
  });
  afterAll(async () => {
    for (const each of strangers) await each.stop();
    await chain?.stop();
    await stopBridges(scene);
  });

  /** Asks the bridge for a channel, and leaves it at that. */
  async function stranger(runtime: LightningRuntime): Promise<LightningNode> {
    const { bridge } = scene.world;
    const keys = ldk.KeysManager.constructor_new(new Uint8Array(randomBytes(32)), 1n, 0);
    let isAccepted = false;
    const node = await LightningNode.start({
      runtime,
      keys: {
        entropySource: keys.as_EntropySource(),
        nodeSigner: keys.as_NodeSigner(),
        signerProvider: keys.as_SignerProvider(),
      },
      store: storeInMemory(),
      log: createLog("error", () => {}),
      routing: false,
      onEvent: event => {
        isAccepted ||= event instanceof ldk.Event_FundingGenerationReady;
      },
      onFatal: error => {
        throw error;
      },
    });
    const nodeId = fromHex(bridge.nodeId);
    await node.connect({ nodeId, host: "127.0.0.1", port: bridge.port });
    node.createChannel(nodeId, DEPOSIT_SAT, 0, 1n);
    await node.until("channel-refused", () => isAccepted, 300_000);
    return node;
  }

  test(`${DEVICES} devices and ${STRANGERS} strangers at once: all devices have their channels in the end`, async () => {
    const { world } = scene;
    const ids: string[] = [];
    if (STRANGERS === 0) await world.startGateway();
    for (let i = 0; i < DEVICES; i++) {
      const device = { payments: 1 };
      const name = `device ${i}`;
      ids.push(await (STRANGERS === 0 ? world.pairDevice(name, device) : world.makeDevice(name, device)));
    }
    if (STRANGERS > 0) {
      chain = createChain({
        rpc: world.bitcoind.rpcOptions,
        network: "regtest",
        log: createLog("error", () => {}),
      });
      await chain.start();
      const runtime = await startRuntime(
        chain,
        createLog("error", () => {}),
      );
      for (let i = 0; i < STRANGERS; i++) strangers.push(await stranger(runtime));
      await world.startGateway();
    }

    for (const id of ids) await world.deposit(id, DEPOSIT_SAT);
    await world.bitcoind.mine(1);
    const cars = await Promise.all(ids.map(async id => tracked(scene, await world.startCar(id))));
    await world.mineUntil(Promise.all(cars.map(car => car.device.openChannel())));

    const channels = (await world.bridge.channels()).filter(({ peer }) => peer !== world.toll.nodeId);
    expect(channels.filter(({ usable }) => usable)).toHaveLength(DEVICES);
    // Where the gateway's devices would fill the places alone it does not let them; others it has to wait for.
    const refusals = world.log.filter(line => line.includes("code=bridge-refuses"));
    if (STRANGERS === 0) expect(refusals).toEqual([]);
    else expect(refusals.length).toBeGreaterThan(0);
    await payToll(scene, cars.at(-1)!, 1_000_000);
  });
});

function storeInMemory(): NodeStore {
  const stored = new Map<string, Uint8Array>();
  return {
    get: key => stored.get(key),
    keys: begin => [...stored.keys()].filter(key => key.startsWith(begin)).sort(),
    async write(rows) {
      for (const [key, value] of rows) {
        if (value) stored.set(key, value);
        else stored.delete(key);
      }
    },
  };
}

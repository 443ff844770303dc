import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import * as ldk from "lightningdevkit";
import { open } from "lmdb";
import { readKnowledge } from "../../gateway/lightning/knowledge.ts";
import { channelsIn } from "../../gateway/lightning/peers/gossip.ts";
import type { NodePeers } from "../../gateway/lightning/peers/peers.ts";
import type { LightningRuntime } from "../../gateway/lightning/runtime.ts";
import { openNodeStore } from "../../gateway/lightning/store.ts";
import type { PeerChannel } from "../../scripts/peer/api.ts";
import type { PlainPeer } from "../../scripts/peer/plain-peer.ts";
import { fromHex } from "../../src/bytes/bytes.ts";
import { graphTrouble } from "../../src/lightning/graph-knowledge.ts";
import { quiet } from "./quiet.ts";
import { until, World } from "./world.ts";

/** What the bridge takes at first. */
const FEE_MSAT = 1_000;

let world: World;
let folder: string;
let environment: ReturnType<typeof open<unknown, string>>;
/** With a graph of its own, as a gateway's nodes; it hears of the network from the bridge alone. */
let car: PlainPeer;
let carRuntime: LightningRuntime;
let bridge: PlainPeer;
let toll: PlainPeer;
let announced: PeerChannel;
const asked: bigint[] = [];

beforeAll(async () => {
  world = await World.start();
  folder = mkdtempSync(join(tmpdir(), "lngate-learning-"));
  environment = open<unknown, string>({ path: folder, overlappingSync: false });
  const store = openNodeStore(environment.openDB({ name: "lightning", encoding: "binary" }), "shared");
  carRuntime = await world.ownRuntime(store);
  bridge = await world.peer("bridge", { behaviour: quiet(world.runtime.graph, asked) });
  toll = await world.peer("toll");
  const opened = bridge.open(toll.address, 2_000_000, { announced: true });
  await until(async () => (await world.bitcoind.rpc<string[]>("getrawmempool")).length > 0, "the funding");
  await world.mine(7);
  announced = await opened;
  await until(() => channelsIn(world.runtime.graph).length === 1, "the announcement");
  await until(() => toll.channels()[0]?.usable, "the channel");
  car = await world.peer("car", { runtime: carRuntime, routing: false });
  await world.open(car, bridge, 1_000_000);
});
afterAll(async () => {
  await world?.stop();
  await carRuntime?.stop();
  await environment?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** The bridge asks so much from now on, and of nobody less: LDK takes what it asked before for a while. */
function raiseFee(baseMsat: number): void {
  for (const msat of [baseMsat - 1, baseMsat]) {
    const config = ldk.ChannelConfig.constructor_default();
    config.set_forwarding_fee_base_msat(msat);
    const id = ldk.ChannelId.constructor_new(fromHex(announced.channelId));
    const set = bridge.node.manager.update_channel_config(toll.node.nodeId, [id], config);
    expect(set).toBeInstanceOf(ldk.Result_NoneAPIErrorZ_OK);
  }
  bridge.node.wake();
}

/** The bridge can't say that its answer is complete, and before that no other question may follow: another connection. */
async function reconnect(): Promise<void> {
  const peers = Reflect.get(bridge.node, "peers") as NodePeers;
  peers.manager.disconnect_by_node_id(car.node.nodeId);
  bridge.node.wake();
  await until(() => !car.node.isConnected(bridge.node.nodeId), "the end of the connection");
  await until(() => car.node.channels()[0]?.get_is_usable(), "the connection");
}

describe("behind a bridge that answers questions only", () => {
  test("the network is learnt by asking, and a payee without a hint is paid", async () => {
    await until(() => channelsIn(carRuntime.graph).length === 1, "the graph");
    expect(asked).toEqual([...channelsIn(carRuntime.graph)]);
    await until(async () => car.node.channels()[0]?.get_is_usable(), "the channel");
    expect((await car.pay(toll.invoice(50_000, "toll"))).feeMsat).toBe(FEE_MSAT);
  });

  test("a node that knows nothing of the network says so; one that knows it says that it does not know the payee", async () => {
    const deaf = await world.peer("deaf", {
      runtime: await world.ownRuntime(),
      routing: false,
      behaviour: { gossip: () => ldk.IgnoringMessageHandler.constructor_new().as_RoutingMessageHandler() },
    });
    await world.open(deaf, bridge, 500_000);
    await expect(deaf.pay(toll.invoice(50_000, "toll"))).rejects.toMatchObject({
      code: "no-route",
      message: expect.stringContaining("knows nothing of the network yet"),
    });
    await world.end(deaf);
    const stranger = await world.peer("stranger");
    await expect(car.pay(stranger.invoice(50_000, "toll"))).rejects.toMatchObject({
      code: "no-route",
      message: expect.stringContaining("no way to the payee is known"),
    });
  });

  test("a payee that wants it locked for longer than LDK allows is told as that", async () => {
    const description = ldk.Description.constructor_new("toll") as ldk.Result_DescriptionCreationErrorZ_OK;
    const made = toll.node.manager.create_bolt11_invoice(
      ldk.Option_u64Z.constructor_some(50_000n),
      ldk.Bolt11InvoiceDescription.constructor_direct(description.res),
      // Dated by the last block.
      ldk.Option_u32Z.constructor_some(86_400),
      ldk.Option_u16Z.constructor_some(1_100),
      ldk.Option_ThirtyTwoBytesZ.constructor_none(),
    );
    const text = (made as ldk.Result_Bolt11InvoiceSignOrCreationErrorZ_OK).res.to_str();
    await expect(car.pay(text)).rejects.toMatchObject({
      code: "route-too-long",
      message: "every way would lock the payment for more than 1008 blocks",
    });
  });

  test("what was learnt is stored soon, and said without LDK", async () => {
    const store = openNodeStore(environment.openDB({ name: "lightning", encoding: "binary" }), "shared");
    await until(() => readKnowledge(store)?.channels === 1, "the graph in the store");
    const again = await world.ownRuntime(store);
    expect(channelsIn(again.graph)).toEqual(channelsIn(carRuntime.graph));
    expect(again.knowledge()).toEqual(carRuntime.knowledge());
    const { changedAt } = again.knowledge();
    expect(graphTrouble(again.knowledge(), changedAt + 3600)).toBeUndefined();
    expect(graphTrouble(again.knowledge(), changedAt + 49 * 3600)).toMatch(
      /nothing new of the network for 49 h/,
    );
    expect(graphTrouble({ channels: 0, changedAt: 0 }, changedAt)).toMatch(/knows no channel of the network/);
  });

  test("a fee that was raised in silence is learnt from the failure, and the same call pays", async () => {
    await reconnect();
    raiseFee(3 * FEE_MSAT);
    const before = asked.length;
    const paid = await car.pay(toll.invoice(60_000, "toll"));
    expect(paid.feeMsat).toBe(3 * FEE_MSAT);
    expect(asked.length).toBe(before + 1);
    // Others know it by now.
    expect((await car.pay(toll.invoice(70_000, "toll"))).feeMsat).toBe(3 * FEE_MSAT);
    expect(asked.length).toBe(before + 1);
  });

  test("a fee that was raised above the limit ends the payment, and says what it would cost", async () => {
    await reconnect();
    raiseFee(5 * FEE_MSAT);
    const paying = car.pay(toll.invoice(60_000, "toll"), 4 * FEE_MSAT);
    await expect(paying).rejects.toMatchObject({
      code: "fee-limit-too-low",
      message: "the cheapest way costs 5000 msat, and the limit is 4000",
    });
  });

  test("a channel that is gone, as its node says for good, stays in everybody's graph", async () => {
    bridge.close(announced.channelId);
    await until(() => toll.channels().length === 0, "the close");
    await expect(car.pay(toll.invoice(60_000, "toll"))).rejects.toMatchObject({ code: "payment-failed" });
    expect(channelsIn(carRuntime.graph)).toHaveLength(1);
  });
});

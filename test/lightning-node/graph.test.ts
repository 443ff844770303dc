import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { open } from "lmdb";
import { startRuntime } from "../../gateway/lightning/runtime.ts";
import { openNodeStore } from "../../gateway/lightning/store.ts";
import type { PlainPeer } from "../../scripts/peer/plain-peer.ts";
import { until, World } from "./world.ts";

let world: World;
let folder: string;
beforeAll(async () => {
  world = await World.start();
  folder = mkdtempSync(join(tmpdir(), "lngate-graph-"));
});
afterAll(async () => {
  await world?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test("a public channel comes into the graph, and is still there after a restart", async () => {
  const [bridge, toll]: PlainPeer[] = [await world.peer("bridge"), await world.peer("toll")];
  const opened = bridge!.open(toll!.address, 1_000_000, { announced: true });
  const known = () => world.runtime.graph.read_only();
  await until(() => bridge!.channels().length > 0, "the channel");
  await until(async () => (await world.bitcoind.rpc<string[]>("getrawmempool")).length > 0, "the funding");
  await world.mine(7);
  await opened;
  await until(() => {
    // The view holds the graph's lock until it is freed.
    const view = known();
    const channels = view.list_channels().length;
    view.free();
    return channels === 1;
  }, "the announcement");

  const environment = open<unknown, string>({ path: folder, overlappingSync: false });
  const store = openNodeStore(environment.openDB({ name: "lightning", encoding: "binary" }), "shared");
  const first = await startRuntime(world.chain, world.log, store);
  await first.stop();
  // An empty graph was stored; now the one with the channel, as a running gateway would have it.
  await store.write(new Map([["graph", world.runtime.graph.write()]]));
  const second = await startRuntime(world.chain, world.log, store);
  const view = second.graph.read_only();
  expect(view.list_channels()).toHaveLength(1);
  view.free();
  await second.stop();
  await store.write(new Map([["graph", new Uint8Array([1, 2, 3])]]));
  const damaged = await startRuntime(world.chain, world.log, store);
  const empty = damaged.graph.read_only();
  expect(empty.list_channels()).toHaveLength(0);
  empty.free();
  await damaged.stop();
  await environment.close();
});

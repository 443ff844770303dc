import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import type {
  BlockPoint,
  ChainClient,
  ConfirmedTransaction,
  Watching,
} from "../../gateway/chain/chain-client.ts";
import { createFollower, type Follower } from "../../gateway/chain/follower.ts";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import { type BitcoinRpc, connectRpc } from "../../src/node/bitcoind-rpc.ts";
import { headerHash } from "../../src/node/block.ts";

let chain: Regtest;
let rpc: BitcoinRpc;
let calls: string[] = [];
let follower: Follower;
let troubles: (string | null | undefined)[] = [];

beforeAll(async () => {
  chain = await startRegtest();
  const real = connectRpc(chain.rpcOptions);
  rpc = {
    call: (method, params, timeoutMs) => {
      calls.push(method);
      return real.call(method, params, timeoutMs);
    },
    close: () => real.close(),
  };
});
afterAll(async () => {
  rpc?.close();
  await chain?.stop();
});
beforeEach(() => {
  troubles = [];
  follower = createFollower({
    rpc,
    onTrouble: error => troubles.push(error === null ? null : codeOf(error)),
  });
});
afterEach(() => follower.stop());

const shown = (hash: Uint8Array) => toHex(hash.slice().reverse());
const internal = (hash: string) => fromHex(hash).reverse();

/** A client that remembers, and knows only what it was shown. */
class Witness implements ChainClient {
  at: BlockPoint;
  readonly seen: string[] = [];
  readonly known = new Map<string, ConfirmedTransaction>();
  /** What to watch when a transaction comes by. */
  onConfirmed: (txid: string) => void = () => {};

  constructor(at: BlockPoint) {
    this.at = at;
  }
  static async atTip(): Promise<Witness> {
    return new Witness(await tip());
  }
  tip() {
    return this.at;
  }
  confirmed() {
    return [...this.known.values()];
  }
  transactionsConfirmed(...[header, transactions, height]: Parameters<ChainClient["transactionsConfirmed"]>) {
    for (const { transaction } of transactions) {
      const txid = shown(transaction.txid);
      this.seen.push(`+${txid}@${height}`);
      this.known.set(txid, { txid: transaction.txid.slice(), height, blockHash: headerHash(header) });
      this.onConfirmed(txid);
    }
  }
  transactionUnconfirmed(txid: Uint8Array) {
    this.seen.push(`-${shown(txid)}`);
    this.known.delete(shown(txid));
  }
  bestBlock(header: Uint8Array, height: number) {
    this.at = { hash: headerHash(header), height };
  }
}

async function tip(): Promise<BlockPoint> {
  const info = await chain.rpc<{ blocks: number; bestblockhash: string }>("getblockchaininfo");
  return { hash: internal(info.bestblockhash), height: info.blocks };
}

async function pay(sat = 100_000): Promise<string> {
  return chain.fund(await chain.rpc<string>("getnewaddress", ["", "bech32"]), sat);
}

async function outputOf(txid: string, sat: number): Promise<number> {
  const { vout } = await chain.rpc<{ vout: { value: number; n: number }[] }>("getrawtransaction", [
    txid,
    true,
  ]);
  return vout.find(each => Math.round(each.value * 1e8) === sat)!.n;
}

/** Spends one output of a transaction that may still wait for its block. */
async function spend(txid: string, vout: number, sat: number): Promise<string> {
  const address = await chain.rpc<string>("getnewaddress", ["", "bech32"]);
  const raw = await chain.rpc<string>("createrawtransaction", [[{ txid, vout }], [{ [address]: sat / 1e8 }]]);
  const { hex } = await chain.rpc<{ hex: string }>("signrawtransactionwithwallet", [raw]);
  return chain.rpc("sendrawtransaction", [hex, 0]);
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let waited = 0; !condition(); waited++) {
    if (waited > 60_000) throw new Error(`waited in vain for ${what}`);
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}

describe("following the chain", () => {
  test("each client sees only what it watches, and every block is read once for all", async () => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => Witness.atTip()));
    const watching = clients.map(client => follower.join(client));
    await follower.sync();
    const [mine, others] = [await pay(), await pay()];
    watching[3]!.transaction(internal(mine));
    calls = [];
    await chain.mine(3);
    await follower.sync();
    const now = await tip();
    for (const [index, client] of clients.entries()) {
      expect(client.at).toEqual(now);
      expect(client.seen).toEqual(index === 3 ? [`+${mine}@${now.height - 2}`] : []);
    }
    expect(clients.some(client => client.seen.join().includes(others))).toBe(false);
    expect(calls.filter(method => method === "getblock")).toHaveLength(3);
  });

  test("an output that is created and spent in one block is seen to be spent", async () => {
    const client = await Witness.atTip();
    const watching = follower.join(client);
    const parent = await pay(90_000);
    const vout = await outputOf(parent, 90_000);
    const child = await spend(parent, vout, 89_000);
    const grandchild = await spend(child, 0, 88_000);
    watching.transaction(internal(parent));
    // Only on seeing a transaction this client learns that its output matters.
    client.onConfirmed = txid => {
      if (txid === parent) watching.spendOf(internal(parent), vout);
      if (txid === child) watching.spendOf(internal(child), 0);
    };
    await chain.mine(1);
    await follower.sync();
    const { height } = await tip();
    expect(client.seen).toEqual([parent, child, grandchild].map(txid => `+${txid}@${height}`));
  });

  test("a client from an older height is brought forward without disturbing the others", async () => {
    const old = await Witness.atTip();
    const txid = await pay();
    await chain.mine(4);
    const recent = await Witness.atTip();
    follower.join(recent).transaction(internal(txid));
    await follower.sync();
    const watching = follower.join(old);
    watching.transaction(internal(txid));
    await follower.sync();
    expect(old.at).toEqual(await tip());
    expect(old.seen).toHaveLength(1);
    expect(recent.seen).toEqual([]);
  });

  test("who has left is shown nothing any more", async () => {
    const client = await Witness.atTip();
    const watching = follower.join(client);
    const txid = await pay();
    watching.transaction(internal(txid));
    watching.leave();
    const before = client.at;
    await chain.mine(1);
    await follower.sync();
    expect([client.seen, client.at]).toEqual([[], before]);
  });
});

describe("reorgs", () => {
  async function confirmedClient(): Promise<{
    client: Witness;
    watching: Watching;
    txid: string;
    block: string;
  }> {
    const client = await Witness.atTip();
    const watching = follower.join(client);
    const txid = await pay();
    watching.transaction(internal(txid));
    const [block = ""] = await chain.mine(1);
    await chain.mine(2);
    await follower.sync();
    expect(client.known.has(txid)).toBe(true);
    return { client, watching, txid, block };
  }

  test("a transaction in a branch that was left is unconfirmed, and confirmed again where it is now", async () => {
    const { client, txid, block } = await confirmedClient();
    const height = client.at.height;
    await chain.rpc("invalidateblock", [block]);
    // An empty block first, so that the transaction comes in elsewhere.
    const address = await chain.rpc<string>("getnewaddress", ["", "bech32"]);
    await chain.rpc("generateblock", [address, []]);
    await chain.mine(4);
    await follower.sync();
    expect(client.seen).toEqual([`+${txid}@${height - 2}`, `-${txid}`, `+${txid}@${height - 1}`]);
    expect(client.at).toEqual(await tip());
  });

  test("a chain that becomes shorter is followed back, and forward again", async () => {
    const { client, txid, block } = await confirmedClient();
    const before = client.at;
    await chain.rpc("invalidateblock", [block]);
    await follower.sync();
    expect(client.at).toEqual({ ...(await tip()), height: before.height - 3 });
    expect(client.known.has(txid)).toBe(false);
    await chain.rpc("reconsiderblock", [block]);
    await follower.sync();
    expect(client.at).toEqual(before);
    expect(client.known.has(txid)).toBe(true);
  });

  test("who leaves while it is taken back is shown nothing any more", async () => {
    const { client, watching, block } = await confirmedClient();
    const [seen, before] = [client.seen.length, client.at];
    await chain.rpc("invalidateblock", [block]);
    calls = [];
    const syncing = follower.sync();
    await until(() => calls.includes("getblockheader"), "the walk back to begin");
    watching.leave();
    await syncing;
    expect([client.seen.length, client.at]).toEqual([seen, before]);
    await chain.rpc("reconsiderblock", [block]);
  });

  test("a reorg that happened while nothing ran is found by whoever joins with an old place", async () => {
    const { client, txid, block } = await confirmedClient();
    const resumed = new Witness(client.at);
    for (const [key, value] of client.known) resumed.known.set(key, value);
    await chain.rpc("invalidateblock", [block]);
    await chain.rpc("generateblock", [await chain.rpc<string>("getnewaddress", ["", "bech32"]), []]);
    const later = createFollower({ rpc });
    later.join(resumed);
    await later.sync();
    expect(resumed.seen).toEqual([`-${txid}`]);
    expect(resumed.at).toEqual(await tip());
    await later.stop();
    await chain.mine(1);
  });
});

describe("with bitcoind away", () => {
  test("it is stopped and started again in between, and the follower heals by itself", async () => {
    const client = await Witness.atTip();
    const watching = follower.join(client);
    follower.start();
    await follower.sync();
    const txid = await pay();
    watching.transaction(internal(txid));
    await chain.mine(1);
    await until(() => client.known.has(txid), "the block while following");
    await chain.stop({ keep: true });
    await until(() => troubles.length > 0, "the trouble to be told");
    await chain.restart();
    await chain.mine(2);
    const now = await tip();
    await until(() => client.at.height === now.height, "the follower to heal");
    expect(client.at).toEqual(now);
    // Whether it is met while it starts is a matter of chance: then that is told, as another cause.
    expect(troubles.filter(code => code !== "bitcoind-starting")).toEqual(["bitcoind-unreachable", null]);
    expect(troubles.at(-1)).toBeNull();
  });

  test("a bitcoind that a power cut has cost its last blocks is waited for", async () => {
    // What is mined here is not on the disk when the power goes, but whoever followed it has seen it.
    await chain.mine(2);
    const ahead = await Witness.atTip();
    const raw: string[] = [];
    for (let height = 1; height <= ahead.at.height; height++)
      raw.push(await rpc.call<string>("getblock", [await rpc.call<string>("getblockhash", [height]), 0]));
    await chain.kill();
    await chain.restart();
    expect((await tip()).height).toBeLessThan(ahead.at.height);
    follower.join(ahead);
    let settled = false;
    const waiting = follower.patientSync().finally(() => {
      settled = true;
    });
    await until(() => troubles.length > 0, "the trouble to be told");
    expect([troubles, settled]).toEqual([["block-unknown"], false]);
    for (const block of raw) await rpc.call("submitblock", [block]);
    expect((await tip()).height).toBe(ahead.at.height);
    await waiting;
    expect(ahead.at).toEqual(await tip());
  });

  test("a bitcoind that does not let us wait for blocks is asked again and again, and that is told once", async () => {
    const told: (string | null | undefined)[] = [];
    let asked = 0;
    // The same bitcoind for a user who may not call this: its answer comes at once, each time.
    const limited: BitcoinRpc = {
      ...rpc,
      call: (method, params, timeoutMs) => {
        if (method !== "waitfornewblock") return rpc.call(method, params, timeoutMs);
        asked++;
        return rpc.call("getdreams");
      },
    };
    const poller = createFollower({
      rpc: limited,
      onTrouble: error => told.push(error === null ? null : `trouble ${codeOf(error)}`),
      onPolling: error => told.push(codeOf(error)),
    });
    const client = await Witness.atTip();
    poller.join(client);
    poller.start();
    for (let blocks = 0; blocks < 2; blocks++) {
      await chain.mine(1);
      const { height } = await tip();
      await until(() => client.at.height === height, "the new block");
    }
    await poller.stop();
    expect([told, asked]).toEqual([["bitcoind-method"], 1]);
  });

  test("waits for blocks that something cuts short are given up, and are no trouble while the chain can be read", async () => {
    const told: (string | undefined)[] = [];
    let cuts = 0;
    const cut: BitcoinRpc = {
      ...rpc,
      call: (method, params, timeoutMs) => {
        if (method !== "waitfornewblock") return rpc.call(method, params, timeoutMs);
        cuts++;
        return rpc.call(method, [10_000], 20);
      },
    };
    const impatient = createFollower({
      rpc: cut,
      onTrouble: () => told.push("trouble"),
      onPolling: error => told.push(codeOf(error)),
    });
    const client = await Witness.atTip();
    impatient.join(client);
    impatient.start();
    await until(() => told.length > 0, "the waits to be given up");
    await chain.mine(1);
    const { height } = await tip();
    await until(() => client.at.height === height, "the new block");
    await impatient.stop();
    expect([told, cuts]).toEqual([["bitcoind-unreachable"], 3]);
  });

  test("a chain that bitcoind does not know is named, not followed", async () => {
    follower.join(new Witness({ hash: new Uint8Array(32).fill(7), height: 3 }));
    await expect(follower.sync()).rejects.toMatchObject({ code: "block-unknown" });
  });
});

/** A chain and plain peers in this process, for the node's tests. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Chain, createChain } from "../../gateway/chain/chain.ts";
import { type LightningRuntime, startRuntime } from "../../gateway/lightning/runtime.ts";
import type { NodeStore } from "../../gateway/lightning/store.ts";
import { createLog, type Log } from "../../gateway/log.ts";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import type { PeerChannel, PeerEvent, PlainPeerOptions } from "../../scripts/peer/api.ts";
import { PlainPeer } from "../../scripts/peer/plain-peer.ts";

type PeerOptions = Partial<
  Pick<PlainPeerOptions, "routing" | "behaviour" | "forwardingFee" | "holdsPayment">
> & {
  readonly runtime?: LightningRuntime;
};

export class World {
  readonly bitcoind: Regtest;
  readonly chain: Chain;
  readonly runtime: LightningRuntime;
  readonly log: Log;
  /** Who told what. */
  readonly told: { readonly name: string; readonly event: PeerEvent }[] = [];
  readonly lines: string[] = [];
  private readonly peers = new Set<PlainPeer>();

  private constructor(bitcoind: Regtest, chain: Chain, runtime: LightningRuntime, log: Log, lines: string[]) {
    this.bitcoind = bitcoind;
    this.chain = chain;
    this.runtime = runtime;
    this.log = log;
    this.lines = lines;
  }

  static async start(): Promise<World> {
    const bitcoind = await startRegtest();
    const lines: string[] = [];
    const log = createLog("warn", line => lines.push(line));
    const chain = createChain({ rpc: bitcoind.rpcOptions, network: "regtest", log });
    await chain.start();
    return new World(bitcoind, chain, await startRuntime(chain, log), log, lines);
  }

  /** Another graph than that of the peers, as a gateway has one. */
  async ownRuntime(store?: NodeStore): Promise<LightningRuntime> {
    return startRuntime(this.chain, this.log, store);
  }

  async peer(name: string, options: PeerOptions = {}): Promise<PlainPeer> {
    const { runtime = this.runtime, ...rest } = options;
    const dataDir = join(this.bitcoind.dataDir, "peers", name);
    mkdirSync(dataDir, { recursive: true });
    const peer = await PlainPeer.start({
      dataDir,
      network: "regtest",
      rpc: this.bitcoind.rpcOptions,
      wallet: "regtest",
      log: this.log.part(name),
      port: 0,
      shared: { chain: this.chain, runtime },
      ...rest,
      onEvent: event => this.told.push({ name, event }),
    });
    this.peers.add(peer);
    return peer;
  }

  async end(peer: PlainPeer): Promise<void> {
    this.peers.delete(peer);
    await peer.stop();
  }

  /** Opens a channel, mining what it needs. */
  async open(from: PlainPeer, to: PlainPeer, sat: number, pushSat = 0): Promise<PeerChannel> {
    const opened = from.open(to.address, sat, { pushSat });
    let open = false;
    void opened.then(
      () => {
        open = true;
      },
      () => {
        open = true;
      },
    );
    while (!open) {
      await this.mine(1);
      await pause(20);
    }
    const channel = await opened;
    await until(
      () => to.channels().some(each => each.channelId === channel.channelId && each.usable),
      "the channel to be usable",
    );
    return channel;
  }

  /** Mines, and brings everyone there. */
  async mine(blocks: number): Promise<void> {
    for (let left = blocks; left > 0; left -= 20) {
      await this.bitcoind.mine(Math.min(left, 20));
      await this.chain.follower.sync();
    }
  }

  events<Kind extends PeerEvent["event"]>(name: string, kind: Kind): Extract<PeerEvent, { event: Kind }>[] {
    return this.told.flatMap(each =>
      each.name === name && each.event.event === kind
        ? [each.event as Extract<PeerEvent, { event: Kind }>]
        : [],
    );
  }

  async stop(): Promise<void> {
    for (const peer of this.peers) await peer.stop();
    await this.chain.stop();
    await this.bitcoind.stop();
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}

export async function until(condition: () => unknown, what: string, ms = 300_000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await pause(5);
  }
}

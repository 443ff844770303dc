/**
 * Follows bitcoind's best chain for many Lightning nodes at once: every block is read and parsed once, and each
 * node is shown only the transactions it watches for. Reorgs are walked back to the block both chains share.
 */
import { equal } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import { type BitcoinRpc, passes } from "../../src/node/bitcoind-rpc.ts";
import { type Block, headerHash } from "../../src/node/block.ts";
import { lastingTrouble } from "../log.ts";
import { bestPoint, forkPoint, isOnBestChain, readBlock, readHeader } from "./best-chain.ts";
import type { BlockPoint, ChainClient, Watching } from "./chain-client.ts";
import { hasMissedNothing } from "./missed-blocks.ts";
import { NextBlock } from "./next-block.ts";
import { WatchIndex } from "./watch-index.ts";

/** Where the chain is read, and who is told how that goes. */
export interface FollowerOptions {
  readonly rpc: BitcoinRpc;
  /** The chain has been followed up to here. */
  readonly onTip?: (tip: BlockPoint) => void;
  /** bitcoind cannot be read, or some client can't be brought forward (told once for each cause), or all is well (null). */
  readonly onTrouble?: (error: Error | null) => void;
  /** bitcoind can't be waited for to find a block, and is asked again and again instead (told once). */
  readonly onPolling?: (error: Error) => void;
  /** A client went on without blocks that are pruned: nothing in them concerned it. */
  readonly onPassedOver?: (from: number, to: number) => void;
}

/** One reader of the chain for all who follow it. */
export interface Follower {
  /** Where the chain was when it was last looked at; the first time, as soon as bitcoind answers. */
  currentTip(): Promise<BlockPoint>;
  /** Unix seconds of the newest block's header, 0 before the first look. */
  readonly tipTime: number;
  /** Takes in a client; it is brought forward by the next `sync`. */
  join(client: ChainClient): Watching;
  /** Brings everyone to the tip now. Rejects if bitcoind cannot be read, or with the trouble of someone. */
  sync(): Promise<void>;
  /**
   * The same for these clients (everyone by default), however long bitcoind is away, or busy to catch up after a power cut
   * that cost it some blocks, or to fetch pruned ones again. `onWaiting`: their trouble will take its time.
   */
  patientSync(clients?: readonly Watching[], onWaiting?: () => void): Promise<void>;
  /** Keeps everyone at the tip until `stop`, through any trouble. */
  start(): void;
  stop(): Promise<void>;
}

const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 10_000;

interface Entry {
  readonly client: ChainClient;
  tip: BlockPoint;
  /** Why it can't be brought forward. */
  trouble: Error | undefined;
}

/** Follows nothing until it is told to `sync` or `start`. */
export function createFollower(options: FollowerOptions): Follower {
  const { rpc } = options;
  const entries = new Set<Entry>();
  const index = new WatchIndex<Entry>();
  const nextBlock = new NextBlock(rpc, options.onPolling);
  let running: Promise<void> | undefined;
  let again = false;
  let loop: Promise<void> | undefined;
  let stopped = false;
  let tipTime = 0;
  let last: BlockPoint | undefined;
  const tell = lastingTrouble(error => options.onTrouble?.(error));

  /** Lets a client go on without pruned blocks, if nothing in them can have concerned it. */
  async function passOver(entry: Entry, best: BlockPoint): Promise<boolean> {
    const { client } = entry;
    const mayPass = client.passOver
      ? await client.passOver(best.height)
      : await hasMissedNothing(rpc, index.watchesOf(entry), client.confirmed(), entry.tip, best);
    if (!mayPass) return false;
    const { header } = await readHeader(rpc, best.hash);
    options.onPassedOver?.(entry.tip.height, best.height);
    show(entry, () => client.bestBlock(header, best.height));
    entry.tip = best;
    return true;
  }

  /** Shows a client something. */
  function show<T>(entry: Entry, work: () => T): T | undefined {
    if (!entries.has(entry)) return undefined;
    try {
      return work();
    } catch (error) {
      if (!entry.client.failed) throw error;
      remove(entry);
      entry.client.failed(error);
      return undefined;
    }
  }

  function remove(entry: Entry): void {
    entries.delete(entry);
    index.remove(entry);
  }

  /** Takes a client back to the best chain, if it is on a branch that was left. It may leave us meanwhile. */
  async function rewind(entry: Entry): Promise<void> {
    const fork = await forkPoint(rpc, entry.tip);
    if (equal(fork.hash, entry.tip.hash) || !entries.has(entry)) return;
    for (const { txid, height, blockHash } of show(entry, () => entry.client.confirmed()) ?? []) {
      const isGone = height > fork.height || (blockHash && !(await isOnBestChain(rpc, blockHash)));
      if (!entries.has(entry)) return;
      if (isGone) show(entry, () => entry.client.transactionUnconfirmed(txid));
    }
    show(entry, () => entry.client.bestBlock(fork.header, fork.height));
    entry.tip = { hash: fork.hash, height: fork.height };
  }

  function connect(block: Block, height: number, behind: readonly Entry[]): void {
    const shown = new Map<Entry, Set<number>>();
    // A transaction may make a client watch an output that is spent in the same block: look until nothing is new.
    for (let anythingNew = true; anythingNew; ) {
      anythingNew = false;
      for (const [entry, positions] of index.matches(block)) {
        if (!behind.includes(entry)) continue;
        const already = shown.get(entry) ?? new Set<number>();
        const fresh = [...positions].filter(index => !already.has(index)).sort((a, b) => a - b);
        if (fresh.length === 0) continue;
        anythingNew = true;
        for (const index of fresh) already.add(index);
        shown.set(entry, already);
        show(entry, () =>
          entry.client.transactionsConfirmed(
            block.header,
            fresh.map(index => ({ index, transaction: block.transactions[index]! })),
            height,
          ),
        );
      }
    }
    for (const entry of behind) {
      show(entry, () => entry.client.block?.(block, height));
      show(entry, () => entry.client.bestBlock(block.header, height));
      entry.tip = { hash: block.hash, height };
    }
  }

  /** One pass: everyone to where the chain was when it began. */
  async function pass(): Promise<void> {
    const best = await bestPoint(rpc);
    for (const entry of [...entries]) {
      entry.trouble = undefined;
      if (equal(entry.tip.hash, best.hash)) continue;
      try {
        await rewind(entry);
      } catch (error) {
        if (codeOf(error) !== "block-unknown") throw error;
        entry.trouble = error as Error;
      }
    }
    const following = () => [...entries].filter(entry => !entry.trouble);
    let above = last;
    for (;;) {
      const height = 1 + Math.min(best.height, ...following().map(entry => entry.tip.height));
      if (height > best.height) break;
      let block: Block;
      try {
        block = await readBlock(rpc, height);
      } catch (error) {
        if (codeOf(error) !== "block-pruned") throw error;
        for (const entry of following().filter(({ tip }) => tip.height === height - 1))
          if (!(await passOver(entry, best))) entry.trouble = error as Error;
        continue;
      }
      const behind = following().filter(entry => entry.tip.height === height - 1);
      // The chain may have turned while it was being read; then the next pass begins with a walk back.
      if (behind.some(entry => !equal(entry.tip.hash, block.previous))) {
        again = true;
        return;
      }
      connect(block, height, behind);
      tipTime = Math.max(tipTime, block.time);
      above = { hash: block.hash, height };
    }
    if (!above || !equal(above.hash, best.hash)) {
      const { header } = await readHeader(rpc, best.hash);
      tipTime = Math.max(tipTime, new DataView(header.buffer, header.byteOffset).getUint32(68, true));
      above = { hash: headerHash(header), height: best.height };
    }
    last = above;
    options.onTip?.(above);
  }

  /** Brings everyone forward who can be; rejects if bitcoind cannot be read. */
  function advance(): Promise<void> {
    if (running) {
      again = true;
      return running;
    }
    running = (async () => {
      try {
        do {
          again = false;
          await pass();
        } while (again);
      } finally {
        running = undefined;
      }
    })();
    return running;
  }

  function troubleOf(some: Iterable<Entry>): Error | undefined {
    for (const { trouble } of some) if (trouble) return trouble;
    return undefined;
  }

  async function sync(): Promise<void> {
    await advance();
    const trouble = troubleOf(entries);
    if (trouble) throw trouble;
  }

  async function patientSync(clients?: readonly Watching[], onWaiting?: () => void): Promise<void> {
    for (let delay = FIRST_RETRY_MS; ; delay = Math.min(delay * 2, LAST_RETRY_MS)) {
      let trouble: unknown;
      try {
        await advance();
        trouble = clients ? clients.map(each => each.trouble()).find(Boolean) : troubleOf(entries);
        if (!trouble) return;
        if (stopped) throw trouble;
        onWaiting?.();
      } catch (error) {
        if (stopped || !passes(error)) throw error;
        trouble = error;
      }
      tell(trouble);
      await new Promise(resolve => setTimeout(resolve, delay).unref());
    }
  }

  async function follow(): Promise<void> {
    let delay = FIRST_RETRY_MS;
    while (!stopped) {
      try {
        await advance();
        tell(troubleOf(entries) ?? null);
        delay = FIRST_RETRY_MS;
        if (!stopped) await nextBlock.after(last);
      } catch (error) {
        if (stopped) return;
        tell(error);
        nextBlock.beginAnew();
        await nextBlock.pause(delay);
        delay = Math.min(delay * 2, LAST_RETRY_MS);
      }
    }
  }

  return {
    get tipTime() {
      return tipTime;
    },
    async currentTip() {
      if (!last) await patientSync([]);
      return last!;
    },
    join(client) {
      const entry: Entry = { client, tip: client.tip(), trouble: undefined };
      entries.add(entry);
      return {
        transaction: txid => index.transaction(txid, entry),
        spendOf: (txid, vout) => index.spendOf(txid, vout, entry),
        paymentTo: script => index.paymentTo(script, entry),
        trouble: () => entry.trouble,
        leave: () => remove(entry),
      };
    },
    sync,
    patientSync,
    start() {
      loop ??= follow();
    },
    async stop() {
      stopped = true;
      nextBlock.wake();
      await loop;
      await running?.catch(() => {});
    },
  };
}

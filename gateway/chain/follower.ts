/**
 * Follows bitcoind's best chain for many Lightning nodes at once: every block is read and parsed once, and each
 * node is shown only the transactions it watches for. Reorgs are walked back to the block both chains share.
 */
import { equal, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { type BitcoinRpc, passes } from "../../src/node/bitcoind-rpc.ts";
import { type Block, type BlockTransaction, headerHash, parseBlock } from "../../src/node/block.ts";
import { lastingTrouble } from "../log.ts";

/** A place in the chain; the hash in internal byte order. */
export interface BlockPoint {
  readonly hash: Uint8Array;
  readonly height: number;
}

export interface ConfirmedTransaction {
  readonly txid: Uint8Array;
  readonly height: number;
  /** Absent if the node does not know it any more. */
  readonly blockHash?: Uint8Array;
}

/** Someone who is to be brought along the chain: a Lightning node, say. */
export interface ChainClient {
  /** Where it is, asked when it joins. */
  tip(): BlockPoint;
  /** Transactions that matter to it and that it believes to be in some block. */
  confirmed(): readonly ConfirmedTransaction[];
  /** Transactions of a block that it watches, with their positions, ascending; maybe several times for one block. */
  transactionsConfirmed(
    header: Uint8Array,
    transactions: readonly IndexedTransaction[],
    height: number,
  ): void;
  transactionUnconfirmed(txid: Uint8Array): void;
  bestBlock(header: Uint8Array, height: number): void;
  /** One of the others has thrown: it is brought along no further, and keeps nobody else waiting. Without this, it does. */
  failed?(error: unknown): void;
  /** Every block on its way, whole, before it is the best one. */
  block?(block: Block, height: number): void;
  /**
   * Blocks that it has not seen are pruned, and the last is `height`. True if it can go on without them, because it has
   * found out itself what was in them for it. Without this it goes on if all outputs that it watches are still unspent.
   */
  passOver?(height: number): Promise<boolean>;
}

export interface IndexedTransaction {
  readonly index: number;
  readonly transaction: BlockTransaction;
}

/** What one client watches; additions take effect at once, also for the block that is being shown to it. */
export interface Watching {
  /** A transaction by its id. */
  transaction(txid: Uint8Array): void;
  /** Whatever spends this output. */
  spendOf(txid: Uint8Array, vout: number): void;
  /** Whatever pays to this scriptPubKey. */
  paymentTo(script: Uint8Array): void;
  /**
   * Why this client can't be brought forward now: `block-unknown` (bitcoind does not know the block where it is) or
   * `block-pruned`. It is tried again with every look at the chain; the others go on meanwhile.
   */
  trouble(): Error | undefined;
  /** No more. */
  leave(): void;
}

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
   * The same for these clients (everyone unless told), however long bitcoind is away, or busy to catch up after a power cut
   * that cost it some blocks, or to fetch pruned ones again. `onWaiting`: their trouble will take its time.
   */
  patientSync(clients?: readonly Watching[], onWaiting?: () => void): Promise<void>;
  /** Keeps everyone at the tip until `stop`, through any trouble. */
  start(): void;
  stop(): Promise<void>;
}

/** How long a wait for a new block lasts at most before bitcoind is asked again. */
const WAIT_MS = 10_000;
const MAX_BROKEN_OFF = 3;
/** How often bitcoind is asked where it can't be waited for. */
const POLL_MS = 1_000;
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 10_000;

interface Entry {
  readonly client: ChainClient;
  tip: BlockPoint;
  /** Why it can't be brought forward. */
  trouble: Error | undefined;
}

/** What one client watches, as keys of the indexes. */
interface Watches {
  readonly txids: readonly string[];
  readonly outpoints: readonly string[];
  readonly hasScripts: boolean;
}

const TXID_BYTES = 32;

export function createFollower(options: FollowerOptions): Follower {
  const { rpc } = options;
  const entries = new Set<Entry>();
  /** Who watches: by txid, and by outpoint (txid, then four bytes). */
  const byTxid = new Map<string, Set<Entry>>();
  const byOutpoint = new Map<string, Set<Entry>>();
  const byScript = new Map<string, Set<Entry>>();
  let running: Promise<void> | undefined;
  let again = false;
  let loop: Promise<void> | undefined;
  let stopped = false;
  let wakeUp: () => void = () => {};
  let tipTime = 0;
  let last: BlockPoint | undefined;
  const tell = lastingTrouble(error => options.onTrouble?.(error));
  /** How the next block is waited for: newer versions compare with one we name, some do not wait at all. */
  let waiting: "named" | "unnamed" | "not at all" = "named";
  /** Waits in a row that broke off although the chain could be read. */
  let brokenOff = 0;

  async function bestPoint(): Promise<BlockPoint> {
    const info = await rpc.call<{ blocks: number; bestblockhash: string }>("getblockchaininfo");
    return { hash: fromHex(info.bestblockhash).reverse(), height: info.blocks };
  }

  async function readHeader(
    hash: Uint8Array,
  ): Promise<{ header: Uint8Array; height: number; onBestChain: boolean }> {
    const shown = toHex(hash.slice().reverse());
    const [raw, info] = await Promise.all([
      rpc.call<string>("getblockheader", [shown, false]),
      rpc.call<{ height: number; confirmations: number }>("getblockheader", [shown, true]),
    ]);
    return { header: fromHex(raw), height: info.height, onBestChain: info.confirmations > 0 };
  }

  async function readBlock(height: number): Promise<Block> {
    const hash = await rpc.call<string>("getblockhash", [height]);
    try {
      return parseBlock(fromHex(await rpc.call<string>("getblock", [hash, 0])));
    } catch (error) {
      if (codeOf(error) !== "bitcoind-refused" || !/pruned/i.test((error as Error).message)) throw error;
      throw lngateError(
        "block-pruned",
        `bitcoind has pruned block ${height}, which this gateway has not read yet: it was away for longer than blocks are kept. Fetch the block again (bitcoin-cli getblockfrompeer ${hash} PEER), or use a bitcoind that still has it; then keep more with a larger "prune="`,
      );
    }
  }

  /** Lets a client go on without pruned blocks, if nothing in them can have concerned it. */
  async function passOver(entry: Entry, best: BlockPoint): Promise<boolean> {
    const { client } = entry;
    const mayPass = client.passOver
      ? await client.passOver(best.height)
      : await hasMissedNothing(entry, watchesOf(entry), best);
    if (!mayPass) return false;
    const { header } = await readHeader(best.hash);
    options.onPassedOver?.(entry.tip.height, best.height);
    show(entry, () => client.bestBlock(header, best.height));
    entry.tip = best;
    return true;
  }

  /** What it watches for has not happened: what is to be spent is unspent, and what is to be mined was mined before. */
  async function hasMissedNothing(
    { client, tip }: Entry,
    watches: Watches,
    best: BlockPoint,
  ): Promise<boolean> {
    const mined = new Set(client.confirmed().map(({ txid }) => keyOf(txid)));
    for (const key of watches.outpoints) {
      const txid = key.slice(0, TXID_BYTES);
      const output = await rpc.call<{ bestblock: string; confirmations: number } | null>("gettxout", [
        toHex(bytesOf(txid).reverse()),
        Number(key.slice(TXID_BYTES)),
        false,
      ]);
      if (output === null) return false;
      const isOfBest = output.bestblock === toHex(best.hash.slice().reverse());
      if (isOfBest && best.height - output.confirmations < tip.height) mined.add(txid);
    }
    return !watches.hasScripts && watches.txids.every(key => mined.has(key));
  }

  function watchesOf(entry: Entry): Watches {
    const keysOf = (index: Map<string, Set<Entry>>) =>
      [...index].filter(([, watchers]) => watchers.has(entry)).map(([key]) => key);
    return {
      txids: keysOf(byTxid),
      outpoints: keysOf(byOutpoint),
      hasScripts: keysOf(byScript).length > 0,
    };
  }

  /** The last block of a client's chain that is still in the best one, and its header. */
  async function forkPoint(from: BlockPoint): Promise<BlockPoint & { header: Uint8Array }> {
    let { hash } = from;
    for (;;) {
      let found: Awaited<ReturnType<typeof readHeader>>;
      try {
        found = await readHeader(hash);
      } catch (error) {
        if (codeOf(error) !== "bitcoind-refused") throw error;
        throw lngateError(
          "block-unknown",
          `bitcoind does not know block ${toHex(hash.slice().reverse())}, up to which this gateway has followed the chain: it is still catching up, or on another chain`,
        );
      }
      if (found.onBestChain) return { hash, height: found.height, header: found.header };
      hash = found.header.slice(4, 36);
    }
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
    for (const index of [byTxid, byOutpoint, byScript]) {
      for (const [key, watchers] of index) {
        watchers.delete(entry);
        if (watchers.size === 0) index.delete(key);
      }
    }
  }

  /** Takes a client back to the best chain, if it is on a branch that was left. It may leave us meanwhile. */
  async function rewind(entry: Entry): Promise<void> {
    const fork = await forkPoint(entry.tip);
    if (equal(fork.hash, entry.tip.hash) || !entries.has(entry)) return;
    for (const { txid, height, blockHash } of show(entry, () => entry.client.confirmed()) ?? []) {
      const isGone = height > fork.height || (blockHash && !(await isOnBestChain(blockHash)));
      if (!entries.has(entry)) return;
      if (isGone) show(entry, () => entry.client.transactionUnconfirmed(txid));
    }
    show(entry, () => entry.client.bestBlock(fork.header, fork.height));
    entry.tip = { hash: fork.hash, height: fork.height };
  }

  async function isOnBestChain(hash: Uint8Array): Promise<boolean> {
    try {
      return (await readHeader(hash)).onBestChain;
    } catch (error) {
      if (codeOf(error) === "bitcoind-refused") return false;
      throw error;
    }
  }

  /** For every client concerned, the positions of the transactions that match now. */
  function matches(block: Block): Map<Entry, Set<number>> {
    const found = new Map<Entry, Set<number>>();
    const note = (watchers: Set<Entry> | undefined, index: number) => {
      for (const entry of watchers ?? []) {
        const positions = found.get(entry);
        if (positions) positions.add(index);
        else found.set(entry, new Set([index]));
      }
    };
    for (const [index, transaction] of block.transactions.entries()) {
      note(byTxid.get(keyOf(transaction.txid)), index);
      for (const output of transaction.outputs) note(byScript.get(keyOf(output.script)), index);
      for (const input of transaction.inputs)
        note(byOutpoint.get(outpointKey(input.txid, input.vout)), index);
    }
    return found;
  }

  function connect(block: Block, height: number, behind: readonly Entry[]): void {
    const shown = new Map<Entry, Set<number>>();
    // A transaction may make a client watch an output that is spent in the same block: look until nothing is new.
    for (let anythingNew = true; anythingNew; ) {
      anythingNew = false;
      for (const [entry, positions] of matches(block)) {
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
    const best = await bestPoint();
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
        block = await readBlock(height);
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
      const { header } = await readHeader(best.hash);
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
        await newBlock();
      } catch (error) {
        if (stopped) return;
        tell(error);
        // It may come back as another version, or with other rules.
        waiting = "named";
        brokenOff = 0;
        await pause(delay);
        delay = Math.min(delay * 2, LAST_RETRY_MS);
      }
    }
  }

  /** Returns when there may be a new block. Whether bitcoind is in trouble, reading the chain shows, and not this. */
  async function newBlock(): Promise<void> {
    if (stopped) return;
    if (waiting === "not at all") return pause(POLL_MS);
    const known = waiting === "named" && last ? [toHex(last.hash.slice().reverse())] : [];
    const ms = waiting === "named" ? WAIT_MS : POLL_MS;
    try {
      // Without a block that we name, one that came in just now would be missed: so not for long.
      await Promise.race([rpc.call("waitfornewblock", [ms, ...known], ms + 30_000), woken()]);
      brokenOff = 0;
    } catch (error) {
      if (codeOf(error) === undefined) throw error;
      const isOlder = waiting === "named" && codeOf(error) === "bitcoind-refused";
      if (isOlder) waiting = "unnamed";
      // Each wait that something in between cuts short keeps one of bitcoind's threads: it has few.
      else if (!passes(error) || ++brokenOff >= MAX_BROKEN_OFF) {
        waiting = "not at all";
        options.onPolling?.(error as Error);
      }
      await pause(FIRST_RETRY_MS);
    }
  }

  function woken(): Promise<void> {
    return new Promise(resolve => {
      wakeUp = resolve;
    });
  }

  function pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, ms);
      wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  function add(index: Map<string, Set<Entry>>, key: string, entry: Entry): void {
    const watchers = index.get(key);
    if (watchers) watchers.add(entry);
    else index.set(key, new Set([entry]));
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
        transaction: txid => add(byTxid, keyOf(txid), entry),
        spendOf: (txid, vout) => add(byOutpoint, outpointKey(txid, vout), entry),
        paymentTo: script => add(byScript, keyOf(script), entry),
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
      wakeUp();
      await loop;
      await running?.catch(() => {});
    },
  };
}

/** Map keys: bytes as a Latin-1 string, the cheapest there is. */
function keyOf(txid: Uint8Array): string {
  return Buffer.from(txid.buffer, txid.byteOffset, txid.byteLength).toString("latin1");
}

function bytesOf(key: string): Uint8Array {
  return new Uint8Array(Buffer.from(key, "latin1"));
}

function outpointKey(txid: Uint8Array, vout: number): string {
  return `${keyOf(txid)}${vout}`;
}

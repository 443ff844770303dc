/**
 * Follows bitcoind's best chain for many Lightning nodes at once: every block is read and parsed once, and each
 * node is shown only the transactions it watches for. Reorgs are walked back to the block both chains share.
 */
import { equal, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { lastingTrouble } from "../log.ts";
import { type Block, type BlockTransaction, headerHash, parseBlock } from "./block.ts";
import { type BitcoinRpc, passes } from "./rpc.ts";

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
  /** No more. */
  leave(): void;
}

export interface FollowerOptions {
  readonly rpc: BitcoinRpc;
  /** The chain has been followed up to here. */
  readonly onTip?: (tip: BlockPoint) => void;
  /** bitcoind cannot be read (told once for each cause), or can be again (null). */
  readonly onTrouble?: (error: Error | null) => void;
  /** bitcoind can't be waited for to find a block, and is asked again and again instead (told once). */
  readonly onPolling?: (error: Error) => void;
}

export interface Follower {
  /** Where the chain was when it was last looked at; the first time, as soon as bitcoind answers. */
  currentTip(): Promise<BlockPoint>;
  /** Unix seconds of the newest block's header, 0 before the first look. */
  readonly tipTime: number;
  /** Takes in a client; it is brought forward by the next `sync`. */
  join(client: ChainClient): Watching;
  /** Brings everyone to the tip now. Rejects if bitcoind cannot be read, or (`block-unknown`) is behind someone. */
  sync(): Promise<void>;
  /** The same, however long bitcoind is away, or busy to catch up after a power cut that cost it some blocks. */
  patientSync(): Promise<void>;
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
}

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
  const trouble = lastingTrouble(error => options.onTrouble?.(error));
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

  /** Tells a client something. */
  function tell<T>(entry: Entry, work: () => T): T | undefined {
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
    for (const { txid, height, blockHash } of tell(entry, () => entry.client.confirmed()) ?? []) {
      const isGone = height > fork.height || (blockHash && !(await isOnBestChain(blockHash)));
      if (!entries.has(entry)) return;
      if (isGone) tell(entry, () => entry.client.transactionUnconfirmed(txid));
    }
    tell(entry, () => entry.client.bestBlock(fork.header, fork.height));
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
        tell(entry, () =>
          entry.client.transactionsConfirmed(
            block.header,
            fresh.map(index => ({ index, transaction: block.transactions[index]! })),
            height,
          ),
        );
      }
    }
    for (const entry of behind) {
      tell(entry, () => entry.client.block?.(block, height));
      tell(entry, () => entry.client.bestBlock(block.header, height));
      entry.tip = { hash: block.hash, height };
    }
  }

  /** One pass: everyone to where the chain was when it began. */
  async function pass(): Promise<void> {
    const best = await bestPoint();
    for (const entry of [...entries]) if (!equal(entry.tip.hash, best.hash)) await rewind(entry);
    let height = Math.min(best.height, ...[...entries].map(entry => entry.tip.height));
    let above = last;
    while (height < best.height) {
      height++;
      const block = await readBlock(height);
      const behind = [...entries].filter(entry => entry.tip.height === height - 1);
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

  function sync(): Promise<void> {
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

  async function patientSync(): Promise<void> {
    for (let delay = FIRST_RETRY_MS; ; delay = Math.min(delay * 2, LAST_RETRY_MS)) {
      try {
        return await sync();
      } catch (error) {
        if (stopped || !(passes(error) || codeOf(error) === "block-unknown")) throw error;
        trouble(error);
        await new Promise(resolve => setTimeout(resolve, delay));
      }
    }
  }

  async function follow(): Promise<void> {
    let delay = FIRST_RETRY_MS;
    while (!stopped) {
      try {
        await sync();
        trouble(null);
        delay = FIRST_RETRY_MS;
        await newBlock();
      } catch (error) {
        if (stopped) return;
        trouble(error);
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
      if (!last) await patientSync();
      return last!;
    },
    join(client) {
      const entry: Entry = { client, tip: client.tip() };
      entries.add(entry);
      return {
        transaction: txid => add(byTxid, keyOf(txid), entry),
        spendOf: (txid, vout) => add(byOutpoint, outpointKey(txid, vout), entry),
        paymentTo: script => add(byScript, keyOf(script), entry),
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

function outpointKey(txid: Uint8Array, vout: number): string {
  return `${keyOf(txid)}${vout}`;
}

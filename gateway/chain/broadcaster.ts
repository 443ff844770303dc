/** Sends transactions, and keeps sending them until they are so deep in the chain that no reorg takes them out. */
import { parseTransaction, shownHash, type Transaction, txidOf } from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import { type BitcoinRpc, passes, rpcCodeOf } from "../../src/node/bitcoind-rpc.ts";

/** Of one bitcoind. What is pending is kept in memory only. */
export interface Broadcaster {
  /** Sends one transaction and says what bitcoind thinks of it; the txid as explorers show it. Throws `bitcoind-…`. */
  send(transaction: Uint8Array): Promise<string>;
  /**
   * Transactions that must get into the chain, a package of parents and child if there are several. Sent now, and
   * again with every block for a day: a reorg may take them out, and bitcoind forget them. Of the same transactions the
   * latest witnesses count; one that lacks a signature is not sent. Never throws.
   */
  broadcast(transactions: readonly Uint8Array[]): void;
  /** There is a new block, or bitcoind is back: what is pending is sent again. */
  resend(): Promise<void>;
}

/** Where transactions are sent, and who is told how that goes. */
export interface BroadcasterOptions {
  readonly rpc: BitcoinRpc;
  /** Told of a transaction that bitcoind does not take, once for each reason. */
  readonly onRefused?: (txid: string, reason: string) => void;
  /** Nothing can be sent, for a reason that somebody has to mend, or can be again (null). */
  readonly onTrouble?: (error: unknown) => void;
}

const RPC_ALREADY_IN_CHAIN = -27;
/** What becomes of a transaction is decided by blocks to come (its parent, a locktime, a reorg); a day of them. */
const MAX_BLOCKS = 144;

interface Pending {
  transactions: readonly Uint8Array[];
  blocks: number;
  /** All of it has been in blocks: what bitcoind says against it now is that it is spent. */
  mined: boolean;
}

/** Sends nothing by itself but what `broadcast` was given, when `resend` is called. */
export function createBroadcaster(options: BroadcasterOptions): Broadcaster {
  const { rpc } = options;
  const pending = new Map<string, Pending>();
  /** The last reason against each. */
  const complained = new Map<string, string>();
  let sending: Promise<void> = Promise.resolve();

  async function send(transaction: Uint8Array): Promise<string> {
    return rpc.call<string>("sendrawtransaction", [toHex(transaction), 0]);
  }

  async function attempt(key: string, entry: Pending): Promise<void> {
    const { transactions } = entry;
    if (transactions.length > 1) {
      try {
        // Parents that pay too little alone come in with their child; failures show below, one by one.
        await rpc.call("submitpackage", [transactions.map(toHex), 0]);
      } catch (error) {
        if (codeOf(error) !== "bitcoind-refused" && codeOf(error) !== "bitcoind-method") throw error;
      }
    }
    let mined = true;
    for (const transaction of transactions) {
      try {
        await send(transaction);
        mined = false;
      } catch (error) {
        if (codeOf(error) !== "bitcoind-refused") throw error;
        const reason = (error as Error).message;
        const inChain = rpcCodeOf(error) === RPC_ALREADY_IN_CHAIN && !reason.includes("mempool");
        if (inChain) continue;
        mined = false;
        if (!entry.mined && !reason.includes("already in mempool") && complained.get(key) !== reason) {
          complained.set(key, reason);
          options.onRefused?.(key, reason);
        }
      }
    }
    entry.mined ||= mined;
  }

  async function sendAll(): Promise<void> {
    for (const [key, entry] of pending) {
      if (++entry.blocks > MAX_BLOCKS) {
        pending.delete(key);
        complained.delete(key);
      } else await attempt(key, entry);
    }
  }

  /** One after the other. What could not be sent stays pending. That bitcoind is away is told by who follows it. */
  function queue(work: () => Promise<void>): Promise<void> {
    sending = sending.then(work).then(
      () => options.onTrouble?.(null),
      error => {
        if (!passes(error)) options.onTrouble?.(error);
      },
    );
    return sending;
  }

  return {
    send,
    broadcast(transactions) {
      const parsed = transactions.map(each => parseTransaction(each));
      // LDK hands out a commitment before its signer has signed, and again with every block.
      if (!parsed.every(isSigned)) return;
      const key = parsed.map(each => shownHash(txidOf(each))).join("+");
      const entry = pending.get(key) ?? { transactions, blocks: 0, mined: false };
      entry.transactions = transactions.map(each => each.slice());
      pending.set(key, entry);
      void queue(() => attempt(key, entry));
    },
    resend: () => queue(sendAll),
  };
}

function isSigned({ inputs }: Transaction): boolean {
  return inputs.every(({ witness, scriptSig }) => witness !== undefined || scriptSig !== undefined);
}

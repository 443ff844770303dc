/** Sends transactions, and keeps sending them until they are in a block or can never be. */
import { parseTransaction, type Transaction, txidOf } from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import { type BitcoinRpc, rpcCodeOf } from "./rpc.ts";

export interface Broadcaster {
  /** Sends one transaction and says what bitcoind thinks of it; the txid as explorers show it. Throws `bitcoind-…`. */
  send(transaction: Uint8Array): Promise<string>;
  /**
   * Transactions that must get into the chain, a package of parents and child if there are several. Sent now
   * and again with every block until bitcoind has them in one; never throws.
   */
  broadcast(transactions: readonly Uint8Array[]): void;
  /** There is a new block, or bitcoind is back: what is pending is sent again. */
  resend(): Promise<void>;
}

export interface BroadcasterOptions {
  readonly rpc: BitcoinRpc;
  /** Told once per transaction that bitcoind does not take. */
  readonly onRefused?: (txid: string, reason: string) => void;
}

const RPC_ALREADY_IN_CHAIN = -27;
/** What becomes of a refused transaction is often decided by blocks to come (its parent, a locktime); a day of them. */
const MAX_ATTEMPTS = 144;

interface Pending {
  readonly transactions: readonly Uint8Array[];
  attempts: number;
}

export function createBroadcaster(options: BroadcasterOptions): Broadcaster {
  const { rpc } = options;
  const pending = new Map<string, Pending>();
  const complained = new Set<string>();
  let sending: Promise<void> = Promise.resolve();

  async function send(transaction: Uint8Array): Promise<string> {
    return rpc.call<string>("sendrawtransaction", [toHex(transaction), 0]);
  }

  /** True if it needs no more sending. */
  async function attempt(key: string, entry: Pending): Promise<boolean> {
    const { transactions } = entry;
    if (transactions.length > 1) {
      try {
        // Parents that pay too little alone come in with their child; failures show below, one by one.
        await rpc.call("submitpackage", [transactions.map(toHex), 0]);
      } catch (error) {
        if (codeOf(error) !== "bitcoind-refused") throw error;
      }
    }
    let settled = true;
    for (const transaction of transactions) {
      try {
        await send(transaction);
        settled = false;
      } catch (error) {
        if (codeOf(error) !== "bitcoind-refused") throw error;
        const reason = (error as Error).message;
        const inChain = rpcCodeOf(error) === RPC_ALREADY_IN_CHAIN && !reason.includes("mempool");
        if (inChain) continue;
        settled = false;
        if (!reason.includes("already in mempool") && !complained.has(key)) {
          complained.add(key);
          options.onRefused?.(key, reason);
        }
      }
    }
    return settled;
  }

  async function sendAll(): Promise<void> {
    for (const [key, entry] of pending) {
      try {
        if ((await attempt(key, entry)) || ++entry.attempts > MAX_ATTEMPTS) {
          pending.delete(key);
          complained.delete(key);
        }
      } catch {
        // bitcoind is away: everything stays pending.
        return;
      }
    }
  }

  function resend(): Promise<void> {
    sending = sending.then(sendAll);
    return sending;
  }

  return {
    send,
    broadcast(transactions) {
      const key = transactions.map(shownTxid).join("+");
      if (!pending.has(key))
        pending.set(key, { transactions: transactions.map(each => each.slice()), attempts: 0 });
      void resend();
    },
    resend,
  };
}

function shownTxid(bytes: Uint8Array): string {
  const transaction: Transaction = parseTransaction(bytes);
  return toHex(txidOf(transaction).reverse());
}

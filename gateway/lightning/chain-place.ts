/** A node's place in the chain: what LDK watches for, and how it is shown what happens there. */
import * as ldk from "lightningdevkit";
import type {
  BlockPoint,
  ChainClient,
  ConfirmedTransaction,
  IndexedTransaction,
  Watching,
} from "../chain/chain-client.ts";
import type { Follower } from "../chain/follower.ts";
import type { LightningRuntime } from "./runtime.ts";
import type { Turns } from "./turns.ts";

/** What LDK registers to watch goes to the follower; from before the node has joined it, at its joining. */
export class ChainPlace {
  /** LDK holds it weakly: it lives as long as this does. */
  readonly filter: ldk.Filter;
  private watching: Watching | undefined;
  /** Watched before the node has joined the chain. */
  private readonly early: ((watching: Watching) => void)[] = [];

  constructor() {
    this.filter = ldk.Filter.new_impl({
      register_tx: txid => this.watch(watching => watching.transaction(txid.slice())),
      register_output: output => {
        const outpoint = output.get_outpoint();
        const txid = outpoint.get_txid();
        const vout = outpoint.get_index();
        this.watch(watching => watching.spendOf(txid, vout));
      },
    });
  }

  /** From now on the follower brings the node along. */
  join(follower: Follower, client: ChainClient): Watching {
    const watching = follower.join(client);
    this.watching = watching;
    for (const watch of this.early.splice(0)) watch(watching);
    return watching;
  }

  /** It is brought along no more. */
  leave(): void {
    this.watching?.leave();
  }

  private watch(what: (watching: Watching) => void): void {
    if (this.watching) what(this.watching);
    else this.early.push(what);
  }
}

/** Shows monitor and manager, in this order, what the follower has found. */
export function chainClientOf(
  manager: ldk.ChannelManager,
  monitor: ldk.ChainMonitor,
  turns: Turns,
): ChainClient {
  const confirms = () => [monitor.as_Confirm(), manager.as_Confirm()];
  const each = (work: (confirm: ldk.Confirm) => void) => {
    turns.guarded(() => {
      for (const confirm of confirms()) work(confirm);
    });
    turns.wake();
  };
  return {
    tip: () => blockPoint(manager.current_best_block()),
    confirmed: () =>
      confirms()
        .flatMap(confirm => confirm.get_relevant_txids())
        .map(confirmedTransaction),
    transactionsConfirmed: (header, transactions, height) =>
      each(confirm => confirm.transactions_confirmed(header, indexed(transactions), height)),
    transactionUnconfirmed: txid => each(confirm => confirm.transaction_unconfirmed(txid)),
    bestBlock: (header, height) => each(confirm => confirm.best_block_updated(header, height)),
    failed: error => turns.fail(error),
  };
}

/** A stored monitor may be some blocks behind its manager: it is brought forward alone, before LDK watches by it. */
export function catchUp(
  monitor: ldk.ChannelMonitor,
  runtime: LightningRuntime,
  failed: (error: unknown) => void,
): Watching {
  const { broadcaster, feeEstimator, logger, chain } = runtime;
  const tools = [broadcaster, feeEstimator, logger] as const;
  const watching = chain.follower.join({
    tip: () => blockPoint(monitor.current_best_block()),
    confirmed: () => monitor.get_relevant_txids().map(confirmedTransaction),
    transactionsConfirmed: (header, transactions, height) => {
      const watch = monitor.transactions_confirmed(header, indexed(transactions), height, ...tools);
      for (const each of watch)
        for (const output of each.get_b()) watching.spendOf(each.get_a(), output.get_a());
    },
    transactionUnconfirmed: txid => monitor.transaction_unconfirmed(txid, ...tools),
    bestBlock: (header, height) => void monitor.best_block_updated(header, height, ...tools),
    failed,
  });
  for (const each of monitor.get_outputs_to_watch()) {
    watching.transaction(each.get_a());
    for (const output of each.get_b()) watching.spendOf(each.get_a(), output.get_a());
  }
  return watching;
}

function blockPoint(best: ldk.BestBlock): BlockPoint {
  return { hash: best.get_block_hash(), height: best.get_height() };
}

function confirmedTransaction(
  relevant: ldk.ThreeTuple_ThirtyTwoBytesu32COption_ThirtyTwoBytesZZ,
): ConfirmedTransaction {
  const hash = relevant.get_c();
  return {
    txid: relevant.get_a(),
    height: relevant.get_b(),
    ...(hash instanceof ldk.Option_ThirtyTwoBytesZ_Some ? { blockHash: hash.some } : {}),
  };
}

/** A new list for every call: LDK takes what it is given. */
function indexed(transactions: readonly IndexedTransaction[]): ldk.TwoTuple_usizeTransactionZ[] {
  return transactions.map(({ index, transaction }) =>
    ldk.TwoTuple_usizeTransactionZ.constructor_new(index, transaction.raw),
  );
}

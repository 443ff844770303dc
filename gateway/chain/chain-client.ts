/** What a follower of the chain is to whom it brings along: a Lightning node, or the deposits of a device. */
import type { Block, BlockTransaction } from "../../src/node/block.ts";

/** A place in the chain; the hash in internal byte order. */
export interface BlockPoint {
  readonly hash: Uint8Array;
  readonly height: number;
}

/** A transaction in a block, as far as a client knows. */
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

/** A transaction and its position in its block. */
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

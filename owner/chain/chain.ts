/**
 * What the owner's computer asks of a chain when there is no gateway: a bitcoind (bitcoind.ts) or an Esplora
 * server (esplora.ts). Neither is trusted with a secret; both see which scripts are asked for.
 */
import { GENESIS, type Network } from "../../src/bitcoin/network.ts";
import type { Outpoint, Transaction } from "../../src/bitcoin/transaction.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import { parseBlock } from "../../src/node/block.ts";

/** An unspent output. */
export interface ChainOutput extends Outpoint {
  readonly valueSat: number;
  readonly script: Uint8Array;
  /** Of the block it is in; null while it waits for one. */
  readonly height: number | null;
}

/** Where a transaction stands: the height of its block, "waiting" for one, or "unknown". */
export type ConfirmationStatus = number | "waiting" | "unknown";

/** What spends an output. */
export interface Spender {
  readonly transaction: Transaction;
  /** Of the block it is in; null while it waits for one. */
  readonly height: number | null;
}

/** A chain that can be asked, and that publishes. All of it throws `chain-unreachable`, `chain-busy` or `bitcoind-…`. */
export interface OwnerChain {
  /** Who answers, for messages. */
  readonly name: string;
  /** Which network its chain is of. Throws `wrong-network` for another, `chain-unreachable`, `chain-busy` or `bitcoind-…`. */
  network(): Promise<Network>;
  /** Whether it can be relied on. Throws `chain-behind` or what `network` throws. */
  check(network: Network): Promise<void>;
  height(): Promise<number>;
  /** Unspent outputs of these scripts that are in a block and that no waiting transaction spends. */
  unspent(scripts: readonly Uint8Array[]): Promise<ChainOutput[]>;
  /** One unspent output by its place, waiting ones included; null if it is spent or was never there. */
  output(outpoint: Outpoint): Promise<ChainOutput | null>;
  confirmation(transaction: Transaction): Promise<ConfirmationStatus>;
  /**
   * The transaction that spends this output, waiting or in a block; null if none is known. A bitcoind has no index: it
   * is asked for at most the last `blocks` blocks, from the tip down; one that has pruned some of these throws
   * `block-pruned`.
   */
  spender(
    outpoint: Outpoint,
    blocks: number,
    onProgress?: (height: number, lowest: number) => void,
  ): Promise<Spender | null>;
  /** Sat per 1000 weight that gets into one of the next `blocks` blocks; null if nobody knows. */
  feerate(blocks: number): Promise<number | null>;
  /**
   * Publishes a transaction, or a parent with its child, which then pays for both. Throws `chain-refused`, with the
   * reason; what is known already is not an error.
   */
  publish(transactions: readonly Transaction[]): Promise<void>;
  /** Witness scripts that the test accepts among those that blocks from this height on reveal. */
  revealedScripts(
    fromHeight: number,
    accepts: (witnessScript: Uint8Array) => boolean,
    onProgress?: (height: number, tip: number) => void,
  ): Promise<Uint8Array[]>;
  close(): void;
}

/** Reads blocks one after the other for `revealedScripts`. */
export async function scanBlocks(
  fromHeight: number,
  tip: number,
  accepts: (witnessScript: Uint8Array) => boolean,
  onProgress: ((height: number, tip: number) => void) | undefined,
  rawBlock: (height: number) => Promise<Uint8Array>,
): Promise<Uint8Array[]> {
  const found = new Map<string, Uint8Array>();
  for (let height = fromHeight; height <= tip; height++) {
    for (const { inputs } of parseBlock(await rawBlock(height)).transactions) {
      for (const { witness } of inputs) {
        const last = witness?.[witness.length - 1];
        if (last && accepts(last)) found.set(toHex(last), last.slice());
      }
    }
    onProgress?.(height, tip);
  }
  return [...found.values()];
}

/** Whether a transaction spends this output. */
export function spends({ inputs }: Pick<Transaction, "inputs">, { txid, vout }: Outpoint): boolean {
  return inputs.some(input => input.vout === vout && equal(input.txid, txid));
}

/** A feerate in sat per 1000 weight, as people read it: sat per virtual byte. */
export function perVbyte(feeratePerKw: number): string {
  return (feeratePerKw / 250).toFixed(1);
}

/** The network that begins with this block. Throws `wrong-network`. */
export function networkOfGenesis(hash: string | undefined, name: string): Network {
  for (const [network, hashes] of Object.entries(GENESIS)) {
    if (hash !== undefined && hashes.includes(hash)) return network as Network;
  }
  throw lngateError(
    "wrong-network",
    hash === undefined
      ? `the ${name} has no first block: is this the address of its API?`
      : `the ${name} is on none of ${Object.keys(GENESIS).join(", ")}`,
  );
}

/** Throws `wrong-network`. */
export function ensureNetwork(found: Network, network: Network, name: string): void {
  if (found !== network) throw lngateError("wrong-network", `the ${name} is on ${found}, not on ${network}`);
}

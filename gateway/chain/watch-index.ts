/** Who watches what in the chain: so that a block is looked through once, however many there are. */
import type { Block } from "../../src/node/block.ts";

/** What one client watches. */
export interface Watches {
  readonly txids: readonly Uint8Array[];
  /** Outputs whose spending is watched for. */
  readonly outpoints: readonly { readonly txid: Uint8Array; readonly vout: number }[];
  readonly hasScripts: boolean;
}

const TXID_BYTES = 32;

/** Txids and hashes in internal byte order. */
export class WatchIndex<Watcher> {
  private readonly byTxid = new Map<string, Set<Watcher>>();
  /** By txid and the output's number behind it. */
  private readonly byOutpoint = new Map<string, Set<Watcher>>();
  private readonly byScript = new Map<string, Set<Watcher>>();

  /** A transaction by its id. */
  transaction(txid: Uint8Array, watcher: Watcher): void {
    add(this.byTxid, keyOf(txid), watcher);
  }

  /** Whatever spends this output. */
  spendOf(txid: Uint8Array, vout: number, watcher: Watcher): void {
    add(this.byOutpoint, outpointKey(txid, vout), watcher);
  }

  /** Whatever pays to this scriptPubKey. */
  paymentTo(script: Uint8Array, watcher: Watcher): void {
    add(this.byScript, keyOf(script), watcher);
  }

  /** It watches nothing any more. */
  remove(watcher: Watcher): void {
    for (const index of [this.byTxid, this.byOutpoint, this.byScript]) {
      for (const [key, watchers] of index) {
        watchers.delete(watcher);
        if (watchers.size === 0) index.delete(key);
      }
    }
  }

  /** All that this one watches; looked for among everybody's. */
  watchesOf(watcher: Watcher): Watches {
    const keysOf = (index: Map<string, Set<Watcher>>) =>
      [...index].filter(([, watchers]) => watchers.has(watcher)).map(([key]) => key);
    return {
      txids: keysOf(this.byTxid).map(bytesOf),
      outpoints: keysOf(this.byOutpoint).map(key => ({
        txid: bytesOf(key.slice(0, TXID_BYTES)),
        vout: Number(key.slice(TXID_BYTES)),
      })),
      hasScripts: keysOf(this.byScript).length > 0,
    };
  }

  /** For everybody concerned, the positions of the block's transactions that match now. */
  matches(block: Block): Map<Watcher, Set<number>> {
    const found = new Map<Watcher, Set<number>>();
    const note = (watchers: Set<Watcher> | undefined, position: number) => {
      for (const watcher of watchers ?? []) {
        const positions = found.get(watcher);
        if (positions) positions.add(position);
        else found.set(watcher, new Set([position]));
      }
    };
    for (const [position, transaction] of block.transactions.entries()) {
      note(this.byTxid.get(keyOf(transaction.txid)), position);
      for (const output of transaction.outputs) note(this.byScript.get(keyOf(output.script)), position);
      for (const input of transaction.inputs)
        note(this.byOutpoint.get(outpointKey(input.txid, input.vout)), position);
    }
    return found;
  }
}

function add<Watcher>(index: Map<string, Set<Watcher>>, key: string, watcher: Watcher): void {
  const watchers = index.get(key);
  if (watchers) watchers.add(watcher);
  else index.set(key, new Set([watcher]));
}

/** Map keys: bytes as a Latin-1 string, the cheapest there is. */
function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

function bytesOf(key: string): Uint8Array {
  return new Uint8Array(Buffer.from(key, "latin1"));
}

function outpointKey(txid: Uint8Array, vout: number): string {
  return `${keyOf(txid)}${vout}`;
}

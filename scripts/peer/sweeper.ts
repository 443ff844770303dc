/** Gets back to a plain peer's wallet what its closed channels have left on the chain. */
import * as ldk from "lightningdevkit";
import type { Chain } from "../../gateway/chain/chain.ts";
import type { Log } from "../../gateway/log.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import type { BitcoinRpc } from "../../src/node/bitcoind-rpc.ts";
import type { OwnRows } from "./rows.ts";

const SPENDABLE = "spendable/";

/** Whose outputs, and where they go. */
export interface SweeperOptions {
  readonly keys: ldk.KeysManager;
  /** Where the money goes. */
  readonly wallet: BitcoinRpc;
  readonly chain: Chain;
  readonly rows: OwnRows;
  readonly log: Log;
  /** A transaction was sent; its txid as explorers show it. */
  onSwept(txid: string): void;
}

/** The outputs that LDK has given us, kept in the store until they are spent in a block. */
export class Sweeper {
  private readonly options: SweeperOptions;
  /** By outpoint: LDK may tell of an output repeatedly. */
  private readonly spendable = new Map<string, ldk.SpendableOutputDescriptor>();
  private sweeping: Promise<void> = Promise.resolve();

  /** Throws `store-damaged`. */
  constructor(options: SweeperOptions) {
    this.options = options;
    for (const name of options.rows.stored(SPENDABLE)) this.note(options.rows.get(name)!);
  }

  /** LDK has given us these. */
  add(descriptors: readonly ldk.SpendableOutputDescriptor[]): void {
    for (const descriptor of descriptors) {
      const bytes = descriptor.write();
      this.options.rows.put(SPENDABLE + this.note(bytes), bytes);
    }
    void this.sweep();
  }

  /** Sends every output that LDK has given us to the wallet; a row goes when its output is spent in a block. */
  sweep(): Promise<void> {
    this.sweeping = this.sweeping.then(() => this.sweepAll());
    return this.sweeping;
  }

  /** Resolves when nothing is being sent. */
  rest(): Promise<void> {
    return this.sweeping;
  }

  private note(bytes: Uint8Array): string {
    const read = ldk.SpendableOutputDescriptor.constructor_read(bytes);
    if (!(read instanceof ldk.Result_SpendableOutputDescriptorDecodeErrorZ_OK))
      throw lngateError("store-damaged", "an output to be swept can't be read");
    const outpoint = read.res.spendable_outpoint();
    const key = `${toHex(outpoint.get_txid().reverse())}:${outpoint.get_index()}`;
    this.spendable.set(key, read.res);
    return key;
  }

  private async sweepAll(): Promise<void> {
    const { keys, wallet, chain, rows, log, onSwept } = this.options;
    try {
      for (const [key, descriptor] of [...this.spendable]) {
        const [txid, vout] = key.split(":");
        if ((await wallet.call("gettxout", [txid, Number(vout), false])) === null) {
          this.spendable.delete(key);
          rows.put(SPENDABLE + key, null);
          continue;
        }
        if ((await wallet.call("gettxout", [txid, Number(vout), true])) === null) continue;
        const address = await wallet.call<string>("getnewaddress", ["", "bech32"]);
        const { scriptPubKey } = await wallet.call<{ scriptPubKey: string }>("getaddressinfo", [address]);
        const spent = keys
          .as_OutputSpender()
          .spend_spendable_outputs(
            [descriptor],
            [],
            fromHex(scriptPubKey),
            chain.fees.feerate("normal"),
            ldk.Option_u32Z.constructor_none(),
          );
        if (!(spent instanceof ldk.Result_TransactionNoneZ_OK)) continue;
        onSwept(await chain.broadcaster.send(spent.res));
      }
    } catch (error) {
      log.warn(`sweeping waits: ${(error as Error).message}`);
    }
  }
}

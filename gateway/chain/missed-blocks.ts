/** Whether somebody can go on without blocks that bitcoind has pruned. */
import { shownHash } from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import type { BitcoinRpc } from "../../src/node/bitcoind-rpc.ts";
import type { BlockPoint, ConfirmedTransaction } from "./chain-client.ts";
import type { Watches } from "./watch-index.ts";

/**
 * What is watched for has not happened between `tip` and `best`: what is to be spent is unspent, and what is to be mined was
 * mined before. False if that can't be told.
 */
export async function hasMissedNothing(
  rpc: BitcoinRpc,
  watches: Watches,
  confirmed: readonly ConfirmedTransaction[],
  tip: BlockPoint,
  best: BlockPoint,
): Promise<boolean> {
  const mined = new Set(confirmed.map(({ txid }) => toHex(txid)));
  const bestHash = shownHash(best.hash);
  for (const { txid, vout } of watches.outpoints) {
    const output = await rpc.call<{ bestblock: string; confirmations: number } | null>("gettxout", [
      shownHash(txid),
      vout,
      false,
    ]);
    if (output === null) return false;
    if (output.bestblock === bestHash && best.height - output.confirmations < tip.height)
      mined.add(toHex(txid));
  }
  return !watches.hasScripts && watches.txids.every(txid => mined.has(toHex(txid)));
}

/** How a plain peer pays for its channels: bitcoind's wallet builds the transaction, and signs it last. */
import type * as ldk from "lightningdevkit";
import type { Chain } from "../../gateway/chain/chain.ts";
import type { LightningNode } from "../../gateway/lightning/node.ts";
import type { Log } from "../../gateway/log.ts";
import { parseTransaction, txidOf } from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import type { BitcoinRpc } from "../../src/node/bitcoind-rpc.ts";
import type { OwnRows } from "./rows.ts";

const FUNDING = "funding/";

/** What pays, and where it is sent and kept. */
export interface FundingOptions {
  readonly wallet: BitcoinRpc;
  readonly chain: Chain;
  readonly rows: OwnRows;
  readonly log: Log;
}

/** The other side has accepted: the wallet builds the funding transaction and keeps its signature for later. */
export async function fundChannel(
  { wallet, rows, log }: FundingOptions,
  node: LightningNode,
  event: ldk.Event_FundingGenerationReady,
): Promise<void> {
  try {
    const { address } = await wallet.call<{ address: string }>("decodescript", [toHex(event.output_script)]);
    const amount = Number(event.channel_value_satoshis) / 1e8;
    const raw = await wallet.call<string>("createrawtransaction", [[], [{ [address]: amount }]]);
    const options = { fee_rate: 2, changePosition: 1, change_type: "bech32", lockUnspents: true };
    const { hex } = await wallet.call<{ hex: string }>("fundrawtransaction", [raw, options]);
    const txid = txidOf(parseTransaction(fromHex(hex)));
    rows.put(FUNDING + toHex(txid), fromHex(hex));
    node.provideFunding(event, { txid, vout: 0 });
  } catch (error) {
    log.error(`the channel is not funded: ${(error as Error).message}`);
    node.forceClose(event.temporary_channel_id, event.counterparty_node_id);
  }
}

/** We hold a commitment that brings the money back: the funding transaction may be signed now, and sent. */
export async function signFunding(
  { wallet, chain, rows, log }: FundingOptions,
  event: ldk.Event_FundingTxBroadcastSafe,
): Promise<void> {
  try {
    const unsigned = rows.get(FUNDING + toHex(event.funding_txo.get_txid()));
    if (!unsigned) throw lngateError("no-funding", "the funding transaction is not in the store");
    const signed = await wallet.call<{ hex: string }>("signrawtransactionwithwallet", [toHex(unsigned)]);
    chain.broadcaster.broadcast([fromHex(signed.hex)]);
  } catch (error) {
    log.error(`the funding transaction is not signed: ${(error as Error).message}`);
  }
}

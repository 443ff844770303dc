/**
 * The funding transaction of a device's channel: fixed when the bridge accepts, signed last of all, when the device holds its
 * exit, sent, and watched until another transaction spends it, which is the channel's end.
 */

import type * as ldk from "lightningdevkit";
import {
  shownHash,
  strippedBytes,
  type Transaction,
  transactionBytes,
  txidOf,
} from "../../src/bitcoin/transaction.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { type DeviceKeys, depositScriptOf } from "../../src/channel/device-keys.ts";
import { channelOf, fundingOf } from "../../src/channel/transactions.ts";
import { commitmentNumberOf } from "../../src/lightning/commitment.ts";
import { buildFunding, FUNDING_VOUT, signedFunding } from "../../src/lightning/funding.ts";
import type { LightningNode } from "../lightning/node.ts";
import type { Log } from "../log.ts";
import type { RemoteSigner } from "../signer/remote-signer.ts";
import type { DeviceChannel } from "./channel.ts";
import type { Deposits } from "./deposits.ts";

/** What `ChannelFunding` depends on. */
export interface ChannelFundingOptions {
  readonly channel: DeviceChannel;
  readonly keys: DeviceKeys;
  readonly signer: Pick<RemoteSigner, "book" | "askFunding">;
  readonly deposits: Deposits;
  readonly log: Log;
  /** What LDK has; undefined until it runs. */
  node(): LightningNode | undefined;
  /** Gives a transaction to bitcoind, again and again until it is in a block. */
  broadcast(transaction: Uint8Array): void;
  /** Does what nobody waits for, and reports what it throws. */
  guarded(work: () => void): void;
}

/** See the head of this file. */
export class ChannelFunding {
  private readonly options: ChannelFundingOptions;

  constructor(options: ChannelFundingOptions) {
    this.options = options;
  }

  /** The bridge has accepted: the funding transaction is fixed, unsigned; its id is final all the same. Throws `funding-refused`. */
  build(event: ldk.Event_FundingGenerationReady): void {
    const { channel, keys } = this.options;
    const { row } = channel;
    const node = this.options.node();
    if (row?.stage !== "opening" || !node) return;
    const { transaction } = buildFunding(
      row.deposits,
      depositScriptOf(keys),
      new Uint8Array(0),
      row.channelSat,
      row.changeSat,
      row.index,
    );
    const [channelOutput, ...change] = transaction.outputs;
    const outputs = [{ ...channelOutput!, script: event.output_script }, ...change];
    node.provideFunding(event, { txid: txidOf({ ...transaction, outputs }), vout: FUNDING_VOUT });
  }

  /** The bridge has signed our commitment 0: once the device holds it, it may sign the funding transaction. */
  sign(): void {
    const { channel, keys, signer } = this.options;
    const { row } = channel;
    if (row?.stage !== "opening" || !row.proposal) return;
    const witnessScript = depositScriptOf(keys);
    signer.askFunding(row.keysId, {
      transaction: strippedBytes(fundingOf(keys, row.proposal).transaction),
      inputs: row.deposits.map(({ valueSat }, index) => ({ index, amountSat: valueSat, witnessScript })),
    });
    this.finish();
  }

  /**
   * Sends it, if the device has signed it. It leaves when it is durable that LDK holds the bridge's signature: an LDK that
   * remembers less and finds the transaction in a block never starts again ("Funding transaction broadcast … before it should
   * have").
   */
  finish(): void {
    const { channel, keys, signer, node } = this.options;
    const { row } = channel;
    const signatures = row && signer.book(row.keysId)?.fundingSignatures;
    if (row?.stage !== "opening" || !row.proposal || !signatures) return;
    const signed = transactionBytes(signedFunding(fundingOf(keys, row.proposal), signatures));
    node()?.whenStored(() => this.send(signed));
  }

  private send(signed: Uint8Array): void {
    const { channel, log, broadcast } = this.options;
    const { row } = channel;
    if (row?.stage !== "opening") return;
    channel.put({ ...row, stage: "funded", fundingTransaction: signed });
    const { fundingTxid } = channel;
    log.info("the channel is funded", {
      sat: row.channelSat,
      txid: fundingTxid && shownHash(fundingTxid),
    });
    broadcast(signed);
    this.watch();
  }

  /** A reorg may have taken it out of the chain, and then nothing that spends it is taken either. */
  broadcast(): void {
    const transaction = this.options.channel.row?.fundingTransaction;
    if (transaction) this.options.broadcast(transaction);
  }

  /** The transaction that spends the channel's output ends it; after a reorg that may be another one. */
  watch(): void {
    const { channel, keys, deposits, guarded } = this.options;
    const { row } = channel;
    if (!row?.proposal || row.stage === "opening") return;
    const { txid } = fundingOf(keys, row.proposal);
    deposits.onSpent({ txid, vout: FUNDING_VOUT }, spend => guarded(() => this.spent(row.keysId, spend)));
  }

  private spent(keysId: Uint8Array, spend: Transaction): void {
    const { channel, keys, log } = this.options;
    const { row } = channel;
    const closeTxid = txidOf(spend);
    if (!row || !equal(row.keysId, keysId) || (row.closeTxid && equal(row.closeTxid, closeTxid))) return;
    log.info("the channel is closed", { txid: shownHash(closeTxid) });
    const closeNumber = row.proposal ? commitmentNumberOf(channelOf(keys, row.proposal), spend) : null;
    const { closeNumber: _, ...rest } = row;
    channel.put({ ...rest, stage: "closed", closeTxid, ...(closeNumber === null ? {} : { closeNumber }) });
  }
}

/**
 * How a device's channel ends: by a mutual close, or by the bridge, which is made to publish its newest commitment and is
 * called again until it has. What began an end is seen through; what stands in its way is said.
 */

import * as ldk from "lightningdevkit";
import { shownHash } from "../../src/bitcoin/transaction.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { FUNDING_VOUT } from "../../src/lightning/funding.ts";
import type { BitcoinRpc } from "../../src/node/bitcoind-rpc.ts";
import type { LightningNode } from "../lightning/node.ts";
import { type Log, lastingTrouble } from "../log.ts";
import type { RemoteSigner } from "../signer/remote-signer.ts";
import type { BridgeWords } from "./bridge.ts";
import { type DeviceChannel, stuckSentence } from "./channel.ts";

/** How soon a mutual close is tried again that LDK cannot begin now. */
const CLOSE_AGAIN_MS = 1_000;
/** How often it is looked whether an end comes to its end. */
const ENDING_MS = 20_000;
/** How soon and how often a bridge is called again that was told to close, and has not. */
const FIRST_INSIST_MS = 1_000;
const INSIST_MS = 60_000;

/** What `ChannelEnding` depends on. */
export interface ChannelEndingOptions {
  readonly channel: DeviceChannel;
  readonly words: BridgeWords;
  readonly signer: Pick<RemoteSigner, "closingPending">;
  readonly rpc: BitcoinRpc;
  readonly log: Log;
  /** What LDK has; undefined until it runs. */
  node(): LightningNode | undefined;
  /** Does what nobody waits for, and reports what it throws. */
  guarded(work: () => void): void;
  /** For what is a fault of this program or of LDK. */
  onFatal(error: unknown): void;
}

/** See the head of this file. */
export class ChannelEnding {
  private readonly options: ChannelEndingOptions;
  private closeTimer: NodeJS.Timeout | undefined;
  private watchTimer: NodeJS.Timeout | undefined;
  private insistTimer: NodeJS.Timeout | undefined;
  /** By performance.now(): when the bridge was last called again to make it close. */
  private insistedAt = Number.NEGATIVE_INFINITY;
  /** The channel has ended here, and the bridge, which has to close it, has not done so yet. */
  isAwaitingBridge = false;
  /** It had ended here when it was last looked at: a close that is just being sent is not waited for. */
  private hadEnded = false;
  /** The mutual close was being negotiated when it was last looked at. */
  private negotiated = false;
  /** A mutual close is being negotiated for longer than it should. */
  isStalled = false;
  private readonly trouble: (error: unknown) => void;
  /** What the log has said of a channel that is stuck. */
  private stuckSaid: string | undefined;

  constructor(options: ChannelEndingOptions) {
    this.options = options;
    this.trouble = lastingTrouble(error => {
      if (error) options.log.warn(error.message, { code: codeOf(error) });
    });
  }

  /** LDK runs: goes on with an end that was begun in another life, and looks after it from now on. */
  start(): void {
    const { channel, guarded } = this.options;
    if (channel.isFrozen) this.forceCloseByBridge();
    else if (channel.row?.stage === "closing") this.closeSoon();
    this.noteStuck();
    this.watchTimer = setInterval(() => guarded(() => this.watch()), ENDING_MS);
    this.watchTimer.unref();
  }

  stop(): void {
    clearTimeout(this.closeTimer);
    clearTimeout(this.insistTimer);
    clearInterval(this.watchTimer);
  }

  /** Asks the bridge for a mutual close, now or as soon as that is possible. Throws `close-state`. */
  requestClose(): void {
    const { channel } = this.options;
    const { row } = channel;
    if (row?.stage === "closing" || row?.stage === "closed") {
      channel.tellDevice();
      this.noteStuck();
      return;
    }
    if (row?.stage !== "ready") throw lngateError("close-state", "there is no channel that could be closed");
    channel.put({ ...row, stage: "closing" });
    this.closeSoon();
  }

  /** Ends the channel for LDK without publishing anything, and tells the bridge so: then it publishes its newest. */
  forceCloseByBridge(): void {
    const { guarded } = this.options;
    const node = this.options.node();
    for (const channel of node?.channels() ?? []) {
      node?.manager.force_close_without_broadcasting_txn(
        channel.get_channel_id(),
        channel.get_counterparty().get_node_id(),
        "closed by its owner: publish your newest commitment",
      );
    }
    node?.wake();
    this.hadEnded = true;
    clearTimeout(this.insistTimer);
    this.insistTimer = setTimeout(() => guarded(() => this.watch()), FIRST_INSIST_MS);
  }

  /** The bridge knows states that this gateway does not: its folder was put back from an old copy. */
  fellBehind(): void {
    this.options.log.error(
      "this gateway's data is older than the channel: an old copy was put back. Nothing of it is published; the bridge is to close",
      { code: "gateway-rolled-back" },
    );
    this.forceCloseByBridge();
  }

  /**
   * The device may have refused what the channel can't do without, for good. An owner who has asked for a close need not wait
   * for it: the bridge ends the channel with its newest state, which needs no signature of ours. One that is being opened ends
   * the same way, and another may be opened.
   */
  noteStuck(): void {
    const { channel, log } = this.options;
    const { stuck, row } = channel;
    if (stuck === null || !row) return;
    // LDK has nothing to store for it: after a restart at once a payment would be put on top of what can't be signed.
    if (stuck !== this.stuckSaid) this.options.node()?.storeSoon();
    if (row.stage === "opening" || row.stage === "closing") this.forceCloseByBridge();
    else if (stuck !== this.stuckSaid)
      log.error(`${stuckSentence(stuck)}: \`lngate device close\` has the bridge close it`, {
        code: "channel-stuck",
      });
    this.stuckSaid = stuck;
  }

  /** LDK begins no close while the bridge is away or a payment is just being sent. */
  private closeSoon(): void {
    const { log, guarded } = this.options;
    const { row, stuck } = this.options.channel;
    const node = this.options.node();
    if (row?.stage !== "closing") return;
    if (stuck !== null) {
      this.forceCloseByBridge();
      return;
    }
    const channel = node?.channels()[0];
    const state = channel?.get_channel_shutdown_state();
    const begun =
      !(state instanceof ldk.Option_ChannelShutdownStateZ_Some) ||
      state.some !== ldk.ChannelShutdownState.LDKChannelShutdownState_NotShuttingDown;
    if (!node || !channel || begun) return;
    try {
      node.closeChannel(channel.get_channel_id(), channel.get_counterparty().get_node_id());
    } catch (error) {
      if (codeOf(error) !== "close-refused") throw error;
      log.debug((error as Error).message);
      clearTimeout(this.closeTimer);
      this.closeTimer = setTimeout(() => guarded(() => this.closeSoon()), CLOSE_AGAIN_MS);
    }
  }

  /**
   * Sees to it that an end comes to its end. A bridge that was told to close need not do so (LND keeps the channel); when it
   * is called again it hears that nobody here knows the channel, and then it does. A mutual close that is stuck begins again.
   */
  private watch(): void {
    const { channel, signer, words, onFatal } = this.options;
    const node = this.options.node();
    if (!node) return;
    const { bridge } = channel;
    const negotiates = node.negotiatesClose() && !signer.closingPending;
    if (bridge && negotiates && this.negotiated) {
      const said = words.last === undefined ? "" : `; the bridge says: ${words.last}`;
      this.trouble(
        lngateError("close-stalled", `the bridge does not end the mutual close, it is tried again${said}`),
      );
      this.isStalled = true;
      node.hangUp(bridge.nodeId);
    } else if (!negotiates) {
      this.isStalled = false;
      this.trouble(null);
    }
    this.negotiated = negotiates;
    this.insist(node).catch(onFatal);
  }

  /** Calls the bridge again as long as the channel has ended for LDK alone. */
  private async insist(node: LightningNode): Promise<void> {
    const { rpc, log } = this.options;
    const { row, fundingTxid, bridge } = this.options.channel;
    const { hadEnded } = this;
    this.hadEnded = row?.stage === "closing" && node.channels().length === 0;
    if (!this.hadEnded) this.isAwaitingBridge = false;
    if (!bridge || !this.hadEnded || !hadEnded || !fundingTxid) return;
    let isSpent: boolean;
    try {
      isSpent = (await rpc.call("gettxout", [shownHash(fundingTxid), FUNDING_VOUT, true])) === null;
    } catch (error) {
      // bitcoind is away, which is told elsewhere.
      if (codeOf(error) === undefined) throw error;
      return;
    }
    if (this.isAwaitingBridge && isSpent) log.info("the bridge has closed the channel");
    if (!this.isAwaitingBridge && !isSpent)
      log.warn("the bridge has not closed the channel yet: it is called again until it has", {
        code: "bridge-keeps-channel",
      });
    this.isAwaitingBridge = !isSpent;
    if (isSpent || performance.now() - this.insistedAt < INSIST_MS) return;
    this.insistedAt = performance.now();
    node.hangUp(bridge.nodeId);
  }
}

/**
 * LDK is told to ask its signer again, channel by channel. LDK 0.1 does not check by itself whether a message that was
 * waiting for the signer may be sent now. Two cases end with the bridge closing the channel: a message before
 * channel_reestablish, and a revoke_and_ack that goes out twice because a monitor update was in progress too.
 */
import {
  type ChainMonitor,
  type ChannelId,
  type ChannelManager,
  Option_C2Tuple_PublicKeyChannelIdZZ,
  TwoTuple_PublicKeyChannelIdZ,
} from "lightningdevkit";
import type { Unblocks } from "./parts.ts";

/** The node that this signer signs for. */
export interface SignedNode {
  readonly channelManager: ChannelManager;
  readonly chainMonitor: ChainMonitor;
  /** LDK may have messages to send and events to handle. */
  wake(): void;
}

/** How soon to look again whether LDK's store is done. */
const STORE_RETRY_MS = 3;

/** Who has to ask again about one channel, and whether the channel lets it. */
export class Unblocking {
  /** The bridge is connected, and the channel was opened or reestablished since. */
  live: boolean;
  private due: Unblocks[] = [];
  /** This channel, for ChannelManager.signer_unblocked. */
  private target: Option_C2Tuple_PublicKeyChannelIdZZ | null = null;
  private everyChannel: Option_C2Tuple_PublicKeyChannelIdZZ | null = null;

  constructor(live: boolean) {
    this.live = live;
  }

  /** An answer is there that these wait for. */
  note(...who: readonly Unblocks[]): void {
    this.due.push(...who);
  }

  /**
   * Lets LDK ask again, as far as it may now; `lookAgain` is called when it is time to try once more. The channel's id
   * is null as long as the channel is not funded.
   */
  run(node: SignedNode, bridge: Uint8Array, channelId: () => ChannelId | null, lookAgain: () => void): void {
    if (this.due.length === 0) return;
    const manager = this.due.includes("manager");
    const monitor = this.due.includes("monitor");
    const later = manager && !this.mayUnblock(node.chainMonitor, lookAgain);
    this.due = later ? ["manager"] : [];
    if (monitor) node.chainMonitor.signer_unblocked(null);
    if (manager && !later) node.channelManager.signer_unblocked(this.targetOf(bridge, channelId));
    if (monitor || (manager && !later)) node.wake();
  }

  private mayUnblock(chainMonitor: ChainMonitor, lookAgain: () => void): boolean {
    if (!this.live) return false;
    const storing = chainMonitor.list_pending_monitor_updates().some(each => each.get_b().length > 0);
    if (storing) setTimeout(lookAgain, STORE_RETRY_MS).unref();
    return !storing;
  }

  /** One object per channel: the manager's binding keeps every object that was ever passed to it. */
  private targetOf(
    bridge: Uint8Array,
    channelId: () => ChannelId | null,
  ): Option_C2Tuple_PublicKeyChannelIdZZ {
    if (this.target) return this.target;
    const id = channelId();
    if (id) {
      this.target = Option_C2Tuple_PublicKeyChannelIdZZ.constructor_some(
        TwoTuple_PublicKeyChannelIdZ.constructor_new(bridge, id),
      );
      return this.target;
    }
    this.everyChannel ??= Option_C2Tuple_PublicKeyChannelIdZZ.constructor_none();
    return this.everyChannel;
  }
}

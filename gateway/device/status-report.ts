/** How a device and its channel stand, for its owner. */
import type { BridgeWords } from "../channel/bridge.ts";
import type { ChannelState, DeviceChannel } from "../channel/channel.ts";
import type { ChannelEnding } from "../channel/ending.ts";
import type { ChannelOpening } from "../channel/opening.ts";
import type { LightningNode } from "../lightning/node.ts";
import type { Sighting } from "./rollback-guard.ts";
import type { DeviceSession } from "./session.ts";

/** What the gateway knows of a device and its channel without asking anybody. Txids in internal byte order. */
export interface DeviceReport {
  /** A session with the device is up, and it has said where it stands. */
  readonly online: boolean;
  /** An old image of its flash has turned up. */
  readonly rolledBack: boolean;
  /** Its channel can do nothing any more but be closed. */
  readonly stuck: boolean;
  /** The bridge was told to close the channel, and has not. */
  readonly awaitingBridge: boolean;
  /** The bridge does not end the mutual close. */
  readonly closeStalled: boolean;
  /** No channel is opened, since the device signs no feerate that makes sense now. */
  readonly feeratesApart: boolean;
  /** What the bridge said last of a channel that it ends or does not open. */
  readonly bridgeWords?: string;
  readonly seen?: Sighting;
  readonly channel: ChannelState;
  /** Our side of the channel as LDK counts it, HTLCs in flight not included. */
  readonly balanceSat?: number;
  /** Most that the bridge lets be in flight in the channel. */
  readonly inFlightSat?: number;
  readonly fundingTxid?: Uint8Array;
  readonly closeTxid?: Uint8Array;
}

/** The report of now. `node`: undefined until it runs. */
export function deviceReport(
  link: DeviceSession,
  channel: DeviceChannel,
  opening: ChannelOpening,
  ending: ChannelEnding,
  words: BridgeWords,
  node: LightningNode | undefined,
): DeviceReport {
  const { inFlightSat, fundingTxid } = channel;
  const { seen } = link;
  const closeTxid = channel.row?.closeTxid;
  const outboundMsat = node?.channels()[0]?.get_outbound_capacity_msat();
  return {
    online: link.isThere,
    rolledBack: link.isRolledBack,
    stuck: channel.stuck !== null,
    awaitingBridge: ending.isAwaitingBridge,
    closeStalled: ending.isStalled,
    feeratesApart: opening.areFeeratesApart,
    ...(words.last === undefined ? {} : { bridgeWords: words.last }),
    ...(seen ? { seen } : {}),
    channel: channel.state,
    ...(outboundMsat === undefined ? {} : { balanceSat: Math.floor(Number(outboundMsat) / 1000) }),
    ...(inFlightSat === undefined ? {} : { inFlightSat }),
    ...(fundingTxid ? { fundingTxid } : {}),
    ...(closeTxid ? { closeTxid } : {}),
  };
}

/** Channels begin and end: what is asked of LDK for it, with its refusals as ours. */
import { randomBytes } from "node:crypto";
import * as ldk from "lightningdevkit";
import type { Outpoint } from "../../src/bitcoin/transaction.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import type { NodeOptions } from "./node-options.ts";

/** A channel to be asked for. */
export interface ChannelRequest {
  readonly nodeId: Uint8Array;
  readonly sat: number;
  /** Given to the peer at the start. */
  readonly pushMsat: number;
  readonly userChannelId: bigint;
}

/** Channels that a node which routes nothing takes at most. */
const MAX_TAKEN_CHANNELS = 8;

/** Asks a connected peer for a channel. Throws `channel-refused`. */
export function createChannel(
  manager: ldk.ChannelManager,
  { nodeId, sat, pushMsat, userChannelId }: ChannelRequest,
  config: ldk.UserConfig,
): void {
  const created = manager.create_channel(nodeId, BigInt(sat), BigInt(pushMsat), userChannelId, null, config);
  if (!(created instanceof ldk.Result_ChannelIdAPIErrorZ_OK)) {
    throw lngateError("channel-refused", `LDK does not ask for the channel: ${apiError(created)}`);
  }
}

/** Answers Event_FundingGenerationReady with the outpoint of a transaction that is not signed yet. Throws `funding-refused`. */
export function provideFunding(
  manager: ldk.ChannelManager,
  event: ldk.Event_FundingGenerationReady,
  funding: Outpoint,
): void {
  const provided = manager.unsafe_manual_funding_transaction_generated(
    event.temporary_channel_id,
    event.counterparty_node_id,
    ldk.OutPoint.constructor_new(funding.txid, funding.vout),
  );
  if (!provided.is_ok())
    throw lngateError("funding-refused", `LDK does not take the funding: ${apiError(provided)}`);
}

/** A peer can make LDK propose the older kind of channel, by refusing the first proposal with an error. */
export function hasAnchors(manager: ldk.ChannelManager, id: ldk.ChannelId): boolean {
  const details = manager.list_channels().find(each => each.get_channel_id().eq(id));
  return Boolean(details?.get_channel_type().supports_anchors_zero_fee_htlc_tx());
}

/** Takes the channel that a peer asks for, or refuses it. */
export function answerOpenRequest(
  manager: ldk.ChannelManager,
  { routing, channelsFrom }: Pick<NodeOptions, "routing" | "channelsFrom">,
  event: ldk.Event_OpenChannelRequest,
): void {
  const welcome =
    routing ||
    (channelsFrom !== undefined &&
      equal(event.counterparty_node_id, channelsFrom) &&
      manager.list_channels().length < MAX_TAKEN_CHANNELS);
  if (welcome && event.channel_type.supports_anchors_zero_fee_htlc_tx()) {
    const id = randomBytes(16).readBigUInt64BE();
    manager.accept_inbound_channel(event.temporary_channel_id, event.counterparty_node_id, id);
    return;
  }
  manager.force_close_without_broadcasting_txn(
    event.temporary_channel_id,
    event.counterparty_node_id,
    welcome ? "only anchors channels" : "no channels are accepted here",
  );
}

/** A mutual close has come to the fee, and to no end yet. */
export function negotiatesClose(manager: ldk.ChannelManager): boolean {
  return manager.list_channels().some(each => {
    const state = each.get_channel_shutdown_state();
    return (
      state instanceof ldk.Option_ChannelShutdownStateZ_Some &&
      state.some === ldk.ChannelShutdownState.LDKChannelShutdownState_NegotiatingClosingFee
    );
  });
}

/** Begins a mutual close; LDK refuses while a monitor update waits for the store. Throws `close-refused`. */
export function closeChannel(
  manager: ldk.ChannelManager,
  channelId: ldk.ChannelId,
  nodeId: Uint8Array,
): void {
  const closed = manager.close_channel(channelId, nodeId);
  if (!closed.is_ok())
    throw lngateError("close-refused", `LDK does not close the channel now: ${apiError(closed)}`);
}

function apiError(result: object): string {
  const error = (result as { err?: ldk.APIError }).err;
  if (error instanceof ldk.APIError_APIMisuseError || error instanceof ldk.APIError_ChannelUnavailable)
    return error.err;
  return error?.constructor.name ?? "no reason given";
}

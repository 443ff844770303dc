/**
 * What LDK learns from the bridge's messages and shows neither its signer nor its user in time: whether a channel was
 * reestablished since the bridge connected, the next per-commitment point, which comes with every revoke_and_ack, and
 * the limits in accept_channel. This handler stands between LDK's PeerManager and ChannelManager, passes everything
 * on, and tells of these. A RemoteSigner needs it: without it LDK would never be told to ask again.
 */
import {
  type AcceptChannel,
  type ChannelDetails,
  type ChannelManager,
  ChannelMessageHandler,
  type ChannelMessageHandlerInterface,
  type ChannelReestablish,
  type ClosingSigned,
  type ErrorMessage,
  type Init,
  type MessageSendEvent,
  type Result_NoneNoneZ,
  type RevokeAndACK,
  type UpdateFulfillHTLC,
} from "lightningdevkit";
import { equal } from "../../src/bytes/bytes.ts";
import type { RemoteSigner } from "./remote-signer.ts";

/** What accept_channel says and LDK keeps to itself. */
export interface AcceptedChannel {
  readonly dustLimitSat: number;
  readonly reserveSat: number;
  /** Most that may be in flight; some allow more than a number holds. */
  readonly inFlightMsat: bigint;
}

/** Who is told what the bridge's messages say. */
export interface BridgeNews {
  /** The bridge's limits for a channel that it is about to open. */
  accepted?(channel: AcceptedChannel): void;
  /** The bridge knows a state of ours that is not known here. */
  fellBehind?(): void;
  /**
   * The bridge names a fee for the mutual close without a range to agree within (BOLT #2's older way). False: LDK is not to
   * see it, since it would close by force.
   */
  closeOffered?(feeSat: number): boolean;
  /** The bridge's words about a channel that it ends, or does not open; they may be anything. */
  refused?(words: string): void;
  /** LDK has an event of a payment that has arrived, and is to be asked for it now, before the next message. */
  fulfilled?(): void;
}

/** To be given to PeerManager in the place of `channelManager.as_ChannelMessageHandler()`. */
export function watchedMessages(
  channelManager: ChannelManager,
  signer: RemoteSigner,
  news: BridgeNews = {},
): ChannelMessageHandler {
  const inner = () => channelManager.as_ChannelMessageHandler();
  const watched: Partial<ChannelMessageHandlerInterface> = {
    peer_connected(peer: Uint8Array, message: Init, inbound: boolean): Result_NoneNoneZ {
      const result = inner().peer_connected(peer, message, inbound);
      signer.peerConnected(peer);
      return result;
    },
    peer_disconnected(peer: Uint8Array): void {
      signer.peerDisconnected(peer);
      inner().peer_disconnected(peer);
    },
    handle_channel_reestablish(peer: Uint8Array, message: ChannelReestablish): void {
      const channelId = message.get_channel_id().get_a();
      const next = Number(message.get_next_remote_commitment_number());
      const isKnown = channelManager
        .list_channels()
        .some(each => equal(each.get_channel_id().get_a(), channelId));
      // LDK would panic: the bridge proves that our state is an old one. To one that it has given up it answers so that
      // the bridge closes.
      if (isKnown && signer.isBehind(channelId, next, message.get_your_last_per_commitment_secret())) {
        setImmediate(() => news.fellBehind?.());
        return;
      }
      inner().handle_channel_reestablish(peer, message);
      signer.reestablished(message.get_channel_id().get_a());
    },
    handle_accept_channel(peer: Uint8Array, message: AcceptChannel): void {
      news.accepted?.({
        dustLimitSat: Number(message.get_common_fields().get_dust_limit_satoshis()),
        reserveSat: Number(message.get_channel_reserve_satoshis()),
        inFlightMsat: message.get_common_fields().get_max_htlc_value_in_flight_msat(),
      });
      inner().handle_accept_channel(peer, message);
    },
    handle_closing_signed(peer: Uint8Array, message: ClosingSigned): void {
      // For "none" the binding makes an object around a null pointer.
      const hasRange = Reflect.get(message.get_fee_range() ?? { ptr: 0n }, "ptr") !== 0n;
      const isTaken = hasRange || (news.closeOffered?.(Number(message.get_fee_satoshis())) ?? true);
      if (isTaken) inner().handle_closing_signed(peer, message);
    },
    handle_error(peer: Uint8Array, message: ErrorMessage): void {
      news.refused?.(message.get_data());
      const channelId = message.get_channel_id();
      const unfunded = channelManager
        .list_channels()
        .some(each => each.get_channel_id().eq(channelId) && isUnfunded(each));
      // LDK would ask for an older kind of channel at once, which is not wanted, under the same id.
      if (unfunded)
        channelManager.force_close_without_broadcasting_txn(channelId, peer, "the channel was refused");
      else inner().handle_error(peer, message);
    },
    handle_update_fulfill_htlc(peer: Uint8Array, message: UpdateFulfillHTLC): void {
      inner().handle_update_fulfill_htlc(peer, message);
      news.fulfilled?.();
    },
    handle_revoke_and_ack(peer: Uint8Array, message: RevokeAndACK): void {
      signer.revokeAndAck(
        message.get_channel_id().get_a(),
        message.get_per_commitment_secret(),
        message.get_next_per_commitment_point(),
      );
      inner().handle_revoke_and_ack(peer, message);
    },
  };
  return messagesThrough(channelManager, watched);
}

/** A handler that hands to LDK what `own` has nothing for, and what LDK wants to send to `sending` first. */
export function messagesThrough(
  channelManager: ChannelManager,
  own: Partial<ChannelMessageHandlerInterface>,
  sending: (events: MessageSendEvent[]) => MessageSendEvent[] = events => events,
): ChannelMessageHandler {
  const passedOn = new Proxy(own, {
    get(target, name) {
      const method = Reflect.get(target, name);
      if (method) return method;
      return (...args: unknown[]) => {
        // A new wrapper for each call: a binding keeps every message that was passed to it for as long as it lives.
        const handler = channelManager.as_ChannelMessageHandler();
        return Reflect.apply(Reflect.get(handler, name), handler, args);
      };
    },
  });
  return ChannelMessageHandler.new_impl(passedOn as ChannelMessageHandlerInterface, {
    get_and_clear_pending_msg_events: () =>
      sending(channelManager.as_MessageSendEventsProvider().get_and_clear_pending_msg_events()),
  });
}

/** Before the funding transaction is known: the channel has a temporary id. */
function isUnfunded(channel: ChannelDetails): boolean {
  return Reflect.get(channel.get_funding_txo() ?? { ptr: 0n }, "ptr") === 0n;
}

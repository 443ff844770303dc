/**
 * A bridge that tells nobody of the network unless it is asked, as Eclair does not, and as LND does not for a while after its
 * own policy has changed. It answers `query_channel_range` and `query_short_channel_ids`; the latter without the message
 * that ends it, which LDK can't send.
 */
import * as ldk from "lightningdevkit";
import type { PlainPeerOptions } from "../../scripts/peer/api.ts";

/** Filled with the channels that were asked for. */
export function quiet(
  graph: ldk.NetworkGraph,
  asked: bigint[] = [],
): NonNullable<PlainPeerOptions["behaviour"]> {
  return {
    messages: manager => silent(manager, graph),
    gossip: (own, logger) => answering(own, logger, asked),
  };
}

/** What a node would tell of its own channels goes into its graph alone. */
function silent(manager: ldk.ChannelManager, graph: ldk.NetworkGraph): ldk.ChannelMessageHandler {
  const inner = () => manager.as_ChannelMessageHandler();
  const passedOn = new Proxy({} as ldk.ChannelMessageHandlerInterface, {
    get:
      (_, name) =>
      (...args: unknown[]) => {
        const handler = inner();
        return Reflect.apply(Reflect.get(handler, name), handler, args);
      },
  });
  return ldk.ChannelMessageHandler.new_impl(passedOn, {
    get_and_clear_pending_msg_events: () =>
      manager
        .as_MessageSendEventsProvider()
        .get_and_clear_pending_msg_events()
        .filter(event => {
          if (event instanceof ldk.MessageSendEvent_BroadcastChannelAnnouncement) {
            graph.update_channel_from_announcement_no_lookup(event.msg);
            graph.update_channel(event.update_msg);
            return false;
          }
          if (!(event instanceof ldk.MessageSendEvent_BroadcastChannelUpdate)) return true;
          graph.update_channel(event.msg);
          return false;
        }),
  });
}

function answering(graph: ldk.NetworkGraph, logger: ldk.Logger, asked: bigint[]): ldk.RoutingMessageHandler {
  const sync = ldk.P2PGossipSync.constructor_new(graph, ldk.Option_UtxoLookupZ.constructor_none(), logger);
  const inner = () => sync.as_RoutingMessageHandler();
  const answers: ldk.MessageSendEvent[] = [];
  /** Taken in, and not passed on. */
  const kept = (result: ldk.Result_boolLightningErrorZ) =>
    result.is_ok() ? ldk.Result_boolLightningErrorZ.constructor_ok(false) : result;
  return ldk.RoutingMessageHandler.new_impl(
    {
      handle_node_announcement: (peer, message) => kept(inner().handle_node_announcement(peer, message)),
      handle_channel_announcement: (peer, message) =>
        kept(inner().handle_channel_announcement(peer, message)),
      handle_channel_update: (peer, message) => kept(inner().handle_channel_update(peer, message)),
      get_next_channel_announcement: () =>
        ldk.Option_C3Tuple_ChannelAnnouncementChannelUpdateChannelUpdateZZ.constructor_none(),
      get_next_node_announcement: () => null as unknown as ldk.NodeAnnouncement,
      peer_connected: (peer, init, inbound) => inner().peer_connected(peer, init, inbound),
      handle_reply_channel_range: (peer, message) => inner().handle_reply_channel_range(peer, message),
      handle_reply_short_channel_ids_end: (peer, message) =>
        inner().handle_reply_short_channel_ids_end(peer, message),
      handle_query_channel_range: (peer, message) => inner().handle_query_channel_range(peer, message),
      handle_query_short_channel_ids: (peer, message) => {
        for (const channel of message.get_short_channel_ids()) {
          asked.push(channel);
          const found = inner().get_next_channel_announcement(channel);
          if (!(found instanceof ldk.Option_C3Tuple_ChannelAnnouncementChannelUpdateChannelUpdateZZ_Some))
            continue;
          const { some } = found;
          const updates = [some.get_b(), some.get_c()].filter(each => Reflect.get(each, "ptr") !== 0n);
          const [first] = updates;
          if (!first || some.get_a().get_contents().get_short_channel_id() !== channel) continue;
          answers.push(
            ldk.MessageSendEvent.constructor_send_channel_announcement(peer, some.get_a(), first),
            ...updates.map(each => ldk.MessageSendEvent.constructor_send_channel_update(peer, each)),
          );
        }
        return ldk.Result_NoneLightningErrorZ.constructor_ok();
      },
      processing_queue_high: () => inner().processing_queue_high(),
      provided_node_features: () => inner().provided_node_features(),
      provided_init_features: peer => inner().provided_init_features(peer),
    },
    {
      get_and_clear_pending_msg_events: () => [
        ...sync.as_MessageSendEventsProvider().get_and_clear_pending_msg_events(),
        ...answers.splice(0),
      ],
    },
  );
}

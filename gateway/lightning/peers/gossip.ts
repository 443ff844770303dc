/**
 * The network graph, from gossip. LDK asks a peer for it by a timestamp filter only, which some (Eclair) answer with new
 * gossip alone. So it is asked besides which channels it knows (`query_channel_range`), and for those that are not known
 * here (`query_short_channel_ids`, BOLT #7); and for a single channel's policy when a payment has failed at it.
 */
import * as ldk from "lightningdevkit";
import { equal, toHex } from "../../../src/bytes/bytes.ts";

/** What the graph is learnt for, and the node whose peers are asked. */
export interface GossipOptions {
  readonly graph: ldk.NetworkGraph;
  readonly logger: ldk.Logger;
  /** Something of the graph is new. */
  changed(): void;
  /** There is something to be sent. */
  wake(): void;
  isConnected(nodeId: Uint8Array): boolean;
  /** Does something with LDK, safely. */
  run(work: () => void): void;
}

/** A peer that was asked for its channels. */
interface Source {
  readonly nodeId: Uint8Array;
  readonly chainHash: Uint8Array;
  /** Channels to ask for, these before all others. */
  urgent: Set<bigint>;
  readonly wanted: Set<bigint>;
  /** The next query must wait for the end of this one. */
  query: { readonly channels: readonly bigint[]; readonly timer: NodeJS.Timeout } | undefined;
}

/** Who waits for the policy of a channel. */
interface Asked {
  readonly channel: bigint;
  /** Looks whether enough is known; `over`: no more will come. */
  look(over: boolean): void;
}

/** Of one query: a fraction of what a message holds, so that nobody has to answer for long. */
const CHANNELS_PER_QUERY = 500;
/** More than the network has: a peer can name as many as it likes. */
const MAX_WANTED = 500_000;
/** After this long no answer is expected any more. */
const QUERY_MS = 30_000;
/** How long somebody waits for one channel's policy. */
const ASK_MS = 3_000;

/** Asks the peers of one node. */
export class Gossip {
  readonly handler: ldk.RoutingMessageHandler;
  private readonly options: GossipOptions;
  private readonly sync: ldk.P2PGossipSync;
  private readonly sources = new Map<string, Source>();
  private toSend: ldk.MessageSendEvent[] = [];
  private readonly asked = new Set<Asked>();

  constructor(options: GossipOptions) {
    this.options = options;
    const { graph, logger } = options;
    this.sync = ldk.P2PGossipSync.constructor_new(graph, ldk.Option_UtxoLookupZ.constructor_none(), logger);
    this.handler = ldk.RoutingMessageHandler.new_impl(this.passedOn(), {
      get_and_clear_pending_msg_events: () => this.takeMessages(),
    });
  }

  /** Asks for the policy of a channel, until `isKnown` or in vain. */
  ask(channel: bigint, isKnown: () => boolean): Promise<void> {
    const source = [...this.sources.values()].find(({ nodeId }) => this.options.isConnected(nodeId));
    if (!source || isKnown()) return Promise.resolve();
    return new Promise(resolve => {
      const asked: Asked = {
        channel,
        look: over => {
          if (!over && !isKnown()) return;
          clearTimeout(timer);
          this.asked.delete(asked);
          resolve();
        },
      };
      const timer = setTimeout(() => asked.look(true), ASK_MS);
      this.asked.add(asked);
      source.urgent.add(channel);
      this.query(source);
    });
  }

  stop(): void {
    for (const { query } of this.sources.values()) clearTimeout(query?.timer);
    this.sources.clear();
    for (const asked of [...this.asked]) asked.look(true);
  }

  /** Called by LDK: notes are taken, and everything they lead to happens later. */
  private passedOn(): ldk.RoutingMessageHandlerInterface {
    // A new wrapper for each call: a binding keeps every message that was passed to it for as long as it lives.
    const inner = () => this.sync.as_RoutingMessageHandler();
    const noted = <T extends ldk.Result_boolLightningErrorZ>(result: T, channel?: bigint): T => {
      if (!result.is_ok()) return result;
      this.options.changed();
      if (channel !== undefined) this.lookSoon(channel, false);
      return result;
    };
    const answered = () => ldk.Result_NoneLightningErrorZ.constructor_ok();
    return {
      handle_node_announcement: (peer, message) => noted(inner().handle_node_announcement(peer, message)),
      handle_channel_announcement: (peer, message) =>
        noted(inner().handle_channel_announcement(peer, message)),
      handle_channel_update: (peer, message) =>
        noted(inner().handle_channel_update(peer, message), message.get_contents().get_short_channel_id()),
      // Whom this node is connected to needs nobody to tell it of the network.
      get_next_channel_announcement: () =>
        ldk.Option_C3Tuple_ChannelAnnouncementChannelUpdateChannelUpdateZZ.constructor_none(),
      get_next_node_announcement: () => null as unknown as ldk.NodeAnnouncement,
      peer_connected: (peer, init, inbound) => inner().peer_connected(peer, init, inbound),
      handle_reply_channel_range: (peer, message) => {
        const channels = message.get_short_channel_ids();
        this.later(() => this.named(peer, channels));
        return answered();
      },
      handle_reply_short_channel_ids_end: peer => {
        this.later(() => this.ended(this.sources.get(toHex(peer))));
        return answered();
      },
      handle_query_channel_range: (peer, message) => inner().handle_query_channel_range(peer, message),
      handle_query_short_channel_ids: (peer, message) =>
        inner().handle_query_short_channel_ids(peer, message),
      processing_queue_high: () => inner().processing_queue_high(),
      provided_node_features: () => inner().provided_node_features(),
      provided_init_features: peer => inner().provided_init_features(peer),
    };
  }

  private takeMessages(): ldk.MessageSendEvent[] {
    const messages = this.sync.as_MessageSendEventsProvider().get_and_clear_pending_msg_events();
    for (const message of [...messages]) {
      // LDK begins to ask a peer that has just connected.
      if (!(message instanceof ldk.MessageSendEvent_SendGossipTimestampFilter)) continue;
      const nodeId = message.node_id;
      const chainHash = message.msg.get_chain_hash();
      const before = this.sources.get(toHex(nodeId));
      clearTimeout(before?.query?.timer);
      this.sources.set(toHex(nodeId), {
        nodeId,
        chainHash,
        urgent: new Set(),
        wanted: new Set(),
        query: undefined,
      });
      const range = ldk.QueryChannelRange.constructor_new(chainHash, 0, 0xffffffff);
      messages.push(ldk.MessageSendEvent.constructor_send_channel_range_query(nodeId, range));
    }
    messages.push(...this.toSend);
    this.toSend = [];
    return messages;
  }

  /** A peer knows these channels. */
  private named(nodeId: Uint8Array, channels: BigUint64Array): void {
    const source = this.sources.get(toHex(nodeId));
    if (!source) return;
    const known = new Set(channelsIn(this.options.graph));
    for (const channel of channels) {
      if (source.wanted.size >= MAX_WANTED) break;
      if (!known.has(channel)) source.wanted.add(channel);
    }
    this.query(source);
  }

  /** Asks for the next channels, one query at a time. */
  private query(source: Source): void {
    if (source.query) return;
    let channels = [...source.urgent];
    source.urgent = new Set();
    if (channels.length === 0 && source.wanted.size > 0) {
      // The answer to the timestamp filter may have brought them meanwhile.
      for (const channel of channelsIn(this.options.graph)) source.wanted.delete(channel);
      channels = [...source.wanted].slice(0, CHANNELS_PER_QUERY);
      for (const channel of channels) source.wanted.delete(channel);
    }
    if (channels.length === 0) return;
    const timer = setTimeout(() => {
      // It answers no such questions (LDK): what it has to tell it tells by itself.
      source.wanted.clear();
      this.options.run(() => this.ended(source));
    }, QUERY_MS);
    timer.unref();
    source.query = { channels, timer };
    const query = ldk.QueryShortChannelIds.constructor_new(source.chainHash, BigUint64Array.from(channels));
    this.toSend.push(ldk.MessageSendEvent.constructor_send_short_ids_query(source.nodeId, query));
    this.options.wake();
  }

  private ended(source: Source | undefined): void {
    if (!source?.query) return;
    const { channels, timer } = source.query;
    clearTimeout(timer);
    source.query = undefined;
    for (const channel of channels) this.lookSoon(channel, true);
    this.query(source);
  }

  private lookSoon(channel: bigint, over: boolean): void {
    for (const asked of this.asked) if (asked.channel === channel) this.later(() => asked.look(over));
  }

  private later(work: () => void): void {
    setImmediate(() => this.options.run(work));
  }
}

/** The channels in a graph; a view of it holds a lock until it is freed. */
export function channelsIn(graph: ldk.NetworkGraph): BigUint64Array {
  const view = graph.read_only();
  try {
    return view.list_channels();
  } finally {
    view.free();
  }
}

/** One direction of a channel: what it takes for forwarding. */
export interface Policy {
  readonly baseMsat: number;
  readonly proportionalMillionths: number;
  readonly cltvExpiryDelta: number;
  readonly htlcMaximumMsat: number;
}

/** What forwarding over this channel costs, asked of this node; undefined if nobody has said. */
export function policyIn(graph: ldk.NetworkGraph, channel: bigint, from: Uint8Array): Policy | undefined {
  const view = graph.read_only();
  try {
    const info = view.channel(channel);
    if (isNull(info)) return undefined;
    const isOne = equal(info.get_node_one().as_slice(), from);
    const update = isOne ? info.get_one_to_two() : info.get_two_to_one();
    if (isNull(update)) return undefined;
    const fees = update.get_fees();
    return {
      baseMsat: fees.get_base_msat(),
      proportionalMillionths: fees.get_proportional_millionths(),
      cltvExpiryDelta: update.get_cltv_expiry_delta(),
      htlcMaximumMsat: Number(update.get_htlc_maximum_msat()),
    };
  } finally {
    view.free();
  }
}

/** For "none" the binding makes an object around a null pointer. */
function isNull(object: object): boolean {
  return Reflect.get(object, "ptr") === 0n;
}

/**
 * A plain Lightning node: LDK with its stock KeysManager and none of our signing code. It serves as bridge and as
 * payee in demo and tests, and as the payer that ours is compared with: same node code, same store, LDK's signer.
 * bitcoind's wallet pays for its channels and receives what it gets back.
 */

import { randomBytes } from "node:crypto";
import * as ldk from "lightningdevkit";
import type { LightningNode } from "../../gateway/lightning/node.ts";
import type { Peer } from "../../gateway/lightning/peers/contacts.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import type { Paid, PeerChannel, PlainPeerOptions } from "./api.ts";
import { Life } from "./life.ts";

/** A peer in this process; main.ts makes it a process of its own. */
export class PlainPeer {
  readonly node: LightningNode;
  readonly port: number;
  private readonly life: Life;

  private constructor(node: LightningNode, port: number, life: Life) {
    this.node = node;
    this.port = port;
    this.life = life;
  }

  static async start(options: PlainPeerOptions): Promise<PlainPeer> {
    const life = await Life.begin(options);
    const node = await life.startNode();
    return new PlainPeer(node, await life.listen(node), life);
  }

  get nodeId(): string {
    return toHex(this.node.nodeId);
  }

  get address(): Peer {
    return { nodeId: this.node.nodeId, host: "127.0.0.1", port: this.port };
  }

  /** Opens a channel; resolves when it can be used (somebody has to mine). */
  async open(
    peer: Peer,
    sat: number,
    options: { pushSat?: number; announced?: boolean } = {},
  ): Promise<PeerChannel> {
    await this.connect(peer);
    const userChannelId = BigInt(`0x${randomBytes(15).toString("hex")}`);
    const opened = this.life.untilOpened(userChannelId);
    const { pushSat = 0, announced = false } = options;
    this.node.createChannel(peer.nodeId, sat, pushSat * 1000, userChannelId, announced);
    const channelId = await opened;
    return this.channels().find(channel => channel.channelId === channelId)!;
  }

  /** Connects, and stays connected, after a restart too. */
  async connect(peer: Peer): Promise<void> {
    await this.node.connect(peer);
    this.life.remember(peer);
  }

  channels(): PeerChannel[] {
    return this.node.channels().map(details => {
      const funding = details.get_funding_txo();
      const pending = Reflect.get(funding, "ptr") === 0n;
      return {
        channelId: toHex(details.get_channel_id().get_a()),
        peer: toHex(details.get_counterparty().get_node_id()),
        sat: Number(details.get_channel_value_satoshis()),
        ready: Boolean(details.get_is_channel_ready()),
        usable: Boolean(details.get_is_usable()),
        announced: Boolean(details.get_is_announced()),
        anchors: !pending && Boolean(details.get_channel_type().supports_anchors_zero_fee_htlc_tx()),
        outboundMsat: Number(details.get_outbound_capacity_msat()),
        inboundMsat: Number(details.get_inbound_capacity_msat()),
        funding: pending ? null : `${toHex(funding.get_txid().reverse())}:${funding.get_index()}`,
      };
    });
  }

  invoice(amountMsat: number | null, description: string, expirySeconds = 3600): string {
    return this.node.createInvoice({ amountMsat, description, expirySeconds });
  }

  /** Pays an invoice, once for ever. Throws `payment-failed` and the node's own refusals. */
  pay(invoice: string, maxFeeMsat = 100_000): Promise<Paid> {
    return this.life.pay(this.node, invoice, maxFeeMsat);
  }

  claimedMsat(): ReadonlyMap<string, number> {
    return this.life.claimed;
  }

  /** What forwarding through the channels that there are costs from now on, and their HTLCs' difference in blocks. */
  setPolicy(baseMsat: number, proportionalMillionths: number, cltvDelta: number): void {
    const update = ldk.ChannelConfigUpdate.constructor_new(
      ldk.Option_u32Z.constructor_some(proportionalMillionths),
      ldk.Option_u32Z.constructor_some(baseMsat),
      ldk.Option_u16Z.constructor_some(cltvDelta),
      ldk.Option_MaxDustHTLCExposureZ.constructor_none(),
      ldk.Option_u64Z.constructor_none(),
    );
    for (const details of this.node.channels()) {
      const peer = details.get_counterparty().get_node_id();
      const changed = this.node.manager.update_partial_channel_config(
        peer,
        [details.get_channel_id()],
        update,
      );
      if (!changed.is_ok()) throw lngateError("bad-command", "LDK does not take this policy");
    }
    this.node.wake();
  }

  /** Closes a channel, together with the peer or alone. Throws `no-channel`, `close-refused`. */
  close(channelId: string, force = false): void {
    const details = this.node.channels().find(each => toHex(each.get_channel_id().get_a()) === channelId);
    if (!details) throw lngateError("no-channel", `there is no channel ${channelId}`);
    const id = details.get_channel_id();
    const peer = details.get_counterparty().get_node_id();
    if (force) this.node.forceClose(id, peer);
    else this.node.closeChannel(id, peer);
  }

  async stop(): Promise<void> {
    await this.node.stop();
    await this.life.end();
  }
}

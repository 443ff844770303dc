/** What a node's channels are like: what is asked of a peer and granted to it, and the feerates of their transactions. */
import * as ldk from "lightningdevkit";
import { MAX_INCOMING } from "../../src/channel/terms.ts";
import type { NodeOptions } from "./node-options.ts";

/** Anchors channels, unannounced unless `announced`. */
export function channelConfig(
  options: Pick<
    NodeOptions,
    "routing" | "channelsFrom" | "runtime" | "minimumDepth" | "inFlightPercent" | "forwardingFee"
  >,
  announced = false,
): ldk.UserConfig {
  const { routing, channelsFrom } = options;
  const config = ldk.UserConfig.constructor_default();
  const handshake = config.get_channel_handshake_config();
  handshake.set_negotiate_anchors_zero_fee_htlc_tx(true);
  const { minimumDepth = options.runtime.network === "regtest" ? 1 : 3 } = options;
  handshake.set_minimum_depth(minimumDepth);
  handshake.set_our_to_self_delay(144);
  handshake.set_announce_for_forwarding(announced);
  handshake.set_commit_upfront_shutdown_pubkey(true);
  // A bridge that counts what may be in flight towards us as the channel's size would find a tenth of it too small.
  handshake.set_max_inbound_htlc_value_in_flight_percent_of_channel(options.inFlightPercent ?? 100);
  if (!routing && !channelsFrom) handshake.set_our_max_accepted_htlcs(MAX_INCOMING);
  config.set_channel_handshake_config(handshake);
  const limits = config.get_channel_handshake_limits();
  // A bridge may want public or private channels; what the peer does is its own matter here.
  limits.set_force_announced_channel_preference(false);
  config.set_channel_handshake_limits(limits);
  const { forwardingFee } = options;
  const channel = config.get_channel_config();
  // Nothing is added to the most that a close may pay: there are peers that always take it.
  channel.set_force_close_avoidance_max_fee_satoshis(0n);
  config.set_channel_config(channel);
  if (forwardingFee) {
    channel.set_forwarding_fee_base_msat(forwardingFee.baseMsat);
    channel.set_forwarding_fee_proportional_millionths(forwardingFee.proportionalMillionths);
    config.set_channel_config(channel);
  }
  config.set_manually_accept_inbound_channels(true);
  config.set_accept_forwards_to_priv_channels(routing);
  return config;
}

/** The feerates that LDK is told, sat per 1000 weight units: the runtime's, but for what is this node's own matter. */
export class ChannelFeerates {
  /** LDK holds it weakly: it lives as long as this does. */
  readonly estimator: ldk.FeeEstimator;
  private readonly options: Pick<NodeOptions, "commitmentFeerate" | "closingFeerates">;
  /** Of commitments, chosen before LDK asks: it can't be asked anything itself meanwhile. 0: the runtime's. */
  private commitment = 0;

  constructor(options: Pick<NodeOptions, "runtime" | "commitmentFeerate" | "closingFeerates">) {
    this.options = options;
    const { runtime } = options;
    this.estimator = ldk.FeeEstimator.new_impl({
      get_est_sat_per_1000_weight: target => this.ownFeerate(target) ?? runtime.feerate(target),
    });
  }

  /** Chooses the commitments' feerate again. To be called before anything that may have LDK change or begin one. */
  choose(manager: ldk.ChannelManager): void {
    const present = manager.list_channels()[0]?.get_feerate_sat_per_1000_weight();
    this.commitment =
      this.options.commitmentFeerate?.(present instanceof ldk.Option_u32Z_Some ? present.some : undefined) ??
      0;
  }

  private ownFeerate(target: ldk.ConfirmationTarget): number | undefined {
    switch (target) {
      case ldk.ConfirmationTarget.LDKConfirmationTarget_AnchorChannelFee:
        return this.commitment > 0 ? this.commitment : undefined;
      case ldk.ConfirmationTarget.LDKConfirmationTarget_ChannelCloseMinimum:
        return this.options.closingFeerates?.().least;
      // Channels of that kind are not opened: LDK asks for it to know the most that a close may pay.
      case ldk.ConfirmationTarget.LDKConfirmationTarget_NonAnchorChannelFee:
        return this.options.closingFeerates?.().most;
      default:
        return undefined;
    }
  }
}

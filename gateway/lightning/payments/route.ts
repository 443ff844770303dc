/** What LDK is asked for when a payment is to be made, and why it found no way: it says no more than that. */
import * as ldk from "lightningdevkit";
import { type LngateError, lngateError } from "../../../src/errors.ts";
import { channelsIn } from "../peers/gossip.ts";

/** What is allowed for one payment. */
export interface PaymentLimits {
  readonly maxFeeMsat: number;
  /** For how many blocks money may be locked; LDK's own limit by default. */
  readonly maxBlocks?: number | undefined;
  /** Where no single way carries it, it may go in so many parts, none below this amount; in one by default. */
  readonly parts?: { readonly most: number; readonly leastMsat: number } | undefined;
}

/** For how many blocks LDK locks a payment's money at most: DEFAULT_MAX_TOTAL_CLTV_EXPIRY_DELTA. */
export const MAX_BLOCKS = 1008;
/** For "no limit", where LDK wants a number. */
const ANY_BLOCKS = 1_000_000;
const ANY_MSAT = 2_100_000_000_000_000_000n;
/** In how many parts a payment might go, to tell whether it is for want of them that it does not. */
const SOME_PARTS = 8;

/** What LDK needs to know of an invoice and of the limits for paying it. Throws `invoice-malformed`, `invoice-amountless`. */
export function routeTo(
  text: string,
  { maxFeeMsat, maxBlocks = MAX_BLOCKS }: PaymentLimits,
): { readonly onion: ldk.RecipientOnionFields; readonly route: ldk.RouteParameters } {
  const parsed = ldk.Bolt11Invoice.constructor_from_str(text);
  if (!(parsed instanceof ldk.Result_Bolt11InvoiceParseOrSemanticErrorZ_OK)) {
    throw lngateError("invoice-malformed", "LDK does not understand the invoice");
  }
  const built = ldk.UtilMethods.constructor_payment_parameters_from_invoice(parsed.res);
  if (!(built instanceof ldk.Result_C3Tuple_ThirtyTwoBytesRecipientOnionFieldsRouteParametersZNoneZ_OK)) {
    throw lngateError("invoice-amountless", "the invoice has no amount");
  }
  const route = built.res.get_c();
  route.set_max_total_routing_fee_msat(ldk.Option_u64Z.constructor_some(BigInt(maxFeeMsat)));
  const parameters = route.get_payment_params();
  parameters.set_max_path_count(1);
  if (maxBlocks < MAX_BLOCKS) parameters.set_max_total_cltv_expiry_delta(maxBlocks);
  return { onion: built.res.get_b(), route };
}

/** LDK has found no way, whyever (`whyNoRoute`). */
export function isRouteNotFound(result: object): boolean {
  const { err } = result as { err?: ldk.RetryableSendFailure };
  return err === ldk.RetryableSendFailure.LDKRetryableSendFailure_RouteNotFound;
}

/** A way in as few parts as possible, where one is not enough; undefined if there is none within the limits. */
export function routeInParts(
  manager: ldk.ChannelManager,
  router: ldk.Router,
  text: string,
  limits: PaymentLimits,
): ldk.Route | undefined {
  const { most, leastMsat } = limits.parts ?? { most: 1, leastMsat: 0 };
  for (let count = 2; count <= most; count++) {
    const { route } = routeTo(text, limits);
    const parameters = route.get_payment_params();
    parameters.set_max_path_count(count);
    // LDK would rather not fill a channel, and makes more parts than it must.
    parameters.set_max_channel_saturation_power_of_half(0);
    const found = router.find_route(
      manager.get_our_node_id(),
      route,
      manager.list_usable_channels(),
      manager.compute_inflight_htlcs(),
    );
    if (!(found instanceof ldk.Result_RouteLightningErrorZ_OK)) continue;
    // Where hops want more than the invoice does, LDK gives the payee the rest out of the fee limit, and calls it no fee.
    if (found.res.get_total_amount() > route.get_final_value_msat()) continue;
    const paths = found.res.get_paths();
    const amountMsat = (path: ldk.Path) =>
      path.get_hops().reduce((sum, hop) => sum + Number(hop.get_fee_msat()), 0);
    if (paths.length <= count && paths.every(path => amountMsat(path) >= leastMsat)) return found.res;
  }
  return undefined;
}

/**
 * Why there is no way within the limits: each is taken away to see whether it was that one. `fee-limit-too-low`,
 * `route-too-long`, `in-flight-limit` (what the bridge lets be in flight at a time, or what is in flight now),
 * `balance-too-low` (the reserve), `no-route`.
 */
export function whyNoRoute(
  manager: ldk.ChannelManager,
  router: ldk.Router,
  graph: ldk.NetworkGraph,
  text: string,
  limits: PaymentLimits,
): LngateError {
  const { maxFeeMsat, maxBlocks = MAX_BLOCKS } = limits;
  const find = (without: {
    readonly fee?: true;
    readonly blocks?: true;
    readonly channel?: true;
    readonly parts?: true;
  }): ldk.Route | undefined => {
    const { route } = routeTo(text, limits);
    const parameters = route.get_payment_params();
    if (without.fee) route.set_max_total_routing_fee_msat(ldk.Option_u64Z.constructor_none());
    if (without.blocks) parameters.set_max_total_cltv_expiry_delta(ANY_BLOCKS);
    if (without.parts) parameters.set_max_path_count(SOME_PARTS);
    const channels = manager.list_usable_channels();
    if (without.channel) for (const each of channels) each.set_next_outbound_htlc_limit_msat(ANY_MSAT);
    const found = router.find_route(
      manager.get_our_node_id(),
      route,
      channels,
      manager.compute_inflight_htlcs(),
    );
    return found instanceof ldk.Result_RouteLightningErrorZ_OK ? found.res : undefined;
  };

  const dearer = find({ fee: true });
  if (dearer)
    return lngateError(
      "fee-limit-too-low",
      `the cheapest way costs ${dearer.get_total_fees()} msat, and the limit is ${maxFeeMsat}`,
    );
  if (find({ blocks: true }))
    return lngateError(
      "route-too-long",
      `every way would lock the payment for more than ${maxBlocks} blocks`,
    );
  const larger = find({ fee: true, channel: true });
  if (larger) return noRoomFor(manager, Number(larger.get_total_amount() + larger.get_total_fees()));
  const [known] = channelsIn(graph);
  if (known === undefined && !find({ fee: true, blocks: true, channel: true }))
    return lngateError(
      "no-route",
      "the gateway knows nothing of the network yet: the bridge has told it of no channel",
    );
  if (find({ fee: true, channel: true, parts: true }))
    return lngateError(
      "no-route",
      `no single way carries this much, and it can't go in parts${limits.parts ? ` (${limits.parts.most} at most, within the limits)` : ""}`,
    );
  if (find({ fee: true, blocks: true, channel: true, parts: true }))
    return lngateError("no-route", "every way costs more, is longer or carries less than what is allowed");
  return lngateError("no-route", "no way to the payee is known that could carry this much");
}

/** There is a way, and our own channel does not take this much. */
function noRoomFor(manager: ldk.ChannelManager, amountMsat: number): LngateError {
  const channels = manager.list_usable_channels();
  const most = (of: (channel: ldk.ChannelDetails) => bigint) =>
    Math.max(0, ...channels.map(each => Number(of(each))));
  const limitMsat = most(each => each.get_next_outbound_htlc_limit_msat());
  const what = `${amountMsat} msat with fees`;
  const inFlight = (channel: ldk.ChannelDetails) =>
    channel.get_pending_outbound_htlcs().reduce((sum, htlc) => sum + htlc.get_amount_msat(), 0n);
  if (amountMsat > most(each => each.get_outbound_capacity_msat() + inFlight(each)))
    return lngateError(
      "balance-too-low",
      `${what} are more than the ${limitMsat} that the bridge's reserve leaves`,
    );
  return lngateError(
    "in-flight-limit",
    channels.some(each => inFlight(each) > 0n)
      ? `${what} are more than the ${limitMsat} that may be sent beside what is in flight`
      : `${what} are more than the ${limitMsat} that the bridge lets be in flight at a time`,
  );
}

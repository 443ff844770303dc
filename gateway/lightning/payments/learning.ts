/** What a node learns from how payments went: for the scorer that all nodes of a process share. */
import * as ldk from "lightningdevkit";
import type { LightningRuntime } from "../runtime.ts";

/**
 * Takes in LDK's events about paths and probes; others are none of its business. The graph is left as it is: what somebody
 * on the way answers to one payment (a peer of his is away, as LND says it by `unknown_next_peer`) would take a channel from
 * all devices until a restart. Gossip alone may do that.
 */
export function learnFrom(event: ldk.Event, { score }: LightningRuntime, nowSeconds: number): void {
  const now = BigInt(nowSeconds);
  const scorer = () => score.as_ScoreUpdate();
  if (event instanceof ldk.Event_PaymentPathSuccessful) scorer().payment_path_successful(event.path, now);
  else if (event instanceof ldk.Event_ProbeSuccessful) scorer().probe_successful(event.path, now);
  else if (event instanceof ldk.Event_ProbeFailed) {
    if (event.short_channel_id instanceof ldk.Option_u64Z_Some)
      scorer().probe_failed(event.path, event.short_channel_id.some, now);
  } else if (event instanceof ldk.Event_PaymentPathFailed) {
    // A payee that refuses says nothing about the way to it.
    if (event.payment_failed_permanently) scorer().probe_successful(event.path, now);
    else {
      const blamed = blamedChannel(event);
      if (blamed !== undefined) scorer().payment_path_failed(event.path, blamed, now);
    }
  }
}

/** The channel at which a payment failed. For an onion that somebody could not read LDK names it in the failure alone. */
export function blamedChannel(event: ldk.Event_PaymentPathFailed): bigint | undefined {
  const { short_channel_id: named, failure } = event;
  if (named instanceof ldk.Option_u64Z_Some) return named.some;
  const update = failure instanceof ldk.PathFailure_OnPath ? failure.network_update : undefined;
  if (!(update instanceof ldk.Option_NetworkUpdateZ_Some)) return undefined;
  const { some } = update;
  return some instanceof ldk.NetworkUpdate_ChannelFailure ? some.short_channel_id : undefined;
}

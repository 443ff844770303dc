/** What a node learns from how payments went: for the scorer and the graph that all nodes of a process share. */
import * as ldk from "lightningdevkit";
import type { LightningRuntime } from "./runtime.ts";

/** Takes in LDK's events about paths and probes; others are none of its business. */
export function learnFrom(event: ldk.Event, { score, graph }: LightningRuntime, nowSeconds: number): void {
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
    else if (event.short_channel_id instanceof ldk.Option_u64Z_Some)
      scorer().payment_path_failed(event.path, event.short_channel_id.some, now);
    if (!(event.failure instanceof ldk.PathFailure_OnPath)) return;
    const { network_update: update } = event.failure;
    if (update instanceof ldk.Option_NetworkUpdateZ_Some) graph.handle_network_update(update.some);
  }
}

/**
 * Payments that fail because somebody on the way has changed what forwarding costs. The failure carries the new policy, but
 * LDK 0.1.2 takes none from failures: it bars the channel, and where there is no other way gives up. So the policy is asked
 * for, and with it the same payment is tried again.
 */
import * as ldk from "lightningdevkit";
import { toHex } from "../../../src/bytes/bytes.ts";
import { policyIn } from "../peers/gossip.ts";
import type { LightningRuntime } from "../runtime.ts";
import { blamedChannel } from "./learning.ts";

/** What was offered for being forwarded over a channel. */
interface Hop {
  readonly channel: bigint;
  readonly from: Uint8Array;
  readonly amountMsat: number;
  readonly feeMsat: number;
  readonly cltvExpiryDelta: number;
}

interface Tried {
  readonly again: () => boolean;
  /** Where its ways have failed, since it was tried last. */
  failed: Hop[];
  left: number;
  /** LDK has given it up, and it may yet be tried again. */
  isLearning: boolean;
}

/** How often a payment is tried again with what was learnt. */
const TRIES = 2;
/** Payments that are remembered; of those beyond, failures are final. */
const MAX_TRIED = 256;

/** Of one node: what it may yet try again, in memory only. */
export class PaymentTries {
  private readonly runtime: LightningRuntime;
  private readonly tried = new Map<string, Tried>();

  constructor(runtime: LightningRuntime) {
    this.runtime = runtime;
  }

  /** LDK has begun a payment; `again` begins it again, under the same id, if that may be done. */
  begun(paymentId: Uint8Array, again: () => boolean): void {
    const key = toHex(paymentId);
    const before = this.tried.get(key);
    if (before) before.isLearning = false;
    else if (this.tried.size < MAX_TRIED)
      this.tried.set(key, { again, failed: [], left: TRIES, isLearning: false });
  }

  /** LDK has given it up, but it is not over. */
  isLearning(paymentId: Uint8Array): boolean {
    return this.tried.get(toHex(paymentId))?.isLearning ?? false;
  }

  /** Notes where a way has failed. */
  note(event: ldk.Event_PaymentPathFailed): void {
    if (event.payment_failed_permanently || !(event.payment_id instanceof ldk.Option_ThirtyTwoBytesZ_Some))
      return;
    const hop = failedHop(event);
    if (hop) this.tried.get(toHex(event.payment_id.some))?.failed.push(hop);
  }

  /**
   * The payment is over, for LDK. Undefined if that is final; otherwise what resolves when it is clear whether it is: false
   * if it is under way again. Rejects with what was in the way of that.
   */
  over(paymentId: Uint8Array, isFinal: boolean): Promise<boolean> | undefined {
    const key = toHex(paymentId);
    const tried = this.tried.get(key);
    if (isFinal || !tried || tried.failed.length === 0 || tried.left === 0) {
      this.tried.delete(key);
      return undefined;
    }
    tried.isLearning = true;
    tried.left--;
    const { failed } = tried;
    tried.failed = [];
    return this.learn(failed).then(isLearnt => {
      // Who asked for it meanwhile has begun it again.
      if (!tried.isLearning) return false;
      this.tried.delete(key);
      if (!isLearnt || !tried.again()) return true;
      this.tried.set(key, { ...tried, isLearning: false });
      return false;
    });
  }

  private async learn(failed: readonly Hop[]): Promise<boolean> {
    const isKnown = (hop: Hop) => this.isOutdated(hop);
    const isAny = () => failed.some(isKnown);
    for (const hop of failed) if (!isAny()) await this.runtime.askPolicy(hop.channel, () => isKnown(hop));
    return isAny();
  }

  /** More is asked there now than was offered. */
  private isOutdated({ channel, from, amountMsat, feeMsat, cltvExpiryDelta }: Hop): boolean {
    const policy = policyIn(this.runtime.graph, channel, from);
    if (!policy) return false;
    const askedMsat = policy.baseMsat + Math.floor((amountMsat * policy.proportionalMillionths) / 1e6);
    return (
      askedMsat > feeMsat || policy.cltvExpiryDelta > cltvExpiryDelta || amountMsat > policy.htlcMaximumMsat
    );
  }
}

/** The channel that did not take it, if somebody else than we forwards over it. */
function failedHop(event: ldk.Event_PaymentPathFailed): Hop | undefined {
  const blamed = blamedChannel(event);
  const hops = event.path.get_hops();
  const at = hops.findIndex(hop => hop.get_short_channel_id() === blamed);
  const before = hops[at - 1];
  if (blamed === undefined || !before) return undefined;
  let amountMsat = 0;
  // What is paid on a hop is what the next one costs; on the last it is the amount.
  for (const hop of hops.slice(at)) amountMsat += Number(hop.get_fee_msat());
  return {
    channel: blamed,
    from: before.get_pubkey(),
    amountMsat,
    feeMsat: Number(before.get_fee_msat()),
    cltvExpiryDelta: before.get_cltv_expiry_delta(),
  };
}

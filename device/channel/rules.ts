/**
 * The rules that no gateway can talk the device out of. Each refusal carries a stable tag, `policy-…`;
 * docs/rules.md says why each rule is there. Gateway and bridge may be one party: whatever comes in a
 * message is a claim. What the device knows for itself is in its state and its identity.
 */

import { equal } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/bytes/hash.ts";
import { type LngateError, lngateError } from "../../src/errors.ts";
import { ANCHOR_SAT, commitmentFeeSat } from "../../src/lightning/commitment.ts";
import type { DeviceIdentity } from "../identity.ts";
import type { ChannelState, Parameters, Payment, Proposal, View } from "./state.ts";

/** A refusal by a rule. */
export function refusal(tag: string, sentence: string): LngateError {
  return lngateError(`policy-${tag}`, sentence);
}

/** Our balance in a commitment, before the fee and the anchors that the funder pays, sat. BOLT #3. */
export function ourBalanceSat(view: View): number {
  if (view.ourSat === 0) return 0;
  return view.ourSat + commitmentFeeSat(view.feeratePerKw, view.htlcs.length) + 2 * ANCHOR_SAT;
}

/** Sum of the HTLCs of this payment that have an output in the commitment, msat; 0 if there is none. */
export function visibleMsat(view: View, payment: Payment): number {
  let sum = 0;
  for (const htlc of view.htlcs) {
    if (!htlc.incoming && equal(htlc.paymentHash, payment.paymentHash)) sum += htlc.amountMsat;
  }
  return sum;
}

const toSat = (msat: number) => Math.ceil(msat / 1000);

/**
 * By how much a payment in flight may lower our balance in this commitment, sat: what its HTLC shows; once
 * paid, what the HTLC was; while it is not paid and too small for an output, at most the dust limit.
 */
function allowanceSat(view: View, payment: Payment, dustLimitSat: number): number {
  const visible = visibleMsat(view, payment);
  if (visible > 0) return toSat(visible);
  if (payment.preimage) return toSat(payment.htlcMsat || payment.limitMsat);
  if (payment.amountMsat >= dustLimitSat * 1000) return 0;
  return Math.min(toSat(payment.limitMsat), dustLimitSat);
}

/** Our balance in this commitment is at least what is ours less what payments in flight may take. */
export function balanceIsWhole(
  view: View,
  baseSat: number,
  inFlight: readonly Payment[],
  dustLimitSat: number,
): boolean {
  let least = baseSat;
  for (const payment of inFlight) least -= allowanceSat(view, payment, dustLimitSat);
  return ourBalanceSat(view) >= least;
}

export function inFlight(state: ChannelState): Payment[] {
  const payments: Payment[] = [];
  for (const payment of state.payments) if (payment && !payment.settled) payments.push(payment);
  return payments;
}

/**
 * May this be the content of a commitment, ours (`ours`) or the bridge's?
 * Tags: feerate-range, htlc-dust, htlc-unauthorised, htlc-limit, htlc-expiry, dust-in-flight, value, balance.
 */
export function checkView(
  state: ChannelState,
  parameters: Parameters,
  identity: DeviceIdentity,
  view: View,
  ours: boolean,
): void {
  const policy = identity.policy;
  const proposal = parameters.proposal;
  const dustLimitSat = ours ? proposal.ourDustLimitSat : proposal.theirDustLimitSat;
  const payments = inFlight(state);

  if (view.feeratePerKw < policy.minFeeratePerKw || view.feeratePerKw > policy.maxFeeratePerKw) {
    throw refusal("feerate-range", `a feerate of ${view.feeratePerKw} sat/kw is outside the owner's bounds`);
  }

  let total = commitmentFeeSat(view.feeratePerKw, view.htlcs.length) + view.ourSat + view.theirSat;
  for (const htlc of view.htlcs) {
    if (htlc.amountMsat < dustLimitSat * 1000) {
      throw refusal("htlc-dust", "an HTLC below the dust limit has an output");
    }
    total += Math.floor(htlc.amountMsat / 1000);
    if (htlc.incoming) continue;
    const payment = payments.filter(p => equal(p.paymentHash, htlc.paymentHash))[0];
    if (payment === undefined) {
      throw refusal("htlc-unauthorised", "an outgoing HTLC has a payment hash that was never to be paid");
    }
    if (visibleMsat(view, payment) > payment.limitMsat) {
      throw refusal("htlc-limit", "the HTLCs of a payment exceed its amount and fee limit");
    }
    if (htlc.cltvExpiry > payment.maxCltvExpiry) {
      throw refusal("htlc-expiry", `an HTLC would be locked until block ${htlc.cltvExpiry}, too far ahead`);
    }
  }
  for (const valueSat of [view.ourSat, view.theirSat]) {
    if (valueSat > 0 && valueSat < dustLimitSat) throw refusal("value", "an output is below the dust limit");
  }
  if (total > proposal.channelSat) throw refusal("value", "the outputs exceed the channel's value");

  let dustSat = 0;
  for (const payment of payments) {
    if (visibleMsat(view, payment) === 0 && !payment.preimage) {
      dustSat += allowanceSat(view, payment, dustLimitSat);
    }
  }
  if (dustSat > policy.maxDustSat) {
    throw refusal("dust-in-flight", `${dustSat} sat in flight would have no output of their own`);
  }
  if (!balanceIsWhole(view, state.books.baseSat, payments, dustLimitSat)) {
    throw refusal("balance", "our balance would fall by more than the payments in flight may take");
  }
}

/** Is this a channel that the device can live with? Tag: channel-parameters. */
export function checkProposal(identity: DeviceIdentity, proposal: Proposal): void {
  const policy = identity.policy;
  const bad = (sentence: string) => refusal("channel-parameters", sentence);
  let depositsSat = 0;
  for (const deposit of proposal.deposits) depositsSat += deposit.valueSat;
  const feeSat = depositsSat - proposal.channelSat - proposal.changeSat;

  if (proposal.deposits.length === 0) throw bad("no deposit is spent");
  if (feeSat < 0 || feeSat > policy.maxCloseFeeSat) throw bad(`the funding fee would be ${feeSat} sat`);
  if (proposal.changeSat > 0 && proposal.changeSat < 354) throw bad("the change is dust");
  if (proposal.ourDelay > policy.maxToSelfDelay) throw bad(`our delay would be ${proposal.ourDelay} blocks`);
  if (proposal.theirDelay < 1 || proposal.ourDelay < 1) throw bad("a delay of no blocks protects nobody");
  if (proposal.ourDustLimitSat < 354 || proposal.ourDustLimitSat > 1000) throw bad("our dust limit is odd");
  if (proposal.theirDustLimitSat < 354 || proposal.theirDustLimitSat > 1000)
    throw bad("the bridge's dust limit is odd");
  if (proposal.reserveSat > Math.max(1000, Math.floor(proposal.channelSat / 50))) {
    throw bad(`a reserve of ${proposal.reserveSat} sat is too much to keep back`);
  }
  const keys = [
    identity.fundingKey,
    proposal.fundingKey,
    proposal.revocationBasepoint,
    proposal.paymentBasepoint,
    proposal.delayedPaymentBasepoint,
    proposal.htlcBasepoint,
  ];
  for (const key of keys) if (key[0] !== 2 && key[0] !== 3) throw bad("a key is no compressed point");
  if (equal(identity.fundingKey, proposal.fundingKey)) throw bad("the bridge's funding key is our own");
}

/** What a mutual close pays us, against what is ours. Tags: close-htlc-pending, close-balance. */
export function checkClose(
  state: ChannelState,
  identity: DeviceIdentity,
  close: { readonly ourSat: number; readonly theirSat: number },
): void {
  if (state.holder === null || state.counterparty === null || state.parameters === null) {
    throw refusal("close-state", "there is no channel to close");
  }
  if (
    state.holder.view.htlcs.length > 0 ||
    state.counterparty.view.htlcs.length > 0 ||
    inFlight(state).length > 0
  ) {
    throw refusal("close-htlc-pending", "a payment is still in flight");
  }
  if (close.ourSat < state.books.baseSat - identity.policy.maxCloseFeeSat) {
    throw refusal(
      "close-balance",
      "the close would pay us less than our balance and the highest fee allowed",
    );
  }
  if (close.ourSat + close.theirSat > state.parameters.proposal.channelSat) {
    throw refusal("close-balance", "the close pays out more than the channel holds");
  }
}

/** The preimage of a payment in flight, or null if it is that of none. */
export function paymentOf(state: ChannelState, preimage: Uint8Array): number {
  const hash = sha256(preimage);
  for (let i = 0; i < state.payments.length; i++) {
    const payment = state.payments[i];
    if (payment && equal(payment.paymentHash, hash)) return i;
  }
  return -1;
}

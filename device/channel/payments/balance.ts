/**
 * What of the channel is ours, what payments in flight may take of it, and what can be paid with the rest. All of it follows
 * from the state; nothing here refuses anything.
 */
import { equal } from "../../../src/bytes/bytes.ts";
import { serviceFeeMsat } from "../../../src/channel/service-fee.ts";
import { ANCHOR_SAT, commitmentFeeSat } from "../../../src/lightning/commitment.ts";
import type { DeviceIdentity } from "../../identity.ts";
import type { ChannelState, CommitmentSpec, Payment } from "../state.ts";

/** Our balance in a commitment, before the fee and the anchors that the funder pays, sat. BOLT #3. */
export function holderBalanceSat(view: CommitmentSpec): number {
  if (view.holderSat === 0) return 0;
  return view.holderSat + commitmentFeeSat(view.feeratePerKw, view.htlcs.length) + 2 * ANCHOR_SAT;
}

/** Sum of the HTLCs of this payment that have an output in the commitment, msat; 0 if there is none. */
export function visibleMsat(view: CommitmentSpec, payment: Payment): number {
  let sum = 0;
  for (const htlc of view.htlcs) {
    if (!htlc.incoming && equal(htlc.paymentHash, payment.paymentHash)) sum += htlc.amountMsat;
  }
  return sum;
}

const toSat = (msat: number) => Math.ceil(msat / 1000);

/** What a payment has cost once it is paid, or may cost if no HTLC of it was ever seen (dust), sat. */
export function paidSat(payment: Payment): number {
  return toSat(payment.htlcMsat || payment.limitMsat);
}

/** What an unpaid payment may take without an output that shows it: less than the dust limit, or nothing, sat. */
export function dustSat(payment: Payment, dustLimitSat: number): number {
  if (payment.amountMsat >= dustLimitSat * 1000) return 0;
  return Math.min(toSat(payment.limitMsat), dustLimitSat);
}

/** By how much a payment in flight may lower our balance in this commitment, sat. */
function allowanceSat(view: CommitmentSpec, payment: Payment, dustLimitSat: number): number {
  if (payment.preimage) return paidSat(payment);
  return toSat(visibleMsat(view, payment)) || dustSat(payment, dustLimitSat);
}

/** Our balance in this commitment is at least what is ours less what payments in flight may take. */
export function balanceIsWhole(
  view: CommitmentSpec,
  baseSat: number,
  inFlight: readonly Payment[],
  dustLimitSat: number,
): boolean {
  let least = baseSat;
  for (const payment of inFlight) least -= allowanceSat(view, payment, dustLimitSat);
  return holderBalanceSat(view) >= least;
}

/** Payments that still count against the balance: not decided, or paid and still in a commitment. */
export function inFlight(state: ChannelState): Payment[] {
  const payments: Payment[] = [];
  for (const payment of state.payments) if (payment && !payment.settled) payments.push(payment);
  return payments;
}

/** The commitments that somebody could publish without being punished for it: one or two of the bridge's, one of ours. */
export function liveViews(state: ChannelState): CommitmentSpec[] {
  const views: CommitmentSpec[] = [];
  if (state.holder) views.push(state.holder.view);
  if (state.counterparty) {
    views.push(state.counterparty.view);
    if (state.counterparty.previous) views.push(state.counterparty.previous.view);
  }
  return views;
}

/** Our balance less everything in flight, sat. */
function freeSat(state: ChannelState): number {
  let free = state.books.baseSat;
  for (const payment of inFlight(state)) {
    free -= payment.preimage ? paidSat(payment) : Math.ceil(payment.limitMsat / 1000);
  }
  return free;
}

/**
 * What one more payment can take out of the channel, msat: our balance without what is in flight, the bridge's reserve,
 * the anchors, and the commitment fee with this HTLC and one more, for which both sides keep room (BOLT #2).
 */
export function availableMsat(state: ChannelState): number {
  if (state.books.phase !== "open") return 0;
  const { reserveSat } = state.parameters!.proposal;
  const feeSat = commitmentFeeSat(state.holder!.view.feeratePerKw, inFlight(state).length + 2);
  return Math.max(0, freeSat(state) - reserveSat - feeSat - 2 * ANCHOR_SAT) * 1000;
}

/** What payments in flight may hold in HTLCs, msat: until they have left the commitments, paid ones, too. */
export function inFlightMsat(state: ChannelState): number {
  let msat = 0;
  for (const payment of inFlight(state))
    msat += payment.preimage ? 1000 * paidSat(payment) : payment.limitMsat;
  return msat;
}

/** What is owed for the gateway's service and not being settled, msat. */
export function owedMsat(state: ChannelState): number {
  let owed = state.books.owedMsat;
  for (const payment of inFlight(state)) if (payment.settlement) owed -= payment.limitMsat;
  return Math.max(0, owed);
}

/** What can be paid now, all fees included, msat: what is owed, or will be for what is in flight, is kept aside. */
export function spendableMsat(state: ChannelState, { serviceFee }: DeviceIdentity): number {
  let aside = owedMsat(state);
  for (const payment of inFlight(state)) {
    if (!payment.settlement && !payment.preimage) aside += serviceFeeMsat(serviceFee, payment.amountMsat);
  }
  return Math.max(0, availableMsat(state) - aside);
}

/**
 * Authorising a payment: the invoice, the owner's policy, the balance and the records must all allow it. And settling
 * what is owed for the gateway's service, out of what was kept aside for it.
 */
import { equal } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import { ANCHOR_SAT, commitmentFeeSat } from "../../src/lightning/commitment.ts";
import { MAX_HTLCS, MAX_INCOMING, type ToDevice } from "../../src/link/messages.ts";
import { serviceFeeMsat } from "../../src/link/service-fee.ts";
import type { DeviceIdentity } from "../identity.ts";
import { needRecords, type Work } from "./context.ts";
import { demand } from "./demand.ts";
import { dustSat, inFlight, paidSat } from "./rules.ts";
import type { ChannelState, Cursors, Payment } from "./state.ts";

/** A decoded, checked invoice and what the owner's application is ready to pay for routing. */
export interface PaymentOrder {
  readonly paymentHash: Uint8Array;
  readonly amountMsat: number;
  readonly maxFeeMsat: number;
  /** Null where the invoice's signature could not be checked. */
  readonly payee: Uint8Array | null;
  readonly maxCltvExpiry: number;
  readonly expiresAt: number;
  /** Packed (src/lightning/bolt11.ts). */
  readonly invoice: Uint8Array;
}

/** Most payments that are remembered: so that an invoice is paid once, and its receipt can be had again. */
export const MAX_PAYMENTS = 64;
/** Payments in flight: the bridge's HTLCs need room beside theirs. */
const MAX_IN_FLIGHT = MAX_HTLCS - MAX_INCOMING;

/** Records of kind A that only a mutual close may use: it is negotiated. */
export const CLOSING_RECORDS = 3;

/**
 * What so many payments in flight need to be settled, and a close after them. Two states each: without an output of its
 * own (dust) neither has an HTLC, so both have an anchor to sign.
 */
export function recordsFor(payments: number): Cursors {
  return { A: 2 * payments + CLOSING_RECORDS, B: 4 * payments, H: payments * (payments + 1) };
}

/**
 * Bytes of the journal: what the channel takes at most, without HTLCs and with one deposit; what each deposit adds;
 * what each HTLC adds in all commitments; a former channel's exit; a payment beside its invoice.
 */
const CHANNEL_BYTES = 1450;
const DEPOSIT_BYTES = 100;
const HTLC_BYTES = 310;
const FORMER_BYTES = 1100;
const PAYMENT_BYTES = 210;

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
function availableMsat(state: ChannelState): number {
  if (state.books.phase !== "open") return 0;
  const { reserveSat } = state.parameters!.proposal;
  const feeSat = commitmentFeeSat(state.holder!.view.feeratePerKw, inFlight(state).length + 2);
  return Math.max(0, freeSat(state) - reserveSat - feeSat - 2 * ANCHOR_SAT) * 1000;
}

/** What is owed for the gateway's service and not being settled, msat. */
function owedMsat(state: ChannelState): number {
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

/**
 * Authorises a payment, or throws. Codes: already-paying, channel-not-open, policy-payment-limit, policy-velocity,
 * policy-payee, policy-dust-in-flight, balance-too-low, records-used-up, too-many-payments.
 */
export function authorise(work: Work, order: PaymentOrder): Payment {
  const { state, context } = work;
  const { identity } = context;
  const { policy } = identity;
  const { books } = state;
  const nowSeconds = Math.floor(context.nowMs / 1000);
  const limitMsat = order.amountMsat + order.maxFeeMsat;
  const costMsat = limitMsat + serviceFeeMsat(identity.serviceFee, order.amountMsat);
  const { payee } = order;

  needOpen(state);
  demand(
    "payment-limit",
    costMsat <= policy.perPaymentMsat,
    `${costMsat} msat with fees is over the owner's limit of ${policy.perPaymentMsat}`,
  );
  demand(
    "payee",
    policy.payees.length === 0 || (payee !== null && policy.payees.some(allowed => equal(allowed, payee))),
    "the owner's list of payees does not have this one",
  );
  const hour = windowAt(books.hour, nowSeconds, 3600);
  const day = windowAt(books.day, nowSeconds, 86400);
  demand(
    "velocity",
    hour.spentMsat + costMsat <= policy.perHourMsat && day.spentMsat + costMsat <= policy.perDayMsat,
    "this payment would exceed what the owner allows per hour or per day",
  );
  needFunds(costMsat, spendableMsat(state, identity));
  const failed = knownPayment(state, order.paymentHash);
  work.state = {
    ...state,
    books: {
      ...books,
      hour: { startedAt: hour.startedAt, spentMsat: hour.spentMsat + costMsat },
      day: { startedAt: day.startedAt, spentMsat: day.spentMsat + costMsat },
    },
  };
  return admit(work, {
    paymentHash: order.paymentHash,
    amountMsat: order.amountMsat,
    limitMsat,
    maxCltvExpiry: order.maxCltvExpiry,
    expiresAt: order.expiresAt,
    startedAtMs: context.nowMs,
    invoice: order.invoice,
    htlcMsat: 0,
    ...(failed === null ? {} : { attempt: (failed.attempt || 0) + 1 }),
  });
}

/**
 * Authorises the payment of what is owed for the gateway's service. Whose invoice it is, the device need not know: it
 * is the gateway's money, and what counts is the sum. The owner's limits counted it when it accrued. Asked again, it is
 * the same payment. Codes: policy-service-fee, and those of `authorise` that are not about limits.
 */
export function settleFee(work: Work, asked: Extract<ToDevice, { type: "settle" }>): Payment {
  const { state, context } = work;
  const { serviceFee } = context.identity;
  const { paymentHash, amountMsat } = asked;
  const limitMsat = amountMsat + asked.maxFeeMsat;
  const known = knownPayment(state, paymentHash);
  if (known?.settlement && !known.settled) return known;
  needOpen(state);
  const owed = owedMsat(state);
  demand(
    "service-fee",
    serviceFee !== undefined && limitMsat >= serviceFee.settleFromMsat && limitMsat <= owed,
    `${limitMsat} msat are not to be settled: ${owed} are owed`,
  );
  needFunds(limitMsat, availableMsat(state));
  return admit(work, {
    paymentHash,
    amountMsat,
    limitMsat,
    maxCltvExpiry: highestExpiry(context.identity, context.nowMs),
    // The first to be forgotten.
    expiresAt: 0,
    startedAtMs: context.nowMs,
    htlcMsat: 0,
    settlement: true,
  });
}

/** Blocks come every ten minutes, give or take; the chain's height is bounded from the device's own clock. */
export function highestExpiry(identity: DeviceIdentity, nowMs: number): number {
  const seconds = Math.max(0, nowMs / 1000 - identity.birthTime);
  const height = identity.birthHeight + 144 + Math.ceil((seconds / 600) * 1.25);
  return height + identity.policy.maxCltvExpiryDelta;
}

function needOpen({ books }: ChannelState): void {
  if (books.phase !== "open") {
    throw lngateError("channel-not-open", `there is no channel to pay from: it is "${books.phase}"`);
  }
}

function needFunds(costMsat: number, msat: number): void {
  if (costMsat > msat) {
    throw lngateError(
      "balance-too-low",
      `${costMsat} msat with fees are more than the ${msat} that can be spent`,
    );
  }
}

/** Takes a payment into the state, if there is room for it in the commitments, the journal and the records. */
function admit(work: Work, payment: Payment): Payment {
  const { state, context } = work;
  const { proposal } = state.parameters!;
  const { policy } = context.identity;
  const dustLimitSat = Math.max(proposal.ourDustLimitSat, proposal.theirDustLimitSat);
  let dust = dustSat(payment, dustLimitSat);
  for (const other of inFlight(state)) dust += dustSat(other, dustLimitSat);
  demand(
    "dust-in-flight",
    dust <= policy.maxDustSat,
    `${dust} sat in flight would have no output of their own`,
  );

  work.state = { ...state, payments: withPayment(state, payment, context.roomBytes) };
  needRecords(work, recordsFor(inFlight(work.state).length));
  return payment;
}

/**
 * The payments with a new one: in its own slot if it failed before, else in a free one. Where there is no room, decided
 * payments are forgotten, those first whose invoices expire first.
 */
function withPayment(state: ChannelState, payment: Payment, roomBytes: number): (Payment | null)[] {
  const payments = state.payments.slice();
  let slot = payments.indexOf(null);
  if (slot < 0) slot = payments.length;
  for (let i = 0; i < payments.length; i++) {
    const kept = payments[i];
    if (!kept || !equal(kept.paymentHash, payment.paymentHash)) continue;
    if (!kept.settled || kept.preimage || kept.settlement !== payment.settlement) {
      throw lngateError("already-paying", "this invoice is being paid, or has been");
    }
    slot = i;
  }
  payments[slot] = payment;
  while (!fits({ ...state, payments }, roomBytes)) {
    let oldest = -1;
    for (let i = 0; i < payments.length; i++) {
      const kept = payments[i];
      if (kept?.settled && (oldest < 0 || kept.expiresAt < payments[oldest]!.expiresAt)) oldest = i;
    }
    if (oldest < 0) {
      throw lngateError("too-many-payments", "the device follows no more payments: wait for one of them");
    }
    payments[oldest] = null;
  }
  return payments;
}

/** Whether the journal has room for all that may come of these payments. */
function fits(state: ChannelState, roomBytes: number): boolean {
  const flying = inFlight(state).length;
  let bytes = CHANNEL_BYTES + DEPOSIT_BYTES * state.parameters!.proposal.deposits.length;
  bytes += HTLC_BYTES * (flying + MAX_INCOMING);
  if (state.former !== null) bytes += FORMER_BYTES * state.former.length;
  let count = 0;
  for (const payment of state.payments) {
    if (!payment) continue;
    bytes += PAYMENT_BYTES + (payment.invoice ? payment.invoice.length : 0);
    count++;
  }
  return flying <= MAX_IN_FLIGHT && count <= MAX_PAYMENTS && bytes <= roomBytes;
}

/** The payment of this hash that the device remembers, or null. */
export function knownPayment(state: ChannelState, paymentHash: Uint8Array): Payment | null {
  for (const payment of state.payments) {
    if (payment && equal(payment.paymentHash, paymentHash)) return payment;
  }
  return null;
}

interface Window {
  readonly startedAt: number;
  readonly spentMsat: number;
}

/** The spending window now: the running one, or a new one. A clock that goes back opens none. */
function windowAt(window: Window, nowSeconds: number, lengthSeconds: number): Window {
  return nowSeconds >= window.startedAt + lengthSeconds ? { startedAt: nowSeconds, spentMsat: 0 } : window;
}

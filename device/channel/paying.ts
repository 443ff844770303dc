/** Authorising a payment: the invoice, the owner's policy, the balance and the records must all allow it. */
import { equal } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import { ANCHOR_SAT, commitmentFeeSat } from "../../src/lightning/commitment.ts";
import { MAX_HTLCS } from "../../src/link/messages.ts";
import type { Work } from "./context.ts";
import { inFlight, refusal } from "./rules.ts";
import type { ChannelState, Payment } from "./state.ts";

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

/** Payments that are remembered, so that an invoice is paid once: decided ones until their invoice expires. */
export const MAX_PAYMENTS = 256;

/** What a payment needs (2 A, 3 B, 2 H), and what is kept back to settle and to close. */
const RECORDS = { A: 6, B: 6, H: 4 };

/** Our balance less everything in flight, sat. */
function freeSat(state: ChannelState): number {
  let free = state.books.baseSat;
  for (const payment of inFlight(state)) {
    free -= Math.ceil((payment.preimage ? payment.htlcMsat || payment.limitMsat : payment.limitMsat) / 1000);
  }
  return free;
}

/**
 * What can be paid now, fees included, msat: our balance without what is in flight, the bridge's reserve, and
 * the commitment fee with one more HTLC at twice the feerate (the funder keeps room for a fee rise, BOLT #2).
 */
export function spendableMsat(state: ChannelState): number {
  const { parameters, holder } = state;
  if (state.books.phase !== "open" || parameters === null || holder === null) return 0;
  const feeSat = commitmentFeeSat(2 * holder.view.feeratePerKw, inFlight(state).length + 2);
  return Math.max(0, freeSat(state) - parameters.proposal.reserveSat - feeSat - 2 * ANCHOR_SAT) * 1000;
}

/**
 * Authorises a payment, or throws. Codes: already-paying, channel-not-open, policy-payment-limit,
 * policy-velocity, policy-payee, balance-too-low, records-used-up, too-many-payments.
 */
export function authorise(work: Work, order: PaymentOrder): Payment {
  const { state, context } = work;
  const { policy } = context.identity;
  const { books } = state;
  const nowSeconds = Math.floor(context.nowMs / 1000);
  const limitMsat = order.amountMsat + order.maxFeeMsat;

  if (books.phase !== "open") {
    throw lngateError("channel-not-open", `there is no channel to pay from: it is "${books.phase}"`);
  }
  if (limitMsat > policy.perPaymentMsat) {
    throw refusal(
      "payment-limit",
      `${limitMsat} msat with fees is over the owner's limit of ${policy.perPaymentMsat}`,
    );
  }
  const { payee } = order;
  if (policy.payees.length > 0 && !(payee !== null && policy.payees.some(allowed => equal(allowed, payee)))) {
    throw refusal("payee", "the owner's list of payees does not have this one");
  }
  const hour = windowAt(books.hour, nowSeconds, 3600);
  const day = windowAt(books.day, nowSeconds, 86400);
  if (hour.spentMsat + limitMsat > policy.perHourMsat || day.spentMsat + limitMsat > policy.perDayMsat) {
    throw refusal("velocity", "this payment would exceed what the owner allows per hour or per day");
  }
  if (inFlight(state).length >= MAX_HTLCS) {
    throw lngateError("too-many-payments", "too many payments are in flight: wait for one of them");
  }
  if (limitMsat > spendableMsat(state)) {
    throw lngateError(
      "balance-too-low",
      `${limitMsat} msat with fees are more than the ${spendableMsat(state)} msat that can be spent`,
    );
  }
  for (const kind of ["A", "B", "H"] as const) {
    if (context.records.left(kind, books.cursors[kind]) < RECORDS[kind]) {
      throw lngateError(
        "records-used-up",
        "the device has no presignatures left for a payment: charge it (lngate device charge)",
      );
    }
  }

  const payment: Payment = {
    paymentHash: order.paymentHash,
    amountMsat: order.amountMsat,
    limitMsat,
    maxCltvExpiry: order.maxCltvExpiry,
    expiresAt: order.expiresAt,
    startedAtMs: context.nowMs,
    invoice: order.invoice,
    htlcMsat: 0,
  };
  const slot = slotFor(state, payment, nowSeconds);
  const payments = state.payments.slice();
  while (payments.length <= slot) payments.push(null);
  payments[slot] = payment;
  work.state = {
    ...state,
    payments,
    books: {
      ...books,
      hour: { startedAt: hour.startedAt, spentMsat: hour.spentMsat + limitMsat },
      day: { startedAt: day.startedAt, spentMsat: day.spentMsat + limitMsat },
    },
  };
  return payment;
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

/** Where to keep a payment: its own slot if it failed before, a free one, or that of one long over. */
function slotFor(state: ChannelState, order: Payment, nowSeconds: number): number {
  let slot = -1;
  for (let i = state.payments.length - 1; i >= 0; i--) {
    const kept = state.payments[i];
    if (!kept) {
      slot = i;
    } else if (equal(kept.paymentHash, order.paymentHash)) {
      if (!kept.settled || kept.preimage) {
        throw lngateError("already-paying", "this invoice is being paid, or has been");
      }
      return i;
    }
  }
  if (slot >= 0) return slot;
  if (state.payments.length < MAX_PAYMENTS) return state.payments.length;
  for (let i = 0; i < state.payments.length; i++) {
    const kept = state.payments[i]!;
    if (kept.settled && kept.expiresAt < nowSeconds) return i;
  }
  throw lngateError("too-many-payments", "the device remembers no more payments until an invoice expires");
}

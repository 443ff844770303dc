/**
 * Payments that are remembered: so that an invoice is paid once, and its receipt can be had again. There is room in the
 * journal for a number of them; those whose invoices have expired make room for others.
 */

import { concat, equal, readBE, u32be } from "../../../src/bytes/bytes.ts";
import { MAX_HTLCS, MAX_INCOMING } from "../../../src/channel/terms.ts";
import { lngateError } from "../../../src/errors.ts";
import type { Context } from "../context.ts";
import { type ChannelState, type Former, MAX_PAID, type Payment } from "../state.ts";
import { inFlight } from "./balance.ts";

/** Most payments that are remembered: so that an invoice is paid once, and its receipt can be had again. */
export const MAX_PAYMENTS = 64;
/** Payments in flight: the bridge's HTLCs need room beside theirs. */
const MAX_IN_FLIGHT = MAX_HTLCS - MAX_INCOMING;

/** The channel has ended while nobody could say what became of the payment. */
export const CHANNEL_ENDED = "payment-channel-ended";
/** Its error. */
export const channelEnded = () =>
  lngateError(
    CHANNEL_ENDED,
    "its channel has ended, and it may have been paid: the invoice is not paid again",
  );
/** No invoice's expiry is later, unix seconds. */
const NEVER = 0xffffffff;

/**
 * Bytes of the journal: what the channel takes at most, without HTLCs and with one deposit; what each deposit adds;
 * what each HTLC adds in all commitments; a former channel's exit; a secret of the bridge's; a payment beside its invoice.
 */
const CHANNEL_BYTES = 1516;
const DEPOSIT_BYTES = 100;
const HTLC_BYTES = 310;
const FORMER_BYTES = 1400;
const SECRET_BYTES = 48;
const PAID_BYTES = 13;
const PAYMENT_BYTES = 210;
/** Of most invoices. */
const INVOICE_BYTES = 400;

/** The payment of this hash that the device remembers, or null. */
export function knownPayment(state: ChannelState, paymentHash: Uint8Array): Payment | null {
  for (const payment of state.payments) {
    if (payment && equal(payment.paymentHash, paymentHash)) return payment;
  }
  return null;
}

/**
 * The state with a new payment: in its own slot if it failed before, else in a free one. Where there is no room, decided
 * payments make it, those first whose invoices expire first: of one that was paid, as much is kept as says that it was.
 */
export function withPayment(
  state: ChannelState,
  payment: Payment,
  { nowMs, capacityBytes }: Context,
): ChannelState {
  const payments = state.payments.slice();
  let paid = state.paid || [];
  let { forgotten } = state.books;
  const nowSeconds = nowMs / 1000;
  const known = knownPayment(state, payment.paymentHash);
  if (known && isLost(known)) throw channelEnded();
  const isRemembered = paid.some(each => equal(each.subarray(0, 8), payment.paymentHash.subarray(0, 8)));
  if (
    isRemembered ||
    (known && (!known.settled || known.preimage || known.settlement !== payment.settlement))
  ) {
    throw lngateError("already-paying", "this invoice is being paid, or has been");
  }
  let slot = payments.indexOf(known);
  if (slot < 0) slot = payments.indexOf(null);
  payments[slot < 0 ? payments.length : slot] = payment;
  while (!fits({ ...state, payments, paid }, capacityBytes)) {
    let oldest: Payment | null = null;
    for (const kept of payments) {
      if (kept?.settled && (oldest === null || kept.expiresAt < oldest.expiresAt)) oldest = kept;
    }
    if (oldest === null) {
      throw lngateError(
        "too-many-payments",
        "the device has no room to remember one more payment: wait until one is decided, or its invoice has expired",
      );
    }
    payments[payments.indexOf(oldest)] = null;
    if (!isTaken(oldest) || oldest.expiresAt === 0) continue;
    // What can still be paid is remembered, and of what has expired, when: the clock may be wrong.
    const living: Uint8Array[] = [];
    for (const each of paid.concat(
      concat([
        oldest.paymentHash.subarray(0, 8),
        // Whoever can take a lost payment on the chain could take it again with another invoice, at any time.
        u32be(isLost(oldest) ? NEVER : Math.min(oldest.expiresAt, NEVER)),
      ]),
    )) {
      const expiresAt = readBE(each, 8, 4);
      if (expiresAt >= nowSeconds) living.push(each);
      else forgotten = Math.max(forgotten, expiresAt);
    }
    paid = living;
  }
  return { ...state, payments, paid: paid.length > 0 ? paid : null, books: { ...state.books, forgotten } };
}

/** Whether the journal has room for a payment in a new channel beside the exits of these. */
export function hasRoomToOpen(former: Former, capacityBytes: number): boolean {
  const bytes =
    CHANNEL_BYTES + DEPOSIT_BYTES + HTLC_BYTES * (1 + MAX_INCOMING) + PAYMENT_BYTES + INVOICE_BYTES;
  return bytes + formerBytes(former) <= capacityBytes;
}

function formerBytes(former: Former): number {
  let bytes = 0;
  for (const { secrets } of former) bytes += FORMER_BYTES + SECRET_BYTES * secrets.length;
  return bytes;
}

/** Whether the journal has room for all that may come of these payments. */
function fits(state: ChannelState, capacityBytes: number): boolean {
  const flying = inFlight(state).length;
  let bytes = CHANNEL_BYTES + DEPOSIT_BYTES * state.parameters!.proposal.deposits.length;
  bytes += HTLC_BYTES * (flying + MAX_INCOMING);
  // One more place for a secret comes with twice as many commitments.
  bytes += SECRET_BYTES * (state.secrets.length + 1);
  bytes += formerBytes(state.former || []);
  if (state.paid !== null) bytes += PAID_BYTES * state.paid.length + 16;
  let count = 0;
  for (const payment of state.payments) {
    if (!payment) continue;
    bytes += PAYMENT_BYTES + (payment.invoice ? payment.invoice.length : 0);
    count++;
  }
  const isFew = state.paid === null || state.paid.length <= MAX_PAID;
  return flying <= MAX_IN_FLIGHT && count <= MAX_PAYMENTS && isFew && bytes <= capacityBytes;
}

/** Whether it was paid, or may have been: the hash is not paid again. */
const isTaken = (payment: Payment) => !!payment.preimage || isLost(payment);
const isLost = (payment: Payment) => payment.failure === CHANNEL_ENDED;

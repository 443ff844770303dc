/**
 * Authorising a payment: the invoice, the owner's policy, the balance and the records must all allow it. And settling
 * what is owed for the gateway's service, out of what was kept aside for it.
 */

import { concat, equal, readBE, u32be } from "../../src/bytes/bytes.ts";
import { recordsToSettle } from "../../src/channel/records-to-settle.ts";
import { serviceFeeMsat } from "../../src/channel/service-fee.ts";
import { MAX_HTLCS, MAX_INCOMING } from "../../src/channel/terms.ts";
import { lngateError } from "../../src/errors.ts";
import { ANCHOR_SAT, commitmentFeeSat } from "../../src/lightning/commitment.ts";
import type { ToDevice } from "../../src/messages/device.ts";
import type { DeviceIdentity } from "../identity.ts";
import { type Context, needRecords, type Work } from "./context.ts";
import { demand } from "./demand.ts";
import { dustSat, inFlight, paidSat } from "./rules.ts";
import {
  type ChannelState,
  type Former,
  MAX_PAID,
  type Payment,
  type Proposal,
  type SpendingWindow,
} from "./state.ts";

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
/** An invoice is remembered until it has expired, so it must not be payable for longer: 30 days. */
export const MAX_INVOICE_SECONDS = 2592000;
/** Payments in flight: the bridge's HTLCs need room beside theirs. */
const MAX_IN_FLIGHT = MAX_HTLCS - MAX_INCOMING;

/** States that a payment brings to each side, beside that in which its HTLC goes: it may be that no output shows it. */
function statesOf({ amountMsat }: Payment, { ourDustLimitSat, theirDustLimitSat }: Proposal): number {
  return amountMsat < 1000 * Math.max(ourDustLimitSat, theirDustLimitSat) ? 2 : 1;
}

/** The channel has ended while nobody could say what became of the payment. */
export const CHANNEL_ENDED = "payment-channel-ended";
export const channelEnded = () =>
  lngateError(
    CHANNEL_ENDED,
    "its channel has ended, and it may have been paid: the invoice is not paid again",
  );
/** No invoice's expiry is later, unix seconds. */
const NEVER = 0xffffffff;

/** The most states that are due on a side: those of payments in flight, and what is left of the one before. */
export function mostDue(payments: readonly Payment[], proposal: Proposal): number {
  let states = 2;
  for (const payment of payments) states += statesOf(payment, proposal);
  return states;
}

/**
 * Bytes of the journal: what the channel takes at most, without HTLCs and with one deposit; what each deposit adds;
 * what each HTLC adds in all commitments; a former channel's exit; a secret of the bridge's; a payment beside its invoice.
 */
const CHANNEL_BYTES = 1514;
const DEPOSIT_BYTES = 100;
const HTLC_BYTES = 310;
const FORMER_BYTES = 1400;
const SECRET_BYTES = 48;
const PAID_BYTES = 13;
const PAYMENT_BYTES = 210;
/** Of most invoices. */
const INVOICE_BYTES = 400;

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

/** What payments in flight may hold in HTLCs, msat: until they have left the commitments, paid ones, too. */
export function inFlightMsat(state: ChannelState): number {
  let msat = 0;
  for (const payment of inFlight(state))
    msat += payment.preimage ? 1000 * paidSat(payment) : payment.limitMsat;
  return msat;
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
 * policy-invoice-expiry, policy-payee, policy-dust-in-flight, balance-too-low, records-used-up, too-many-payments.
 */
export function authorise(work: Work, order: PaymentOrder): Payment {
  const { state, context } = work;
  const { identity } = context;
  const { policy } = identity;
  const { books } = state;
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
  const nowSeconds = context.nowMs / 1000;
  demand(
    "invoice-expiry",
    order.expiresAt <= nowSeconds + MAX_INVOICE_SECONDS && order.expiresAt > books.forgotten,
    "the invoice can be paid for longer, or expires earlier, than the device remembers what it has paid",
  );
  const hour = windowAt(books.hour, 3600, context);
  const day = windowAt(books.day, 86400, context);
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
      hour: { ...hour, spentMsat: hour.spentMsat + costMsat },
      day: { ...day, spentMsat: day.spentMsat + costMsat },
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
    counted: { hour: hour.serial, day: day.serial },
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

/**
 * The chain's height is bounded from the device's own clock: a block in ten minutes, and as much more as mainnet has ever
 * been ahead of that: it gains at most a twentieth over the years, since miners become more, and a few days within a
 * period of 2,016 blocks. The owner's computer tells height and time anew at each charging. (A clock that was set ahead
 * makes honest invoices expire before it makes this bound larger.)
 */
export function highestExpiry(identity: DeviceIdentity, nowMs: number): number {
  const seconds = Math.max(0, nowMs / 1000 - identity.birthTime);
  const height = identity.birthHeight + Math.ceil((seconds / 600) * 1.05) + 432;
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

  work.state = withPayment(state, payment, context);
  const flying = inFlight(work.state);
  const { books } = work.state;
  const allowed = (due: number) => Math.min(due + statesOf(payment, proposal), mostDue(flying, proposal));
  const due = { ours: allowed(books.due.ours), theirs: allowed(books.due.theirs) };
  work.state = { ...work.state, books: { ...books, due } };
  const { A, B, H } = recordsToSettle(flying.length);
  needRecords(work, { A: A + 2, B: B + 4, H });
  return payment;
}

/**
 * The state with a new payment: in its own slot if it failed before, else in a free one. Where there is no room, decided
 * payments make it, those first whose invoices expire first: of one that was paid, as much is kept as says that it was.
 */
function withPayment(state: ChannelState, payment: Payment, { nowMs, roomBytes }: Context): ChannelState {
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
  while (!fits({ ...state, payments, paid }, roomBytes)) {
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
export function hasRoomToOpen(former: Former, roomBytes: number): boolean {
  const bytes =
    CHANNEL_BYTES + DEPOSIT_BYTES + HTLC_BYTES * (1 + MAX_INCOMING) + PAYMENT_BYTES + INVOICE_BYTES;
  return bytes + formerBytes(former) <= roomBytes;
}

function formerBytes(former: Former): number {
  let bytes = 0;
  for (const { secrets } of former) bytes += FORMER_BYTES + SECRET_BYTES * secrets.length;
  return bytes;
}

/** Whether the journal has room for all that may come of these payments. */
function fits(state: ChannelState, roomBytes: number): boolean {
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
  return flying <= MAX_IN_FLIGHT && count <= MAX_PAYMENTS && isFew && bytes <= roomBytes;
}

/** Whether it was paid, or may have been: the hash is not paid again. */
const isTaken = (payment: Payment) => !!payment.preimage || isLost(payment);
const isLost = (payment: Payment) => payment.failure === CHANNEL_ENDED;

/** The payment of this hash that the device remembers, or null. */
export function knownPayment(state: ChannelState, paymentHash: Uint8Array): Payment | null {
  for (const payment of state.payments) {
    if (payment && equal(payment.paymentHash, paymentHash)) return payment;
  }
  return null;
}

/**
 * The spending window now: the running one, or a new one. Within one boot the board's ticks say when it is over, which
 * nobody can set; how long a board was off, only its clock can say. So a lie about the time opens one window a boot.
 */
function windowAt(
  window: SpendingWindow,
  lengthSeconds: number,
  { nowMs, ticks, boot }: Context,
): SpendingWindow {
  const now = Math.max(0, Math.floor(nowMs / 1000));
  const tick = Math.max(0, Math.floor(ticks));
  const isOver =
    window.boot === boot
      ? tick - window.ticks >= lengthSeconds * 1000
      : now - window.startedAt >= lengthSeconds;
  if (isOver) return { serial: window.serial + 1, startedAt: now, boot, ticks: tick, spentMsat: 0 };
  if (window.boot === boot && window.ticks <= tick) return window;
  // A clock that was ahead when it began does not keep it open for ever.
  return { ...window, startedAt: Math.min(window.startedAt, now), boot, ticks: tick };
}

/** Authorising a payment: the invoice, the owner's policy, the balance and the records must all allow it. */

import { recordsToSettle } from "../../../src/channel/records-to-settle.ts";
import { serviceFeeMsat } from "../../../src/channel/service-fee.ts";
import { MAX_HTLCS } from "../../../src/channel/terms.ts";
import { lngateError } from "../../../src/errors.ts";
import { ensureRecords, type Work } from "../context.ts";
import { enforce } from "../enforce.ts";
import type { ChannelState, Payment, Proposal } from "../state.ts";
import { dustSat, inFlight, spendableMsat } from "./balance.ts";
import { countSpending } from "./policy.ts";
import { knownPayment, withPayment } from "./remembered.ts";

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

/**
 * Authorises a payment, or throws. Codes: already-paying, channel-not-open, policy-payment-limit, policy-velocity,
 * policy-invoice-expiry, policy-payee, policy-htlc-signature, policy-dust-in-flight, balance-too-low, records-used-up, too-many-payments.
 */
export function authorise(work: Work, order: PaymentOrder): Payment {
  const { state, context } = work;
  const { identity } = context;
  const limitMsat = order.amountMsat + order.maxFeeMsat;
  const costMsat = limitMsat + serviceFeeMsat(identity.serviceFee, order.amountMsat);

  ensureOpen(state);
  const { hour, day } = countSpending(state.books, context, order, costMsat);
  ensureFunds(costMsat, spendableMsat(state, identity));
  const failed = knownPayment(state, order.paymentHash);
  work.state = { ...state, books: { ...state.books, hour, day } };
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

/** Throws `channel-not-open`. */
export function ensureOpen({ books }: ChannelState): void {
  if (books.phase !== "open") {
    throw lngateError("channel-not-open", `there is no channel to pay from: it is "${books.phase}"`);
  }
}

/** Throws `balance-too-low` if a payment that may cost `costMsat` can't be made from this much. */
export function ensureFunds(costMsat: number, msat: number): void {
  if (costMsat > msat) {
    throw lngateError(
      "balance-too-low",
      `${costMsat} msat with fees are more than the ${msat} that can be spent`,
    );
  }
}

/**
 * Takes a payment into the state, if those in flight could come home, and there is room for it in the commitments, the
 * journal and the records. Throws `policy-htlc-signature`, `policy-dust-in-flight`, `already-paying`, `too-many-payments`, `records-used-up`.
 */
export function admit(work: Work, payment: Payment): Payment {
  const { state, context } = work;
  const { proposal, badHtlcSignature } = state.parameters!;
  const { policy } = context.identity;
  enforce(
    "htlc-signature",
    !badHtlcSignature && context.htlcsSigned(state.holder!, proposal, MAX_HTLCS),
    "the bridge's signature on an HTLC was not valid: close this channel",
  );
  const dustLimitSat = Math.max(proposal.holderDustLimitSat, proposal.counterpartyDustLimitSat);
  let dust = dustSat(payment, dustLimitSat);
  for (const other of inFlight(state)) dust += dustSat(other, dustLimitSat);
  enforce(
    "dust-in-flight",
    dust <= policy.maxDustSat,
    `${dust} sat in flight would have no output of their own`,
  );

  work.state = withPayment(state, payment, context);
  const flying = inFlight(work.state);
  const { books } = work.state;
  const allowed = (due: number) => Math.min(due + statesOf(payment, proposal), mostDue(flying, proposal));
  const due = { holder: allowed(books.due.holder), counterparty: allowed(books.due.counterparty) };
  work.state = { ...work.state, books: { ...books, due } };
  const { A, B, H } = recordsToSettle(flying.length);
  ensureRecords(work, { A: A + 2, B: B + 4, H });
  return payment;
}

/** The most states that are due on a side: those of payments in flight, and what is left of the one before. */
export function mostDue(payments: readonly Payment[], proposal: Proposal): number {
  let states = 2;
  for (const payment of payments) states += statesOf(payment, proposal);
  return states;
}

/** States that a payment brings to each side, beside that in which its HTLC goes: it may be that no output shows it. */
function statesOf(
  { amountMsat }: Payment,
  { holderDustLimitSat, counterpartyDustLimitSat }: Proposal,
): number {
  return amountMsat < 1000 * Math.max(holderDustLimitSat, counterpartyDustLimitSat) ? 2 : 1;
}

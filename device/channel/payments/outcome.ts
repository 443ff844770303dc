/**
 * How payments end: their preimage comes or the gateway says that they have failed, they go from the commitments, and the
 * books are closed on them. It is the commitments that are believed; the gateway's word alone moves no money.
 */
import { equal } from "../../../src/bytes/bytes.ts";
import { serviceFeeMsat } from "../../../src/channel/service-fee.ts";
import { sha256 } from "../../../src/crypto/hash.ts";
import type { Work } from "../context.ts";
import type { ChannelState, CommitmentSpec, Payment } from "../state.ts";
import { balanceIsWhole, holderBalanceSat, inFlight, liveViews, paidSat, visibleMsat } from "./balance.ts";
import { giveBack } from "./policy.ts";
import { CHANNEL_ENDED } from "./remembered.ts";

/**
 * A preimage has come: the payment of its hash is paid, and its service fee is owed. What a commitment has not shown
 * counts as all that was allowed. A payment that failed before is paid too, by whomever: none of our money left for it.
 */
export function receivePreimage(work: Work, preimage: Uint8Array): void {
  const hash = sha256(preimage);
  const { state, context } = work;
  let { owedMsat } = state.books;
  const payments = state.payments.map(payment => {
    if (!payment || payment.preimage || !equal(payment.paymentHash, hash)) return payment;
    const { failure: _, ...rest } = payment;
    const paid: Payment = {
      ...rest,
      preimage,
      feeMsat: payment.settled ? 0 : Math.max(0, spentMsat(state, payment) - payment.amountMsat),
      ms: Math.max(0, context.nowMs - payment.startedAtMs),
    };
    work.decided = work.decided.concat(paid);
    if (!paid.settlement && !paid.settled) {
      owedMsat += serviceFeeMsat(context.identity.serviceFee, paid.amountMsat);
    }
    return paid;
  });
  if (work.decided.length > 0) work.state = { ...state, payments, books: { ...state.books, owedMsat } };
}

/**
 * Records the gateway's first word that a payment has failed; `settleBooks` decides when to believe it. That a payment may yet
 * be taken on the chain, and is remembered for it, only this device says.
 */
export function receiveFailure(work: Work, paymentHash: Uint8Array, said: string): void {
  const code = said === CHANNEL_ENDED ? "payment-failed" : said;
  const payments = work.state.payments.map(payment =>
    payment &&
    !payment.settled &&
    !payment.failure &&
    !payment.preimage &&
    equal(payment.paymentHash, paymentHash)
      ? { ...payment, failure: code }
      : payment,
  );
  work.state = { ...work.state, payments };
}

/** Remembers how much each payment's HTLCs hold, for the receipt and for the books. */
export function noteHtlcs(work: Work, view: CommitmentSpec): void {
  const payments = work.state.payments.map(payment => {
    if (!payment) return payment;
    const visible = visibleMsat(view, payment);
    return visible > payment.htlcMsat ? { ...payment, htlcMsat: visible } : payment;
  });
  work.state = { ...work.state, payments };
}

/**
 * Closes the books on payments that are over: paid and gone from both newest commitments, or said to have
 * failed, gone from every commitment that is not revoked, and the balance whole without it. `ended`: on all others too,
 * as the channel that they are in is said to have ended.
 */
export function settleBooks(work: Work, ended = false): void {
  const { holder, counterparty, parameters } = work.state;
  if (holder === null || counterparty === null) return;
  const { holderDustLimitSat, counterpartyDustLimitSat } = parameters!.proposal;
  const newest = [holder.view, counterparty.view];
  const live = liveViews(work.state);
  const { serviceFee } = work.context.identity;
  let { baseSat, hour, day, owedMsat, forgotten } = work.state.books;
  let payments = work.state.payments;

  for (let i = 0; i < payments.length; i++) {
    const payment = payments[i];
    if (!payment || payment.settled) continue;
    const gone = (views: readonly CommitmentSpec[]) => views.every(view => visibleMsat(view, payment) === 0);
    const others = inFlight({ ...work.state, payments }).filter(other => other !== payment);
    const whole = (view: CommitmentSpec) =>
      balanceIsWhole(
        view,
        baseSat,
        others,
        view === holder.view ? holderDustLimitSat : counterpartyDustLimitSat,
      );
    if (payment.preimage) {
      if (!ended && !gone(newest)) continue;
      baseSat -= paidSat(payment);
      // What no commitment has shown is taken to be all that was allowed: only so much could have left us.
      if (payment.settlement) owedMsat = Math.max(0, owedMsat - (payment.htlcMsat || payment.limitMsat));
    }
    const isFailed = payment.failure !== undefined && gone(live) && live.every(whole);
    if (!payment.preimage && !isFailed && !ended) continue;
    const { invoice: _, ...rest } = payment;
    let closed: Payment = { ...rest, settled: true };
    // It may yet be taken on the chain: its invoice is not paid again, and what it may have cost counts.
    const isLost = !payment.preimage && !isFailed;
    if (isLost) {
      closed = { ...closed, failure: CHANNEL_ENDED };
      forgotten = Math.max(forgotten, payment.expiresAt);
      if (payment.settlement) owedMsat = Math.max(0, owedMsat - payment.limitMsat);
    }
    if (!payment.preimage) work.decided = work.decided.concat(closed);
    payments = payments.map((other, j) => (j === i ? closed : other));
    if (payment.settlement || isLost) continue;
    const unspentMsat = payment.preimage
      ? payment.limitMsat - spentMsat(work.state, payment)
      : payment.limitMsat + serviceFeeMsat(serviceFee, payment.amountMsat);
    const { counted } = payment;
    hour = giveBack(hour, counted?.hour, unspentMsat);
    day = giveBack(day, counted?.day, unspentMsat);
  }

  // Rounding to whole satoshis is undone, and what came in counts.
  baseSat = Math.max(baseSat, Math.min(...newest.map(holderBalanceSat)));
  if (payments !== work.state.payments || baseSat !== work.state.books.baseSat) {
    work.state = {
      ...work.state,
      payments,
      books: { ...work.state.books, baseSat, hour, day, owedMsat, forgotten },
    };
  }
}

/** What can have left us for a payment that is paid, msat: its HTLCs where both sides' commitments must show them. */
function spentMsat({ parameters }: ChannelState, { htlcMsat, amountMsat, limitMsat }: Payment): number {
  const { holderDustLimitSat, counterpartyDustLimitSat } = parameters!.proposal;
  const isShown = htlcMsat > 0 && amountMsat >= 1000 * Math.max(holderDustLimitSat, counterpartyDustLimitSat);
  return isShown ? Math.min(htlcMsat, limitMsat) : limitMsat;
}

/**
 * The channel at work: the bridge's commitments are signed, our own are taken and the old ones revoked.
 * BOLT #2, "Normal Operation"; the order is exit before revoke, revoke before the next signature.
 */
import { equal } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/bytes/hash.ts";
import type { Step } from "../../src/link/messages.ts";
import { viewKind } from "../../src/link/messages.ts";
import { encodeValue } from "../../src/link/schema.ts";
import { anchorSighash, channelOf, commitmentOf } from "../../src/link/transactions.ts";
import type { Work } from "./context.ts";
import { balanceIsWhole, checkView, inFlight, ourBalanceSat, refusal, visibleMsat } from "./rules.ts";
import { finishOwn, htlcSignature, partialFor } from "./signing.ts";
import type { Books, ChannelState, Counterparty, Holder, Parameters, Payment, View } from "./state.ts";

/** How many commitment points the gateway is given in advance. */
export const POINTS_AHEAD = 6;

/** States in which commitments move. */
function openParameters(state: ChannelState): Parameters {
  const { phase } = state.books;
  if (state.parameters === null || (phase !== "open" && phase !== "opening")) {
    throw refusal("phase", `no commitment is signed or revoked while the channel is "${phase}"`);
  }
  return state.parameters;
}

/** A preimage has come: the payment of its hash is paid. Anything else is no news. */
export function takePreimage(work: Work, preimage: Uint8Array, feeMsat: number): void {
  const hash = sha256(preimage);
  const { state, context } = work;
  const payments = state.payments.map(payment => {
    if (!payment || payment.preimage || payment.settled || !equal(payment.paymentHash, hash)) return payment;
    const { failure: _, ...rest } = payment;
    const routed = payment.htlcMsat > 0 ? payment.htlcMsat - payment.amountMsat : feeMsat;
    const paid: Payment = {
      ...rest,
      preimage,
      feeMsat: Math.max(0, Math.min(routed, payment.limitMsat - payment.amountMsat)),
      ms: Math.max(0, context.nowMs - payment.startedAtMs),
    };
    work.decided.push(paid);
    return paid;
  });
  if (work.decided.length > 0) work.state = { ...state, payments };
}

/** The bridge's secret of its commitment `number`: checked against the point it was signed for. */
export function takeRevocation(work: Work, revoked: NonNullable<Step["revoked"]>): void {
  const { state, context } = work;
  const counterparty = state.counterparty;
  openParameters(state);
  if (counterparty === null || revoked.number >= counterparty.number) {
    throw refusal("previous-revoked", "the bridge's newest commitment cannot be revoked");
  }
  if (revoked.number < counterparty.revokedBelow) return;
  const previous = counterparty.previous;
  if (previous && context.curve !== null) {
    let point: Uint8Array | null = null;
    try {
      point = context.curve.publicKey(revoked.secret);
    } catch {
      point = null;
    }
    if (point === null || !equal(point, previous.point)) {
      throw refusal("previous-revoked", "the bridge's secret is not that of its commitment's point");
    }
  }
  const { previous: _, ...rest } = counterparty;
  const next =
    revoked.nextPoint && revoked.number + 1 === counterparty.number ? { nextPoint: revoked.nextPoint } : {};
  work.state = { ...state, counterparty: { ...rest, ...next, revokedBelow: revoked.number + 1 } };
}

/** A new commitment of ours: verified whole, kept, and only then is the one before it revoked. */
export function takeHolder(work: Work, part: NonNullable<Step["holder"]>): void {
  const { state, context } = work;
  const parameters = openParameters(state);
  const held = state.holder;
  const newest = held === null ? -1 : held.number;
  const view = part.view || state.counterparty?.view;
  if (view === undefined) throw refusal("commitment-content", "the commitment has no content");

  if (part.number === newest + 1) {
    if (held === null && (state.counterparty === null || state.counterparty.number !== 0)) {
      throw refusal("commitment-number", "the bridge's commitment 0 comes first");
    }
    checkView(state, parameters, context.identity, view, true);
    const { identity, curve } = context;
    const { proposal } = parameters;
    const keys = context.keysFor(proposal, true, context.pointOf(state.books.index, part.number));
    const commitment = commitmentOf(channelOf(identity, proposal), true, part.number, keys, view);
    const htlcSignatures = part.htlcSignatures || [];
    if (htlcSignatures.length !== commitment.htlcs.length) {
      throw refusal("exit-before-revoke", "an HTLC comes without the bridge's signature");
    }
    if (curve !== null) {
      if (!curve.verify(part.signature, commitment.sighash, proposal.fundingKey)) {
        throw refusal("exit-before-revoke", "the bridge's signature on our commitment is not valid");
      }
      for (let i = 0; i < htlcSignatures.length; i++) {
        if (!curve.verify(htlcSignatures[i]!, commitment.htlcs[i]!.sighash, keys.countersignatoryHtlc)) {
          throw refusal("exit-before-revoke", "the bridge's signature on an HTLC transaction is not valid");
        }
      }
    }
    const ownSignature = finishOwn(work, part.partial, commitment.sighash);
    let anchor: { anchorSignature?: Uint8Array } = {};
    const anchorHash = anchorSighash(identity, commitment);
    if (part.anchorPartial && anchorHash !== null) {
      anchor = { anchorSignature: finishOwn(work, part.anchorPartial, anchorHash) };
    } else if (view.htlcs.length === 0 && anchorHash !== null) {
      throw refusal("exit-before-revoke", "a state without HTLCs needs the signature of its anchor");
    }
    const holder: Holder = {
      number: part.number,
      view,
      bridgeSignature: part.signature,
      ownSignature,
      htlcSignatures,
      ...anchor,
    };
    work.state = { ...work.state, holder };
    noteHtlcs(work, view);
  } else if (part.number === newest && held !== null) {
    // The content that we hold, once more: the answer was lost.
    if (part.view) sameContent(part.view, held.view);
  } else if (part.number > newest) {
    throw refusal("commitment-number", `our next commitment is ${newest + 1}, not ${part.number}`);
  }
  const index = state.books.index;
  if (part.number > 0) work.answer.secret = context.secretOf(index, part.number - 1);
  const further = part.number + POINTS_AHEAD;
  work.answer.point = { number: further, point: context.pointOf(index, further) };
}

/** A new commitment of the bridge's, or the newest again: rebuilt from its content and signed. */
export function takeCounterparty(work: Work, part: NonNullable<Step["counterparty"]>): void {
  const { state, context } = work;
  const parameters = openParameters(state);
  const view = part.view || state.holder?.view;
  if (view === undefined) throw refusal("commitment-content", "the commitment has no content");
  const newest = state.counterparty;
  if (newest !== null && part.number === newest.number + 1) {
    if (newest.revokedBelow < newest.number) {
      throw refusal("previous-revoked", "the bridge has not revoked the commitment before the newest");
    }
    checkView(state, parameters, context.identity, view, false);
  }
  const point = part.point || (newest?.number === part.number ? newest.point : newest?.nextPoint);
  if (point === undefined)
    throw refusal("commitment-content", "the bridge's commitment comes without its point");
  signCounterparty(work, part.number, point, view);
}

/** Signs the bridge's commitment; `view` was checked, unless it is the newest again. */
export function signCounterparty(work: Work, number: number, point: Uint8Array, view: View): void {
  const { state, context } = work;
  const parameters = openParameters(state);
  const newest = state.counterparty;
  if (newest !== null && number === newest.number) {
    if (!equal(newest.point, point)) {
      throw refusal("commitment-content", "another point was already used for this commitment");
    }
    sameContent(view, newest.view);
    work.answer.signed = newest.answer;
    return;
  }
  if (number !== (newest === null ? 0 : newest.number + 1)) {
    throw refusal("commitment-number", `commitment ${number} of the bridge is not the next`);
  }
  const { identity } = context;
  const { proposal } = parameters;
  const keys = context.keysFor(proposal, false, point);
  const commitment = commitmentOf(channelOf(identity, proposal), false, number, keys, view);
  const partials = [partialFor(work, commitment.sighash)];
  const answer = {
    partials,
    htlcSignatures: commitment.htlcs.map(htlc => htlcSignature(work, htlc.sighash, point)),
  };
  const counterparty: Counterparty = {
    number,
    view,
    point,
    revokedBelow: newest === null ? 0 : newest.revokedBelow,
    ...(newest === null ? {} : { previous: { view: newest.view, point: newest.point } }),
    answer,
  };
  work.answer.signed = answer;
  work.state = { ...work.state, counterparty };
  noteHtlcs(work, view);
}

function sameContent(view: View, signed: View): void {
  if (!equal(encodeValue(viewKind, view), encodeValue(viewKind, signed))) {
    throw refusal("commitment-content", "another content was already agreed for this commitment");
  }
}

/** Remembers how much each payment's HTLCs hold, for the receipt and for the books. */
function noteHtlcs(work: Work, view: View): void {
  const payments = work.state.payments.map(payment => {
    if (!payment || payment.settled) return payment;
    const visible = visibleMsat(view, payment);
    return visible > payment.htlcMsat ? { ...payment, htlcMsat: visible } : payment;
  });
  if (payments.some((payment, i) => payment !== work.state.payments[i])) {
    work.state = { ...work.state, payments };
  }
}

/**
 * Closes the books on payments that are over: paid and gone from both newest commitments, or said to have
 * failed, gone from every commitment that is not revoked, and the balance whole without it.
 */
export function settleBooks(work: Work): void {
  const { holder, counterparty, parameters } = work.state;
  if (holder === null || counterparty === null || parameters === null) return;
  const { ourDustLimitSat, theirDustLimitSat } = parameters.proposal;
  const newest = [holder.view, counterparty.view];
  const live = counterparty.previous ? [...newest, counterparty.previous.view] : newest;
  let { baseSat, hour, day } = work.state.books;
  let payments = work.state.payments;

  for (let i = 0; i < payments.length; i++) {
    const payment = payments[i];
    if (!payment || payment.settled) continue;
    const gone = (views: readonly View[]) => views.every(view => visibleMsat(view, payment) === 0);
    const others = inFlight({ ...work.state, payments }).filter(other => other !== payment);
    const whole = (view: View) =>
      balanceIsWhole(view, baseSat, others, view === holder.view ? ourDustLimitSat : theirDustLimitSat);
    let settled = false;
    if (payment.preimage && gone(newest)) {
      baseSat = Math.max(0, baseSat - Math.ceil((payment.htlcMsat || payment.limitMsat) / 1000));
      settled = true;
    } else if (payment.failure && !payment.preimage && gone(live) && live.every(whole)) {
      settled = true;
    }
    if (!settled) continue;
    const { invoice: _, ...rest } = payment;
    const closed: Payment = { ...rest, settled: true };
    if (!payment.preimage) work.decided.push(closed);
    payments = payments.map((other, j) => (j === i ? closed : other));
    const unspentMsat =
      payment.limitMsat - (payment.preimage ? payment.amountMsat + (payment.feeMsat || 0) : 0);
    hour = giveBack(hour, payment, unspentMsat);
    day = giveBack(day, payment, unspentMsat);
  }

  const atRest = payments.every(p => !p || p.settled) && live.every(view => view.htlcs.length === 0);
  if (atRest) {
    // Rounding to whole satoshis is undone, and what came in counts.
    baseSat = Math.max(baseSat, Math.min(...newest.map(ourBalanceSat)));
  }
  if (payments !== work.state.payments || baseSat !== work.state.books.baseSat) {
    work.state = { ...work.state, payments, books: { ...work.state.books, baseSat, hour, day } };
  }
}

/** What a payment did not use of its limit counts no longer, if it was counted in this window. */
function giveBack(window: Books["hour"], payment: Payment, unspentMsat: number): Books["hour"] {
  if (payment.startedAtMs < window.startedAt * 1000) return window;
  return { startedAt: window.startedAt, spentMsat: Math.max(0, window.spentMsat - unspentMsat) };
}

/** Records the gateway's word that a payment has failed; `settleBooks` decides when to believe it. */
export function takeFailure(work: Work, paymentHash: Uint8Array, code: string): void {
  const payments = work.state.payments.map(payment =>
    payment && !payment.settled && !payment.preimage && equal(payment.paymentHash, paymentHash)
      ? { ...payment, failure: code }
      : payment,
  );
  work.state = { ...work.state, payments };
}

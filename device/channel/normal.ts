/**
 * The channel at work: the bridge's commitments are signed, our own are taken and the old ones revoked.
 * BOLT #2, "Normal Operation"; the order is exit before revoke, revoke before the next signature.
 */

import { equal } from "../../src/bytes/bytes.ts";
import { encodeValue } from "../../src/bytes/schema.ts";
import { CLOSING_RECORDS, recordsToSettle } from "../../src/channel/records-to-settle.ts";
import { MAX_HTLCS, viewCodec } from "../../src/channel/terms.ts";
import { anchorSighash, commitmentOf } from "../../src/channel/transactions.ts";
import { isValidScalar } from "../../src/crypto/scalar.ts";
import { lngateError } from "../../src/errors.ts";
import { addSecret } from "../../src/lightning/shachain.ts";
import type { Step } from "../../src/messages/device.ts";
import { type Context, ensurePresent, ensureRecords, type Work } from "./context.ts";
import { enforce } from "./enforce.ts";
import { inFlight, liveViews } from "./payments/balance.ts";
import { noteHtlcs } from "./payments/outcome.ts";
import { mostDue } from "./payments/paying.ts";
import { checkView } from "./rules.ts";
import { ensureOwn, finishOwn, htlcSignature, partialFor } from "./signing.ts";
import {
  type CommitmentSpec,
  type Counterparty,
  type Holder,
  type Parameters,
  type Proposal,
  secretStore,
} from "./state.ts";

/** How many commitment points the gateway is given in advance. */
export const POINTS_AHEAD = 6;

/** A new commitment of either side: the channel moves, and this is a content that it may have. */
function checkNew(work: Work, view: CommitmentSpec, isHolder: boolean): Parameters {
  const { parameters, books } = work.state;
  enforce(
    "phase",
    books.phase === "open" || books.phase === "opening",
    `no commitment is signed or revoked while the channel is "${books.phase}"`,
  );
  checkView(work, parameters!, view, isHolder);
  ensurePresent(work);
  keepRecords(work, view, isHolder);
  return parameters!;
}

/**
 * What nobody here asked for (an HTLC of the bridge's, another feerate, one state too many) must leave enough records to
 * undo it, to settle the payments in flight and to close. Asked for are the states that are due: a payment brings one to
 * each side, or two where no output need show it, and what was allowed on one side is due on the other. A state in which
 * HTLCs go and nothing else comes was paid for by the one that brought them.
 */
function keepRecords(work: Work, view: CommitmentSpec, isHolder: boolean): void {
  const { holder, counterparty, books } = work.state;
  if (holder === null || counterparty === null) return;
  const newest = isHolder ? holder.view : counterparty.view;
  const live = liveViews(work.state);
  const payments = inFlight(work.state);
  // A payment in pieces brings a state for each that goes: every further piece counts as a payment.
  const pieces = payments.map(({ paymentHash }) => piecesOf(view, paymentHash));
  const isUnheard =
    live.every(each => each.feeratePerKw !== view.feeratePerKw) ||
    pieces.some(count => count > 1) ||
    view.htlcs.some(htlc => htlc.incoming && live.every(each => !holds(each, htlc)));
  const isLess = view.htlcs.length < newest.htlcs.length && view.htlcs.every(htlc => holds(newest, htlc));
  if (isLess && view.feeratePerKw === newest.feeratePerKw) return;
  let { holder: own, counterparty: other } = books.due;
  if (!isHolder) [own, other] = [other, own];
  if (own > 0 && !isUnheard) {
    own--;
  } else {
    let count = 1;
    for (const each of pieces) count += Math.max(1, each);
    ensureRecords(work, recordsToSettle(count));
    other = Math.min(other + 1, mostDue(payments, work.state.parameters!.proposal));
  }
  const due = isHolder ? { holder: own, counterparty: other } : { holder: other, counterparty: own };
  work.state = { ...work.state, books: { ...books, due } };
}

type Htlc = CommitmentSpec["htlcs"][number];

function piecesOf(view: CommitmentSpec, paymentHash: Uint8Array): number {
  return view.htlcs.filter(htlc => !htlc.incoming && equal(htlc.paymentHash, paymentHash)).length;
}

function holds(view: CommitmentSpec, { paymentHash, incoming }: Htlc): boolean {
  return view.htlcs.some(each => each.incoming === incoming && equal(each.paymentHash, paymentHash));
}

function sameView(a: CommitmentSpec, b: CommitmentSpec): boolean {
  return (
    a === b || (a.holderSat === b.holderSat && equal(encodeValue(viewCodec, a), encodeValue(viewCodec, b)))
  );
}

/**
 * The bridge's secret of the commitment before its newest: it must fit its point, and those that are kept must follow
 * from it. Any other is not news. It is kept: whoever publishes what it revokes is punished with it, whatever the
 * gateway says.
 */
export function receiveRevocation(work: Work, revoked: NonNullable<Step["revoked"]>): void {
  const { state, context } = work;
  const { counterparty } = state;
  if (counterparty === null) return;
  const { previous, ...rest } = counterparty;
  if (previous === undefined || revoked.number !== counterparty.number - 1) return;
  const { curve } = context;
  const known = secretStore(counterparty, state.secrets);
  const store = addSecret(known, revoked.secret);
  enforce(
    "previous-revoked",
    store !== null &&
      isValidScalar(revoked.secret) &&
      (curve === null || equal(curve.publicKey(revoked.secret), previous.point)),
    "the bridge's secret is not that of its commitment's point",
  );
  const next = revoked.nextPoint ? { nextPoint: revoked.nextPoint } : {};
  work.state = { ...state, secrets: (store || known).secrets, counterparty: { ...rest, ...next } };
}

/**
 * A commitment of ours: a new one is verified whole and kept, and only then is the one before it revoked. For one
 * that is held already the answer is given again.
 */
export function receiveHolder(work: Work, part: NonNullable<Step["holder"]>): void {
  const { state, context } = work;
  const held = state.holder;
  if (held === null || part.number > held.number) keepHolder(work, part);
  else if (part.view && part.number === held.number) sameContent(part.view, held.view);
  const { index } = state.books;
  if (part.number > 0) work.answer.secret = context.secretOf(index, part.number - 1);
  const further = part.number + POINTS_AHEAD;
  work.answer.point = { number: further, point: context.pointOf(index, further) };
}

function keepHolder(work: Work, part: NonNullable<Step["holder"]>): void {
  const { holder, counterparty, books } = work.state;
  const { identity, curve, keysFor, pointOf, channelOf } = work.context;
  enforce(
    "commitment-number",
    holder === null
      ? part.number === 0 && counterparty !== null
      : part.number === holder.number + 1 && books.phase !== "opening",
    `commitment ${part.number} of ours is not the next`,
  );
  const view = part.view || counterparty!.view;
  const { proposal } = checkNew(work, view, true);
  const keys = keysFor(proposal, true, pointOf(books.index, part.number));
  const commitment = commitmentOf(channelOf(proposal), true, part.number, keys, view);
  const htlcSignatures = part.htlcSignatures || [];
  enforce(
    "exit-before-revoke",
    curve === null || curve.verify(part.signature, commitment.sighash, proposal.fundingKey),
    "the bridge's signature on our commitment is not valid",
  );
  // Whether these are valid nobody waits for: before the next state takes this one's place it is seen (`checkHtlcs`).
  enforce(
    "exit-before-revoke",
    htlcSignatures.length === commitment.htlcs.length,
    "an HTLC comes without the bridge's signature",
  );
  const { anchorPartial } = part;
  const anchor = view.htlcs.length > 0 ? null : anchorSighash(identity, commitment);
  enforce(
    "exit-before-revoke",
    anchor === null || anchorPartial !== undefined,
    "a state without HTLCs needs the signature of its anchor",
  );
  // All that can be wrong but the answers themselves, before a record is read: what is read is used up.
  ensureOwn(work, anchor && anchorPartial ? [part.partial, anchorPartial] : [part.partial]);
  const ownSignature = finishOwn(work, part.partial, commitment.sighash);
  checkHtlcs(work, MAX_HTLCS);
  const kept: Holder = {
    number: part.number,
    view,
    bridgeSignature: part.signature,
    ownSignature,
    htlcSignatures,
    ...(anchor && anchorPartial ? { anchorSignature: finishOwn(work, anchorPartial, anchor) } : {}),
  };
  work.state = { ...work.state, holder: kept };
  noteHtlcs(work, view);
}

/**
 * The bridge's signatures on the HTLCs of our newest commitment, each verified once, when nobody waits for a receipt: with a
 * bad one an HTLC that times out does not come home from this exit, which is noted for as long as the channel lasts.
 */
export function checkHtlcs(work: Work, most: number): void {
  const { parameters, holder } = work.state;
  if (parameters === null || holder === null || parameters.badHtlcSignature) return;
  if (work.context.htlcsSigned(holder, parameters.proposal, most)) return;
  work.state = { ...work.state, parameters: { ...parameters, badHtlcSignature: true } };
}

/** True where these of the bridge's signatures on the HTLC transactions of this exit are valid, or there is no curve to tell by. */
export function htlcsAreSigned(
  { curve, keysFor, pointOf, channelOf }: Context,
  { number, view, htlcSignatures }: Holder,
  proposal: Proposal,
  begin: number,
  end: number,
): boolean {
  if (curve === null) return true;
  const keys = keysFor(proposal, true, pointOf(proposal.index, number));
  const { htlcs } = commitmentOf(channelOf(proposal), true, number, keys, view);
  return htlcs
    .slice(begin, end)
    .every((htlc, i) => curve.verify(htlcSignatures[begin + i]!, htlc.sighash, keys.countersignatoryHtlc));
}

/**
 * A commitment of the bridge's: a new one is rebuilt from its content and signed. For the newest, the answer is given
 * again.
 */
export function receiveCounterparty(work: Work, part: NonNullable<Step["counterparty"]>): void {
  const { counterparty: newest, holder, books } = work.state;
  const { keysFor, channelOf } = work.context;
  if (newest !== null && part.number === newest.number) {
    if (part.view) sameContent(part.view, newest.view);
    enforce(
      "commitment-content",
      part.point === undefined || equal(part.point, newest.point),
      "another point was already used for this commitment",
    );
    work.answer.signed = newest.answer;
    return;
  }
  const view = part.view || holder?.view;
  const point = part.point || newest?.nextPoint;
  if (view === undefined || point === undefined) {
    throw lngateError("step-incomplete", "the bridge's commitment comes without its content or its point");
  }
  enforce(
    "commitment-number",
    newest === null ? part.number === 0 : part.number === newest.number + 1 && books.phase !== "opening",
    `commitment ${part.number} of the bridge's is not the next`,
  );
  enforce(
    "previous-revoked",
    newest?.previous === undefined,
    "the bridge has not revoked the commitment before its newest",
  );
  const { proposal } = checkNew(work, view, false);
  const keys = keysFor(proposal, false, point, part.keys);
  const commitment = commitmentOf(channelOf(proposal), false, part.number, keys, view);
  ensureRecords(work, { A: 1 + CLOSING_RECORDS, B: 0, H: commitment.htlcs.length });
  const answer = {
    partials: [partialFor(work, commitment.sighash)],
    htlcSignatures: commitment.htlcs.map(htlc => htlcSignature(work, htlc.sighash, point)),
  };
  const counterparty: Counterparty = {
    number: part.number,
    view,
    point,
    ...(newest === null ? {} : { previous: { view: newest.view, point: newest.point } }),
    answer,
  };
  work.answer.signed = answer;
  work.state = { ...work.state, counterparty };
  noteHtlcs(work, view);
}

function sameContent(view: CommitmentSpec, signed: CommitmentSpec): void {
  enforce(
    "commitment-content",
    sameView(view, signed),
    "another content was already agreed for this commitment",
  );
}

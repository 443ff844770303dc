/**
 * The device's channel as a pure machine: (state, input) → (state, effects). It has no clock, no flash and no
 * radio; the runtime (device/device.ts) carries the effects out in their order and may lose power between
 * any two of them.
 */
import { codeOf, lngateError } from "../../src/errors.ts";
import type { Step, Stepped, ToDevice, ToGateway } from "../../src/messages/device.ts";
import { RECORD_KINDS } from "../vault/records.ts";
import { onChannelClosed, receiveClose } from "./closing.ts";
import { collect, forceClose } from "./collecting.ts";
import { backTo, type Context, type Effect, type Transition, type Work, wholly } from "./context.ts";
import { enforce } from "./enforce.ts";
import { exportExit } from "./exiting.ts";
import { checkHtlcs, POINTS_AHEAD, receiveCounterparty, receiveHolder, receiveRevocation } from "./normal.ts";
import { formerAfter, fund, propose } from "./opening.ts";
import { inFlight } from "./payments/balance.ts";
import { receiveFailure, receivePreimage, settleBooks } from "./payments/outcome.ts";
import { authorise, type PaymentOrder } from "./payments/paying.ts";
import { hasRoomToOpen } from "./payments/remembered.ts";
import { settleFee } from "./payments/settling.ts";
import { type ChannelState, changesBetween, MAX_FORMER, type Payment, type RecordKind } from "./state.ts";

/** Each answer of kind B is one try at a code of 128 bits. */
const WRONG_ANSWERS_TO_LOCK = 3;

export type Input =
  /** A session with the gateway has begun. */
  | { readonly type: "connected"; readonly generation: number }
  | { readonly type: "pay"; readonly order: PaymentOrder }
  | { readonly type: "open" }
  | { readonly type: "close" }
  /** The owner leaves alone: the present channel, or one that was closed before it. The exit is in the state (`exitOf`). */
  | { readonly type: "exit"; readonly index: number }
  /** The owner has seen on the chain that the channels up to this one are closed: their exits may go. */
  | { readonly type: "forget"; readonly index: number }
  /** Nobody waits for a receipt: what can be verified late is verified, so many signatures. */
  | { readonly type: "check"; readonly most: number }
  | { readonly type: "message"; readonly message: ToDevice };

/** Throws only for `pay`, `open`, `close` and `exit` that can't be done; the state then stays as it was. */
export function transition(state: ChannelState, context: Context, input: Input): Transition {
  const work: Work = { state, context, answer: {}, decided: [] };
  switch (input.type) {
    case "connected":
      return done(work, state, [
        send(greeting(state, context, input.generation)),
        ...unfinished(state).map(payment => send(requestOf(payment))),
      ]);
    case "pay":
      return done(work, state, [send(requestOf(authorise(work, input.order)))]);
    case "open": {
      const message = openMessage(state, context);
      work.state = { ...state, books: { ...state.books, asked: message.index } };
      return done(work, state, [send(message)]);
    }
    case "close":
      enforce(
        "close-state",
        state.books.phase === "open" || state.books.phase === "closing",
        `there is nothing to close while the channel is "${state.books.phase}"`,
      );
      enforce("close-pending", inFlight(state).length === 0, "a payment is still in flight");
      return done(work, state, [send({ type: "close" })]);
    case "exit":
      exportExit(work, input.index);
      return done(work, state, []);
    case "forget": {
      const kept = (state.former || []).filter(each => !(each.index <= input.index));
      work.state = { ...state, former: kept.length > 0 ? kept : null };
      return done(work, state, []);
    }
    case "check":
      if (state.books.phase === "open") checkHtlcs(work, input.most);
      return written(context, state, done(work, state, []));
    case "message":
      return receive(work, input.message);
  }
}

function receive(work: Work, message: ToDevice): Transition {
  const { state: before, context } = work;
  switch (message.type) {
    case "step": {
      receiveStep(work, message);
      settleBooks(work);
      const taken = answered(work, before, message.id);
      if (fitsIn(context, taken)) return taken;
      // Nothing of it is kept, and nothing of it is told.
      const full: Work = { context, state: backTo(before, work.state), answer: {}, decided: [] };
      for (const preimage of message.paid || []) receivePreimage(full, preimage);
      noteRefusal(
        full,
        lngateError("vault-full", "the device's flash has no room for this state of the channel"),
      );
      settleBooks(full);
      return answered(full, before, message.id);
    }
    case "paid":
      receivePreimage(work, message.preimage);
      settleBooks(work);
      return written(context, before, done(work, before, []));
    case "failed": {
      if (message.paymentHash === undefined) {
        const failure = { code: message.code, sentence: message.sentence };
        return done(work, before, [{ type: "notice", state: before.books.phase, failure }]);
      }
      receiveFailure(work, message.paymentHash, message.code);
      settleBooks(work);
      return written(context, before, done(work, before, []));
    }
    case "channel": {
      if (message.index === before.books.index && message.state === "closed") onChannelClosed(work);
      return done(work, before, [{ type: "notice", state: message.state }]);
    }
    case "settle": {
      let answer: ToGateway | undefined;
      try {
        wholly(work, attempt => {
          answer = requestOf(settleFee(attempt, message));
        });
      } catch (error) {
        answer = { type: "settling", paymentHash: message.paymentHash, refused: refusal(error) };
      }
      return done(work, before, [send(answer!)]);
    }
  }
}

function answered(work: Work, before: ChannelState, id: number): Transition {
  return done(work, before, [send({ type: "stepped", id, ...work.answer })]);
}

/** News for which the flash has no room is not news yet: it is told again. (Every state leaves room for it.) */
function written(context: Context, state: ChannelState, news: Transition): Transition {
  for (const effect of news.effects) {
    if (effect.type === "persist" && !context.fits(effect.changes, 0)) return { state, effects: [] };
  }
  return news;
}

/** What must always find room beside a state: that the channel ends or is locked, and the receipts of payments in flight. */
function spareBytes(state: ChannelState): number {
  return 64 + 64 * inFlight(state).length;
}

/** What does not fit into the flash is refused before it is written: a commit never fails for it. */
function fitsIn(context: Context, { state, effects }: Transition): boolean {
  for (const effect of effects) {
    if (effect.type === "persist" && !context.fits(effect.changes, spareBytes(state))) return false;
  }
  return true;
}

/** Takes the parts in their order. The first that is refused ends the step: what was done before it stands. */
function receiveStep(work: Work, step: Step): void {
  const {
    paid,
    revoked,
    proposal,
    holder,
    counterparty,
    fund: toFund,
    close,
    forceClose: toForceClose,
    spend,
  } = step;
  const { phase } = work.state.books;
  const ended = phase === "exited" || phase === "locked";
  function take<T>(value: T | undefined, taken: (work: Work, value: T) => void): void {
    if (value !== undefined) wholly(work, attempt => taken(attempt, value));
  }
  // A receipt is welcome in every phase.
  for (const preimage of paid || []) receivePreimage(work, preimage);
  try {
    // What ends the channel or follows its end is answered after it too, and then alone.
    const alone = ended && (spend !== undefined || toForceClose !== undefined);
    enforce("phase", !ended || alone, `nothing is signed or revoked any more: the channel is "${phase}"`);
    take(spend, collect);
    if (!alone) {
      take(revoked, receiveRevocation);
      take(proposal, propose);
      take(holder, receiveHolder);
      take(counterparty, receiveCounterparty);
      take(toFund || undefined, fund);
      take(close, receiveClose);
    }
    take(toForceClose, forceClose);
  } catch (error) {
    noteRefusal(work, error);
  }
}

/** The answer says what was refused. A record that was asked for again locks the device, and the third wrong answer. */
function noteRefusal(work: Work, error: unknown): void {
  const refused = refusal(error);
  work.answer.refused = refused;
  const { books } = work.state;
  const isGuessing = refused.code === "policy-own-signature" && books.wrongAnswers >= WRONG_ANSWERS_TO_LOCK;
  if (refused.code !== "policy-record-reuse" && !isGuessing) return;
  work.state = { ...work.state, books: { ...books, phase: "locked" } };
}

/** A refusal as the gateway is told of it. Throws on what is none. */
function refusal(error: unknown): NonNullable<Stepped["refused"]> {
  const code = codeOf(error);
  if (code === undefined) throw error;
  return { code, sentence: (error as Error).message };
}

/** The effects in their order: persist, erase what was used, tell who waits, send. */
function done(work: Work, before: ChannelState, sends: readonly Effect[]): Transition {
  const effects: Effect[] = [];
  const changes = changesBetween(before, work.state);
  if (changes.length > 0) effects.push({ type: "persist", changes });
  for (const kind of RECORD_KINDS) {
    const below = work.state.books.cursors[kind];
    if (below !== before.books.cursors[kind]) effects.push({ type: "erase", kind, below });
  }
  for (const payment of work.decided) effects.push({ type: "decided", payment });
  return { state: work.state, effects: effects.concat(sends) };
}

function send(message: ToGateway): Effect {
  return { type: "send", message };
}

function greeting(state: ChannelState, context: Context, generation: number): ToGateway {
  const { books, holder, counterparty } = state;
  const left = (kind: RecordKind) => context.records.left(kind, books.cursors[kind]);
  return {
    type: "hello",
    generation,
    phase: books.phase,
    index: books.index,
    recordsLeft: [left("A"), left("B"), left("H")],
    ...(holder === null ? {} : { holderNumber: holder.number }),
    ...(counterparty === null ? {} : { counterpartyNumber: counterparty.number }),
    ...(context.curve === null ? { curveless: true } : {}),
    clock: Math.floor(context.nowMs / 1000),
    bounds: context.identity.policy,
  };
}

function openMessage(state: ChannelState, context: Context): Extract<ToGateway, { type: "open" }> {
  const { phase, index } = state.books;
  if (phase !== "none" && phase !== "opening") {
    throw lngateError("channel-exists", `the device has a channel already: it is "${phase}"`);
  }
  const former = formerAfter(state);
  if (former.length > MAX_FORMER || !hasRoomToOpen(former, context.capacityBytes)) {
    throw lngateError(
      "exits-kept",
      "the exits of channels before take the room of another: forget those that the chain shows to be closed",
    );
  }
  const points: Uint8Array[] = [];
  for (let number = 0; number < POINTS_AHEAD; number++) points.push(context.pointOf(index + 1, number));
  return { type: "open", index: index + 1, points };
}

/** Payments to ask for again after a restart or a reconnect. */
function unfinished(state: ChannelState): Payment[] {
  return inFlight(state).filter(payment => !payment.preimage);
}

/** Asks the gateway to make a payment. */
function requestOf(payment: Payment): ToGateway {
  const { maxCltvExpiry } = payment;
  if (payment.settlement) return { type: "settling", paymentHash: payment.paymentHash, maxCltvExpiry };
  return {
    type: "pay",
    invoice: payment.invoice!,
    maxFeeMsat: payment.limitMsat - payment.amountMsat,
    maxCltvExpiry,
    ...(payment.attempt ? { attempt: payment.attempt } : {}),
  };
}

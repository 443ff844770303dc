/**
 * The device's channel as a pure machine: (state, input) → (state, effects). It has no clock, no flash and no
 * radio; the runtime (device/device.ts) carries the effects out in their order and may lose power between
 * any two of them.
 */
import { codeOf, lngateError } from "../../src/errors.ts";
import type { Step, Stepped, ToDevice, ToGateway } from "../../src/link/messages.ts";
import { RECORD_KINDS } from "../vault/records.ts";
import { takeClose, takeEnd } from "./closing.ts";
import { collect, leave } from "./collecting.ts";
import type { Context, Effect, Transition, Work } from "./context.ts";
import { demand } from "./demand.ts";
import { takeExit } from "./exiting.ts";
import {
  POINTS_AHEAD,
  settleBooks,
  takeCounterparty,
  takeFailure,
  takeHolder,
  takePreimage,
  takeRevocation,
} from "./normal.ts";
import { fund, propose } from "./opening.ts";
import { authorise, type PaymentOrder, settleFee } from "./paying.ts";
import { inFlight } from "./rules.ts";
import { type ChannelState, changesBetween, MAX_FORMER, type Payment, type RecordKind } from "./state.ts";

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
  | { readonly type: "message"; readonly message: ToDevice };

/** Throws only for `pay`, `open`, `close` and `exit` that can't be done; the state then stays as it was. */
export function transition(state: ChannelState, context: Context, input: Input): Transition {
  const work: Work = { state, context, answer: {}, decided: [] };
  switch (input.type) {
    case "connected":
      return done(work, state, [
        send(greeting(state, context, input.generation)),
        ...unfinished(state).map(payment => send(wishFor(payment))),
      ]);
    case "pay":
      return done(work, state, [send(wishFor(authorise(work, input.order)))]);
    case "open": {
      const message = openMessage(state, context);
      work.state = { ...state, books: { ...state.books, asked: message.index } };
      return done(work, state, [send(message)]);
    }
    case "close":
      demand(
        "close-state",
        state.books.phase === "open" || state.books.phase === "closing",
        `there is nothing to close while the channel is "${state.books.phase}"`,
      );
      demand("close-pending", inFlight(state).length === 0, "a payment is still in flight");
      return done(work, state, [send({ type: "close" })]);
    case "exit":
      takeExit(work, input.index);
      return done(work, state, []);
    case "forget": {
      const kept = (state.former || []).filter(each => each.index > input.index);
      work.state = { ...state, former: kept.length > 0 ? kept : null };
      return done(work, state, []);
    }
    case "message":
      return receive(work, input.message);
  }
}

function receive(work: Work, message: ToDevice): Transition {
  const before = work.state;
  switch (message.type) {
    case "step": {
      const refused = takeStep(work, message);
      if (refused !== null) work.answer.refused = refused;
      settleBooks(work);
      return done(work, before, [send({ type: "stepped", id: message.id, ...work.answer })]);
    }
    case "paid":
      takePreimage(work, message.preimage, message.feeMsat);
      settleBooks(work);
      return done(work, before, []);
    case "failed": {
      if (message.paymentHash === undefined) {
        const failure = { code: message.code, sentence: message.sentence };
        return done(work, before, [{ type: "notice", state: before.books.phase, failure }]);
      }
      takeFailure(work, message.paymentHash, message.code);
      settleBooks(work);
      return done(work, before, []);
    }
    case "channel": {
      if (message.index === before.books.index && message.state === "closed") takeEnd(work);
      return done(work, before, [{ type: "notice", state: message.state }]);
    }
    case "settle": {
      let answer: ToGateway;
      try {
        answer = wishFor(settleFee(work, message));
      } catch (error) {
        work.state = before;
        answer = { type: "settling", paymentHash: message.paymentHash, refused: refusal(error) };
      }
      return done(work, before, [send(answer)]);
    }
  }
}

/** Takes the parts in their order. The first that is refused ends the step: what was done before it stands. */
function takeStep(work: Work, step: Step): NonNullable<Stepped["refused"]> | null {
  const { paid, revoked, proposal, holder, counterparty, fund: toFund, close, leave: toLeave, spend } = step;
  const { phase } = work.state.books;
  const ended = phase === "exited" || phase === "locked";
  // A receipt is welcome in every phase.
  for (const { preimage, feeMsat } of paid || []) takePreimage(work, preimage, feeMsat);
  let before = work.state;
  function part<T>(value: T | undefined, take: (value: T) => void): void {
    before = work.state;
    if (value !== undefined) take(value);
  }
  try {
    // What ends the channel or follows its end is answered after it too, and then alone.
    const alone = ended && (spend !== undefined || toLeave !== undefined);
    demand("phase", !ended || alone, `nothing is signed or revoked any more: the channel is "${phase}"`);
    part(spend, value => collect(work, value));
    if (alone) {
      part(toLeave, value => leave(work, value));
      return null;
    }
    part(revoked, value => takeRevocation(work, value));
    part(proposal, value => propose(work, value));
    part(holder, value => takeHolder(work, value));
    part(counterparty, value => takeCounterparty(work, value));
    part(toFund || undefined, () => fund(work));
    part(close, value => takeClose(work, value));
    part(toLeave, value => leave(work, value));
    return null;
  } catch (error) {
    const refused = refusal(error);
    // What the refused part had changed is undone, but a record that was read is used up.
    const { cursors } = work.state.books;
    work.state = before;
    const isReuse = refused.code === "policy-record-reuse";
    if (isReuse || cursors !== before.books.cursors) {
      const books = { ...before.books, cursors, ...(isReuse ? { phase: "locked" as const } : {}) };
      work.state = { ...before, books };
    }
    return refused;
  }
}

/** A refusal as the gateway is told of it. Throws on what is none. */
function refusal(error: unknown): NonNullable<Stepped["refused"]> {
  const code = codeOf(error);
  if (code === undefined) throw error;
  return { code, sentence: (error as Error).message.slice(0, 200) };
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
  };
}

function openMessage(state: ChannelState, context: Context): Extract<ToGateway, { type: "open" }> {
  const { phase, index } = state.books;
  if (phase !== "none" && phase !== "opening") {
    throw lngateError("channel-exists", `the device has a channel already: it is "${phase}"`);
  }
  if (phase === "none" && state.former !== null && state.former.length >= MAX_FORMER) {
    throw lngateError(
      "exits-kept",
      `the exits of ${MAX_FORMER} channels are kept: forget those that the chain shows to be closed`,
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
function wishFor(payment: Payment): ToGateway {
  if (payment.settlement) return { type: "settling", paymentHash: payment.paymentHash };
  return {
    type: "pay",
    invoice: payment.invoice!,
    maxFeeMsat: payment.limitMsat - payment.amountMsat,
    ...(payment.attempt ? { attempt: payment.attempt } : {}),
  };
}

/**
 * The device's channel as a pure machine: (state, input) → (state, effects). It has no clock, no flash and no
 * radio; the runtime (device/device.ts) carries the effects out in their order and may lose power between
 * any two of them.
 */
import { codeOf, lngateError } from "../../src/errors.ts";
import type { Step, ToDevice, ToGateway } from "../../src/link/messages.ts";
import { takeClose } from "./closing.ts";
import type { Context, Effect, Transition, Work } from "./context.ts";
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
import { authorise, type PaymentOrder } from "./paying.ts";
import { inFlight, refusal } from "./rules.ts";
import type { ChannelState, Payment, RecordKind } from "./state.ts";
import { changesBetween } from "./state.ts";

export type Input =
  /** A session with the gateway has begun. */
  | { readonly type: "connected"; readonly generation: number }
  | { readonly type: "pay"; readonly order: PaymentOrder }
  | { readonly type: "open" }
  | { readonly type: "close" }
  | { readonly type: "message"; readonly message: ToDevice };

/** Throws only for `pay`, `open` and `close` that can't be done; the state then stays as it was. */
export function transition(state: ChannelState, context: Context, input: Input): Transition {
  const work: Work = { state, context, answer: {}, decided: [] };
  switch (input.type) {
    case "connected":
      return done(work, state, [
        send(greeting(state, context, input.generation)),
        ...unfinished(state).map(payment => send(payMessage(payment))),
      ]);
    case "pay":
      return done(work, state, [send(payMessage(authorise(work, input.order)))]);
    case "open":
      return done(work, state, [send(openMessage(state, context))]);
    case "close":
      if (state.books.phase !== "open" && state.books.phase !== "closing") {
        throw refusal("close-state", `there is nothing to close while the channel is "${state.books.phase}"`);
      }
      if (inFlight(state).length > 0) throw refusal("close-htlc-pending", "a payment is still in flight");
      return done(work, state, [send({ type: "close" })]);
    case "message":
      return receive(work, input.message);
  }
}

function receive(work: Work, message: ToDevice): Transition {
  const before = work.state;
  switch (message.type) {
    case "step": {
      // An error ends the step; what was done before it stands, records that were used included.
      try {
        takeStep(work, message);
      } catch (error) {
        const code = codeOf(error);
        if (code === undefined) throw error;
        work.answer.refused = { code, sentence: (error as Error).message.slice(0, 200) };
      }
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
      const { books } = work.state;
      if (message.index === books.index && message.state === "closed" && books.phase === "closing") {
        work.state = { ...work.state, books: { ...books, phase: "none" } };
      }
      return done(work, before, [{ type: "notice", state: message.state }]);
    }
  }
}

function takeStep(work: Work, step: Step): void {
  if (work.state.books.phase === "exited" || work.state.books.phase === "locked") {
    throw refusal(
      "phase",
      `nothing is signed or revoked any more: the channel is "${work.state.books.phase}"`,
    );
  }
  if (step.revoked) takeRevocation(work, step.revoked);
  if (step.proposal) {
    const first = step.counterparty;
    if (!first?.view || !first.point || first.number !== 0) {
      throw refusal("channel-parameters", "a proposal comes with the bridge's commitment 0");
    }
    propose(work, step.proposal, first.point, first.view);
    return;
  }
  if (step.holder) takeHolder(work, step.holder);
  if (step.counterparty) takeCounterparty(work, step.counterparty);
  if (step.fund) fund(work);
  if (step.close) takeClose(work, step.close);
}

/** The effects in their order: persist, erase what was used, tell who waits, send. */
function done(work: Work, before: ChannelState, sends: readonly Effect[]): Transition {
  const effects: Effect[] = [];
  const changes = changesBetween(before, work.state);
  if (changes.length > 0) effects.push({ type: "persist", changes });
  for (const kind of ["A", "B", "H"] as RecordKind[]) {
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
  };
}

function openMessage(state: ChannelState, context: Context): ToGateway {
  const { phase, index } = state.books;
  if (phase !== "none" && phase !== "opening") {
    throw lngateError("channel-exists", `the device has a channel already: it is "${phase}"`);
  }
  const points: Uint8Array[] = [];
  for (let number = 0; number < POINTS_AHEAD; number++) points.push(context.pointOf(index + 1, number));
  return { type: "open", index: index + 1, points };
}

/** Payments to ask for again after a restart or a reconnect. */
function unfinished(state: ChannelState): Payment[] {
  return inFlight(state).filter(payment => !payment.preimage && payment.invoice !== undefined);
}

function payMessage(payment: Payment): ToGateway {
  return {
    type: "pay",
    invoice: payment.invoice!,
    maxFeeMsat: payment.limitMsat - payment.amountMsat,
  };
}

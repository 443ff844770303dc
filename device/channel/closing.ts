/** Mutual close (BOLT #2, closing_signed): pays the owner's script, and no commitment is signed or revoked after it. */
import { equal } from "../../src/bytes/bytes.ts";
import { closingSighash } from "../../src/channel/transactions.ts";
import type { Step } from "../../src/messages/device.ts";
import type { Work } from "./context.ts";
import { enforce } from "./enforce.ts";
import { inFlight } from "./payments/balance.ts";
import { settleBooks } from "./payments/outcome.ts";
import { checkClose } from "./rules.ts";
import { partialFor } from "./signing.ts";

/** Negotiation may bring several fees; each is a transaction of its own and costs a record. */
export const MAX_CLOSES = 4;

/** A mutual close: signed if it pays us what is ours. For one that was signed the answer is given again. Throws `policy-close-…`. */
export function receiveClose(work: Work, close: NonNullable<Step["close"]>): void {
  const { state, context } = work;
  const { books } = state;
  enforce(
    "close-state",
    books.phase === "open" || books.phase === "closing",
    `there is nothing to close while the channel is "${books.phase}"`,
  );
  const parameters = state.parameters!;
  checkClose(work, parameters, close);
  const sighash = closingSighash(context.identity, parameters.proposal, close);
  const known = parameters.closes.filter(signed => equal(signed.sighash, sighash))[0];
  if (known !== undefined) {
    work.answer.signed = known.answer;
    return;
  }
  enforce("close-state", parameters.closes.length < MAX_CLOSES, "too many different closes were asked for");
  const answer = { partials: [partialFor(work, sighash)] };
  work.answer.signed = answer;
  work.state = {
    ...work.state,
    books: { ...work.state.books, phase: "closing" },
    parameters: { ...parameters, closes: [...parameters.closes, { sighash, answer }] },
  };
}

/**
 * The gateway says that the channel has ended: a close is in a block, or the channel never came to be. That is only its
 * word. So nothing of the channel is signed any more, its exit is kept, and there may be another channel. A payment
 * that nobody has decided keeps the channel where it is: what the gateway says of it is believed once its invoice has
 * expired, as nobody will ask to pay that again.
 */
export function onChannelClosed(work: Work): void {
  const { books } = work.state;
  const { phase } = books;
  if (phase !== "open" && phase !== "closing" && phase !== "exited") return;
  const now = work.context.nowMs / 1000;
  const open = inFlight(work.state).filter(p => !p.preimage && !(p.failure && p.expiresAt < now));
  if (open.length > 0) return;
  settleBooks(work, true);
  work.state = { ...work.state, books: { ...work.state.books, phase: "none" } };
}

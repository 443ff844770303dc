/**
 * Opening: the gateway proposes a channel funded from the deposit. The order never leaves the owner without
 * an exit: the bridge's commitment 0, then our own commitment 0 completely signed, then the funding transaction.
 */

import { equal } from "../../src/bytes/bytes.ts";
import { encodeValue } from "../../src/bytes/schema.ts";
import { recordsToSettle } from "../../src/channel/records-to-settle.ts";
import { proposalCodec } from "../../src/channel/terms.ts";
import { fundingOf } from "../../src/channel/transactions.ts";
import { ensureRecords, type Work } from "./context.ts";
import { enforce } from "./enforce.ts";
import { checkProposal } from "./rules.ts";
import { partialFor } from "./signing.ts";
import type { ChannelState, Former, Proposal } from "./state.ts";

/** First part: accept the proposal. It comes with the bridge's commitment 0, which shows that all is ours. */
export function propose(work: Work, proposal: Proposal): void {
  const { state, context } = work;
  const { books, parameters } = state;
  if (parameters !== null && proposal.index === books.index) {
    enforce(
      "commitment-content",
      equal(encodeValue(proposalCodec, parameters.proposal), encodeValue(proposalCodec, proposal)),
      "another channel was already agreed under this number",
    );
    return;
  }
  enforce(
    "funding",
    books.phase === "none" || books.phase === "opening",
    "the device has a channel already, and a deposit is spent once",
  );
  enforce(
    "funding",
    proposal.index === books.index + 1 && proposal.index <= books.asked,
    `channel ${proposal.index} was not asked for`,
  );
  const former = formerAfter(state);
  checkProposal(context, proposal, former);
  // Each try costs some of them, and is asked for again as long as somebody waits: enough for a payment are kept.
  const { A, B } = recordsToSettle(1);
  ensureRecords(work, { A: A + 1 + proposal.deposits.length, B: B + 2 });
  work.state = {
    ...state,
    books: { ...books, phase: "opening", index: proposal.index, baseSat: proposal.channelSat },
    parameters: { proposal, closes: [] },
    holder: null,
    counterparty: null,
    secrets: [],
    former: former.length > 0 ? former : null,
  };
}

/**
 * The exit of the channel before is kept, with what the bridge may publish instead: the closing transaction may never have
 * been published. There is room: `open` sees to it.
 */
export function formerAfter(state: ChannelState): Former {
  const { books, parameters, holder, counterparty, secrets } = state;
  const former = state.former || [];
  if (books.phase !== "none" || holder === null || counterparty === null) return former;
  const last: Former[number] = {
    index: books.index,
    proposal: parameters!.proposal,
    holder,
    counterparty: { ...counterparty, answer: { partials: [] } },
    secrets,
  };
  return [last].concat(former);
}

/** Last part: sign the funding transaction, once exit 0 is held. */
export function fund(work: Work): void {
  const { parameters, holder } = work.state;
  if (parameters?.funding) {
    work.answer.signed = parameters.funding;
    return;
  }
  enforce(
    "funding",
    holder !== null,
    "the funding transaction is signed only when our own commitment 0 is held",
  );
  const { sighashes } = fundingOf(work.context.identity, parameters!.proposal);
  ensureRecords(work, { A: sighashes.length, B: 0, H: 0 });
  const signed = { partials: sighashes.map(sighash => partialFor(work, sighash)) };
  work.answer.signed = signed;
  work.state = {
    ...work.state,
    // Whatever was asked for while it opened is what it is now: the next channel has to be asked for again.
    books: { ...work.state.books, phase: "open", asked: work.state.books.index },
    parameters: { ...parameters!, funding: signed },
    // What was signed of a transaction counts for as long as the channel is known of which it collects.
    collected: work.state.collected && {
      count: 0,
      answers: [],
      sums: work.state.former ? work.state.collected.sums : [],
    },
  };
}

/**
 * Opening: the gateway proposes a channel funded from the deposit. The order never leaves the owner without
 * an exit: the bridge's commitment 0, then our own commitment 0 completely signed, then the funding
 * transaction (policy-funding).
 */
import { equal } from "../../src/bytes/bytes.ts";
import { proposalKind } from "../../src/link/messages.ts";
import { encodeValue } from "../../src/link/schema.ts";
import { fundingOf } from "../../src/link/transactions.ts";
import type { Work } from "./context.ts";
import { signCounterparty } from "./normal.ts";
import { checkProposal, checkView, refusal } from "./rules.ts";
import { partialFor } from "./signing.ts";
import type { ChannelState, Parameters, Proposal, View } from "./state.ts";

/** First part: accept the proposal and sign the bridge's commitment 0. */
export function propose(work: Work, proposal: Proposal, point: Uint8Array, view: View): void {
  const { state, context } = work;
  const { books, parameters } = state;
  if (books.phase === "opening" && parameters !== null && proposal.index === books.index) {
    if (!equal(encodeValue(proposalKind, parameters.proposal), encodeValue(proposalKind, proposal))) {
      throw refusal("commitment-content", "another channel was already agreed under this number");
    }
    signCounterparty(work, 0, point, view);
    return;
  }
  if (books.phase !== "none" && books.phase !== "opening") {
    throw refusal("funding", "the device has a channel already");
  }
  if (proposal.index !== books.index + 1) {
    throw refusal("funding", `channel ${proposal.index} was not asked for`);
  }
  checkProposal(context.identity, proposal);
  if (view.theirSat !== 0 || view.htlcs.length !== 0) {
    throw refusal("balance", "a new channel is all ours");
  }
  const opened: Parameters = { proposal, closes: [] };
  const next: ChannelState = {
    ...state,
    books: { ...books, phase: "opening", index: proposal.index, baseSat: proposal.channelSat },
    parameters: opened,
    holder: null,
    counterparty: null,
  };
  checkView(next, opened, context.identity, view, false);
  work.state = next;
  signCounterparty(work, 0, point, view);
}

/** Last part: sign the funding transaction, once exit 0 is held. */
export function fund(work: Work): void {
  const { books, parameters, holder } = work.state;
  if (parameters?.funding) {
    work.answer.signed = parameters.funding;
    return;
  }
  if (books.phase !== "opening" || parameters === null || holder === null) {
    throw refusal("funding", "the funding transaction is signed only when our own commitment 0 is held");
  }
  const partials = fundingOf(work.context.identity, parameters.proposal).sighashes.map(sighash =>
    partialFor(work, sighash),
  );
  const signed = { partials };
  work.answer.signed = signed;
  work.state = {
    ...work.state,
    books: { ...work.state.books, phase: "open" },
    parameters: { ...parameters, funding: signed },
  };
}

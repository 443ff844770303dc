/**
 * What a proposal, a commitment and a mutual close must be. Gateway and bridge may be one party: whatever comes in a
 * message is a claim. What the device knows for itself is in its state and its identity.
 */

import { equal } from "../../src/bytes/bytes.ts";
import { MAX_INCOMING } from "../../src/channel/terms.ts";
import type { Context, Work } from "./context.ts";
import { enforce } from "./enforce.ts";
import { balanceIsWhole, holderBalanceSat, inFlight, liveViews, visibleMsat } from "./payments/balance.ts";
import type { CommitmentSpec, Parameters, Proposal } from "./state.ts";

/** All the satoshis there will ever be: larger sums are no longer exact. */
const ALL_SAT = 21e14;
/** The least that every node relays as a P2WSH output (BOLT #3), and the most that is still dust to anybody. */
const MIN_DUST_SAT = 354;
const MAX_DUST_SAT = 1000;
/** The least to_self_delay of the bridge's: about a day, in which somebody of the owner's has to look at the chain. */
const MIN_COUNTERPARTY_DELAY = 144;

/** May this be the content of a commitment, ours (`ours`) or the bridge's? */
export function checkView(work: Work, parameters: Parameters, view: CommitmentSpec, isHolder: boolean): void {
  const { state } = work;
  const { policy } = work.context.identity;
  const { proposal } = parameters;
  const dustLimitSat = isHolder ? proposal.holderDustLimitSat : proposal.counterpartyDustLimitSat;
  const payments = inFlight(state);
  const { feeratePerKw, holderSat, counterpartySat, htlcs } = view;

  enforce(
    "feerate-range",
    feeratePerKw >= policy.minFeeratePerKw && feeratePerKw <= policy.maxFeeratePerKw,
    `a feerate of ${feeratePerKw} sat/kw is outside the owner's bounds`,
  );
  // Our balance counts the fee as ours: it must go to the miners, and nobody else.
  let total = counterpartySat + holderBalanceSat(view);
  for (const htlc of htlcs) {
    enforce(
      "htlc-dust",
      htlc.amountMsat >= dustLimitSat * 1000,
      "an HTLC below the dust limit has an output",
    );
    total += Math.floor(htlc.amountMsat / 1000);
    if (htlc.incoming) continue;
    const payment = payments.filter(each => equal(each.paymentHash, htlc.paymentHash))[0];
    enforce("htlc-unauthorised", payment !== undefined, "an HTLC pays a hash that was never to be paid");
    if (payment === undefined) continue;
    enforce(
      "htlc-limit",
      visibleMsat(view, payment) <= payment.limitMsat,
      "a payment's HTLCs exceed its amount and fee limit",
    );
    enforce(
      "htlc-expiry",
      htlc.cltvExpiry <= payment.maxCltvExpiry,
      `an HTLC would be locked until block ${htlc.cltvExpiry}, too far ahead`,
    );
  }
  enforce("htlc-incoming", incomingIn(view) <= MAX_INCOMING, "the bridge offers more HTLCs than it may");
  for (const sat of [holderSat, counterpartySat]) {
    enforce("value", sat === 0 || sat >= dustLimitSat, "an output is below the dust limit");
  }
  enforce("value", total <= proposal.channelSat, "outputs and fee exceed the channel's value");
  enforce(
    "balance",
    balanceIsWhole(view, state.books.baseSat, payments, dustLimitSat),
    "our balance would fall by more than the payments in flight may take",
  );
}

/** What the funding transaction pays as fee, sat. */
function fundingFeeSat({ deposits, channelSat, changeSat }: Proposal): number {
  let sat = -channelSat - changeSat;
  for (const deposit of deposits) sat += deposit.valueSat;
  return sat;
}

/**
 * Is this a channel that the device can live with? `former`: those whose end is only the gateway's word. What their
 * opening has cost counts as well, so that saying "closed" again and again burns no more than once.
 */
export function checkProposal(
  { identity, curve }: Context,
  proposal: Proposal,
  former: readonly { readonly proposal: Proposal }[],
): void {
  const { policy } = identity;
  const { channelSat, changeSat } = proposal;
  const ensure = (holds: boolean, sentence: string) => enforce("channel-parameters", holds, sentence);

  let feeSat = fundingFeeSat(proposal);
  const depositsSat = feeSat + channelSat + changeSat;
  for (const each of former) feeSat += fundingFeeSat(each.proposal);
  ensure(
    depositsSat <= ALL_SAT && feeSat <= policy.maxCloseFeeSat,
    `the funding fees, with those of channels before, would be ${feeSat} sat`,
  );
  ensure(changeSat === 0 || changeSat >= MIN_DUST_SAT, "the change is dust");
  ensure(
    proposal.holderDelay >= 1 && proposal.counterpartyDelay >= MIN_COUNTERPARTY_DELAY,
    `${proposal.counterpartyDelay} blocks are too few to punish a revoked state in`,
  );
  ensure(proposal.holderDelay <= policy.maxToSelfDelay, `our delay would be ${proposal.holderDelay} blocks`);
  for (const sat of [proposal.holderDustLimitSat, proposal.counterpartyDustLimitSat]) {
    ensure(sat >= MIN_DUST_SAT && sat <= MAX_DUST_SAT, `${sat} sat is an odd dust limit`);
  }
  ensure(
    proposal.reserveSat <= Math.max(1000, Math.floor(channelSat / 50)),
    `a reserve of ${proposal.reserveSat} sat is too much to keep back`,
  );
  const keys = [
    proposal.fundingKey,
    proposal.revocationBasepoint,
    proposal.paymentBasepoint,
    proposal.delayedPaymentBasepoint,
    proposal.htlcBasepoint,
  ];
  for (const key of keys) {
    const isPoint = curve === null ? key[0] === 2 || key[0] === 3 : curve.isPoint(key);
    ensure(isPoint, "a key of the bridge's is not a point");
  }
  ensure(!equal(identity.fundingKey, proposal.fundingKey), "the bridge's funding key is our own");
}

/** Does a mutual close pay us what is ours, and the bridge no more than what is not? */
export function checkClose(
  work: Work,
  parameters: Parameters,
  close: { readonly holderSat: number; readonly counterpartySat: number },
): void {
  const { state, context } = work;
  const { baseSat } = state.books;
  enforce(
    "close-pending",
    inFlight(state).length === 0 && liveViews(state).every(view => view.htlcs.length === 0),
    "a payment is still in flight",
  );
  // What neither side gets is the fee.
  enforce(
    "close-balance",
    close.holderSat >= baseSat - context.identity.policy.maxCloseFeeSat,
    "the close would pay us less than our balance and the highest fee allowed",
  );
  enforce(
    "close-balance",
    close.counterpartySat <= parameters.proposal.channelSat - baseSat,
    "the close would pay the bridge of what is ours",
  );
}

function incomingIn(view: CommitmentSpec): number {
  return view.htlcs.filter(htlc => htlc.incoming).length;
}

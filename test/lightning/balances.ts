/**
 * What balances lead to, as a bridge and LDK reckon: the content of a commitment, the amounts of a mutual close and what
 * is published of it. Device and gateway never do this sum: they check, or are shown, the result.
 */
import type { Transaction } from "../../src/bitcoin/transaction.ts";
import { type ChannelParameters, fundingWitness, HOLDER, type Htlc } from "../../src/lightning/channel.ts";
import type { Closing } from "../../src/lightning/closing.ts";
import { ANCHOR_SAT, type CommitmentContent, commitmentFeeSat } from "../../src/lightning/commitment.ts";

/** The balances behind a commitment: before fee and anchors, without what is in HTLCs; HTLCs include dust. */
export interface CommitmentBalances {
  readonly feeratePerKw: number;
  readonly toBroadcasterMsat: number;
  readonly toCountersignatoryMsat: number;
  readonly htlcs: readonly Htlc[];
}

/** True if an HTLC gets no output in the commitment of the side with this dust limit. */
export function isDust(amountMsat: number, dustLimitSat: number): boolean {
  return Math.floor(amountMsat / 1000) < dustLimitSat;
}

/**
 * The content that balances lead to: HTLCs trimmed at the broadcaster's dust limit, the funder charged with the
 * fee and both anchors (as far as it has that), what is then below the dust limit trimmed too.
 */
export function commitmentContent(
  balances: CommitmentBalances,
  dustLimitSat: number,
  broadcasterIsFunder: boolean,
): CommitmentContent {
  const htlcs = balances.htlcs.filter(htlc => !isDust(htlc.amountMsat, dustLimitSat));
  const cost = commitmentFeeSat(balances.feeratePerKw, htlcs.length) + 2 * ANCHOR_SAT;
  const net = (msat: number, charge: number) => {
    const sat = Math.floor(msat / 1000) - charge;
    return sat < dustLimitSat || sat < 0 ? 0 : sat;
  };
  return {
    feeratePerKw: balances.feeratePerKw,
    toBroadcasterSat: net(balances.toBroadcasterMsat, broadcasterIsFunder ? cost : 0),
    toCountersignatorySat: net(balances.toCountersignatoryMsat, broadcasterIsFunder ? 0 : cost),
    htlcs,
  };
}

/**
 * What each side gets of the balances left when no HTLC is pending: whole satoshis, the funder's less the fee,
 * and nothing that is not above *our* dust limit. (BOLT #2 leaves the last to each side; this is LDK's choice.)
 */
export function closingAmounts(
  channel: ChannelParameters,
  holderMsat: number,
  counterpartyMsat: number,
  feeSat: number,
): { holderSat: number; counterpartySat: number } {
  const net = (msat: number, charge: number) => {
    const sat = Math.floor(msat / 1000) - charge;
    return sat > channel.holder.dustLimitSat ? sat : 0;
  };
  const weFund = channel.funder === HOLDER;
  return {
    holderSat: net(holderMsat, weFund ? feeSat : 0),
    counterpartySat: net(counterpartyMsat, weFund ? 0 : feeSat),
  };
}

/** The close ready to publish. Both signatures compact. */
export function signedClosing(
  channel: ChannelParameters,
  closing: Closing,
  holderSignature: Uint8Array,
  counterpartySignature: Uint8Array,
): Transaction {
  const witness = fundingWitness(channel, holderSignature, counterpartySignature);
  return { ...closing.transaction, inputs: [{ ...closing.transaction.inputs[0]!, witness }] };
}

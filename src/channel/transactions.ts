/**
 * The channel's transactions as both ends of the link make them from the same few fields: the device to sign
 * nothing that it has not built itself, the gateway to check what the bridge and the device have signed.
 */
import { multisig2of2 } from "../bitcoin/script.ts";
import { compareBytes } from "../bytes/bytes.ts";
import { type ChannelParameters, COUNTERPARTY, HOLDER } from "../lightning/channel.ts";
import { buildClosing } from "../lightning/closing.ts";
import {
  type AnchorBump,
  anchorBump,
  buildCommitment,
  type Commitment,
  type CommitmentContent,
} from "../lightning/commitment.ts";
import { buildFunding, FUNDING_VOUT, type Funding } from "../lightning/funding.ts";
import type { CommitmentKeys } from "../lightning/keys.ts";
import { counterpartyBasepoints, type DeviceKeys, depositScriptOf, holderBasepoints } from "./device-keys.ts";
import type { Close, CommitmentSpec, Proposal } from "./terms.ts";

/**
 * The funding transaction of a proposal. Its lock time is the channel's number, which means nothing to the chain (all
 * inputs are final), but keeps signatures apart: a signature commits to the value of its own input only, so that
 * inputs signed for two proposals with false values could otherwise be joined to one transaction with a huge fee.
 */
export function fundingOf(keys: DeviceKeys, proposal: Proposal): Funding {
  const channelScript = multisig2of2(keys.fundingKey, proposal.fundingKey);
  const { deposits, channelSat, changeSat, index } = proposal;
  return buildFunding(deposits, depositScriptOf(keys), channelScript, channelSat, changeSat, index);
}

/** The channel of a proposal. Its funding transaction is segwit only, so its txid is final before it is signed. */
export function channelOf(keys: DeviceKeys, proposal: Proposal): ChannelParameters {
  return {
    funding: { txid: fundingOf(keys, proposal).txid, vout: FUNDING_VOUT },
    fundingSat: proposal.channelSat,
    funder: HOLDER,
    holder: {
      fundingPubkey: keys.fundingKey,
      basepoints: holderBasepoints(keys),
      toLocalDelay: proposal.holderDelay,
      dustLimitSat: proposal.holderDustLimitSat,
    },
    counterparty: {
      fundingPubkey: proposal.fundingKey,
      basepoints: counterpartyBasepoints(proposal),
      toLocalDelay: proposal.counterpartyDelay,
      dustLimitSat: proposal.counterpartyDustLimitSat,
    },
  };
}

/** A view as the content of our commitment (`ours`) or of the bridge's. */
export function contentOf(view: CommitmentSpec, isHolder: boolean): CommitmentContent {
  return {
    feeratePerKw: view.feeratePerKw,
    toBroadcasterSat: isHolder ? view.holderSat : view.counterpartySat,
    toCountersignatorySat: isHolder ? view.counterpartySat : view.holderSat,
    htlcs: view.htlcs.map(htlc => ({
      offered: htlc.incoming ? !isHolder : isHolder,
      amountMsat: htlc.amountMsat,
      cltvExpiry: htlc.cltvExpiry,
      paymentHash: htlc.paymentHash,
    })),
  };
}

/** The content of our commitment (`ours`) or of the bridge's as a view. HTLCs are put in an order of their own. */
export function viewOf(content: CommitmentContent, isHolder: boolean): CommitmentSpec {
  const htlcs = content.htlcs.slice();
  htlcs.sort((a, b) => compareBytes(a.paymentHash, b.paymentHash) || a.amountMsat - b.amountMsat);
  return {
    feeratePerKw: content.feeratePerKw,
    holderSat: isHolder ? content.toBroadcasterSat : content.toCountersignatorySat,
    counterpartySat: isHolder ? content.toCountersignatorySat : content.toBroadcasterSat,
    htlcs: htlcs.map(htlc => ({
      paymentHash: htlc.paymentHash,
      amountMsat: htlc.amountMsat,
      cltvExpiry: htlc.cltvExpiry,
      ...(htlc.offered === isHolder ? {} : { incoming: true }),
    })),
  };
}

export function commitmentOf(
  channel: ChannelParameters,
  isHolder: boolean,
  number: number,
  keys: CommitmentKeys,
  view: CommitmentSpec,
): Commitment {
  return buildCommitment(channel, isHolder ? HOLDER : COUNTERPARTY, number, keys, contentOf(view, isHolder));
}

/** The spend of our anchor of this commitment of ours to the owner's script. Null where our anchor is absent. */
export function anchorOf(keys: DeviceKeys, commitment: Commitment): AnchorBump | null {
  return anchorBump(commitment, "local-anchor", keys.shutdownScript);
}

/** What our funding key signs so that the owner can add any input of their own to that spend. */
export function anchorSighash(keys: DeviceKeys, commitment: Commitment): Uint8Array | null {
  const anchor = anchorOf(keys, commitment);
  return anchor === null ? null : anchor.sighash;
}

/** What both funding keys sign to close the channel. */
export function closingSighash(keys: DeviceKeys, proposal: Proposal, close: Close): Uint8Array {
  return buildClosing(channelOf(keys, proposal), {
    holderSat: close.holderSat,
    counterpartySat: close.counterpartySat,
    holderScript: keys.shutdownScript,
    counterpartyScript: close.counterpartyScript,
  }).sighash;
}

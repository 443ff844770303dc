/** From LDK's objects to plain data: what a signer is shown, in the terms of src/lightning. */
import {
  type ChannelTransactionParameters,
  type ClosingTransaction,
  CommitmentTransaction,
  type HolderCommitmentTransaction,
  type HTLCDescriptor,
  HTLCOutputInCommitment,
  Result_CommitmentTransactionDecodeErrorZ_OK,
  Result_HTLCOutputInCommitmentDecodeErrorZ_OK,
} from "lightningdevkit";
import type { Outpoint } from "../../src/bitcoin/transaction.ts";
import { concat } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import type { Htlc } from "../../src/lightning/channel.ts";
import type { Basepoints, CommitmentKeys } from "../../src/lightning/keys.ts";
import { type BigSize, readBigSize, readTlvStream } from "../../src/lightning/tlv.ts";
import type { ClosingContent, CommitmentState, HolderState } from "./parts.ts";

/** LDK counts commitments down from here. */
const FIRST_INDEX = 2n ** 48n - 1n;

/** LDK's index of a commitment as BOLT #3's number, 0, 1, 2 … */
export function numberOf(index: bigint): number {
  return Number(FIRST_INDEX - index);
}

/** One side's public keys, 33 B each. */
export interface PublicKeys {
  readonly funding: Uint8Array;
  readonly basepoints: Basepoints;
}

/** What `provide_channel_parameters` says, in our words. Delays are those of the named side's own to_local. */
export interface ProvidedParameters {
  readonly funding: Outpoint;
  readonly weFund: boolean;
  readonly anchors: boolean;
  readonly holder: PublicKeys;
  readonly counterparty: PublicKeys;
  readonly holderDelay: number;
  readonly counterpartyDelay: number;
}

type LdkPublicKeys = ReturnType<ChannelTransactionParameters["get_holder_pubkeys"]>;

function publicKeys(keys: LdkPublicKeys): PublicKeys {
  return {
    funding: keys.get_funding_pubkey(),
    basepoints: {
      revocation: keys.get_revocation_basepoint().get_a(),
      payment: keys.get_payment_point(),
      delayed: keys.get_delayed_payment_basepoint().get_a(),
      htlc: keys.get_htlc_basepoint().get_a(),
    },
  };
}

/** What LDK provides about a channel whose funding transaction is known. */
export function decodeParameters(parameters: ChannelTransactionParameters): ProvidedParameters {
  const counterparty = parameters.get_counterparty_parameters();
  const outpoint = parameters.get_funding_outpoint();
  return {
    funding: { txid: outpoint.get_txid(), vout: outpoint.get_index() },
    weFund: Boolean(parameters.get_is_outbound_from_holder()),
    anchors: Boolean(parameters.get_channel_type_features().supports_anchors_zero_fee_htlc_tx()),
    holder: publicKeys(parameters.get_holder_pubkeys()),
    counterparty: publicKeys(counterparty.get_pubkeys()),
    // Each side selects the delay of the other.
    holderDelay: counterparty.get_selected_contest_delay(),
    counterpartyDelay: parameters.get_holder_selected_contest_delay(),
  };
}

/** A commitment as LDK built it. */
export interface DecodedCommitment {
  readonly state: CommitmentState;
  readonly keys: CommitmentKeys;
  readonly txid: Uint8Array;
}

/** LDK has no getter for the HTLCs: they are in the serialized form, which is TLV. */
const HTLCS_RECORD = 12;
/** In a serialized holder commitment: the commitment itself. */
const INNER_RECORD = 0;

/** A commitment, either side's. Throws `bad-ldk-data` if its HTLCs are not readable. */
export function decodeCommitment(commitment: CommitmentTransaction): DecodedCommitment {
  const trusted = commitment.trust();
  const keys = trusted.keys();
  const htlcs = streams(records(commitment.write()).get(HTLCS_RECORD) ?? new Uint8Array(0)).map(readHtlc);
  return {
    state: {
      number: numberOf(commitment.commitment_number()),
      point: commitment.per_commitment_point(),
      content: {
        feeratePerKw: commitment.feerate_per_kw(),
        toBroadcasterSat: Number(commitment.to_broadcaster_value_sat()),
        toCountersignatorySat: Number(commitment.to_countersignatory_value_sat()),
        htlcs,
      },
    },
    keys: {
      revocation: keys.get_revocation_key().get_a(),
      delayed: keys.get_broadcaster_delayed_payment_key().get_a(),
      broadcasterHtlc: keys.get_broadcaster_htlc_key().get_a(),
      countersignatoryHtlc: keys.get_countersignatory_htlc_key().get_a(),
    },
    txid: trusted.built_transaction().get_txid(),
  };
}

/** Our own commitment with the bridge's signatures. Throws `bad-ldk-data` if there is none inside. */
export function decodeHolder(holder: HolderCommitmentTransaction): {
  readonly state: HolderState;
  readonly commitment: DecodedCommitment;
} {
  const inner = records(holder.write()).get(INNER_RECORD);
  const read = inner && CommitmentTransaction.constructor_read(inner);
  if (!(read instanceof Result_CommitmentTransactionDecodeErrorZ_OK)) {
    throw lngateError("bad-ldk-data", "a holder commitment of LDK's has no readable commitment inside");
  }
  const commitment = decodeCommitment(read.res);
  return {
    commitment,
    state: {
      ...commitment.state,
      counterpartySignature: holder.get_counterparty_sig(),
      counterpartyHtlcSignatures: holder.get_counterparty_htlc_sigs(),
    },
  };
}

/** An HTLC as the commitment it is in shows it. */
export function decodeHtlc(htlc: HTLCOutputInCommitment): Htlc {
  return {
    offered: Boolean(htlc.get_offered()),
    amountMsat: Number(htlc.get_amount_msat()),
    cltvExpiry: htlc.get_cltv_expiry(),
    paymentHash: htlc.get_payment_hash(),
  };
}

/** What a mutual close pays. */
export function decodeClosing(closing: ClosingTransaction): ClosingContent {
  return {
    toHolderSat: Number(closing.to_holder_value_sat()),
    toCounterpartySat: Number(closing.to_counterparty_value_sat()),
    holderScript: closing.to_holder_script(),
    counterpartyScript: closing.to_counterparty_script(),
  };
}

/** Our HTLC that an HTLC transaction claims, and the commitment it is in. */
export function decodeHtlcDescriptor(descriptor: HTLCDescriptor): {
  readonly number: number;
  readonly point: Uint8Array;
  readonly htlc: Htlc;
} {
  return {
    number: numberOf(descriptor.get_per_commitment_number()),
    point: descriptor.get_per_commitment_point(),
    htlc: decodeHtlc(descriptor.get_htlc()),
  };
}

function readHtlc(stream: Uint8Array): Htlc {
  const read = HTLCOutputInCommitment.constructor_read(stream);
  if (!(read instanceof Result_HTLCOutputInCommitmentDecodeErrorZ_OK)) {
    throw lngateError("bad-ldk-data", "an HTLC in a commitment of LDK's is not readable");
  }
  return decodeHtlc(read.res);
}

// ── LDK's serialized form: a BigSize length, then TLV records (BOLT #1) ───────────────────────────────────

/** Throws `bad-ldk-data` for what is none. */
function bigSize(bytes: Uint8Array, at: number): BigSize {
  const found = readBigSize(bytes, at);
  if (!found) throw lngateError("bad-ldk-data", "a length in LDK's data is not readable");
  return found;
}

function slice(bytes: Uint8Array, from: number, length: number): Uint8Array {
  if (from + length > bytes.length) throw lngateError("bad-ldk-data", "LDK's data ends too early");
  return bytes.slice(from, from + length);
}

/** The records of one length-prefixed TLV stream by type. */
function records(stream: Uint8Array): Map<number, Uint8Array> {
  const prefix = bigSize(stream, 0);
  const found = readTlvStream(slice(stream, prefix.end, prefix.value));
  if (!found) throw lngateError("bad-ldk-data", "LDK's data is not a stream of records");
  return new Map(found.map(({ type, value }) => [type, value]));
}

/** Length-prefixed TLV streams one after another, each with its prefix. */
function streams(bytes: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const prefix = bigSize(bytes, at);
    found.push(concat([bytes.slice(at, prefix.end), slice(bytes, prefix.end, prefix.value)]));
    at = prefix.end + prefix.value;
  }
  return found;
}

/** The channel, keys and HTLCs that the commitment vectors of BOLT #3 share (appendices C and F). */
import { fromHex } from "../../../src/bytes/bytes.ts";
import { nobleCurve } from "../../../src/crypto/curve.ts";
import { sha256 } from "../../../src/crypto/hash.ts";
import { type ChannelParameters, HOLDER, type Htlc } from "../../../src/lightning/channel.ts";
import { type Basepoints, type CommitmentKeys, deriveCommitmentKeys } from "../../../src/lightning/keys.ts";

export interface AppendixC {
  readonly common: Record<string, string> & Record<"commitment_number" | "funding_amount_satoshi", number>;
  readonly htlcs: readonly {
    readonly direction: "remote->local" | "local->remote";
    readonly amount_msat: number;
    readonly expiry: number;
    readonly payment_preimage: string;
  }[];
  /** Transactions without anchors; signatures are DER. */
  readonly cases: readonly {
    readonly name: string;
    readonly num_htlcs: number;
    readonly commit_tx: string;
    readonly local_signature: string;
    readonly remote_signature: string;
    readonly htlc_signatures: readonly string[];
    readonly htlc_txs: readonly { readonly tx: string }[];
  }[];
}

/** The appendix's own private keys, each printed with the 01 of a compressed key behind it. */
export function secretOf(vectors: AppendixC, name: string): Uint8Array {
  return fromHex(vectors.common[name]!).subarray(0, 32);
}

/** The local side of the appendix is ours: it funds and broadcasts. */
export function channelOf(vectors: AppendixC, dustLimitSat: number): ChannelParameters {
  const point = (name: string) => fromHex(vectors.common[name]!);
  const basepoints = (side: "local" | "remote"): Basepoints => {
    // The appendix leaves out the points that these commitments do not need.
    const unused = point(`${side}_payment_basepoint`);
    return {
      payment: unused,
      htlc: point(`${side}_htlc_basepoint`),
      delayed: side === "local" ? point("local_delayed_payment_basepoint") : unused,
      revocation: side === "remote" ? point("remote_revocation_basepoint") : unused,
    };
  };
  return {
    funding: { txid: fromHex(vectors.common["funding_tx_id"]!).reverse(), vout: 0 },
    fundingSat: vectors.common.funding_amount_satoshi,
    funder: HOLDER,
    holder: {
      fundingPubkey: point("local_funding_pubkey"),
      basepoints: basepoints("local"),
      toLocalDelay: 144,
      dustLimitSat,
    },
    counterparty: {
      fundingPubkey: point("remote_funding_pubkey"),
      basepoints: basepoints("remote"),
      toLocalDelay: 1,
      dustLimitSat: 354,
    },
  };
}

export function keysOf(vectors: AppendixC, channel: ChannelParameters): CommitmentKeys {
  const point = fromHex(vectors.common["local_per_commitment_point"]!);
  return deriveCommitmentKeys(nobleCurve, point, channel.holder.basepoints, channel.counterparty.basepoints);
}

/** HTLC number i of the appendix, with the preimage that unlocks it. */
export function htlcOf(vectors: AppendixC, i: number): Htlc & { preimage: Uint8Array } {
  const { direction, amount_msat, expiry, payment_preimage } = vectors.htlcs[i]!;
  const preimage = fromHex(payment_preimage);
  return {
    offered: direction === "local->remote",
    amountMsat: amount_msat,
    cltvExpiry: expiry,
    paymentHash: sha256(preimage),
    preimage,
  };
}

/** A compact signature out of DER (without sighash type), as the appendices print signatures. */
export function compactOf(der: Uint8Array): Uint8Array {
  const out = new Uint8Array(64);
  const r = der.subarray(4, 4 + der[3]!);
  const s = der.subarray(6 + r.length, 6 + r.length + der[5 + r.length]!);
  for (const [number, end] of [
    [r, 32],
    [s, 64],
  ] as const) {
    const digits = number.subarray(Math.max(0, number.length - 32));
    out.set(digits, end - digits.length);
  }
  return out;
}

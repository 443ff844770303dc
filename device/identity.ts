/**
 * Who a device is: what pairing makes on the owner's computer and writes into the device's flash, once.
 * Everything here is fixed for the life of a pairing; what changes lives in the channel's state.
 */
import type { Network } from "../src/bitcoin/network.ts";
import type { ServiceFee } from "../src/channel/service-fee.ts";

/** What the owner allows the device to do on its own. Strict by default: see `DEFAULT_POLICY`. */
export interface SpendingPolicy {
  /** Limits on amount plus routing fee plus service fee, msat. */
  readonly perPaymentMsat: number;
  readonly perHourMsat: number;
  readonly perDayMsat: number;
  /** Node ids (33 B) that may be paid; empty: anyone. */
  readonly payees: readonly Uint8Array[];
  /** Bounds of the commitment transaction's feerate, sat per 1000 weight units. */
  readonly minFeeratePerKw: number;
  readonly maxFeeratePerKw: number;
  /** Longest delay of our own to_local that we accept, blocks. */
  readonly maxToSelfDelay: number;
  /** Furthest expiry of an outgoing HTLC, blocks above the payment's own final expiry. */
  readonly maxCltvExpiryDelta: number;
  /** Sum of HTLCs in flight that are too small for an output of their own, sat. */
  readonly maxDustSat: number;
  /** Most that a mutual close or a funding transaction may pay as fee, sat. */
  readonly maxCloseFeeSat: number;
}

export const DEFAULT_POLICY: SpendingPolicy = {
  perPaymentMsat: 5_000_000,
  perHourMsat: 20_000_000,
  perDayMsat: 50_000_000,
  payees: [],
  minFeeratePerKw: 253,
  maxFeeratePerKw: 8_000,
  maxToSelfDelay: 2016,
  maxCltvExpiryDelta: 2016,
  maxDustSat: 5_000,
  maxCloseFeeSat: 25_000,
};

/** What a device is given when it is paired, and does not change by itself. */
export interface DeviceIdentity {
  readonly network: Network;
  /** Eight characters of a–z and 2–7: the device's name on the link. */
  readonly deviceId: string;
  /** `mqtt://host:port` of the broker. */
  readonly brokerUrl: string;
  readonly brokerPassword: string;
  /** Secret shared with the gateway, 32 B (docs/wire.md). */
  readonly linkKey: Uint8Array;
  /** Seed of the device's random generator, 32 B: a board's own randomness is never relied on. */
  readonly drbgSeed: Uint8Array;
  /** The per-commitment seed of channel number i is HMAC-SHA256(this, "shachain" ‖ u32be(i)); 32 B. */
  readonly commitmentMaster: Uint8Array;
  readonly revocationBasepointSecret: Uint8Array;
  readonly htlcBasepointSecret: Uint8Array;
  /** Public keys, 33 B: the first two belong to the secrets above, the others to the owner's cold keys. */
  readonly revocationBasepoint: Uint8Array;
  readonly htlcBasepoint: Uint8Array;
  readonly paymentBasepoint: Uint8Array;
  readonly delayedPaymentBasepoint: Uint8Array;
  /** The threshold key Q, 33 B: funding_pubkey of the channel and first key of the deposit script. */
  readonly fundingKey: Uint8Array;
  /** The owner's key in the deposit script, 33 B, and the delay after which it alone may spend, blocks. */
  readonly depositOwnerKey: Uint8Array;
  readonly depositDelay: number;
  /** scriptPubKey that every mutual close pays (upfront_shutdown_script). */
  readonly shutdownScript: Uint8Array;
  /**
   * The chain's height and the time (Unix seconds) when the device was paired: from these and its own clock it
   * bounds how far ahead an HTLC may expire, without asking the gateway.
   */
  readonly birthHeight: number;
  readonly birthTime: number;
  readonly policy: SpendingPolicy;
  /** What the gateway takes for each payment; absent: nothing. */
  readonly serviceFee?: ServiceFee;
}

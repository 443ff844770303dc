/**
 * The terms of a channel and of its commitments, as device and gateway tell them to each other and keep them: plain
 * data, each with its bytes.
 */
import {
  bool,
  bytes,
  bytesUpTo,
  list,
  optional,
  struct,
  UINT16,
  UINT32,
  UINT53,
  uint,
  type ValueOf,
} from "../bytes/schema.ts";

/** Most HTLCs with an output of their own that a device follows in one commitment. */
export const MAX_HTLCS = 13;
/** Most of those that the bridge may offer: the gateway announces it as max_accepted_htlcs (LND wants 5 at least). */
export const MAX_INCOMING = 5;
/** Most deposits that one funding transaction spends. */
export const MAX_DEPOSITS = 8;

const hash = bytes(32);
const point = bytes(33);

/** An HTLC with an output of its own. Amounts in msat. */
export const htlcCodec = struct({
  paymentHash: [1, hash],
  amountMsat: [2, uint(UINT53)],
  cltvExpiry: [3, uint(UINT32)],
  /** Offered by the bridge; absent: offered by us. */
  incoming: optional([4, bool()]),
});

/**
 * A commitment as both sides see it, from the device's side: net values as they appear as outputs (0 where an output is
 * trimmed or absent) and the HTLCs that have an output of their own.
 */
export const viewCodec = struct({
  feeratePerKw: [1, uint(UINT32)],
  holderSat: [2, uint(UINT53)],
  counterpartySat: [3, uint(UINT53)],
  htlcs: [4, list(htlcCodec, MAX_HTLCS)],
});

/** The channel that the gateway proposes to fund, all in the bridge's words of open_channel and accept_channel. */
export const proposalCodec = struct({
  /** Number of the device's channel, as the device asked for it: it selects the per-commitment seed. */
  index: [1, uint(UINT32)],
  fundingKey: [2, point],
  revocationBasepoint: [3, point],
  paymentBasepoint: [4, point],
  delayedPaymentBasepoint: [5, point],
  htlcBasepoint: [6, point],
  /** Deposits to spend: outputs with the device's own deposit script. */
  deposits: [
    7,
    list(struct({ txid: [1, hash], vout: [2, uint(UINT32)], valueSat: [3, uint(UINT53)] }), MAX_DEPOSITS),
  ],
  channelSat: [8, uint(UINT53)],
  /** What goes back to the deposit script; 0: no such output. */
  changeSat: [9, uint(UINT53)],
  /** to_self_delay of our to_local, and of the bridge's. */
  holderDelay: [10, uint(UINT16)],
  counterpartyDelay: [11, uint(UINT16)],
  holderDustLimitSat: [12, uint(UINT53)],
  counterpartyDustLimitSat: [13, uint(UINT53)],
  /** What the bridge wants us to keep on our side. */
  reserveSat: [14, uint(UINT53)],
});

/** A mutual close that pays us and the bridge this much, sat; it pays us to the script of `DeviceKeys`. */
export const closeCodec = struct({
  holderSat: [1, uint(UINT53)],
  counterpartySat: [2, uint(UINT53)],
  counterpartyScript: [3, bytesUpTo(80)],
});

export type Close = ValueOf<typeof closeCodec>;
export type CommitmentSpec = ValueOf<typeof viewCodec>;
export type Proposal = ValueOf<typeof proposalCodec>;

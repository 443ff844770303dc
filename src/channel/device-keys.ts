/** A device's public keys and scripts: made when it is paired, the same in every channel of its, and kept by all three parties. */
import { depositScript } from "../bitcoin/deposit.ts";
import { bytes, bytesUpTo, struct, UINT16, uint, type ValueOf } from "../bytes/schema.ts";
import type { Basepoints } from "../lightning/keys.ts";
import type { Proposal } from "./terms.ts";

const point = bytes(33);

/** The longest segwit output script (BOLT #2, option_shutdown_anysegwit): a program of 40 bytes. */
export const shutdownScriptCodec = bytesUpTo(42);

/** As stores and files keep them. Points 33 B. */
export const deviceKeysCodec = struct({
  /** The threshold key Q: funding_pubkey of the channel and first key of the deposit script. */
  fundingKey: [1, point],
  revocationBasepoint: [2, point],
  paymentBasepoint: [3, point],
  delayedPaymentBasepoint: [4, point],
  htlcBasepoint: [5, point],
  /** The owner's key in the deposit script, and the blocks after which it alone may spend. */
  depositOwnerKey: [6, point],
  depositDelay: [7, uint(UINT16)],
  /** scriptPubKey that every mutual close pays (upfront_shutdown_script). */
  shutdownScript: [8, shutdownScriptCodec],
});

export type DeviceKeys = ValueOf<typeof deviceKeysCodec>;

/** The device's basepoints in the channel. */
export function holderBasepoints(keys: DeviceKeys): Basepoints {
  return {
    revocation: keys.revocationBasepoint,
    payment: keys.paymentBasepoint,
    delayed: keys.delayedPaymentBasepoint,
    htlc: keys.htlcBasepoint,
  };
}

/** The bridge's. */
export function counterpartyBasepoints(proposal: Proposal): Basepoints {
  return {
    revocation: proposal.revocationBasepoint,
    payment: proposal.paymentBasepoint,
    delayed: proposal.delayedPaymentBasepoint,
    htlc: proposal.htlcBasepoint,
  };
}

/** The witness script that deposits pay to. */
export function depositScriptOf(keys: DeviceKeys): Uint8Array {
  return depositScript(keys.fundingKey, keys.depositOwnerKey, keys.depositDelay);
}

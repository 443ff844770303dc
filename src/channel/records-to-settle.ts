/** Presignature records that a channel needs to come to its end, as the device keeps them back and the gateway reckons. */

/** Records by kind (docs/threshold.md). */
export interface RecordCounts {
  readonly A: number;
  readonly B: number;
  readonly H: number;
}

/** Records of kind A that only a mutual close may use: it is negotiated. */
export const CLOSING_RECORDS = 3;

/**
 * What this many payments in flight need to be settled, and a close after them. Two states each: without an output of its
 * own (dust) neither has an HTLC, so both have an anchor to sign.
 */
export function recordsToSettle(payments: number): RecordCounts {
  return { A: 2 * payments + CLOSING_RECORDS, B: 4 * payments, H: payments * (payments + 1) };
}

/** How many presignatures payments take: what charging makes, and what a device that is charged can do. */
import type { RecordKind } from "../../src/threshold/records.ts";

/** A number of records of each kind. */
export type Counts = Readonly<Record<RecordKind, number>>;

/**
 * Records that one payment uses. Each payment changes both commitments twice (the HTLC comes, the HTLC goes): two
 * signatures of the bridge's commitments (A), two exits of our own and the anchor of the one that rests (B). H:
 * the device's own signature for the HTLC, and one more for the case that a retry replaces it.
 */
export const PER_PAYMENT: Counts = { A: 2, B: 3, H: 2 };

/**
 * Kept besides: A: first commitment, up to eight deposits, four rounds of closing, and changes of the feerate.
 * B: first exit with its anchor, the same again for nine changes of the feerate. H: HTLCs in flight at a close.
 */
export const RESERVE: Counts = { A: 20, B: 20, H: 4 };

/** Records that must be there for this many payments. */
export function recordsFor(payments: number): Counts {
  const of = (kind: RecordKind) => payments * PER_PAYMENT[kind] + RESERVE[kind];
  return { A: of("A"), B: of("B"), H: of("H") };
}

/** Payments that this many records are enough for. */
export function paymentsFor(records: Counts): number {
  const of = (kind: RecordKind) => Math.floor((records[kind] - RESERVE[kind]) / PER_PAYMENT[kind]);
  return Math.max(0, Math.min(of("A"), of("B"), of("H")));
}

/** The number of records of each kind that `count` says. */
export function countsOf(count: (kind: RecordKind) => number): Counts {
  return { A: count("A"), B: count("B"), H: count("H") };
}

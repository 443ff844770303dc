/**
 * The gateway's fee for its service: a share of every payment that arrives, agreed when the device is paired and never
 * changed afterwards. It accrues on both sides' books and is settled by a payment to the gateway's own node.
 */
import { struct, UINT53, uint, type ValueOf } from "../bytes/schema.ts";

/** More than this is not a fee any more: half of the payment. */
export const MAX_RATE_PPM = 500_000;
/**
 * The smallest sum that may be worth a payment: at any dust limit that a device accepts, its HTLC has an output, so
 * that both sides can see what was paid.
 */
const MIN_SETTLEMENT_MSAT = 1_000_000;

export const serviceFeeCodec = struct({
  /** Millionths of the amount. */
  ratePpm: [1, uint(MAX_RATE_PPM)],
  /** For each payment besides, msat. */
  baseMsat: [2, uint(UINT53)],
  /** What is owed is settled once it is this much, msat. */
  settleFromMsat: [3, uint(UINT53)],
  /** A device that owes this much, was asked and has not paid gets no further payments, msat. */
  creditMsat: [4, uint(UINT53)],
});
export type ServiceFee = ValueOf<typeof serviceFeeCodec>;

/** The fee for a payment of this amount that arrives, msat, rounded down. Exact for every amount there can be. */
export function serviceFeeMsat(terms: ServiceFee | undefined, amountMsat: number): number {
  if (terms === undefined) return 0;
  const whole = Math.floor(amountMsat / 1e6);
  const rest = amountMsat - whole * 1e6;
  return terms.baseMsat + whole * terms.ratePpm + Math.floor((rest * terms.ratePpm) / 1e6);
}

/** Why these terms can't be kept, or null. */
export function serviceFeeFault({ settleFromMsat, creditMsat }: ServiceFee): string | null {
  if (settleFromMsat < MIN_SETTLEMENT_MSAT)
    return `a settlement below ${MIN_SETTLEMENT_MSAT / 1000} sat may be too small to be seen in a commitment`;
  if (creditMsat < 2 * settleFromMsat)
    return "the credit has to be at least twice what is settled, or there is no time to settle it";
  return null;
}

/** `5 %`, `0.25 % + 1 sat`. */
export function serviceFeeText({ ratePpm, baseMsat }: Pick<ServiceFee, "ratePpm" | "baseMsat">): string {
  const rate = `${ratePpm / 10_000} %`;
  return baseMsat === 0 ? rate : `${rate} + ${baseMsat / 1000} sat`;
}

/**
 * What an estimate may cost. A feerate that the owner names is paid as it is. One that a chain server names is its word, and
 * whoever runs it may want the money burnt: for the bridge that has cheated, or for a miner. So it is believed up to a bound, and a fee
 * takes no more than a part of what it brings home. More than that is for the owner to say.
 */
import { lngateError } from "../../src/errors.ts";
import type { OwnerChain } from "./chain.ts";

const PER_VBYTE = 250;
/** 250 sat/vB: blocks have been dearer on a few days only. */
const MAX_ESTIMATE_PER_KW = 250 * PER_VBYTE;
/** 20 sat/vB are paid whatever part of a small sum that is: the rest would be lost with it. */
const ALWAYS_PER_KW = 20 * PER_VBYTE;
/** Part of what is brought home. */
const MAX_SHARE = 1 / 4;
const FEE_TARGET_BLOCKS = 6;

export interface Estimate {
  /** Sat per 1000 weight. */
  readonly perKw: number;
  /** Where the chain named more than is believed. */
  readonly remark?: string;
}

/** What gets into a block within an hour, by the chain's word. Throws `feerate-unknown`, and what the chain throws. */
export async function estimateOf(chain: Pick<OwnerChain, "name" | "feerate">): Promise<Estimate> {
  const perKw = await chain.feerate(FEE_TARGET_BLOCKS);
  if (perKw === null)
    throw lngateError("feerate-unknown", `the ${chain.name} has no estimate: give the feerate yourself`);
  if (perKw <= MAX_ESTIMATE_PER_KW) return { perKw };
  const [named, believed] = [perKw, MAX_ESTIMATE_PER_KW].map(each => Math.round(each / PER_VBYTE));
  return {
    perKw: MAX_ESTIMATE_PER_KW,
    remark: `the ${chain.name} names a feerate of ${named} sat/vB; no more than ${believed} is believed. If it is true, name it with --feerate`,
  };
}

/** What of an estimated feerate is paid for a transaction of this weight that brings this much home. */
export function boundedFeerate(estimatePerKw: number, valueSat: number, weight: number): number {
  const affordable = Math.floor((valueSat * MAX_SHARE * 1000) / weight);
  return Math.min(estimatePerKw, Math.max(ALWAYS_PER_KW, affordable));
}

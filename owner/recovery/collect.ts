/** Collecting: outputs that can be spent now go into transactions that pay the owner. */
import type { Transaction } from "../../src/bitcoin/transaction.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf } from "../../src/errors.ts";
import { buildSweep, signedSweep } from "../../src/lightning/sweep.ts";
import { type ChainOutput, perVbyte } from "../chain/chain.ts";
import { boundedFeerate } from "../chain/fee-bound.ts";
import type { Claim, Claimed } from "./claims.ts";
import type { Devices } from "./options.ts";

/** A transaction that pays the owner. */
export interface Collection {
  readonly what: readonly string[];
  readonly transaction: Transaction;
  readonly inSat: number;
  /** Paid from what is collected, or by the coin. */
  readonly feeSat: number;
  readonly outSat: number;
  readonly toScript: Uint8Array;
}

/** An output that is on the chain and can be spent now. */
export type Ready = { readonly claim: Claim; readonly output: ChainOutput };

/** Of one transaction: nodes take none that is heavier than 400,000. */
const MAX_INPUTS = 200;

/** Of a transaction with one output, beside its inputs. */
const SWEEP_WEIGHT = 4 * 53 + 2;

/**
 * As many transactions as it takes, at this feerate (sat per 1000 weight). What is not worth its fee is left, with a remark. An
 * estimate is paid as far as what comes home allows (`boundedFeerate`).
 */
export function collect(
  group: readonly Claimed[],
  toScript: Uint8Array,
  wantedPerKw: number,
  remarks: string[],
  isEstimate = false,
): Collection[] {
  const spends = group.map(({ claim, output }) => {
    const spend = claim.spend({ ...output, witnessScript: claim.witnessScript });
    const weight = 41 * 4 + 2 + 73 + spend.witnessScript.length + 3;
    return { what: claim.what, secret: claim.secret, spend, weight };
  });
  const totalSat = spends.reduce((sum, { spend }) => sum + spend.valueSat, 0);
  const totalWeight = spends.reduce((sum, { weight }) => sum + weight, SWEEP_WEIGHT);
  const feeratePerKw = isEstimate ? boundedFeerate(wantedPerKw, totalSat, totalWeight) : wantedPerKw;
  if (feeratePerKw < wantedPerKw)
    remarks.push(
      `the feerate of ${perVbyte(wantedPerKw)} sat/vB would take too much of ${totalSat} sat: ${perVbyte(feeratePerKw)} are paid; name another with --feerate`,
    );
  // An output that costs more than it brings would be paid for by the others.
  const left = new Map<string, { sat: number; costSat: number }>();
  const worth = spends.filter(({ spend, what, weight }) => {
    const costSat = Math.ceil((weight * feeratePerKw) / 1000);
    if (spend.valueSat > costSat) return true;
    const before = left.get(what) ?? { sat: 0, costSat: 0 };
    left.set(what, { sat: before.sat + spend.valueSat, costSat: before.costSat + costSat });
    return false;
  });
  for (const [what, { sat, costSat }] of left)
    remarks.push(`${sat} sat (${what}) are not worth the fee of ${costSat} sat: left where they are`);
  // Anybody may have paid crumbs to a script of ours: they don't decide over what is worth something.
  worth.sort((a, b) => b.spend.valueSat - a.spend.valueSat);
  const collections: Collection[] = [];
  for (let at = 0; at < worth.length; at += MAX_INPUTS) {
    const some = worth.slice(at, at + MAX_INPUTS);
    try {
      const sweep = buildSweep(
        some.map(({ spend }) => spend),
        toScript,
        feeratePerKw,
      );
      const signatures = sweep.sighashes.map((hash, i) => nobleCurve.sign(hash, some[i]!.secret));
      const inSat = some.reduce((sum, { spend }) => sum + spend.valueSat, 0);
      collections.push({
        what: some.map(({ what }) => what),
        transaction: signedSweep(sweep, signatures),
        inSat,
        feeSat: sweep.feeSat,
        outSat: inSat - sweep.feeSat,
        toScript,
      });
    } catch (error) {
      if (codeOf(error) !== "sweep-too-small") throw error;
      remarks.push(`left where it is: ${(error as Error).message}`);
    }
  }
  return collections;
}

/** What goes into one transaction: a device's outputs, or all if they go to one place. */
export function byDestination(
  ready: readonly Ready[],
  devices: Devices,
  toScript: Uint8Array | undefined,
): Map<Uint8Array, Ready[]> {
  const groups = new Map<Uint8Array, Ready[]>();
  for (const each of ready) {
    const script = toScript ?? devices.get(each.claim.device)!.shutdownScript;
    groups.set(script, [...(groups.get(script) ?? []), each]);
  }
  return groups;
}

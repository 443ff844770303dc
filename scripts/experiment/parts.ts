/** Where a payment's time went, and what many of them come to. */
import type { Interval } from "./chip-time.ts";
import type { Parts } from "./rows.ts";

/** Splits the time between two moments; of two things at once the first counts. */
export function partsOf(
  [from, to]: Interval,
  chip: readonly Interval[],
  link: readonly Interval[],
  path: readonly Interval[],
): Parts {
  const known = [chip, link, path];
  const borders = [from, to, ...known.flat(2)].filter(at => at >= from && at <= to).sort((a, b) => a - b);
  const sums = [0, 0, 0, 0];
  for (let i = 1; i < borders.length; i++) {
    const middle = (borders[i - 1]! + borders[i]!) / 2;
    const what = known.findIndex(intervals => intervals.some(([a, b]) => a <= middle && middle < b));
    sums[what < 0 ? 3 : what]! += (borders[i]! - borders[i - 1]!) / 1000;
  }
  return { chip: sums[0]!, link: sums[1]!, path: sums[2]!, programs: sums[3]! };
}

/** The value below which this share of them is. */
function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const below = sorted[Math.floor(at)] ?? Number.NaN;
  const above = sorted[Math.ceil(at)] ?? Number.NaN;
  return rounded(below + (above - below) * (at - Math.floor(at)));
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

export const spread = (values: readonly number[]): readonly [number, number] => [
  quantile(values, 0.1),
  quantile(values, 0.9),
];

export function average(values: readonly number[]): number {
  return rounded(values.reduce((sum, value) => sum + value, 0) / values.length);
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

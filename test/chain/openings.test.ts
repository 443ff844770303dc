import { expect, test } from "@jest/globals";
import { createOpenings } from "../../gateway/channel/openings.ts";
import { leastChannelIn, pauseAfter } from "../../gateway/channel/refusals.ts";

test("who finds no place is called when one is free, in the order of coming, and once", () => {
  const openings = createOpenings(2);
  const called: string[] = [];
  const enter = (id: string) => openings.enter(id, () => called.push(id));
  expect(["a", "b", "c", "d", "c", "a"].map(enter)).toEqual([true, true, false, false, false, true]);
  openings.leave("d");
  openings.leave("nobody");
  expect(called).toEqual([]);
  openings.leave("a");
  openings.leave("a");
  expect(called).toEqual(["c"]);
  expect([enter("c"), enter("a")]).toEqual([true, false]);
  openings.leave("b");
  openings.leave("c");
  expect(called).toEqual(["c", "a"]);
});

test("a bridge is asked again after some seconds, and then ever more rarely, up to once an hour", () => {
  expect([1, 2, 3, 4].map(pauseAfter)).toEqual([5_000, 10_000, 20_000, 40_000]);
  expect([11, 12, 5_000].map(pauseAfter)).toEqual([3_600_000, 3_600_000, 3_600_000]);
});

test("the least channel is read out of a refusal where it says one, and out of nothing else", () => {
  const least = (words: string) => leastChannelIn(words, 50_000);
  expect(least("chan size of 0.0005 BTC is below min chan size of 0.002 BTC")).toBe(200_000);
  expect(least("invalid funding_satoshis=50000 (min=100000 max=16777215)")).toBe(100_000);
  expect(least("funding amount is below minimum 60000 sat")).toBe(60_000);
  expect(least("funding 50000sat, channel capacity is 4900sat, which is below 10000sat")).toBeUndefined();
  expect(least("Synchronizing blockchain")).toBeUndefined();
  expect(least("below min chan size of 99999 BTC")).toBeUndefined();
  expect(least("min".repeat(1_000))).toBeUndefined();
});

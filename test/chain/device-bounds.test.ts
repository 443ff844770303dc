/** What a device says that it signs, and what the gateway makes of it. */
import { describe, expect, test } from "@jest/globals";
import {
  areEnoughFor,
  blocksAllowed,
  clockBehind,
  commitmentFeerate,
  ensureFeerate,
  mostForClosing,
} from "../../gateway/channel/bounds.ts";
import { codeOf } from "../../src/errors.ts";

const AMPLE = { A: 100, B: 100, H: 100 };
const bounds = { minFeeratePerKw: 300, maxFeeratePerKw: 1_500, maxCloseFeeSat: 25_000 };

describe("the feerate that LDK may give a channel", () => {
  test("is the one of the day, within what the device signs", () => {
    expect(commitmentFeerate(1_000, bounds, undefined, 0, AMPLE)).toBe(1_000);
    expect(commitmentFeerate(4_000, bounds, undefined, 0, AMPLE)).toBe(1_500);
    expect(commitmentFeerate(253, bounds, undefined, 0, AMPLE)).toBe(300);
    expect(commitmentFeerate(4_000, bounds, 1_000, 3, AMPLE)).toBe(1_500);
  });

  test("rises to twice what it was at most, above what all take only after a while, and falls when it is twice too much", () => {
    const feerate = (wanted: number, present: number, mayRise = true) =>
      commitmentFeerate(wanted, undefined, present, 0, AMPLE, mayRise);
    expect(feerate(2_500, 1_000)).toBe(2_000);
    expect(feerate(2_500, 2_000, false)).toBe(2_500);
    expect(feerate(6_400, 2_000, false)).toBe(2_500);
    expect(feerate(6_400, 2_500, false)).toBe(2_500);
    expect(feerate(6_400, 2_500)).toBe(5_000);
    expect(feerate(6_400, 5_000, false)).toBe(5_000);
    expect(feerate(6_400, 5_000)).toBe(6_400);
    expect(feerate(4_000, 6_400)).toBe(6_400);
    expect(feerate(2_500, 6_400)).toBe(2_500);
    // What the owner has forbidden meanwhile is left, however little it is above.
    expect(commitmentFeerate(4_000, bounds, 2_000, 0, AMPLE)).toBe(1_500);
  });

  test("a mutual close costs no more than the device signs", () => {
    expect((mostForClosing(bounds) * 780) / 1000).toBeLessThanOrEqual(bounds.maxCloseFeeSat);
    expect((mostForClosing(bounds) * 780) / 1000).toBeGreaterThan(bounds.maxCloseFeeSat * 0.99);
    expect(mostForClosing(undefined)).toBe(Number.POSITIVE_INFINITY);
  });

  test("stays as it is while the device has not the records to undo a change", () => {
    const enough = { A: 6, B: 6, H: 2 };
    expect(commitmentFeerate(1_500, bounds, 1_000, 0, enough)).toBe(1_500);
    for (const kind of ["A", "B", "H"] as const) {
      const few = { ...enough, [kind]: enough[kind] - 1 };
      expect(commitmentFeerate(1_500, bounds, 1_000, 0, few)).toBe(1_000);
      expect(commitmentFeerate(1_500, bounds, undefined, 0, few)).toBe(1_500);
    }
    expect(commitmentFeerate(1_500, bounds, 1_000, 1, enough)).toBe(1_000);
  });
});

describe("bounds that a thief has written into the flash", () => {
  const of = (minFeeratePerKw: number, maxFeeratePerKw: number) => ({
    ...bounds,
    minFeeratePerKw,
    maxFeeratePerKw,
  });
  const LEAST = 500;
  const feerate = (told: typeof bounds, present?: number) =>
    commitmentFeerate(1_000, told, present, 0, AMPLE, true, LEAST);

  test("raise no feerate above what is reasonable, and lower none below what mempools take", () => {
    expect(feerate(of(250_000, 300_000))).toBe(2_500);
    expect(feerate(of(1, 2))).toBe(LEAST);
    expect(feerate(of(300_000, 100))).toBe(LEAST);
    for (const present of [1_000, 2_500]) {
      let raised = present;
      let lowered = present;
      for (let step = 0; step < 20; step++) {
        raised = feerate(of(250_000, 300_000), raised);
        lowered = feerate(of(1, 2), lowered);
      }
      expect(raised).toBe(present);
      expect(lowered).toBe(present);
    }
    expect(feerate(of(2_000, 300_000), 1_000)).toBe(2_000);
  });

  test("open no channel, and those that meet what makes sense do", () => {
    const opened = (told: typeof bounds, wanted = 1_000, least = LEAST) => {
      try {
        ensureFeerate(wanted, least, told);
        return "opened";
      } catch (error) {
        return codeOf(error);
      }
    };
    expect(opened(of(2_501, 300_000))).toBe("feerates-apart");
    expect(opened(of(1, 499))).toBe("feerates-apart");
    expect(opened(of(2_000, 1_000))).toBe("feerates-apart");
    for (const told of [of(253, 8_000), of(2_500, 300_000), of(1, 500)]) expect(opened(told)).toBe("opened");
    // Where mempools ask for more, an owner's higher bound is none of a thief's.
    expect(opened(of(6_000, 8_000), 6_400, 5_000)).toBe("opened");
  });

  test("a channel under a device that signs too little for mempools comes as near to it as the device signs", () => {
    expect(commitmentFeerate(10_000, of(253, 8_000), 4_000, 0, AMPLE, true, 10_000)).toBe(8_000);
  });
});

test("records are enough for payments as the device reckons: two of A and four of B each, and three for a close", () => {
  expect(areEnoughFor(1, { A: 5, B: 4, H: 2 })).toBe(true);
  for (const few of [
    { A: 4, B: 4, H: 2 },
    { A: 5, B: 3, H: 2 },
    { A: 5, B: 4, H: 1 },
  ])
    expect(areEnoughFor(1, few)).toBe(false);
});

test("the blocks that a payment may lock money for end before what the device allows", () => {
  expect(blocksAllowed(1_000, 900)).toBeLessThan(100);
  expect(blocksAllowed(1_000, 900)).toBeGreaterThan(90);
  expect(blocksAllowed(1_000, 1_000)).toBe(0);
  expect(blocksAllowed(1_000, 5_000)).toBe(0);
});

test("a clock is called behind from an hour on, and one that says nothing is not", () => {
  const now = 1_800_000_000;
  expect(clockBehind(now - 3600, now)).toBeUndefined();
  expect(clockBehind(now + 86_400, now)).toBeUndefined();
  expect(clockBehind(undefined, now)).toBeUndefined();
  expect(clockBehind(now - 7_200, now)).toBe("2 h");
  expect(clockBehind(now - 30 * 86_400, now)).toBe("30 days");
});

import { describe, expect, test } from "@jest/globals";
import { Budget } from "../../gateway/link/budget.ts";

describe("What an identity may say", () => {
  let now = 0;
  const fresh = () => {
    now = 0;
    return new Budget(1000, () => now);
  };
  /** Sends without a pause as much as it may, for so long; how many packets that were. */
  const sendFor = (budget: Budget, ms: number, bytes = 10) => {
    let sent = 0;
    for (const end = now + ms; now < end; now++)
      while (budget.waitMs === 0) {
        budget.take(1, bytes);
        sent++;
      }
    return sent;
  };

  test("is a burst, and then so many packets a second, or so many bytes", () => {
    const small = fresh();
    expect(sendFor(small, 1)).toBe(400);
    expect(sendFor(small, 5000)).toBe(1000);
    const large = fresh();
    expect(sendFor(large, 1, 1000)).toBe(128);
    expect(sendFor(large, 5000, 1000)).toBe(320);
  });

  test("is there again after a pause", () => {
    const budget = fresh();
    for (let i = 0; i < 20; i++) {
      expect(sendFor(budget, 1)).toBe(400);
      expect(budget.flood()).toBeUndefined();
      now += 2000;
    }
    expect(budget.isWhole).toBe(true);
  });

  test("is a flood after ten seconds without one, and then nothing for ten seconds, on whatever connection", () => {
    const budget = fresh();
    sendFor(budget, 9_990);
    expect(budget.flood()).toBeUndefined();
    const before = sendFor(budget, 20);
    expect(before).toBeGreaterThan(0);
    expect(budget.flood()).toBe(400 + 2 * 1001);
    expect(sendFor(budget, 9_990)).toBe(0);
    expect(budget.flood()).toBeUndefined();
    expect(sendFor(budget, 1000)).toBeGreaterThan(190);
    now += 15_000;
    expect(budget.isWhole).toBe(true);
  });
});

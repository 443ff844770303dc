import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import {
  MAX_RATE_PPM,
  serviceFeeFault,
  serviceFeeMsat,
  serviceFeeText,
} from "../../src/channel/service-fee.ts";

const TERMS = { ratePpm: 50_000, baseMsat: 0, settleFromMsat: 1_000_000, creditMsat: 5_000_000 };

describe("the fee for a payment", () => {
  test("is a share of the amount, rounded down, and the base", () => {
    expect(serviceFeeMsat(TERMS, 750_000)).toBe(37_500);
    expect(serviceFeeMsat(TERMS, 19)).toBe(0);
    expect(serviceFeeMsat(TERMS, 20)).toBe(1);
    expect(serviceFeeMsat({ ...TERMS, baseMsat: 1_000 }, 39)).toBe(1_001);
    expect(serviceFeeMsat({ ...TERMS, ratePpm: 0, baseMsat: 7 }, 1e9)).toBe(7);
    expect(serviceFeeMsat(undefined, 750_000)).toBe(0);
  });

  test("is exact for every amount and rate that there can be", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.nat(3_000_000), fc.maxSafeNat()),
        fc.integer({ min: 0, max: MAX_RATE_PPM }),
        (amountMsat, ratePpm) => {
          const exact = (BigInt(amountMsat) * BigInt(ratePpm)) / 1_000_000n;
          expect(BigInt(serviceFeeMsat({ ...TERMS, ratePpm }, amountMsat))).toBe(exact);
        },
      ),
    );
  });
});

test("terms that can't be kept are found: a settlement that nobody sees, a credit that leaves no time", () => {
  expect(serviceFeeFault(TERMS)).toBeNull();
  expect(serviceFeeFault({ ...TERMS, settleFromMsat: 999_999 })).toMatch(/too small/);
  expect(serviceFeeFault({ ...TERMS, creditMsat: 1_999_999 })).toMatch(/twice/);
  expect(serviceFeeFault({ ...TERMS, creditMsat: 2_000_000 })).toBeNull();
});

test("terms read well", () => {
  expect(serviceFeeText(TERMS)).toBe("5 %");
  expect(serviceFeeText({ ratePpm: 2_500, baseMsat: 1_000 })).toBe("0.25 % + 1 sat");
});

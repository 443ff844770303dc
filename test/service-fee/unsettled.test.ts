/** A device with a program of its own that says it settles, and names bounds that no settlement fits into. */

import { expect, test } from "@jest/globals";
import { Way } from "../spending/way.ts";
import { storeTable } from "../store-table.ts";

const TERMS = { ratePpm: 10_000, baseMsat: 1_000, settleFromMsat: 5_000, creditMsat: 10_000 };
const NO_LIMITS = { perPaymentMsat: 1e12, perHourMsat: 1e12, perDayMsat: 1e12, payees: [] };
const TOLL_MSAT = 10_000;
const FEE_MSAT = 1_100;

const table = storeTable("payments");

test.each([
  ["a height at which no HTLC can expire", 1, false],
  ["room that it has filled itself", undefined, true],
])("who agrees to settle with %s is served as far as its credit goes", async (_, maxCltvExpiry, fills) => {
  const way = new Way(table, NO_LIMITS, TERMS);
  let served = 0;
  for (let i = 0; i < 30; i++) {
    way.ask(`toll ${i}`, TOLL_MSAT);
    if (!way.isUnderWay(`toll ${i}`)) break;
    way.arrives(`toll ${i}`);
    served++;
    if (fills) way.fill();
    way.askForFee();
    if (way.settle) way.payments.settling(way.settle.paymentHash, maxCltvExpiry);
    way.settle = undefined;
    if (fills) {
      await way.look();
      await way.giveUp();
      way.empty();
    }
  }
  expect(way.failures.at(-1)).toBe("service-fee-due");
  expect(served).toBe(Math.ceil(TERMS.creditMsat / FEE_MSAT));
  expect(way.books).toMatchObject({ settledMsat: 0, earnedMsat: served * FEE_MSAT });
});

/** Orders that wait for the bridge or for room: they wait once, and count, whatever is asked for meanwhile. */

import { describe, expect, test } from "@jest/globals";
import { MOST_WAITING } from "../../gateway/device/waiting.ts";
import { storeTable } from "../store-table.ts";
import { settled, Way } from "./way.ts";

const LIMITS = { perPaymentMsat: 5_000_000, perHourMsat: 20_000_000, perDayMsat: 50_000_000, payees: [] };
const ONE_SAT = { perPaymentMsat: 1_000, perHourMsat: 1_000, perDayMsat: 1_000, payees: [] };
const TOLL_MSAT = 4_900_000;

const table = storeTable("payments");

describe("a payment that waits", () => {
  test("is counted until it is decided, though it is asked for again with a bound that nothing fits into", async () => {
    const way = new Way(table, LIMITS);
    way.fill();
    for (let i = 0; i < 4; i++) {
      way.ask(`loot ${i}`, TOLL_MSAT);
      way.ask(`loot ${i}`, TOLL_MSAT, 1);
      await settled();
      way.arrives(`held ${i}`);
      await way.look();
      expect(way.isUnderWay(`loot ${i}`)).toBe(true);
    }
    expect(way.failures).toEqual([]);
    way.ask("more than an hour allows", TOLL_MSAT);
    expect(way.failures).toEqual(["policy-velocity"]);
  });

  test("for the bridge is counted as well", async () => {
    const way = new Way(table, LIMITS);
    way.bridgeIsThere = false;
    for (let i = 0; i < 4; i++) {
      way.ask(`loot ${i}`, TOLL_MSAT);
      way.ask(`loot ${i}`, TOLL_MSAT, 1);
    }
    way.bridgeIsThere = true;
    await way.look();
    expect([0, 1, 2, 3].map(i => way.isUnderWay(`loot ${i}`))).toEqual(Array(4).fill(true));
    way.ask("more than an hour allows", TOLL_MSAT);
    expect(way.failures).toEqual(["policy-velocity"]);
  });

  test("and is called failed is never made, though the device has asked for it again meanwhile", async () => {
    const way = new Way(table, LIMITS);
    way.fill();
    way.ask("toll", TOLL_MSAT);
    await settled();
    // A new session: the device asks for what is not decided.
    way.ask("toll", TOLL_MSAT);
    await settled();
    await way.giveUp();
    expect(way.failures).toEqual(["in-flight-limit"]);
    way.arrives("held 0");
    await way.look();
    expect(way.isUnderWay("toll")).toBe(false);
    // What was counted for it was given back.
    for (let i = 0; i < 4; i++) way.ask(`toll ${i}`, TOLL_MSAT);
    await way.look();
    expect(way.failures).toEqual(["in-flight-limit"]);
  });

  test("is refused by limits that its owner has set meanwhile", async () => {
    const way = new Way(table, LIMITS);
    way.fill();
    way.ask("toll", TOLL_MSAT);
    await settled();
    way.limits = ONE_SAT;
    way.arrives("held 0");
    await way.look();
    expect(way.isUnderWay("toll")).toBe(false);
    expect(way.failures).toEqual(["policy-payment-limit"]);
    way.limits = LIMITS;
    for (let i = 0; i < 4; i++) way.ask(`toll ${i}`, TOLL_MSAT);
    expect(way.failures).toEqual(["policy-payment-limit"]);
  });
});

test("what was begun before the gateway went down is begun again under the limits of now", () => {
  const way = new Way(table, LIMITS);
  way.bridgeIsThere = false;
  for (let i = 0; i < 4; i++) way.ask(`order ${i}`, TOLL_MSAT);
  way.bridgeIsThere = true;
  way.restart();
  way.limits = ONE_SAT;
  for (let i = 0; i < 4; i++) way.ask(`order ${i}`, TOLL_MSAT);
  expect([0, 1, 2, 3].filter(i => way.isUnderWay(`order ${i}`))).toEqual([]);
  expect(way.failures).toEqual(Array(4).fill("policy-payment-limit"));
});

test("no more wait than could be under way twice over: the others are refused, and change nothing", async () => {
  const way = new Way(table, LIMITS);
  way.fill();
  for (let i = 0; i < 400; i++) way.ask(`crumb ${i}`, 1);
  await settled();
  expect(way.failures).toEqual(Array(400 - MOST_WAITING).fill("too-many-payments"));
  way.arrives("held 0");
  await way.look();
  expect(way.isUnderWay("crumb 0")).toBe(true);
});

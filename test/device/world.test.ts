import { describe, expect, test } from "@jest/globals";
import { LIFE, World } from "./world.ts";

describe("a device, an honest gateway and an honest bridge", () => {
  test("open a channel, pay, fail, change the feerate, refuse an HTLC and close", () => {
    const world = new World().live(LIFE);
    const { baseSat, owedMsat, payments, phase } = world.outcome();
    expect(phase).toBe("none");
    expect(payments.map(payment => payment?.paid)).toEqual([true, false, true, true, true, true, true]);
    // 200,000 less 2,003 and 100.5 and 902.346 and 1,100 and 450 sat, and 701.5 for the gateway's service.
    expect(baseSat).toBe(194_742);
    expect(world.peer.closes[0]).toEqual({ holderSat: 194_742 - 900, counterpartySat: 5257 });
    // 40 % of 2,000 and 100 and 900.001 and 1,100 and 450 sat, rounded down, and 7 msat each; less 701.5 sat.
    expect(owedMsat).toBe(1_820_000 + 5 * 7 - 701_500);
    expect(world.peer.funding).toHaveLength(1);
  });

  test("do the same on a board without a curve", () => {
    const world = new World({ curve: null }).live(LIFE);
    expect(world.outcome()).toEqual(new World().live(LIFE).outcome());
  });

  test("need few bytes and few writes for a payment", () => {
    const opened = new World().live(LIFE.slice(0, 1));
    const before = {
      ...opened.box.meter.use(),
      up: opened.traffic.up.length,
      down: opened.traffic.down.length,
    };
    opened.live([{ wish: "pay", names: ["toll"] }]);
    const use = opened.box.meter.use();
    const sum = (sizes: number[]) => sizes.reduce((all, size) => all + size, 0);
    // Without the greeting of the second session.
    expect(
      sum(opened.traffic.up.slice(before.up + 1)) + sum(opened.traffic.down.slice(before.down + 1)),
    ).toBeLessThan(1300 + 3 * (2 + 16)); // three answers with their MACs
    expect(use.erases - before.erases).toBe(0);
    expect(use.programs - before.programs).toBeLessThan(60);
  });
});

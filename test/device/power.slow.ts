import { describe, expect, test } from "@jest/globals";
import {
  chaos,
  cutAt,
  disturbed,
  everyCut,
  everyGatewayCut,
  instantsOf,
  seeded,
  type Undisturbed,
  undisturbed,
} from "./cuts.ts";
import { LIFE, SHORT_LIFE } from "./world.ts";

describe("the power fails", () => {
  test("at every operation of the flash and around every effect, and the life ends as it would have", () => {
    const life = undisturbed(SHORT_LIFE);
    for (const [i, cut] of everyCut(life).entries()) {
      expect(disturbed(life, { cuts: [cut], random: seeded(i) }).box.boots).toBe(2);
    }
  });

  test("at every write and every message of the gateway, and the life ends as it would have", () => {
    const life = undisturbed(SHORT_LIFE);
    for (const [i, cut] of everyGatewayCut(life).entries()) {
      expect(disturbed(life, { gatewayCuts: [cut], random: seeded(i) }).peer.boots).toBe(2);
    }
  });

  test("in failed, concurrent, tiny and unasked payments too (npm run test:chaos -- --every has all instants)", () => {
    const life = undisturbed(LIFE);
    for (let i = 0; i < instantsOf(life); i += 9) disturbed(life, cutAt(life, i));
  });

  test("of device and gateway again and again, sessions break and messages come twice (npm run test:chaos has more)", () => {
    const lives = new Map<string, Undisturbed>();
    const cuts = { device: 0, gateway: 0, both: 0 };
    for (let seed = 1; seed <= 300; seed++) {
      const { box, peer } = chaos(seed, lives);
      if (box.boots > 1) cuts.device++;
      if (peer.boots > 1) cuts.gateway++;
      if (box.boots > 1 && peer.boots > 1) cuts.both++;
    }
    expect(Math.min(cuts.device, cuts.gateway)).toBeGreaterThan(150);
    expect(cuts.both).toBeGreaterThan(100);
  });
});

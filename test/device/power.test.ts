import { describe, expect, test } from "@jest/globals";
import { disturbed, everyCut, everyGatewayCut, seeded, undisturbed } from "./cuts.ts";
import { LIFE, SHORT_LIFE, World } from "./world.ts";

describe("the power fails", () => {
  test("at any operation of the flash: whoever reads the chip then finds a valid exit of the newest state", () => {
    const world = new World({ everyOperation: true }).live(LIFE);
    expect(world.readOuts).toBeGreaterThan(150);
  });

  test("at every third operation of the flash and effect, and the life ends as it would have (power.slow.ts has all)", () => {
    const life = undisturbed(SHORT_LIFE);
    for (const [i, cut] of everyCut(life).entries()) {
      if (i % 3 === 0) expect(disturbed(life, { cuts: [cut], random: seeded(i) }).box.boots).toBe(2);
    }
  });

  test("at every third write and message of the gateway, and the life ends as it would have", () => {
    const life = undisturbed(SHORT_LIFE);
    for (const [i, cut] of everyGatewayCut(life).entries()) {
      if (i % 3 === 0) expect(disturbed(life, { gatewayCuts: [cut], random: seeded(i) }).peer.boots).toBe(2);
    }
  });
});

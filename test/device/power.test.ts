import { describe, expect, test } from "@jest/globals";
import { chaos, disturbed, everyCut, seeded, type Undisturbed, undisturbed } from "./cuts.ts";
import { LIFE, SHORT_LIFE, World } from "./world.ts";

describe("the power fails", () => {
  test("at any operation of the flash: whoever reads the chip then finds a valid exit of the newest state", () => {
    const world = new World({ everyOperation: true }).live(LIFE);
    expect(world.readOuts).toBeGreaterThan(150);
  });

  test("at every operation of the flash and around every effect, and the life ends as it would have", () => {
    const life = undisturbed(SHORT_LIFE);
    for (const [i, cut] of everyCut(life).entries()) {
      expect(disturbed(life, { cuts: [cut], random: seeded(i) }).box.boots).toBe(2);
    }
  });

  test("in failed, concurrent, tiny and unasked payments too", () => {
    const life = undisturbed(LIFE);
    for (const [i, cut] of everyCut(life).entries()) {
      if (i % 9 === 0) disturbed(life, { cuts: [cut], random: seeded(i) });
    }
  });

  test("and again and again, sessions break and messages come twice (npm run test:chaos has more)", () => {
    const lives = new Map<string, Undisturbed>();
    let boots = 0;
    for (let seed = 1; seed <= 150; seed++) boots += chaos(seed, lives).box.boots;
    expect(boots).toBeGreaterThan(230);
  });
});

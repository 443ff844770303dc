import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { seeded } from "../device/cuts.ts";
import { everyCut, newTally, oneRun, openWorld, randomLife } from "./cuts.ts";
import { Street, World } from "./world.ts";

describe("the gateway's power fails", () => {
  let street: Street;
  let world: World;

  beforeAll(async () => {
    street = await Street.start();
    world = await openWorld(street, "one channel", seeded(1));
  });

  afterAll(async () => {
    await world?.abandon();
    await street?.stop();
  });

  test("before effects of a payment that the payee refuses: nothing is paid", async () => {
    const tally = newTally();
    await everyCut(world, "isRefused", "before", tally, { first: 1, step: 4 });
    expect(tally.restarts).toBeGreaterThan(5);
  });

  test("before effects of a change of the feerate: both get there", async () => {
    const tally = newTally();
    await everyCut(world, "changesFeerate", "before", tally, { first: 2, step: 5 });
    expect(tally.restarts).toBeGreaterThan(3);
  });

  test("around the broadcast of the funding transaction, which is in a block before the gateway is back", async () => {
    const undisturbed = await openWorld(street, "funding", seeded(2));
    const broadcast = undisturbed.trace.indexOf("broadcast");
    expect(broadcast).toBeGreaterThan(0);
    await undisturbed.stop();
    for (let effect = broadcast - 1; effect <= broadcast + 2; effect++) {
      const opening = await World.start(street, { name: `funding, cut ${effect}`, random: seeded(effect) });
      opening.whileOff = () => street.bitcoind.mine(6);
      const tally = newTally();
      await oneRun(opening, "opens", [{ of: "gateway", cut: { at: "after", effect } }], tally);
      expect(tally.restarts).toBe(1);
      await opening.stop();
    }
  });

  test("in the middle of the mutual close: the owner gets the money", async () => {
    const tally = newTally();
    await oneRun(
      world,
      "closes",
      [{ of: "gateway", cut: { at: "after", of: "send to the bridge", effect: 1 } }],
      tally,
    );
    expect(tally.restarts).toBe(1);
  });

  test.each([1, 2, 3, 4])("at random, the device's too, from the open to the close (seed %i)", async seed => {
    const tally = newTally();
    await randomLife(street, seed, 3, tally);
    expect(tally.restarts).toBeGreaterThan(0);
  });
});

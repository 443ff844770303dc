import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { seeded } from "../device/cuts.ts";
import { everyCut, newTally, openWorld } from "./cuts.ts";
import { Street, type World } from "./world.ts";

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

  test("after every effect of a payment: it is made, once", async () => {
    const tally = newTally();
    const failures = await everyCut(world, "pays", "after", tally);
    expect(failures).toBeGreaterThan(20);
    for (const effect of ["write payments", "write monitor and manager", "write records", "sync records"])
      expect(tally.cuts.get(effect)).toBeGreaterThan(0);
    expect(tally.cuts.get("send to the device")).toBeGreaterThan(0);
    expect(tally.cuts.get("send to the bridge")).toBeGreaterThan(0);
    // At the failure and at the end.
    expect(tally.exits).toBeGreaterThan(2 * failures);
  });
});

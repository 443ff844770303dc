import { expect, test } from "@jest/globals";
import { lie } from "./lies.ts";

test("no sequence of lies does harm (npm run test:chaos has more)", () => {
  let accepted = 0;
  const refusals = new Set<string>();
  for (let seed = 1; seed <= 60; seed++) {
    const lies = lie(seed);
    accepted += lies.accepted;
    for (const refusal of lies.rig.refusals) refusals.add(refusal);
  }
  // Enough of them are taken to get anywhere, and they run into most of the rules.
  expect(accepted).toBeGreaterThan(300);
  expect(refusals.size).toBeGreaterThan(11);
});

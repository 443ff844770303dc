/** What an estimate may cost when money comes home. */
import { expect, test } from "@jest/globals";
import type { OwnerChain } from "../../owner/chain/chain.ts";
import { newWords } from "../../owner/folder/seed.ts";
import { recoveryKeys } from "../../owner/recovery/keys.ts";
import { planRecovery } from "../../owner/recovery/recover.ts";
import { p2wsh } from "../../src/bitcoin/script.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { toRemoteScript } from "../../src/lightning/channel.ts";

const keys = recoveryKeys(newWords(), "regtest");
const script = p2wsh(toRemoteScript(keys.cold(0).paymentBasepoint));

/** What `recover` pays to collect this much, which a bridge's close has paid, when a server names this feerate. */
async function collected(valueSat: number, estimatePerKw: number, feeratePerKw?: number) {
  const chain = {
    name: "chain",
    check: async () => {},
    height: async () => 1_000,
    feerate: async () => estimatePerKw,
    unspent: async (scripts: readonly Uint8Array[]) =>
      scripts.some(each => equal(each, script))
        ? [{ txid: new Uint8Array(32).fill(1), vout: 0, valueSat, script, height: 900 }]
        : [],
  } as unknown as OwnerChain;
  const named = feeratePerKw === undefined ? {} : { feeratePerKw };
  const { collections, remarks } = await planRecovery({
    keys,
    chain,
    exits: [],
    deposits: [],
    gap: 1,
    ...named,
  });
  return { feeSat: collections[0]?.feeSat, remarks: remarks.join() };
}

test("an ordinary estimate is paid", async () => {
  const { feeSat } = await collected(30_000, 5_000);
  expect(await collected(30_000, 1, 5_000)).toMatchObject({ feeSat });
});

test("a high one takes a quarter at the most, and that is said", async () => {
  const { feeSat, remarks } = await collected(30_000, 1_000_000);
  expect(feeSat).toBeGreaterThan(6_500);
  expect(feeSat).toBeLessThan(7_600);
  expect(remarks).toContain("4000 sat/vB; no more than 250 is believed");
  expect(remarks).toContain("would take too much of 30000 sat");
});

test("of a large sum it takes 250 sat/vB at the most", async () => {
  const { feeSat } = await collected(10_000_000, 1_000_000);
  expect(await collected(10_000_000, 1, 62_500)).toMatchObject({ feeSat });
});

test("a small sum comes home at 20 sat/vB, whatever part of it that is", async () => {
  const { feeSat } = await collected(5_000, 1_000_000);
  expect(await collected(5_000, 1, 5_000)).toMatchObject({ feeSat });
});

test("what the owner names is paid", async () => {
  const { feeSat } = await collected(30_000, 1_000, 40_000);
  expect(feeSat).toBeGreaterThan(15_000);
});

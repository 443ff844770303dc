/** What others can put in the way of recovery: the gateway with what it says, anybody with what he pays. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import type { ChainOutput, OwnerChain } from "../../owner/chain/chain.ts";
import { keepHeldChannels, readHeldChannels } from "../../owner/folder/device-files.ts";
import { newWords } from "../../owner/folder/seed.ts";
import { recoveryKeys } from "../../owner/recovery/keys.ts";
import { carryOut, planRecovery } from "../../owner/recovery/recover.ts";
import { p2wsh } from "../../src/bitcoin/script.ts";
import { type Transaction, txidOf, weightOf } from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import { toRemoteScript } from "../../src/lightning/channel.ts";
import { MAX_COMMITMENT_NUMBER } from "../../src/lightning/shachain.ts";
import { toOwner } from "../../src/messages/owner.ts";
import { derived } from "../device/dealer.ts";
import { FUNDING, proposalWith } from "../device/parties.ts";
import { codeThrownBy } from "../thrown.ts";

const keys = recoveryKeys(newWords(), "regtest");
const cold = keys.cold(0);
const closeScript = p2wsh(toRemoteScript(cold.paymentBasepoint));
const paid = (name: string, valueSat: number, vout = 0): ChainOutput => ({
  txid: derived(name),
  vout,
  valueSat,
  script: closeScript,
  height: 900,
});

/** A chain with these outputs, which refuses what the test says. */
function chainWith(outputs: readonly ChainOutput[], refuses = (_: Transaction) => false) {
  const published: string[] = [];
  const none = async () => null;
  const chain: OwnerChain = {
    name: "chain of this test",
    network: async () => "regtest",
    check: async () => {},
    height: async () => 1000,
    unspent: async () => [...outputs],
    output: none,
    confirmation: async () => "unknown",
    spender: none,
    feerate: async () => 500,
    async publish(transactions) {
      if (transactions.some(refuses)) throw lngateError("chain-refused", "tx-size");
      published.push(...transactions.map(each => toHex(txidOf(each))));
    },
    revealedScripts: async () => [],
    close() {},
  };
  return { chain, published };
}

test("crumbs at the owner's script fit into transactions that nodes take, and what one refuses stops nothing else", async () => {
  const crumbs = Array.from({ length: 410 }, (_, vout) => paid("crumbs", 330, vout));
  const outputs = [...crumbs.slice(205), paid("close", 190_000), ...crumbs.slice(0, 205)];
  const { chain, published } = chainWith(outputs, ({ inputs }) => inputs.length === 11);
  const plan = await planRecovery({ keys, chain, exits: [], deposits: [], gap: 1 });
  const { collections } = plan;
  expect(collections.reduce((sum, { inSat }) => sum + inSat, 0)).toBe(190_000 + 410 * 330);
  // Nodes take 400,000.
  expect(Math.max(...collections.map(({ transaction }) => weightOf(transaction)))).toBeLessThan(100_000);
  expect(collections[0]!.inSat).toBe(190_000 + 199 * 330);
  const done: Uint8Array[] = [];
  await expect(
    carryOut(chain, { ...plan, collections: [...collections].reverse() }, done),
  ).rejects.toMatchObject({
    code: "chain-refused",
  });
  expect(published).toHaveLength(collections.length - 1);
  expect(published).toContain(toHex(txidOf(collections[0]!.transaction)));
  expect(done.map(toHex)).toEqual(published);
});

test("what is not worth its fee is left in one remark, however many outputs it is", async () => {
  const { chain } = chainWith(Array.from({ length: 300 }, (_, vout) => paid("crumbs", 330, vout)));
  const plan = await planRecovery({ keys, chain, exits: [], deposits: [], gap: 1, feeratePerKw: 2_000 });
  expect(plan.collections).toEqual([]);
  expect(plan.remarks.filter(each => each.includes("not worth"))).toEqual([
    expect.stringMatching(/^99000 sat .* left where they are/),
  ]);
});

test("a number of a state that no channel has comes through neither link nor file, and the last one stops nothing", async () => {
  const closing = (number: number) =>
    toOwner.encode({ type: "closing", channel: "closing", held: { proposal: proposalWith(), number } });
  expect(() => closing(MAX_COMMITMENT_NUMBER + 1)).toThrow();
  expect(toOwner.decode(closing(MAX_COMMITMENT_NUMBER))).toMatchObject({
    held: { number: MAX_COMMITMENT_NUMBER },
  });

  const folder = mkdtempSync(join(tmpdir(), "lngate-held-"));
  const file = join(folder, "channel.json");
  const write = (number: number) =>
    keepHeldChannels(
      folder,
      {
        deviceId: "toll2345",
        keys: { fundingKey: FUNDING.point, delayedPaymentBasepoint: cold.delayedPaymentBasepoint },
      },
      [{ proposal: proposalWith(), number }],
    );
  try {
    write(MAX_COMMITMENT_NUMBER + 1);
    expect(codeThrownBy(() => readHeldChannels(file))).toBe("owner-corrupt");
    write(MAX_COMMITMENT_NUMBER);
    const { chain } = chainWith([paid("close", 190_000)]);
    const channels = readHeldChannels(file)!;
    const plan = await planRecovery({ keys, chain, exits: [], deposits: [], gap: 1, channels });
    expect(plan.collections).toMatchObject([{ inSat: 190_000 }]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

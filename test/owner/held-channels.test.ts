/**
 * What the gateway has said of channels: with it the owner finds what our own commitment pays, published by somebody else, when
 * the device is gone. What it says later takes nothing of that away.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import type { OwnerChain } from "../../owner/chain/chain.ts";
import { type HeldChannel, keepHeldChannels, readHeldChannels } from "../../owner/folder/device-files.ts";
import { CHANNEL_FILE } from "../../owner/folder/folder.ts";
import { newWords } from "../../owner/folder/seed.ts";
import { recoveryKeys } from "../../owner/recovery/keys.ts";
import { planRecovery } from "../../owner/recovery/recover.ts";
import { p2wsh } from "../../src/bitcoin/script.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { toLocalScript } from "../../src/lightning/channel.ts";
import { derivePublicKey, deriveRevocationPublicKey } from "../../src/lightning/keys.ts";
import type { ToldStates } from "../../src/messages/owner.ts";
import { FUNDING, proposalWith } from "../device/parties.ts";
import { pairedKeys } from "./paired-keys.ts";

const words = newWords();
const keys = recoveryKeys(words, "regtest");
const { delayedPaymentBasepoint } = keys.cold(0);
const LIE = { revocationBasepoint: nobleCurve.publicKey(new Uint8Array(32).fill(9)) };

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "lngate-held-"));
  file = join(folder, CHANNEL_FILE);
});
afterEach(() => rmSync(folder, { recursive: true }));

const heldOf = (index: number, number = 7, changed = {}): HeldChannel => ({
  deviceId: "toll2345",
  keys: { fundingKey: FUNDING.point, delayedPaymentBasepoint },
  proposal: { ...proposalWith({ index }), ...changed },
  number,
});

const keep = (...channels: HeldChannel[]) => keepHeldChannels(folder, channels[0]!, channels);

const proposal = proposalWith({ index: 1 });
const toLocalAt = (point: Uint8Array) =>
  p2wsh(
    toLocalScript(
      {
        revocation: deriveRevocationPublicKey(nobleCurve, proposal.revocationBasepoint, point),
        delayed: derivePublicKey(nobleCurve, delayedPaymentBasepoint, point),
      },
      proposal.holderDelay,
    ),
  );
/** 150,000 sat in to_local of our state 7 of channel 1, published by the gateway, or by a thief. */
let toLocal = toLocalAt(keys.commitmentPoint(FUNDING.point, 1, 7));
const chain = {
  name: "chain",
  check: async () => {},
  height: async () => 1_000,
  feerate: async () => 500,
  unspent: async (scripts: readonly Uint8Array[]) =>
    scripts.some(script => equal(script, toLocal))
      ? [{ txid: new Uint8Array(32).fill(1), vout: 0, valueSat: 150_000, script: toLocal, height: 100 }]
      : [],
} as unknown as OwnerChain;

async function foundSat(channels = readHeldChannels(file)!): Promise<number[]> {
  const plan = await planRecovery({ keys, chain, exits: [], deposits: [], gap: 1, channels });
  return plan.collections.map(({ inSat }) => inSat);
}

test("what is said of another channel, or in contradiction, takes nothing away", async () => {
  keep(heldOf(1));
  expect(await foundSat()).toEqual([150_000]);
  keep(heldOf(2));
  keep(heldOf(1, 900));
  keep(heldOf(1, 0));
  keep(heldOf(1, 7, LIE));
  expect(await foundSat()).toEqual([150_000]);
});

test("what is said again, or of a state nearby, is collected once", async () => {
  keep(heldOf(1));
  keep(heldOf(1, 8));
  keep(heldOf(1));
  expect(readHeldChannels(file)!.map(({ number }) => number)).toEqual([8, 7]);
  // The same file is named with --channel-file and found in the folder.
  const twice = [...readHeldChannels(file)!, ...readHeldChannels(file)!];
  expect(await foundSat(twice)).toEqual([150_000]);
});

test("a file that can't be read is set aside, not written over", () => {
  writeFileSync(file, "{");
  keep(heldOf(1));
  expect(readHeldChannels(file)).toEqual([heldOf(1)]);
  expect(existsSync(`${file}.damaged`)).toBe(true);
});

describe("states that the gateway tells", () => {
  const derived = toLocal;
  const thiefs = nobleCurve.publicKey(new Uint8Array(32).fill(77));
  const ours = pairedKeys(words, "regtest", FUNDING.point);
  const view = {
    feeratePerKw: 500,
    holderSat: 150_000,
    counterpartySat: 0,
    htlcs: [{ paymentHash: new Uint8Array(32), amountMsat: 20_000_000, cltvExpiry: 900 }],
  };
  const state = { number: 7, point: thiefs, view };
  const told: ToldStates = {
    points: [thiefs],
    holder: [{ ...state, htlcSignatures: [new Uint8Array(64).fill(1)] }],
    counterparty: [state],
  };
  const heldWith = (states?: ToldStates): HeldChannel => ({ ...heldOf(1), keys: ours, states });
  afterEach(() => {
    toLocal = derived;
  });

  test("are kept, and take the place of the same word without them", async () => {
    keep(heldWith());
    keep(heldWith(told));
    keep(heldWith());
    expect(readHeldChannels(file)).toEqual([heldWith(told)]);
    keep(heldWith({ ...told, points: [] }), heldOf(2));
    expect(readHeldChannels(file)!.map(({ states }) => states?.points.length)).toEqual([0, undefined, 1]);
  });

  test("are how an exit is found whose point follows from nothing", async () => {
    toLocal = toLocalAt(thiefs);
    expect(await foundSat([heldWith()])).toEqual([]);
    expect(await foundSat([heldWith(told)])).toEqual([150_000]);
    // A file without the device's keys is of an earlier version, or of a test.
    expect(await foundSat([{ ...heldOf(1), states: told }])).toEqual([150_000]);
  });

  const noPoint = new Uint8Array(33).fill(2);
  const huge = { ...view, holderSat: 2 ** 50 };
  const timeless = { ...view, htlcs: [{ ...view.htlcs[0]!, cltvExpiry: 600_000_000 }] };
  test.each<[string, ToldStates, Partial<HeldChannel["proposal"]>?]>([
    ["no points", { ...told, points: [noPoint], counterparty: [{ ...state, point: noPoint }] }],
    ["more than the channel has", { ...told, counterparty: [{ ...state, view: huge }] }],
    ["HTLCs without an expiry", { ...told, counterparty: [{ ...state, view: timeless }] }],
    ["signatures that are missing", { ...told, holder: [{ ...state, htlcSignatures: [] }] }],
    ["no key of the bridge's", told, { htlcBasepoint: noPoint }],
    ["no deposits", told, { deposits: [] }],
  ])("may have %s: what is found without them is found", async (_, states, changed = {}) => {
    const lie = { ...heldWith(states), proposal: { ...proposal, ...changed } };
    keep(lie);
    expect(await foundSat()).toEqual([150_000]);
    expect(await foundSat([lie, heldOf(1)])).toEqual([150_000]);
  });
});

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "@jest/globals";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { changesBetween, readState } from "../../device/channel/state.ts";
import { DEFAULT_POLICY } from "../../device/identity.ts";
import { writeOwnersWord } from "../../device/vault/charging.ts";
import { formatVault, openVault } from "../../device/vault/vault.ts";
import {
  type AskGateway,
  changeGatewayLimits,
  changeLimits,
  limitsInFlash,
  payeesOf,
  spendingLimits,
  tellHeight,
} from "../../owner/client/limits.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import type { SpendingLimits } from "../../src/messages/owner.ts";
import { identityWith, keyPair } from "../device/parties.ts";
import { codeThrownBy } from "../thrown.ts";

const home = mkdtempSync(join(tmpdir(), "lngate-limits-"));
afterAll(() => rmSync(home, { recursive: true }));

function paired(name: string): string {
  const folder = join(home, name);
  const flash = openFileFlash(folder, { pageCount: 64 });
  formatVault(flash, identityWith());
  flash.close();
  return folder;
}
const identityIn = (folder: string) => {
  const flash = openFileFlash(folder);
  const { identity } = openVault(flash);
  flash.close();
  return identity;
};

/** What a gateway keeps, and what it is asked. */
class Keeper {
  kept: SpendingLimits | undefined;
  isAway = false;
  /** Between the gateway's change and the device's. */
  isCut = false;
  readonly ask: AskGateway = async told => {
    if (this.isAway) throw lngateError("gateway-unreachable", "no answer");
    if (told) this.kept = told;
    if (told && this.isCut) throw new Error("the power is cut");
    return this.kept;
  };
}

describe("a device's limits", () => {
  const toll = keyPair("toll station").point;
  const before = identityWith();

  test("are shown, and changed by the owner one by one, in the device and at the gateway", async () => {
    const folder = paired("changed");
    const gateway = new Keeper();
    expect(limitsInFlash(folder)).toEqual(spendingLimits(before.policy));
    await changeLimits(folder, { perHourMsat: 9_000_000 }, gateway.ask);
    const limits = await changeLimits(folder, { payees: [toll] }, gateway.ask);
    const policy = { ...before.policy, perHourMsat: 9_000_000, payees: [toll] };
    expect(limits).toEqual(spendingLimits(policy));
    expect(gateway.kept).toEqual(limits);
    expect(identityIn(folder)).toEqual({ ...before, policy });
    await changeLimits(folder, { payees: [] }, gateway.ask);
    expect(identityIn(folder).policy.payees).toEqual([]);
  });

  test("stay as they are if the gateway can't be told", async () => {
    const folder = paired("alone");
    const gateway = new Keeper();
    gateway.isAway = true;
    await expect(changeLimits(folder, { perDayMsat: 1e12 }, gateway.ask)).rejects.toMatchObject({
      code: "gateway-unreachable",
    });
    expect(identityIn(folder)).toEqual(before);
  });

  test("are changed by the same command again after a cut between the two", async () => {
    const folder = paired("cut");
    const gateway = new Keeper();
    await changeLimits(folder, { perDayMsat: 60_000_000 }, gateway.ask);
    gateway.isCut = true;
    await expect(changeLimits(folder, { perDayMsat: 1e12 }, gateway.ask)).rejects.toThrow("cut");
    // The device's own are the stricter ones, and hold.
    expect(limitsInFlash(folder).perDayMsat).toBe(60_000_000);
    gateway.isCut = false;
    await changeLimits(folder, { perDayMsat: 1e12 }, gateway.ask);
    expect([limitsInFlash(folder).perDayMsat, gateway.kept?.perDayMsat]).toEqual([1e12, 1e12]);
  });

  test("are not taken from a flash that somebody changed, nor from a gateway, without a word of the owner's", async () => {
    const folder = paired("tampered");
    const gateway = new Keeper();
    await changeLimits(folder, {}, gateway.ask);
    const flash = openFileFlash(folder);
    const { policy, birthHeight, birthTime } = openVault(flash).identity;
    const thiefs = { ...policy, perPaymentMsat: 1e12, payees: [toll] };
    writeOwnersWord(flash, { policy: thiefs, height: birthHeight, time: birthTime });
    flash.close();
    const kept = gateway.kept;
    await expect(changeLimits(folder, { perHourMsat: 1e12 }, gateway.ask)).rejects.toMatchObject({
      code: "limits-differ",
      message: expect.stringMatching(/--max-payment, --payee$/),
    });
    expect(gateway.kept).toEqual(kept);
    await changeLimits(folder, { perPaymentMsat: 7_000_000, payees: [] }, gateway.ask);
    expect(limitsInFlash(folder)).toEqual({ ...kept, perPaymentMsat: 7_000_000 });
    expect(gateway.kept).toEqual(limitsInFlash(folder));
  });

  test("are changed at the gateway alone while the device runs", async () => {
    const folder = paired("board");
    const running = openFileFlash(folder);
    const gateway = new Keeper();
    const defaults = spendingLimits(DEFAULT_POLICY);
    const first = await changeGatewayLimits({ perDayMsat: 3_000_000 }, defaults, gateway.ask);
    expect(first).toEqual({ ...defaults, perDayMsat: 3_000_000 });
    await changeGatewayLimits({ perHourMsat: 1_000_000 }, defaults, gateway.ask);
    expect(gateway.kept).toEqual({ ...defaults, perDayMsat: 3_000_000, perHourMsat: 1_000_000 });
    running.close();
    expect(identityIn(folder)).toEqual(before);
  });

  test("stay when the height is told, and the height when they are changed", async () => {
    const folder = paired("height");
    const gateway = new Keeper();
    await changeLimits(folder, { payees: [toll] }, gateway.ask);
    const flash = openFileFlash(folder);
    tellHeight(flash, 4711);
    flash.close();
    await changeLimits(folder, { perDayMsat: 1000 }, gateway.ask);
    const { policy, birthHeight, birthTime } = identityIn(folder);
    expect(policy).toMatchObject({ payees: [toll], perDayMsat: 1000 });
    expect(birthHeight).toBe(4711);
    expect(Math.abs(birthTime - Date.now() / 1000)).toBeLessThan(3600);
  });

  test("and with the height goes what a wrong clock has made the device remember of invoices", () => {
    const folder = paired("clock");
    const flash = openFileFlash(folder);
    const { journal } = openVault(flash);
    const state = readState(journal);
    const year2100 = 4_102_444_800;
    journal.commit(changesBetween(state, { ...state, books: { ...state.books, forgotten: year2100 } }));
    tellHeight(flash, 4711);
    const { forgotten } = readState(openVault(flash).journal).books;
    flash.close();
    expect(forgotten).toBeLessThan(Date.now() / 1000 + 31 * 86_400);
    expect(forgotten).toBeGreaterThan(Date.now() / 1000);
  });

  test("are not touched while the device runs", () => {
    const folder = paired("runs");
    const running = openFileFlash(folder);
    expect(codeThrownBy(() => limitsInFlash(folder))).toBe("device-in-use");
    const gateway = new Keeper();
    expect(codeThrownBy(() => changeLimits(folder, { perDayMsat: 1000 }, gateway.ask))).toBe("device-in-use");
    expect(gateway.kept).toBeUndefined();
    running.close();
  });

  test("name payees by node id, and nothing else", () => {
    const [one, two] = [toHex(toll), toHex(keyPair("other").point)];
    expect(payeesOf(`${one}, ${two.toUpperCase()}`).map(toHex)).toEqual([one, two]);
    for (const wrong of ["toll", one.slice(2), `05${one.slice(2)}`, `${one}00`, `02${"f".repeat(64)}`]) {
      expect(codeThrownBy(() => payeesOf(wrong))).toBe("limits-malformed");
    }
    expect(codeThrownBy(() => payeesOf(Array(65).fill(one).join(",")))).toBe("limits-malformed");
  });
});

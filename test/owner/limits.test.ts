import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "@jest/globals";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { changesBetween, readState } from "../../device/channel/state.ts";
import { formatVault, openVault } from "../../device/vault/vault.ts";
import { changeLimits, payeesOf, tellHeight } from "../../owner/limits.ts";
import { toHex } from "../../src/bytes/bytes.ts";
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

describe("a device's limits", () => {
  const toll = keyPair("toll station").point;

  test("are shown, and changed by the owner one by one", () => {
    const folder = paired("changed");
    const before = identityWith();
    expect(changeLimits(folder, {})).toEqual(before.policy);
    changeLimits(folder, { perHourMsat: 9_000_000 });
    const policy = changeLimits(folder, { payees: [toll] });
    expect(policy).toEqual({ ...before.policy, perHourMsat: 9_000_000, payees: [toll] });
    expect(identityIn(folder)).toEqual({ ...before, policy });
    changeLimits(folder, { payees: [] });
    expect(identityIn(folder).policy.payees).toEqual([]);
  });

  test("stay when the height is told, and the height when they are changed", () => {
    const folder = paired("height");
    changeLimits(folder, { payees: [toll] });
    const flash = openFileFlash(folder);
    tellHeight(flash, 4711);
    flash.close();
    changeLimits(folder, { perDayMsat: 1000 });
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
    expect(codeThrownBy(() => changeLimits(folder, { perDayMsat: 1000 }))).toBe("device-in-use");
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

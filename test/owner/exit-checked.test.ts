import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "@jest/globals";
import { openNodeBoard } from "../../device/boards/node/board.ts";
import { readState } from "../../device/channel/state.ts";
import { openVault } from "../../device/vault/vault.ts";
import { takeExitFromImage, takeExitOut } from "../../owner/recovery/held-exits.ts";
import { concat } from "../../src/bytes/bytes.ts";
import { derived } from "../device/dealer.ts";
import { chip } from "../device/parties.ts";
import { Rig } from "../device/rig.ts";
import { codeThrownBy } from "../thrown.ts";

const home = mkdtempSync(join(tmpdir(), "lngate-exit-"));
afterAll(() => rmSync(home, { recursive: true }));

/** A device's folder with what this device has in flash. */
function folderOf(name: string, rig: Rig): string {
  const folder = join(home, name);
  mkdirSync(folder, { mode: 0o700 });
  writeFileSync(join(folder, "flash.bin"), rig.box.flash.image());
  return folder;
}
function phaseIn(folder: string): string {
  const board = openNodeBoard(folder);
  const { phase } = readState(board.vault.journal).books;
  board.close();
  return phase;
}

test("an exit that nobody can publish is not written down, and the channel does not end for it", () => {
  // A board without a curve takes the bridge's signature at the gateway's word.
  const rig = new Rig({ curve: null }).open();
  const forged = concat([derived("no"), derived("signature")]);
  expect(rig.step({ holder: { ...rig.holder(rig.view()), signature: forged } }).refused).toBeUndefined();
  const folder = folderOf("forged", rig);
  expect(codeThrownBy(() => takeExitOut(folder))).toBe("exit-invalid");
  expect(phaseIn(folder)).toBe("open");
  expect(codeThrownBy(() => takeExitFromImage(folder, join(folder, "flash.bin"), true))).toBe("exit-invalid");
});

test("one that is good ends the channel", () => {
  const rig = new Rig({ curve: null }).open();
  rig.step({ holder: rig.holder(rig.view()) });
  const folder = folderOf("good", rig);
  expect(takeExitOut(folder).exit.number).toBe(1);
  expect(phaseIn(folder)).toBe("exited");
  expect(readState(openVault(chip(rig.box.flash.image())).journal).books.phase).toBe("open");
});

test("one with a payment that can't be taken back from it ends the channel as well: the rest is the owner's", () => {
  const rig = new Rig().open();
  rig.pay("toll", 1000);
  const view = rig.view(0, [rig.htlc("toll", 1000)]);
  rig.step({ counterparty: rig.counterparty(view) });
  const holder = rig.holder(view);
  expect(rig.step({ holder: { ...holder, htlcSignatures: [holder.signature] } }).refused).toBeUndefined();
  const folder = folderOf("stranded", rig);
  expect(takeExitOut(folder).exit.number).toBe(1);
  expect(phaseIn(folder)).toBe("exited");
});

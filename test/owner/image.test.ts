/** An image that may be in a board: from then on the board's flash decides, whatever the gateway says that it has seen. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "@jest/globals";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { openVault } from "../../device/vault/vault.ts";
import { chipIn } from "../../owner/board/chip.ts";
import { makeImage, movedTo, needsVault, noteWritten, takeBack } from "../../owner/board/image.ts";
import { chargedFlash, identityWith } from "../device/parties.ts";
import { codeThrownBy } from "../thrown.ts";

const folder = mkdtempSync(join(tmpdir(), "lngate-image-"));
afterAll(() => rmSync(folder, { recursive: true }));
/** The folder of a paired device. */
const path = folder;
const { deviceId } = identityWith();
const paired = chargedFlash();

/** The device is on this computer, and then in an image. */
beforeEach(() => {
  for (const file of ["image.bin", "moved.json"]) rmSync(join(path, file), { force: true });
  writeFileSync(join(path, "flash.bin"), paired);
  makeImage(path, "moddable");
});
const image = () => new Uint8Array(readFileSync(join(path, "image.bin")));
const [CHIP, OTHER] = ["24:6f:28:00:00:01", "24:6f:28:00:00:02"];
const needs = (content: Uint8Array, chip = CHIP) => needsVault(path, deviceId, content, chip);
const blank = new Uint8Array(4096 * 256).fill(255);

/** What a board has in its flash after it has started from this. */
function started(content: Uint8Array): Uint8Array {
  const board = join(folder, "board");
  mkdirSync(board, { recursive: true });
  writeFileSync(join(board, "flash.bin"), content);
  const flash = openFileFlash(board);
  openVault(flash);
  flash.close();
  return new Uint8Array(readFileSync(join(board, "flash.bin")));
}
const backFrom = (content: Uint8Array) => {
  const file = join(folder, "read.bin");
  writeFileSync(file, content);
  // The gateway has seen nothing.
  takeBack(path, deviceId, file, 0);
};

test("the device is not written over itself, whether its board has started or not", () => {
  const used = started(image());
  expect([needs(blank), needs(image()), needs(used)]).toEqual([true, false, false]);
  noteWritten(path, "begun");
  expect(movedTo(path)).toMatchObject({ written: "begun" });
  // A tool that fails may have torn what was there.
  expect([needs(blank), needs(image()), needs(used)]).toEqual([true, false, false]);
});

test("after a tool that failed the image goes into the same chip alone: it may have written all of it", () => {
  noteWritten(path, "begun", CHIP);
  expect(needs(blank)).toBe(true);
  expect(codeThrownBy(() => needs(blank, OTHER))).toBe("image-used");
  // Whatever is noted afterwards, the chip stays.
  noteWritten(path, "begun", OTHER);
  expect(movedTo(path)).toMatchObject({ written: "begun", chip: CHIP });
  expect(codeThrownBy(() => needs(blank, OTHER))).toBe("image-used");
  noteWritten(path, "done");
  expect(movedTo(path)).toMatchObject({ written: "done", chip: CHIP });
});

test("the image that was made for another tool to write goes into the first chip that is flashed", () => {
  noteWritten(path, "begun");
  expect(needs(blank)).toBe(true);
  noteWritten(path, "begun", CHIP);
  expect(codeThrownBy(() => needs(blank, OTHER))).toBe("image-used");
});

test.each([
  ["4.7", "Crystal is 40MHz\nMAC: 24:6F:28:00:00:01\nUploading stub...\n"],
  [
    "5",
    "Crystal frequency:  40MHz\r\nMAC:                24:6f:28:00:00:01\r\n\r\nUploading stub flasher...\r\n",
  ],
])("esptool %s says which chip it is", (_, said) => {
  expect(chipIn(said)).toBe(CHIP);
});

test("a chip that esptool does not name is not written to", () => {
  expect(chipIn("MAC: 60:55:f9:ff:fe:f7:2c:a2\nBASE MAC: 60:55:f9:f7:2c:a2\n")).toBe(
    "60:55:f9:ff:fe:f7:2c:a2",
  );
  expect(codeThrownBy(() => chipIn("Uploading stub...\n"))).toBe("chip-unknown");
});

test("once it is written, it goes into no other board, nor into its own after that was erased", () => {
  noteWritten(path, "done");
  // It is not taken back by what says less.
  noteWritten(path, "begun");
  expect(movedTo(path)).toMatchObject({ written: "done" });
  expect(codeThrownBy(() => needs(blank))).toBe("image-used");
  expect(needs(started(image()))).toBe(false);
});

test("the image comes back while it was not written; after that only from a board that has started", () => {
  const before = image();
  backFrom(before);
  expect(movedTo(path)).toBeUndefined();
  makeImage(path, "moddable");
  noteWritten(path, "begun");
  expect(codeThrownBy(() => backFrom(image()))).toBe("image-outdated");
  backFrom(started(image()));
  expect(movedTo(path)).toBeUndefined();
});

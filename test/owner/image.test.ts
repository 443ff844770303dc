/** An image that may be in a board: from then on the board's flash decides, whatever the gateway says that it has seen. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { openVault } from "../../device/vault/vault.ts";
import { makeImage, movedTo, needsVault, noteWritten, takeBack } from "../../owner/board/image.ts";
import { pairDevice } from "../../owner/client/pair.ts";
import { deviceFolder } from "../../owner/folder/folder.ts";
import { codeThrownBy } from "../thrown.ts";
import { type GatewayHalf, newOwner, startGatewayHalf } from "./gateway-half.ts";

let gateway: GatewayHalf;
let folder: string;
let path: string;
let deviceId: string;
let paired: Uint8Array;

beforeAll(async () => {
  gateway = await startGatewayHalf();
  folder = newOwner();
  ({ deviceId } = await pairDevice({ folder, code: gateway.invite() }));
  path = deviceFolder(folder, deviceId);
  paired = new Uint8Array(readFileSync(join(path, "flash.bin")));
});
afterAll(async () => {
  await gateway.stop();
  rmSync(folder, { recursive: true });
});

/** The device is on this computer, and then in an image. */
beforeEach(() => {
  for (const file of ["image.bin", "moved.json"]) rmSync(join(path, file), { force: true });
  writeFileSync(join(path, "flash.bin"), paired);
  makeImage(path, "moddable");
});
const image = () => new Uint8Array(readFileSync(join(path, "image.bin")));
const needs = (content: Uint8Array) => needsVault(path, deviceId, content);
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

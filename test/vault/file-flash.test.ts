import { mkdtempSync, readdirSync, rmSync, statSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "@jest/globals";
import { type FileFlash, openFileFlash } from "../../device/boards/node/flash.ts";
import { codeFrom } from "./tools.ts";

const folders: string[] = [];
const opened: FileFlash[] = [];

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "lngate-flash-"));
  folders.push(folder);
  return folder;
}
function open(folder: string): FileFlash {
  const flash = openFileFlash(folder, { pageCount: 4 });
  opened.push(flash);
  return flash;
}
afterEach(() => {
  for (const flash of opened.splice(0)) flash.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

describe("A file as flash", () => {
  test("starts blank, keeps what is programmed, and erases whole pages", () => {
    const folder = newFolder();
    const flash = open(folder);
    expect([flash.pageBytes, flash.pageCount]).toEqual([4096, 4]);
    flash.program(4094, Uint8Array.of(1, 2, 3, 4));
    opened.pop()!.close();
    const again = open(folder);
    expect([...again.read(4092, 8)]).toEqual([255, 255, 1, 2, 3, 4, 255, 255]);
    again.erase(1);
    expect([...again.read(4092, 8)]).toEqual([255, 255, 1, 2, 255, 255, 255, 255]);
    expect(statSync(join(folder, "flash.bin")).mode & 0o077).toBe(0);
  });

  test("never turns a zero into a one, and changes nothing when asked to", () => {
    const flash = open(newFolder());
    flash.program(10, Uint8Array.of(0b1010));
    flash.program(10, Uint8Array.of(0b0010));
    expect(codeFrom(() => flash.program(9, Uint8Array.of(0, 0b0110)))).toBe("flash-not-erased");
    expect([...flash.read(9, 2)]).toEqual([255, 0b0010]);
    expect(codeFrom(() => flash.program(4 * 4096 - 1, Uint8Array.of(0, 0)))).toBe("flash-geometry");
    expect(codeFrom(() => flash.erase(4))).toBe("flash-geometry");
  });

  test("of a size that is no number of pages is refused, and not locked", () => {
    const folder = newFolder();
    open(folder);
    opened.pop()!.close();
    truncateSync(join(folder, "flash.bin"), 5000);
    for (let i = 0; i < 2; i++) expect(codeFrom(() => open(folder))).toBe("flash-geometry");
  });

  test("is silent once it is closed, even where its file's number has come to another file", () => {
    const first = open(newFolder());
    first.close();
    const second = open(newFolder());
    for (const use of [
      () => first.program(0, new Uint8Array(4)),
      () => first.erase(0),
      () => first.read(0, 4),
    ]) {
      expect(codeFrom(use)).toBe("flash-closed");
    }
    first.close();
    expect(second.read(0, 4)).toEqual(new Uint8Array(4).fill(255));
  });

  test("is open once at a time", () => {
    const folder = newFolder();
    open(folder);
    expect(codeFrom(() => open(folder))).toBe("device-in-use");
    opened.pop()!.close();
    open(folder);
    expect(readdirSync(folder)).toEqual(["flash.bin"]);
  });
});

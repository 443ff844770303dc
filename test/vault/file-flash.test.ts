import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "@jest/globals";
import { type FileFlash, openFileFlash } from "../../device/boards/node/flash.ts";
import { codeFrom } from "./tools.ts";

const folders: string[] = [];
const opened: FileFlash[] = [];
const children: ChildProcess[] = [];

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
/** Another process that leaves the lock file that this module would leave, and lives on. */
async function otherProcess(folder: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000); console.log('up')"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  await once(child.stdout!, "data");
  // Its name is ours with the other process's number and start.
  open(folder);
  const mine = readdirSync(folder).find(name => name.startsWith("in-use."))!;
  opened.pop()!.close();
  const stat = readFileSync(`/proc/${child.pid}/stat`, "latin1");
  const started = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]!;
  const name = mine.replace(/^in-use\.\d+\.(\w+)-\d+\./, `in-use.${child.pid}.$1-${started}.`);
  writeFileSync(join(folder, name), "");
  return child;
}

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
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
    expect(readdirSync(folder).length).toBe(2);
  });

  const onLinux = process.platform === "linux" ? test : test.skip;
  onLinux("is refused while another process has it, and free as soon as that is killed", async () => {
    const folder = newFolder();
    const child = await otherProcess(folder);
    expect(codeFrom(() => open(folder))).toBe("device-in-use");
    child.kill("SIGKILL");
    await once(child, "exit");
    open(folder);
    expect(readdirSync(folder).length).toBe(2);
  });

  onLinux("does not mistake a process with the same number for the one that was killed", async () => {
    const folder = newFolder();
    await otherProcess(folder);
    const name = readdirSync(folder).find(entry => entry.startsWith("in-use."))!;
    rmSync(join(folder, name));
    writeFileSync(join(folder, name.replace(/-\d+\./, "-1.")), "");
    open(folder);
  });
});

/**
 * A file as a device's flash, for the board `node`: as strict as the real thing (bits only go from one to zero,
 * pages are erased as a whole), synchronous, and durable when a call returns.
 *
 * One process at a time: two that sign from one flash would use its records twice.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { lngateError } from "../../../src/errors.ts";
import type { Flash } from "../../vault/flash.ts";
import { notErased } from "../../vault/memory-flash.ts";

export interface FileFlash extends Flash {
  /** Gives the folder free for another process. */
  close(): void;
}

export interface FileFlashOptions {
  /** Size of a new flash; an existing one keeps its own. 256 pages (1 MiB) unless told. */
  readonly pageCount?: number;
  /** False leaves it to the operating system when to write: survives a killed process, not a lost one. */
  readonly sync?: boolean;
}

const PAGE_BYTES = 4096;
const FILE = "flash.bin";

/**
 * Opens the flash in a folder; a new one is blank. Throws `device-in-use` if another process has it open (or
 * this one, already), `flash-geometry` if the file there is no flash, and what the file system throws.
 */
export function openFileFlash(folder: string, options: FileFlashOptions = {}): FileFlash {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const unlock = lockFolder(folder, "in-use", pid =>
    lngateError("device-in-use", `process ${pid} has the device in ${folder} open`),
  );
  try {
    const file = openOrCreate(folder, options.pageCount ?? 256);
    return flashOver(file, options.sync ?? true, unlock);
  } catch (error) {
    unlock();
    throw error;
  }
}

function openOrCreate(folder: string, pageCount: number): number {
  const path = join(folder, FILE);
  try {
    return openSync(path, "r+");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const fresh = openSync(`${path}.new`, "w", 0o600);
  writeSync(fresh, new Uint8Array(pageCount * PAGE_BYTES).fill(255));
  fsyncSync(fresh);
  closeSync(fresh);
  renameSync(`${path}.new`, path);
  const directory = openSync(folder, "r");
  fsyncSync(directory);
  closeSync(directory);
  return openSync(path, "r+");
}

function flashOver(file: number, sync: boolean, unlock: () => void): FileFlash {
  const size = fstatSync(file).size;
  if (size === 0 || size % PAGE_BYTES !== 0) {
    closeSync(file);
    throw lngateError("flash-geometry", `${FILE} has ${size} bytes, which is no number of pages`);
  }

  let closed = false;
  function inside(offset: number, length: number): void {
    // A closed file's number may belong to another file by now.
    if (closed) throw lngateError("flash-closed", "the flash has been closed");
    if (!(offset >= 0 && length >= 0 && offset + length <= size)) {
      throw lngateError("flash-geometry", `${length} bytes at ${offset} are outside of the flash`);
    }
  }
  function read(offset: number, length: number): Uint8Array {
    inside(offset, length);
    const out = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const count = readSync(file, out, done, length - done, offset + done);
      if (count === 0) throw lngateError("flash-geometry", `${FILE} was cut short`);
      done += count;
    }
    return out;
  }
  function write(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(file, bytes, done, bytes.length - done, offset + done);
    }
    if (sync) fdatasyncSync(file);
  }

  return {
    pageBytes: PAGE_BYTES,
    pageCount: size / PAGE_BYTES,
    read,
    program: (offset, bytes) => {
      const before = read(offset, bytes.length);
      for (let i = 0; i < bytes.length; i++) {
        if ((bytes[i]! & ~before[i]!) !== 0) throw notErased(offset + i);
      }
      write(offset, bytes);
    },
    erase: page => {
      inside(page * PAGE_BYTES, PAGE_BYTES);
      write(page * PAGE_BYTES, new Uint8Array(PAGE_BYTES).fill(255));
    },
    close: () => {
      if (closed) return;
      closed = true;
      closeSync(file);
      unlock();
    },
  };
}

/**
 * Takes a folder for this process and one purpose, until the function it returns is called or the process ends,
 * however it ends. Throws what `busy` makes of the process that has it.
 *
 * Every process leaves a file that names it, and only then looks for the others': of two that start together
 * at least one sees the other. A file whose process is gone counts for nothing and is removed; no name occurs
 * twice, so nobody can remove another's by mistake.
 */
export function lockFolder(folder: string, what: string, busy: (pid: string) => Error): () => void {
  const mine = `${what}.${process.pid}.${startOf(process.pid)}.${randomBytes(8).toString("hex")}`;
  const release = () => rmSync(join(folder, mine), { force: true });
  writeFileSync(join(folder, mine), "", { flag: "wx", mode: 0o600 });
  for (const name of readdirSync(folder)) {
    const [, lock, pid, start] = /^([a-z-]+)\.(\d+)\.([\w-]+)\.[0-9a-f]+$/.exec(name) ?? [];
    if (lock !== what || pid === undefined || name === mine) continue;
    if (startOf(Number(pid)) === start) {
      release();
      throw busy(pid);
    }
    rmSync(join(folder, name), { force: true });
  }
  return release;
}

/** When a living process started, so that its number in another process's hands is not mistaken for it. */
function startOf(pid: number): string | null {
  return process.platform === "linux" ? linuxStartOf(pid) : otherStartOf(pid);
}

function linuxStartOf(pid: number): string | null {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").slice(0, 8);
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // After the name in parentheses: state is the first field, the start in clock ticks since boot the 20th.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return "ZX".includes(fields[0]!) ? null : `${boot}-${fields[19]}`;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ESRCH") return null;
    throw error;
  }
}

function otherStartOf(pid: number): string | null {
  try {
    const line = execFileSync("ps", ["-o", "stat=", "-o", "lstart=", "-p", String(pid)], {
      encoding: "latin1",
      env: { ...process.env, LC_ALL: "C", TZ: "UTC" },
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
    const [state, ...start] = line.split(/\s+/);
    return line === "" || state!.startsWith("Z") ? null : start.join("-").replaceAll(":", "-");
  } catch (error) {
    // ps ends with 1 if there is no such process.
    if ((error as { status?: number }).status === 1) return null;
    throw error;
  }
}

/**
 * A file as a device's flash, for the board `node`: as strict as the real thing (bits only go from one to zero,
 * pages are erased as a whole), synchronous, and durable when a call returns.
 *
 * One process at a time: two that sign from one flash would use its records twice.
 */
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { lngateError } from "../../../src/errors.ts";
import { lockPath } from "../../../src/node/lock.ts";
import type { Flash } from "../../vault/flash.ts";
import { notErased } from "../../vault/memory-flash.ts";

/** A flash in a file, until it is closed. */
export interface FileFlash extends Flash {
  /** Gives the folder free for another process. */
  close(): void;
}

/** How large a flash is made where there is none. */
export interface FileFlashOptions {
  /** Size of a new flash; an existing one keeps its own. 256 pages (1 MiB) by default. */
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
  const unlock = lockPath(folder, () =>
    lngateError("device-in-use", `another process has the device in ${folder} open: end it first`),
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
    throw lngateError("flash-geometry", `${FILE} has ${size} bytes, which is not a number of pages`);
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

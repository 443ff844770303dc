/**
 * A flash in memory: the owner's computer builds a device's image in one, and tests cut its power.
 *
 * It is as honest as the real thing is unforgiving: a program that would turn a zero into a one throws.
 */
import { lngateError } from "../../src/errors.ts";
import type { Flash } from "./flash.ts";

/** A flash in memory, as an image. */
export interface MemoryFlash extends Flash {
  /** A copy of everything, as a programmer would read it out of the chip. */
  image(): Uint8Array;
  /** Programs and erases so far. */
  operations(): number;
  /** How often each page was erased. */
  erasesOf(page: number): number;
  /**
   * Cuts the power during the operation with this number (as `operations` counts, from the present value
   * on): it is carried out in part, as `random` (a number from 0 up to 1) decides, then it and everything after it throws `power-cut`.
   * What is left in the chip is `image()`.
   */
  cutDuring(operation: number, random: () => number): void;
}

/** A flash with this content; blank if there is none. Throws `flash-geometry` if the content does not fit. */
export function memoryFlash(pageBytes: number, pageCount: number, content?: Uint8Array): MemoryFlash {
  const cells = new Uint8Array(pageBytes * pageCount);
  if (content !== undefined && content.length !== cells.length) {
    throw lngateError("flash-geometry", `the image has ${content.length} bytes instead of ${cells.length}`);
  }
  for (let i = 0; i < cells.length; i++) cells[i] = content === undefined ? 255 : content[i]!;
  const erases = new Uint32Array(pageCount);
  let operations = 0;
  let cutAt = -1;
  let off = false;
  let random = (): number => 0;

  function powered(): void {
    if (off) throw powerCut();
  }
  /** Counts an operation; true if the power fails in the middle of it. */
  function begins(): boolean {
    powered();
    off = operations++ === cutAt;
    return off;
  }
  /**
   * The bits of every byte that change before the power is gone: all of them up to some place, none from a
   * second place on, and in between (which may be everything) each with the same chance.
   */
  function changesBeforeCut(length: number): Uint8Array {
    const anywhere = random() < 0.4;
    const from = anywhere ? 0 : Math.floor(random() * (length + 1));
    const to = anywhere ? length : Math.min(length, from + Math.floor(random() * 16));
    const chance = random();
    const changes = new Uint8Array(length);
    for (let i = 0; i < to; i++) {
      if (i < from) changes[i] = 255;
      else for (let bit = 1; bit < 256; bit *= 2) if (random() < chance) changes[i] = changes[i]! | bit;
    }
    return changes;
  }
  function inside(offset: number, length: number): void {
    if (!(offset >= 0 && length >= 0 && offset + length <= cells.length)) {
      throw lngateError("flash-geometry", `${length} bytes at ${offset} are outside of the flash`);
    }
  }

  return {
    pageBytes,
    pageCount,
    image: () => new Uint8Array(cells),
    operations: () => operations,
    erasesOf: page => erases[page]!,
    cutDuring: (operation, source) => {
      cutAt = operation;
      random = source;
    },
    read: (offset, length) => {
      powered();
      inside(offset, length);
      return new Uint8Array(cells.subarray(offset, offset + length));
    },
    program: (offset, bytes) => {
      inside(offset, bytes.length);
      for (let i = 0; i < bytes.length; i++) {
        if ((bytes[i]! & ~cells[offset + i]!) !== 0) throw notErased(offset + i);
      }
      const torn = begins();
      const changes = torn ? changesBeforeCut(bytes.length) : null;
      for (let i = 0; i < bytes.length; i++) {
        const keep = changes === null ? 0 : ~changes[i]! & 255;
        cells[offset + i] = cells[offset + i]! & (bytes[i]! | keep);
      }
      if (torn) throw powerCut();
    },
    erase: page => {
      inside(page * pageBytes, pageBytes);
      const torn = begins();
      const changes = torn ? changesBeforeCut(pageBytes) : null;
      const garbage = torn && random() < 0.3;
      for (let i = 0; i < pageBytes; i++) {
        const at = page * pageBytes + i;
        const set = changes === null ? 255 : changes[i]!;
        cells[at] = garbage && set > 0 ? Math.floor(random() * 256) : cells[at]! | set;
      }
      erases[page] = erases[page]! + 1;
      if (torn) throw powerCut();
    },
  };
}

/** The complaint of a flash that was asked to turn a zero into a one. */
export function notErased(offset: number): Error {
  return lngateError("flash-not-erased", `a bit that is zero at ${offset} cannot be programmed to one`);
}

function powerCut(): Error {
  return lngateError("power-cut", "the power failed in the middle of an operation");
}

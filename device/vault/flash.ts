/**
 * The flash port: what a board has to offer for the vault, and the few steps that all of the vault shares.
 *
 * NOR flash as every small chip has it: a page is erased as a whole, to ones; programming turns ones into
 * zeros and nothing back. A power cut may interrupt either anywhere.
 */
import { equal } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";

/** Synchronous: when a call returns, its effect survives a power cut. Offsets count bytes from the start. */
export interface Flash {
  readonly pageBytes: number;
  readonly pageCount: number;
  /** A copy of what is there. */
  read(offset: number, length: number): Uint8Array;
  /**
   * Clears the bits that are zero in `bytes`; may cross pages. A bit that is zero already may be programmed
   * to zero again, none is ever asked to become one. After a power cut any subset of the bits has changed.
   */
  program(offset: number, bytes: Uint8Array): void;
  /** Sets every byte of the page to 0xff. After a power cut the page may hold anything. */
  erase(page: number): void;
}

/** Equal bytes. (`fill` is missing on some engines.) */
export function filled(length: number, value: number): Uint8Array {
  const out = new Uint8Array(length);
  for (let i = 0; i < length; i++) out[i] = value;
  return out;
}

const CHUNK = 512;
/** Made when it is first needed: a module that is loaded at build time can't hash yet. */
let blankChunk: Uint8Array | null = null;

/** Whether every bit from `offset` on is still one. */
export function isBlank(flash: Flash, offset: number, length: number): boolean {
  let at = offset;
  const end = offset + length;
  // Whole chunks by their hash: hashing is native on a board, a loop over bytes is not.
  for (; at + CHUNK <= end; at += CHUNK) {
    if (blankChunk === null) blankChunk = sha256(filled(CHUNK, 255));
    if (!equal(sha256(flash.read(at, CHUNK)), blankChunk)) return false;
  }
  return isAll(flash.read(at, end - at), 255);
}

/** Whether every byte has this value. */
export function isAll(bytes: Uint8Array, value: number): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== value) return false;
  return true;
}

/** Programs and reads back. Throws `vault-corrupt` if the flash did not take it (worn out). */
export function write(flash: Flash, offset: number, bytes: Uint8Array): void {
  if (bytes.length === 0) return;
  flash.program(offset, bytes);
  if (!holds(flash.read(offset, bytes.length), bytes)) {
    throw lngateError(
      "vault-corrupt",
      `the flash does not hold what was written at ${offset}: it is worn out`,
    );
  }
}

/** Whether what was read is what was written: four bytes at a time where they lie so, which is faster. */
function holds(read: Uint8Array, bytes: Uint8Array): boolean {
  let at = 0;
  if (read.length === bytes.length && (read.byteOffset | bytes.byteOffset) % 4 === 0) {
    const words = bytes.length >> 2;
    const a = new Int32Array(read.buffer, read.byteOffset, words);
    const b = new Int32Array(bytes.buffer, bytes.byteOffset, words);
    for (let i = 0; i < words; i++) if (a[i] !== b[i]) return false;
    at = 4 * words;
  }
  return equal(read.subarray(at), bytes.subarray(at));
}

/** Destroys what is there by clearing every bit. Throws `vault-corrupt` as `write` does. */
export function clear(flash: Flash, offset: number, length: number): void {
  write(flash, offset, new Uint8Array(length));
}

/** Erases and reads back. Throws `vault-corrupt` if bits stay zero. */
export function erasePage(flash: Flash, page: number): void {
  flash.erase(page);
  if (!isBlank(flash, page * flash.pageBytes, flash.pageBytes)) {
    throw lngateError("vault-corrupt", `page ${page} of the flash cannot be erased any more: it is worn out`);
  }
}

/** The first eight bytes of SHA-256: enough to tell what was written completely from what was not. */
export function shortHash(bytes: Uint8Array): Uint8Array {
  return sha256(bytes).subarray(0, 8);
}

/** A big-endian number of two or four bytes. */
export function u16At(bytes: Uint8Array, at: number): number {
  return bytes[at]! * 256 + bytes[at + 1]!;
}
/** The big-endian number of four bytes at this place. */
export function u32At(bytes: Uint8Array, at: number): number {
  return u16At(bytes, at) * 65536 + u16At(bytes, at + 2);
}
/** A big-endian number of two bytes. */
export function u16be(value: number): Uint8Array {
  return new Uint8Array([(value >> 8) & 255, value & 255]);
}

/** What was asked of a flash since it was wrapped. */
export interface FlashUse {
  readonly programs: number;
  readonly programmedBytes: number;
  readonly erases: number;
}

/** The same flash, counting. */
export function metered(flash: Flash): { readonly flash: Flash; use(): FlashUse } {
  let programs = 0;
  let programmedBytes = 0;
  let erases = 0;
  return {
    flash: {
      pageBytes: flash.pageBytes,
      pageCount: flash.pageCount,
      read: (offset, length) => flash.read(offset, length),
      program: (offset, bytes) => {
        programs++;
        programmedBytes += bytes.length;
        flash.program(offset, bytes);
      },
      erase: page => {
        erases++;
        flash.erase(page);
      },
    },
    use: () => ({ programs, programmedBytes, erases }),
  };
}

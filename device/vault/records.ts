/**
 * The bank of presignature records: written by the owner's computer, used one by one by the device.
 *
 * A used record together with what the gateway knows is the whole key, so a record is read for one message,
 * and after the commit that holds the answer its bits are cleared. What is used is decided by a cursor per
 * kind (the smallest id that is not used), which belongs to the channel's state in the journal: "used, for this
 * message" and the answer are one commit. The bank is told the cursor by `erase` and never goes below it.
 *
 * Every page is a region of its own: records of one kind with consecutive ids.
 *
 *     page    magic 4 | kind 1, zero 1 | count 2 | epoch 4 | first id 4 | after 4 | sequence 4 | hash 8 | spent 4
 *             | of kind B: α 32, key 32 of the batch's MACs | slots …
 *     slot    record | check 8
 *
 * The head is written last: until then the page does not exist. `after` is the end of the ids before this
 * page (ids in between never existed), `sequence` counts pages written, so that pages take turns. `spent` is
 * cleared when no record is left; such a page is free, and its keys of MACs are gone.
 *
 * The check is keyed, and covers all that the record's signature is made of: an answer's MAC proves the gateway's part of
 * it, and a bit of ours that has flipped would still make an exit that nobody can publish.
 */
import { ascii, concat, equal, u32be } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import { BATCH_MAC_BYTES } from "../../src/threshold/presigning/mac-keys.ts";
import type { RecordKind } from "../../src/threshold/records.ts";
import { clear, type Flash, isAll, shortHash, u16At, u32At } from "./flash.ts";

export type { RecordKind };
export const RECORD_KINDS: readonly RecordKind[] = ["A", "B", "H"];

/**
 * Bytes of one record as the device holds it: A `w ‖ v`, 64. B `r ‖ κ ‖ c`, 96. H (nonces for the device's own
 * HTLC key) `w ‖ r`, 64.
 */
export function recordBytes(kind: RecordKind): number {
  return kind === "B" ? 96 : 64;
}

/** Bytes that the records of a page have in common: of kind B, `α ‖ key` (src/threshold/presigning/mac-keys.ts). */
export function sharedBytes(kind: RecordKind): number {
  return kind === "B" ? BATCH_MAC_BYTES : 0;
}

/** The presignatures in flash: each is read by its id, and erased once it is used. */
export interface RecordBank {
  /**
   * The first unused record from `cursor` on, of kind B with `α ‖ key` behind it; or null. Throws `policy-record-reuse` for a cursor below what was
   * erased, `vault-rolled-back` if records that the cursor calls unused are gone: the journal is older
   * than the bank, so an old image was put back.
   */
  read(kind: RecordKind, cursor: number): { readonly id: number; readonly bytes: Uint8Array } | null;
  /** How many records there are from `cursor` on. */
  left(kind: RecordKind, cursor: number): number;
  /**
   * Clears the bits of every record below this id, the kind's cursor: after the commit that moved it, and for
   * every kind after each boot, which completes what a power cut interrupted.
   */
  erase(kind: RecordKind, below: number): void;
}

export const MAGIC = 0x4c475232;
const HEAD = 24;
const SPENT = 32;
export const SLOTS = 36;
const CHECK = 8;

/** What the head of a page says. */
export interface PageHead {
  readonly kind: RecordKind;
  readonly count: number;
  readonly epoch: number;
  readonly first: number;
  readonly after: number;
  readonly sequence: number;
  readonly spent: boolean;
}

/** The head of a page (counted from the start of the flash), or null if it is none. */
export function pageHead(flash: Flash, page: number): PageHead | null {
  const head = flash.read(page * flash.pageBytes, SLOTS);
  const kind = RECORD_KINDS[head[4]! - 1];
  if (kind === undefined || u32At(head, 0) !== MAGIC) return null;
  if (!equal(shortHash(head.subarray(0, HEAD)), head.subarray(HEAD, SPENT))) return null;
  const count = u16At(head, 6);
  if (count > recordsPerPage(kind, flash.pageBytes)) return null;
  return {
    kind,
    count,
    epoch: u32At(head, 8),
    first: u32At(head, 12),
    after: u32At(head, 16),
    sequence: u32At(head, 20),
    spent: !isAll(head.subarray(SPENT), 255),
  };
}

function slotBytes(kind: RecordKind): number {
  return recordBytes(kind) + CHECK;
}

/** Records of a kind that one page holds. */
export function recordsPerPage(kind: RecordKind, pageBytes: number): number {
  return Math.floor((pageBytes - SLOTS - sharedBytes(kind)) / slotBytes(kind));
}

/**
 * The check that follows a record in its slot, 8 bytes: a hash under the vault's key, of inputs of one length for each
 * kind, so that it needs no HMAC, which some boards pay dearly for.
 *
 * @param record with what its page has in common behind it
 */
export function checkOf(
  key: Uint8Array,
  kind: RecordKind,
  epoch: number,
  id: number,
  record: Uint8Array,
): Uint8Array {
  return shortHash(concat([key, ascii(kind), u32be(epoch), u32be(id), record]));
}

/**
 * Opens the bank in these pages: blank ones are an empty bank. Pages whose head is not whole do not count.
 * @param key of the records' checks, 32 bytes
 */
export function openRecords(flash: Flash, firstPage: number, pageCount: number, key: Uint8Array): RecordBank {
  // What is held of the newest epoch, as columns: some engines pay dearly for hundreds of small objects.
  const kinds = new Uint8Array(pageCount);
  const firsts = new Uint32Array(pageCount);
  const afters = new Uint32Array(pageCount);
  const counts = new Uint16Array(pageCount);
  const floors = { A: 0, B: 0, H: 0 };
  /** The pages that hold records, as few as they may be: looking at all of them each time would be most of the work. */
  let held: number[] = [];
  let epoch = 0;

  function start(page: number): number {
    return (firstPage + page) * flash.pageBytes;
  }

  function headOf(page: number): PageHead | null {
    return pageHead(flash, firstPage + page);
  }

  function slotAt(page: number, id: number): number {
    const kind = kindOf(page);
    return start(page) + SLOTS + sharedBytes(kind) + (id - firsts[page]!) * slotBytes(kind);
  }
  function kindOf(page: number): RecordKind {
    return RECORD_KINDS[kinds[page]! - 1]!;
  }
  function holds(page: number, kind: RecordKind): boolean {
    return kinds[page] !== 0 && kindOf(page) === kind;
  }
  function endOf(page: number): number {
    return firsts[page]! + counts[page]!;
  }

  /** Reads all heads; destroys what is left of older epochs. */
  function scan(): void {
    const epochs = new Uint32Array(pageCount);
    epoch = 0;
    for (let page = 0; page < pageCount; page++) {
      const head = headOf(page);
      kinds[page] = 0;
      if (head === null) continue;
      epoch = Math.max(epoch, head.epoch);
      if (head.spent) continue;
      epochs[page] = head.epoch;
      kinds[page] = RECORD_KINDS.indexOf(head.kind) + 1;
      firsts[page] = head.first;
      afters[page] = head.after;
      counts[page] = head.count;
    }
    for (let page = 0; page < pageCount; page++) {
      if (kinds[page] === 0 || epochs[page] === epoch) continue;
      clear(flash, slotAt(page, firsts[page]!), counts[page]! * slotBytes(kindOf(page)));
      retire(page);
    }
    held = [];
    for (let page = 0; page < pageCount; page++) if (kinds[page] !== 0) held.push(page);
  }

  /** A page whose records are all cleared. A cut between the two programs leaves it to be retired again. */
  function retire(page: number): void {
    const shared = sharedBytes(kindOf(page));
    if (shared > 0) clear(flash, start(page) + SLOTS, shared);
    kinds[page] = 0;
    held = held.filter(other => other !== page);
    clear(flash, start(page) + SPENT, 4);
  }

  /** The page with the first record of a kind from `cursor` on, or -1. */
  function pageFrom(kind: RecordKind, cursor: number): number {
    let found = -1;
    for (const page of held) {
      if (!holds(page, kind) || endOf(page) <= cursor) continue;
      if (found < 0 || firsts[page]! < firsts[found]!) found = page;
    }
    return found;
  }

  function rolledBack(kind: RecordKind, id: number): Error {
    return lngateError(
      "vault-rolled-back",
      `record ${id} of kind ${kind} is unused by the device's state but gone: an old image was put back`,
    );
  }

  /** Whether a page was spent although the state calls some of its records unused. */
  function spentBeyond(kind: RecordKind, cursor: number): boolean {
    for (let page = 0; page < pageCount; page++) {
      const head = kinds[page] === 0 ? headOf(page) : null;
      if (head === null || !head.spent || head.kind !== kind || head.epoch !== epoch) continue;
      if (head.first + head.count > cursor) return true;
    }
    return false;
  }

  scan();

  return {
    read: (kind, cursor) => {
      if (cursor < floors[kind]) {
        throw lngateError("policy-record-reuse", `record ${cursor} of kind ${kind} was used before`);
      }
      let id = cursor;
      for (;;) {
        const page = pageFrom(kind, id);
        if (page < 0) {
          if (spentBeyond(kind, cursor)) throw rolledBack(kind, cursor);
          return null;
        }
        if (firsts[page]! > id) {
          if (afters[page]! > id) throw rolledBack(kind, id);
          id = firsts[page]!;
        }
        const slot = flash.read(slotAt(page, id), slotBytes(kind));
        if (isAll(slot, 0)) throw rolledBack(kind, id);
        const shared = flash.read(start(page) + SLOTS, sharedBytes(kind));
        const bytes = concat([slot.subarray(0, recordBytes(kind)), shared]);
        const isWhole = equal(checkOf(key, kind, epoch, id, bytes), slot.subarray(recordBytes(kind)));
        slot.fill(0);
        shared.fill(0);
        if (isWhole) return { id, bytes };
        bytes.fill(0);
        // Rotted: the next one serves, and this one is cleared when the cursor has passed it.
        id++;
      }
    },

    left: (kind, cursor) => {
      let count = 0;
      for (const page of held) {
        if (holds(page, kind)) count += Math.max(0, endOf(page) - Math.max(cursor, firsts[page]!));
      }
      return count;
    },

    erase: (kind, below) => {
      floors[kind] = Math.max(floors[kind], below);
      for (const page of held) {
        if (!holds(page, kind) || firsts[page]! >= below) continue;
        // One at a time and upwards, so that below a cleared record everything is: looking stops there.
        const end = Math.min(below, endOf(page));
        let id = end;
        while (id > firsts[page]! && !isAll(flash.read(slotAt(page, id - 1), slotBytes(kind)), 0)) id--;
        for (; id < end; id++) clear(flash, slotAt(page, id), slotBytes(kind));
        if (end === endOf(page)) retire(page);
      }
    },
  };
}

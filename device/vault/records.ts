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
 *     page    magic 4 | kind 1, zero 1 | count 2 | epoch 4 | first id 4 | after 4 | sequence 4 | hash 8 | spent 4 | slots …
 *     slot    record | hash of kind, epoch, id and record 4
 *
 * The head is written last: until then the page does not exist. `after` is the end of the ids before this
 * page (ids in between never existed), `sequence` counts pages written, so that pages take turns. `spent` is
 * cleared when no record is left; such a page is free.
 */
import { ascii, concat, equal, u32be } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import type { Batch, RecordKind } from "../../src/threshold/records.ts";
import { clear, erasePage, type Flash, isAll, shortHash, u16At, u16be, u32At, write } from "./flash.ts";

export type { Batch, RecordKind };
export const RECORD_KINDS: readonly RecordKind[] = ["A", "B", "H"];

/**
 * Bytes of one record as the device holds it: A `w ‖ v`, 64. B `r ‖ κ ‖ c`, 96. H (nonces for the device's own
 * HTLC key) `w ‖ r`, 64.
 */
export function recordBytes(kind: RecordKind): number {
  return kind === "B" ? 96 : 64;
}

export interface RecordBank {
  /**
   * The first unused record from `cursor` on, or null. Throws `policy-record-reuse` for a cursor below what was
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
  /**
   * Adds records, page by page: best all of a charging at once, since every batch begins a page. A higher epoch
   * than before ends the older one: its records are destroyed, ids begin anew. Throws before anything is
   * written: `records-full`, `records-order` (ids that are not above all earlier ones of the epoch, an older
   * epoch), `records-malformed`.
   */
  append(batch: Batch): void;
  /** The id after the last of the newest epoch: from there on a further batch of this kind may begin. */
  end(kind: RecordKind): number;
  /** The newest epoch; 0 if there was none. */
  epoch(): number;
  /** How many records of a kind fit into the pages that are free now. */
  capacity(kind: RecordKind): number;
}

const MAGIC = 0x4c475231;
const HEAD = 24;
const SPENT = 32;
const SLOTS = 36;
const CHECK = 4;

interface Page {
  readonly kind: RecordKind;
  readonly count: number;
  readonly epoch: number;
  readonly first: number;
  readonly after: number;
  readonly sequence: number;
  readonly spent: boolean;
}

function slotBytes(kind: RecordKind): number {
  return recordBytes(kind) + CHECK;
}

/** Records of a kind that one page holds. */
export function recordsPerPage(kind: RecordKind, pageBytes: number): number {
  return Math.floor((pageBytes - SLOTS) / slotBytes(kind));
}

function checkOf(kind: RecordKind, epoch: number, id: number, record: Uint8Array): Uint8Array {
  return shortHash(concat([ascii(kind), u32be(epoch), u32be(id), record])).subarray(0, CHECK);
}

/** Opens the bank in these pages: blank ones are an empty bank. Pages whose head is not whole do not count. */
export function openRecords(flash: Flash, firstPage: number, pageCount: number): RecordBank {
  // What is held of the newest epoch, as columns: some engines pay dearly for hundreds of small objects.
  const kinds = new Uint8Array(pageCount);
  const firsts = new Uint32Array(pageCount);
  const afters = new Uint32Array(pageCount);
  const counts = new Uint16Array(pageCount);
  const floors = { A: 0, B: 0, H: 0 };
  let epoch = 0;

  function start(page: number): number {
    return (firstPage + page) * flash.pageBytes;
  }

  function headOf(page: number): Page | null {
    const head = flash.read(start(page), SLOTS);
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

  function slotAt(page: number, id: number): number {
    return start(page) + SLOTS + (id - firsts[page]!) * slotBytes(kindOf(page));
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
      clear(flash, start(page) + SLOTS, counts[page]! * slotBytes(kindOf(page)));
      retire(page);
    }
  }

  function retire(page: number): void {
    kinds[page] = 0;
    clear(flash, start(page) + SPENT, 4);
  }

  /** The page with the first record of a kind from `cursor` on, or -1. */
  function pageFrom(kind: RecordKind, cursor: number): number {
    let found = -1;
    for (let page = 0; page < pageCount; page++) {
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
        const bytes = new Uint8Array(slot.subarray(0, recordBytes(kind)));
        if (equal(checkOf(kind, epoch, id, bytes), slot.subarray(recordBytes(kind)))) return { id, bytes };
        // Rotted: the next one serves, and this one is cleared when the cursor has passed it.
        id++;
      }
    },

    left: (kind, cursor) => {
      let count = 0;
      for (let page = 0; page < pageCount; page++) {
        if (holds(page, kind)) count += Math.max(0, endOf(page) - Math.max(cursor, firsts[page]!));
      }
      return count;
    },

    erase: (kind, below) => {
      floors[kind] = Math.max(floors[kind], below);
      for (let page = 0; page < pageCount; page++) {
        if (!holds(page, kind) || firsts[page]! >= below) continue;
        // One at a time and upwards, so that below a cleared record everything is: looking stops there.
        const end = Math.min(below, endOf(page));
        let id = end;
        while (id > firsts[page]! && !isAll(flash.read(slotAt(page, id - 1), slotBytes(kind)), 0)) id--;
        for (; id < end; id++) clear(flash, slotAt(page, id), slotBytes(kind));
        if (end === endOf(page)) retire(page);
      }
    },

    append: batch => {
      const pages = pagesFor(batch);
      const perPage = recordsPerPage(batch.kind, flash.pageBytes);
      let after = endOfKind(batch.kind, batch.epoch);
      let sequence = newest().sequence;
      for (let i = 0; i < pages.length; i++) {
        const from = i * perPage;
        const count = Math.min(perPage, batch.count - from);
        sequence++;
        writePage(pages[i]!, batch, from, count, after, sequence);
        after = batch.firstId + from + count;
      }
      if (batch.epoch > epoch) {
        for (const kind of RECORD_KINDS) floors[kind] = 0;
      }
      scan();
    },

    end: kind => endOfKind(kind, epoch),
    epoch: () => epoch,
    capacity: kind => freePages().length * recordsPerPage(kind, flash.pageBytes),
  };

  function endOfKind(kind: RecordKind, of: number): number {
    let end = 0;
    for (let page = 0; page < pageCount; page++) {
      const head = headOf(page);
      if (head === null || head.kind !== kind || head.epoch !== of) continue;
      end = Math.max(end, head.first + head.count);
    }
    return end;
  }

  /** The page that was written last. */
  function newest(): { page: number; sequence: number } {
    let found = { page: -1, sequence: 0 };
    for (let page = 0; page < pageCount; page++) {
      const head = headOf(page);
      if (head !== null && head.sequence > found.sequence) found = { page, sequence: head.sequence };
    }
    return found;
  }

  /** Free pages, beginning after the one that was written last: so they wear evenly. */
  function freePages(): number[] {
    const from = newest().page + 1;
    const free: number[] = [];
    for (let i = 0; i < pageCount; i++) {
      const page = (from + i) % pageCount;
      if (kinds[page] === 0) free.push(page);
    }
    return free;
  }

  /** The pages that a batch will fill; throws if it must not be added. */
  function pagesFor(batch: Batch): number[] {
    const { kind, firstId, count } = batch;
    const whole = count > 0 && firstId >= 0 && firstId + count <= 0xffffffff && batch.epoch <= 0xffffffff;
    if (!whole || batch.records.length !== count * recordBytes(kind)) {
      throw lngateError("records-malformed", `records of kind ${kind} have ${recordBytes(kind)} bytes each`);
    }
    if (
      batch.epoch < epoch ||
      (batch.epoch === epoch && firstId < Math.max(endOfKind(kind, epoch), floors[kind]))
    ) {
      throw lngateError("records-order", `records of kind ${kind} do not follow those that are there`);
    }
    const pages = freePages();
    const needed = Math.ceil(count / recordsPerPage(kind, flash.pageBytes));
    if (needed > pages.length) {
      throw lngateError("records-full", `${count} records of kind ${kind} do not fit into the flash`);
    }
    return pages.slice(0, needed);
  }

  /** Writes `count` records of the batch, from the one at `from` on. */
  function writePage(
    page: number,
    batch: Batch,
    from: number,
    count: number,
    after: number,
    sequence: number,
  ): void {
    const { kind, epoch: of, records } = batch;
    const first = batch.firstId + from;
    const size = recordBytes(kind);
    // Whatever is in a free page: erased only now, as a page that looks blank may be half erased.
    erasePage(flash, firstPage + page);
    const slots: Uint8Array[] = [];
    for (let i = 0; i < count; i++) {
      const record = records.subarray((from + i) * size, (from + i + 1) * size);
      slots.push(record, checkOf(kind, of, first + i, record));
    }
    write(flash, start(page) + SLOTS, concat(slots));
    const kindByte = new Uint8Array([RECORD_KINDS.indexOf(kind) + 1, 0]);
    const numbers = concat([u32be(of), u32be(first), u32be(after), u32be(sequence)]);
    const head = concat([u32be(MAGIC), kindByte, u16be(count), numbers]);
    write(flash, start(page), concat([head, shortHash(head)]));
  }
}

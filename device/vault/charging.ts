/**
 * Adding records to a vault: what only the owner's computer does, kept out of the device's firmware.
 */
import { concat, u32be } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import type { Batch } from "../../src/threshold/records.ts";
import { erasePage, type Flash, shortHash, u16be, write } from "./flash.ts";
import { encodeOwnersWord, type OwnersWord } from "./identity.ts";
import { openJournal } from "./journal.ts";
import {
  checkOf,
  MAGIC,
  openRecords,
  pageHead,
  RECORD_KINDS,
  type RecordBank,
  type RecordKind,
  recordBytes,
  recordsPerPage,
  SLOTS,
  sharedBytes,
} from "./records.ts";
import { OWNERS_KEY, openVault, pairedIdentity, recordArea, type Vault } from "./vault.ts";

/** The records of a vault, as charging sees them. */
export interface ChargingBank extends RecordBank {
  /**
   * Adds records, page by page: best all of a charging at once, since every batch begins a page. A higher epoch
   * than before ends the older one: its records are destroyed, ids begin again. Throws before anything is
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

/** A vault as `openVault` opens it, with a bank that takes records. The device must not run meanwhile. */
export function openVaultToCharge(flash: Flash): Vault & { readonly records: ChargingBank } {
  const vault = openVault(flash);
  const { first, count, key } = recordArea(flash);
  return { ...vault, records: openCharging(flash, first, count, key) };
}

/**
 * Writes what the owner wants and knows from now on, before the vault is opened: whole, or (in a power cut) not at all.
 * Throws `vault-full`, `identity-malformed`.
 */
export function writeOwnersWord(flash: Flash, word: OwnersWord): void {
  const { identity, place } = pairedIdentity(flash);
  const value = encodeOwnersWord(identity, word);
  openJournal(flash, place).commit([{ key: OWNERS_KEY, value }]);
}

/** The record bank in these pages, as `openRecords` opens it, and what adds to it. */
export function openCharging(
  flash: Flash,
  firstPage: number,
  pageCount: number,
  key: Uint8Array,
): ChargingBank {
  let bank = openRecords(flash, firstPage, pageCount, key);
  let cursors = { A: 0, B: 0, H: 0 };

  function heads() {
    return Array.from({ length: pageCount }, (_, i) => ({
      page: firstPage + i,
      head: pageHead(flash, firstPage + i),
    }));
  }
  function epoch(): number {
    return Math.max(0, ...heads().map(({ head }) => head?.epoch ?? 0));
  }
  function endOf(kind: RecordKind, of: number): number {
    const ends = heads().map(({ head }) =>
      head?.kind === kind && head.epoch === of ? head.first + head.count : 0,
    );
    return Math.max(0, ...ends);
  }
  function newestSequence(): number {
    return Math.max(0, ...heads().map(({ head }) => head?.sequence ?? 0));
  }

  /** Pages without records, beginning after the one that was written last: so they wear evenly. */
  function freePages(): number[] {
    const all = heads();
    const newest = newestSequence();
    const from = all.findIndex(({ head }) => head?.sequence === newest) + 1;
    return [...all.slice(from), ...all.slice(0, from)]
      .filter(({ head }) => head === null || head.spent)
      .map(({ page }) => page);
  }

  /** The pages that a batch will fill; throws if it must not be added. */
  function pagesFor(batch: Batch): number[] {
    const { kind, firstId, count } = batch;
    const whole = count > 0 && firstId >= 0 && firstId + count <= 0xffffffff && batch.epoch <= 0xffffffff;
    if (!whole || batch.records.length !== count * recordBytes(kind)) {
      throw lngateError("records-malformed", `records of kind ${kind} have ${recordBytes(kind)} bytes each`);
    }
    if ((batch.mac ? batch.mac.length : 0) !== sharedBytes(kind)) {
      throw lngateError("records-malformed", `records of kind ${kind} come without the keys of their MACs`);
    }
    const now = epoch();
    const follows = batch.epoch > now || firstId >= Math.max(endOf(kind, now), cursors[kind]);
    if (batch.epoch < now || !follows) {
      throw lngateError("records-order", `records of kind ${kind} do not follow those that are there`);
    }
    const pages = freePages();
    const needed = Math.ceil(count / recordsPerPage(kind, flash.pageBytes));
    if (needed > pages.length) {
      throw lngateError("records-full", `${count} records of kind ${kind} do not fit into the flash`);
    }
    return pages.slice(0, needed);
  }

  return {
    read: (kind, cursor) => bank.read(kind, cursor),
    left: (kind, cursor) => bank.left(kind, cursor),
    erase: (kind, below) => {
      cursors[kind] = Math.max(cursors[kind], below);
      bank.erase(kind, below);
    },
    append: batch => {
      const pages = pagesFor(batch);
      const perPage = recordsPerPage(batch.kind, flash.pageBytes);
      if (batch.epoch > epoch()) cursors = { A: 0, B: 0, H: 0 };
      let after = endOf(batch.kind, batch.epoch);
      let sequence = newestSequence();
      let from = 0;
      for (const page of pages) {
        const count = Math.min(perPage, batch.count - from);
        sequence++;
        writePage(flash, page, key, batch, { from, count, after, sequence });
        from += count;
        after = batch.firstId + from;
      }
      bank = openRecords(flash, firstPage, pageCount, key);
      for (const kind of RECORD_KINDS) bank.erase(kind, cursors[kind]);
    },
    end: kind => endOf(kind, epoch()),
    epoch,
    capacity: kind => freePages().length * recordsPerPage(kind, flash.pageBytes),
  };
}

/** Writes `count` records of the batch, from the one at `from` on, and then the head that makes them exist. */
function writePage(
  flash: Flash,
  page: number,
  key: Uint8Array,
  { kind, epoch, firstId, records, mac }: Batch,
  { from, count, after, sequence }: { from: number; count: number; after: number; sequence: number },
): void {
  const first = firstId + from;
  const size = recordBytes(kind);
  // Whatever is in a free page: erased only now, as a page that looks blank may be half erased.
  erasePage(flash, page);
  const shared = mac || new Uint8Array(0);
  const slots: Uint8Array[] = [shared];
  for (let i = 0; i < count; i++) {
    const record = records.subarray((from + i) * size, (from + i + 1) * size);
    slots.push(record, checkOf(key, kind, epoch, first + i, concat([record, shared])));
  }
  const start = page * flash.pageBytes;
  write(flash, start + SLOTS, concat(slots));
  const kindByte = new Uint8Array([RECORD_KINDS.indexOf(kind) + 1, 0]);
  const numbers = concat([u32be(epoch), u32be(first), u32be(after), u32be(sequence)]);
  const head = concat([u32be(MAGIC), kindByte, u16be(count), numbers]);
  write(flash, start, concat([head, shortHash(head)]));
}

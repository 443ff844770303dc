/**
 * What a device remembers, as values under small numbers, kept so that a power cut never leaves a mixture.
 *
 * Two areas of the flash take turns. In the active one, commits are appended; when it is full, the living
 * values are copied to the other, which becomes the active one, and the first is erased.
 *
 *     area    mark 4 | magic 4 | sequence 4 | hash 8 | entries …
 *     entry   seal 4 | count 2, zero 2 | bytes of values 4 | generation 4 | items 16 each | hash 8 | values | to 4
 *     item    key 2 | flags 1, zero 1 | bytes of value 4 | hash of value 8
 *
 * Numbers are big-endian, hashes the first 8 bytes of SHA-256. An entry counts from the moment its hashes are
 * right; then its seal is cleared. So an unsealed entry with wrong hashes is a commit that the power cut
 * short, and a sealed one is damage: the first is dropped, the second is reported and nothing is touched.
 * An entry's hash covers its items with the hashes of their values, not the values: a secret that was
 * superseded can be destroyed in place.
 */
import { concat, equal, u32be } from "../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import {
  clear,
  erasePage,
  type Flash,
  isAll,
  isBlank,
  shortHash,
  u16At,
  u16be,
  u32At,
  write,
} from "./flash.ts";

/** A value to store under a key (0 to 65535), or null to remove it. */
export interface Change {
  readonly key: number;
  readonly value: Uint8Array | null;
  /** When a later commit replaces or removes this value, its bits are cleared before that commit returns. */
  readonly secret?: boolean;
}

/** Values by their keys, changed several at a time or not at all. */
export interface Journal {
  /** A copy of the value, or null. */
  get(key: number): Uint8Array | null;
  /** The keys that have a value, rising. */
  keys(): number[];
  /**
   * All changes or none, durable on return; secrets they supersede are destroyed by then. Throws `vault-full`
   * (nothing is changed), `vault-corrupt` (the flash is worn out), or what the flash throws: after the last
   * two every further commit throws `vault-stopped` until the journal is opened again.
   */
  commit(changes: readonly Change[]): void;
  /** Whether such a commit fits, and this many bytes beside what then lives; or would throw `vault-full`. */
  fits(changes: readonly Change[], spareBytes: number): boolean;
  /** Number of commits since the journal was made: it only ever grows, unless an old image is put back. */
  readonly generation: number;
  /** Bytes that all living values together may take, each with 16 more of its own. */
  readonly capacity: number;
  /** Makes room in advance, in idle time, if less than a quarter of the area is left. */
  tidy(): void;
}

/** Where a journal lies: two areas of `areaPages` pages each. */
export interface JournalPlace {
  readonly firstPage: number;
  readonly areaPages: number;
}

const MAGIC = 0x4c474a31;
/**
 * Mark of an area that was erased completely and not written since; cleared when it is put to use. (An area
 * that only looks blank may have been erased by half.)
 */
const CLEAN = 0x5ac369f0;
const AREA_HEAD = 20;
const ENTRY_HEAD = 16;
const ITEM_HEAD = 16;
const HASH = 8;
const SECRET = 1;
const REMOVED = 2;

/** A living value: where its item and its bytes are, counted from the start of its area. */
interface Slot {
  readonly key: number;
  readonly item: number;
  readonly at: number;
  readonly length: number;
  readonly secret: boolean;
}

/** Bytes of an entry. */
function entryBytes(items: number, valueBytes: number): number {
  return 4 * Math.ceil((ENTRY_HEAD + ITEM_HEAD * items + HASH + valueBytes) / 4);
}

/** Everything of an entry but its values. `items` are the encoded item heads. */
function entryHead(sealed: boolean, items: Uint8Array, valueBytes: number, generation: number): Uint8Array {
  const seal = sealed ? 0 : 0xffffffff;
  const count = u16be(items.length / ITEM_HEAD);
  const head = concat([u32be(seal), count, u16be(0), u32be(valueBytes), u32be(generation), items]);
  return concat([head, shortHash(head.subarray(4))]);
}

function itemHead(change: Change): Uint8Array {
  const value = change.value === null ? new Uint8Array(0) : change.value;
  const flags = (change.secret === true ? SECRET : 0) | (change.value === null ? REMOVED : 0);
  const head = concat([u16be(change.key), new Uint8Array([flags, 0]), u32be(value.length)]);
  return concat([head, shortHash(value)]);
}

function areaHead(sequence: number): Uint8Array {
  const head = concat([u32be(MAGIC), u32be(sequence)]);
  return concat([head, shortHash(head)]);
}

/** Makes an empty journal; both areas are erased. */
export function formatJournal(flash: Flash, place: JournalPlace): void {
  const other = (place.firstPage + place.areaPages) * flash.pageBytes;
  for (let page = 0; page < 2 * place.areaPages; page++) erasePage(flash, place.firstPage + page);
  write(flash, other, u32be(CLEAN));
  const start = place.firstPage * flash.pageBytes;
  write(flash, start + AREA_HEAD, entryHead(true, new Uint8Array(0), 0, 0));
  write(flash, start, concat([u32be(0), areaHead(1)]));
}

/**
 * Opens a journal and completes what a power cut interrupted. Throws `vault-corrupt` if the flash holds none,
 * or one that is damaged beyond what a power cut can do; nothing is written in that case.
 */
export function openJournal(flash: Flash, place: JournalPlace): Journal {
  const areaBytes = place.areaPages * flash.pageBytes;
  /** Most that the living values, or one commit, may take: two such entries always fit into an area. */
  const half = ((areaBytes - AREA_HEAD) >> 1) & ~3;
  let slots: Slot[] = [];
  let generation = 0;
  let active = 0;
  let sequence = 0;
  let end = 0;
  let stopped = false;

  function start(area: number): number {
    return (place.firstPage + area * place.areaPages) * flash.pageBytes;
  }
  function read(at: number, length: number): Uint8Array {
    return flash.read(start(active) + at, length);
  }

  function sequenceOf(area: number): number {
    const head = flash.read(start(area) + 4, AREA_HEAD - 4);
    const claimed = u32At(head, 4);
    return equal(head, areaHead(claimed)) ? claimed : 0;
  }
  function isClean(area: number): boolean {
    return u32At(flash.read(start(area), 4), 0) === CLEAN;
  }
  function makeClean(area: number): void {
    const first = start(area) / flash.pageBytes;
    for (let page = first; page < first + place.areaPages; page++) erasePage(flash, page);
    write(flash, start(area), u32be(CLEAN));
  }

  /** Bytes of the entry at `at` if its head is whole and follows the entry before it, else 0. */
  function entryAt(at: number): number {
    if (at + ENTRY_HEAD + HASH > areaBytes) return 0;
    const head = read(at, ENTRY_HEAD);
    const count = u16At(head, 4);
    let valueBytes = u32At(head, 8);
    const size = entryBytes(count, valueBytes);
    const first = at === AREA_HEAD;
    if (at + size > areaBytes || !(first || u32At(head, 12) === generation + 1)) return 0;
    const covered = read(at + 4, ENTRY_HEAD - 4 + ITEM_HEAD * count);
    const hash = read(at + ENTRY_HEAD + ITEM_HEAD * count, HASH);
    if (!equal(shortHash(covered), hash)) return 0;
    for (let i = 0; i < count; i++) valueBytes -= u32At(covered, ENTRY_HEAD + ITEM_HEAD * i);
    return valueBytes === 0 ? size : 0;
  }

  function isWhole(slot: Slot): boolean {
    return equal(shortHash(read(slot.at, slot.length)), read(slot.item + 8, HASH));
  }

  /** The items of the entry at `at`; the key of a removed one has an item but no bytes. */
  function slotsOf(at: number): { slot: Slot; removed: boolean }[] {
    const head = read(at, ENTRY_HEAD);
    const count = u16At(head, 4);
    const out = [];
    let value = at + ENTRY_HEAD + ITEM_HEAD * count + HASH;
    for (let i = 0; i < count; i++) {
      const item = at + ENTRY_HEAD + ITEM_HEAD * i;
      const fields = read(item, 8);
      const length = u32At(fields, 4);
      const secret = (fields[2]! & SECRET) !== 0;
      const slot = { key: u16At(fields, 0), item, at: value, length, secret };
      out.push({ slot, removed: (fields[2]! & REMOVED) !== 0 });
      value += length;
    }
    return out;
  }

  /** Takes the entry at `at` into account; returns the secrets that it supersedes. */
  function apply(at: number): Slot[] {
    const superseded: Slot[] = [];
    for (const { slot, removed } of slotsOf(at)) {
      const kept: Slot[] = [];
      for (const old of slots) {
        if (old.key !== slot.key) kept.push(old);
        else if (old.secret) superseded.push(old);
      }
      if (!removed) kept.push(slot);
      slots = kept;
    }
    generation = u32At(read(at, ENTRY_HEAD), 12);
    return superseded;
  }

  function destroy(superseded: readonly Slot[]): void {
    for (const slot of superseded) {
      if (!isAll(read(slot.at, slot.length), 0)) clear(flash, start(active) + slot.at, slot.length);
    }
  }

  /** Copies the living values to the other area, which is clean, and goes on there. */
  function compact(): void {
    const from = start(active);
    const to = 1 - active;
    write(flash, start(to), u32be(0));
    const items: Uint8Array[] = [];
    let valueBytes = 0;
    for (const slot of slots) {
      // The item is copied as it is: a value that rotted since it was opened is not blessed with a new hash.
      items.push(read(slot.item, ITEM_HEAD));
      valueBytes += slot.length;
    }
    write(flash, start(to) + AREA_HEAD, entryHead(true, concat(items), valueBytes, generation));
    let at = AREA_HEAD + ENTRY_HEAD + ITEM_HEAD * slots.length + HASH;
    for (const slot of slots) {
      if (!isWhole(slot)) throw damaged();
      write(flash, start(to) + at, flash.read(from + slot.at, slot.length));
      at += slot.length;
    }
    write(flash, start(to) + 4, areaHead(sequence + 1));
    // From here on the other area is the journal.
    active = to;
    sequence++;
    slots = [];
    apply(AREA_HEAD);
    end = AREA_HEAD + entryBytes(slots.length, valueBytes);
    makeClean(1 - to);
  }

  function open(): void {
    const sequences = [sequenceOf(0), sequenceOf(1)];
    active = sequences[1]! > sequences[0]! ? 1 : 0;
    sequence = sequences[active]!;
    if (sequence === 0) throw damaged();

    let superseded: Slot[] = [];
    let unsealed = -1;
    end = AREA_HEAD;
    for (;;) {
      const size = entryAt(end);
      const sealed = end + ENTRY_HEAD <= areaBytes && !isAll(read(end, 4), 255);
      if (!sealed && size > 0) {
        // Written but not sealed: it counts if every value of it is whole.
        for (const { slot } of slotsOf(end)) if (!isWhole(slot)) unsealed = -2;
        if (unsealed === -2) break;
        unsealed = end;
      } else if (size === 0) {
        if (sealed) throw damaged();
        break;
      }
      superseded = superseded.concat(apply(end));
      end += size;
    }
    if (end === AREA_HEAD) throw damaged();
    for (const slot of slots) if (!isWhole(slot)) throw damaged();

    // Nothing was written so far. A bit that a power cut left between zero and one is programmed once more.
    if (unsealed >= 0) {
      write(flash, start(active) + unsealed + 4, read(unsealed + 4, end - unsealed - 4));
      write(flash, start(active) + unsealed, u32be(0));
    }
    destroy(superseded);
    if (!isClean(1 - active)) {
      write(flash, start(active) + 4, areaHead(sequence));
      makeClean(1 - active);
    }
    if (!isBlank(flash, start(active) + end, areaBytes - end)) compact();
  }

  /** The changes that change something; a key occurs once. */
  function checked(changes: readonly Change[]): Change[] {
    const out: Change[] = [];
    for (let i = 0; i < changes.length; i++) {
      const change = changes[i]!;
      for (let k = 0; k < i; k++) if (changes[k]!.key === change.key) throw badKey(change.key);
      if (!(change.key >= 0 && change.key <= 65535 && Math.floor(change.key) === change.key)) {
        throw badKey(change.key);
      }
      if (change.value !== null || slotOf(change.key) !== null) out.push(change);
    }
    return out;
  }

  function slotOf(key: number): Slot | null {
    for (const slot of slots) if (slot.key === key) return slot;
    return null;
  }

  /** Throws `vault-full` if the commit, or what lives after it, does not fit. Returns the entry's bytes. */
  function fitting(changes: readonly Change[], spareBytes = 0): number {
    let items = slots.length;
    let valueBytes = spareBytes;
    let newBytes = 0;
    for (const slot of slots) valueBytes += slot.length;
    for (const { key, value } of changes) {
      const old = slotOf(key);
      items += (value === null ? 0 : 1) - (old === null ? 0 : 1);
      valueBytes += (value === null ? 0 : value.length) - (old === null ? 0 : old.length);
      newBytes += value === null ? 0 : value.length;
    }
    const size = entryBytes(changes.length, newBytes);
    if (size > half || entryBytes(items, valueBytes) > half || generation === 0xffffffff) {
      throw lngateError("vault-full", `a commit of ${newBytes} bytes does not fit into the flash's journal`);
    }
    return size;
  }

  function append(changes: readonly Change[], size: number): void {
    if (end + size > areaBytes) compact();
    const items: Uint8Array[] = [];
    const values: Uint8Array[] = [];
    let valueBytes = 0;
    for (const change of changes) {
      items.push(itemHead(change));
      if (change.value !== null) {
        values.push(change.value);
        valueBytes += change.value.length;
      }
    }
    const head = entryHead(false, concat(items), valueBytes, generation + 1);
    write(flash, start(active) + end + 4, concat([head.subarray(4), concat(values)]));
    write(flash, start(active) + end, u32be(0));
    const superseded = apply(end);
    end += size;
    destroy(superseded);
  }

  open();
  return {
    get: key => {
      const slot = slotOf(key);
      return slot === null ? null : read(slot.at, slot.length);
    },
    keys: () => {
      const keys: number[] = [];
      for (const slot of slots) keys.push(slot.key);
      return keys.sort((a, b) => a - b);
    },
    commit: changes => {
      if (stopped)
        throw lngateError("vault-stopped", "an earlier write failed: the vault has to be opened again");
      const wanted = checked(changes);
      if (wanted.length === 0) return;
      const size = fitting(wanted);
      stopped = true;
      append(wanted, size);
      stopped = false;
    },
    fits: (changes, spareBytes) => {
      try {
        fitting(checked(changes), spareBytes);
        return true;
      } catch (error) {
        if (codeOf(error) !== "vault-full") throw error;
        return false;
      }
    },
    get generation() {
      return generation;
    },
    capacity: half - entryBytes(0, 0),
    tidy: () => {
      if (stopped || areaBytes - end > areaBytes / 4) return;
      stopped = true;
      compact();
      stopped = false;
    },
  };
}

function damaged(): Error {
  return lngateError("vault-corrupt", "the flash holds no journal, or one that is damaged");
}

function badKey(key: number): Error {
  return lngateError("vault-bad-key", `key ${key} is not a key, or occurs twice in a commit`);
}

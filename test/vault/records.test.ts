import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { openCharging } from "../../device/vault/charging.ts";
import { type MemoryFlash, memoryFlash } from "../../device/vault/memory-flash.ts";
import {
  pageHead,
  RECORD_KINDS,
  type RecordBank,
  type RecordKind,
  recordBytes,
  recordsPerPage,
  SLOTS,
} from "../../device/vault/records.ts";
import { concat, u32be } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import type { Batch } from "../../src/threshold/records.ts";
import { codeFrom, contains, powerFails, powerOn, randomBytes, seeded } from "./tools.ts";

const PAGE = 512;
const FIRST = 1;
const PAGES = 10;

const freshFlash = () => memoryFlash(PAGE, FIRST + PAGES + 1);
const KEY = sha256(new Uint8Array([1]));
const open = (flash: MemoryFlash, key = KEY) => openCharging(flash, FIRST, PAGES, key);

/** The one record of this kind, epoch and id. */
function recordOf(kind: RecordKind, id: number, epoch = 1): Uint8Array {
  const seed = concat([new Uint8Array([kind.charCodeAt(0)]), u32be(epoch), u32be(id)]);
  const parts = [0, 1, 2].map(part => sha256(concat([seed, u32be(part)])));
  return concat(parts).slice(0, recordBytes(kind));
}

/** α ‖ key of the batches of kind B of an epoch. */
function macOf(epoch = 1): Uint8Array {
  return concat([0, 1].map(part => sha256(new Uint8Array([77, epoch, part]))));
}

/** What the bank gives out. */
function readOf(kind: RecordKind, id: number, epoch = 1): Uint8Array {
  return concat([recordOf(kind, id, epoch), kind === "B" ? macOf(epoch) : new Uint8Array(0)]);
}

function batchOf(kind: RecordKind, firstId: number, count: number, epoch = 1): Batch {
  const records = Array.from({ length: count }, (_, i) => recordOf(kind, firstId + i, epoch));
  const batch = { kind, epoch, firstId, count, records: concat(records) };
  return kind === "B" ? { ...batch, mac: macOf(epoch) } : batch;
}

describe("The record bank", () => {
  test("gives out every record of several chargings once and in order", () => {
    const flash = freshFlash();
    open(flash).append(batchOf("A", 0, 10));
    open(flash).append(batchOf("B", 0, 9));
    const bank = open(flash);
    bank.append(batchOf("H", 0, 2));
    bank.append(batchOf("A", 10, 3));
    for (const [kind, count] of [
      ["A", 13],
      ["B", 9],
      ["H", 2],
    ] as const) {
      for (let id = 0; id < count; id++) {
        expect(bank.left(kind, id)).toBe(count - id);
        expect(bank.read(kind, id)).toEqual({ id, bytes: readOf(kind, id) });
        bank.erase(kind, id + 1);
      }
      expect(bank.read(kind, count)).toBeNull();
      expect(bank.left(kind, count)).toBe(0);
    }
  });

  test("never goes below the cursor it was told", () => {
    const bank = open(freshFlash());
    bank.append(batchOf("A", 0, 10));
    expect(bank.read("A", 8)?.id).toBe(8);
    expect(bank.read("A", 3)?.id).toBe(3);
    bank.erase("A", 6);
    bank.erase("A", 5);
    expect(codeFrom(() => bank.read("A", 5))).toBe("policy-record-reuse");
    bank.append(batchOf("B", 0, 1));
    expect(codeFrom(() => bank.read("A", 5))).toBe("policy-record-reuse");
    expect(bank.read("A", 6)?.id).toBe(6);
  });

  test("leaves nothing of a used record in the chip, and everything of the next", () => {
    const flash = freshFlash();
    const bank = open(flash);
    bank.append(batchOf("B", 0, 8));
    bank.erase("B", 5);
    for (let id = 0; id < 8; id++) {
      expect(contains(flash, recordOf("B", id).slice(0, 20))).toBe(id >= 5);
      expect(contains(flash, recordOf("B", id).slice(70))).toBe(id >= 5);
    }
  });

  test("clears the bits of a record with one program", () => {
    const flash = freshFlash();
    const bank = open(flash);
    bank.append(batchOf("A", 0, 7));
    const before = flash.operations();
    bank.erase("A", 1);
    bank.erase("A", 1);
    expect(flash.operations() - before).toBe(1);
  });

  test("uses the pages of spent records again, all of them equally", () => {
    const flash = freshFlash();
    const bank = open(flash);
    const capacity = bank.capacity("A");
    expect(capacity).toBe(PAGES * recordsPerPage("A", PAGE));
    let id = 0;
    for (let charging = 0; charging < 30; charging++) {
      bank.append(batchOf("A", id, 20));
      id += 20;
      bank.erase("A", id - 3);
    }
    bank.erase("A", id);
    expect(bank.capacity("A")).toBe(capacity);
    const erases = Array.from({ length: PAGES }, (_, page) => flash.erasesOf(FIRST + page));
    expect(Math.min(...erases)).toBeGreaterThan(5);
    expect(Math.max(...erases) - Math.min(...erases)).toBeLessThanOrEqual(1);
    expect(flash.erasesOf(0) + flash.erasesOf(FIRST + PAGES)).toBe(0);
  });

  test("refuses what does not fit or follow, and stays as it was", () => {
    const flash = freshFlash();
    const bank = open(flash);
    bank.append(batchOf("A", 5, 10, 3));
    const image = flash.image();
    const refusals: [string, Batch][] = [
      ["records-full", batchOf("B", 0, 100, 3)],
      ["records-order", batchOf("A", 14, 1, 3)],
      ["records-order", batchOf("A", 15, 1, 2)],
      ["records-malformed", batchOf("A", 15, 0, 3)],
      ["records-malformed", { ...batchOf("A", 15, 2, 3), count: 1 }],
      ["records-malformed", { ...batchOf("A", 15, 2, 3), kind: "B" }],
      ["records-malformed", { ...batchOf("A", 15, 2, 3), mac: macOf(3) }],
      ["records-malformed", { ...batchOf("B", 15, 2, 3), mac: macOf(3).slice(1) }],
      ["records-malformed", { ...batchOf("A", 15, 1, 3), firstId: 2 ** 32 - 1 }],
    ];
    for (const [code, batch] of refusals) expect(codeFrom(() => bank.append(batch))).toBe(code);
    expect(Buffer.compare(flash.image(), image)).toBe(0);
    expect(bank.end("A")).toBe(15);
    expect(bank.read("A", 0)?.id).toBe(5);
  });

  test("skips ids that never came, and a record that rotted", () => {
    const flash = freshFlash();
    open(flash).append(batchOf("A", 0, 3));
    open(flash).append(batchOf("A", 8, 3));
    const image = flash.image();
    image[Buffer.from(image).indexOf(recordOf("A", 8)) + 5]! ^= 1;
    const bank = open(memoryFlash(PAGE, FIRST + PAGES + 1, image));
    expect(bank.read("A", 2)?.id).toBe(2);
    expect(bank.read("A", 3)?.id).toBe(9);
    expect(bank.left("A", 3)).toBe(3);
  });

  test("gives out no record of which a single bit has changed, nor of which the keys of the MACs have", () => {
    const flash = freshFlash();
    open(flash).append(batchOf("B", 0, 3));
    const image = flash.image();
    const from = Buffer.from(image).indexOf(macOf());
    const slot = 96 + 8;
    expect(Buffer.from(image).indexOf(recordOf("B", 1))).toBe(from + 64 + slot);
    const flipped = (at: number, bit: number) => {
      const changed = image.slice();
      changed[at] = changed[at]! ^ (1 << bit);
      return open(memoryFlash(PAGE, FIRST + PAGES + 1, changed));
    };
    for (let at = 0; at < slot; at++) {
      const bank = flipped(from + 64 + slot + at, at & 7);
      expect(bank.read("B", 0)).toEqual({ id: 0, bytes: readOf("B", 0) });
      expect(bank.read("B", 1)?.id).toBe(2);
    }
    for (let at = 0; at < 64; at++) expect(flipped(from + at, at & 7).read("B", 0)).toBeNull();
    // The check is keyed: no other vault's records are taken for its own.
    expect(open(memoryFlash(PAGE, FIRST + PAGES + 1, image), macOf().slice(32)).read("B", 0)).toBeNull();
  });

  test("keeps the keys of a batch's MACs as long as a record of it is left, and no longer", () => {
    const flash = freshFlash();
    const bank = open(flash);
    // Two pages and a part of a third.
    const count = 2 * recordsPerPage("B", PAGE) + 1;
    bank.append(batchOf("B", 0, count));
    const copies = () =>
      Buffer.from(flash.image()).toString("latin1").split(Buffer.from(macOf()).toString("latin1")).length - 1;
    expect(copies()).toBe(3);
    for (let id = 0; id < count; id++) {
      expect(bank.read("B", id)).toEqual({ id, bytes: readOf("B", id) });
      bank.erase("B", id + 1);
      expect(copies()).toBe(id + 1 === count ? 0 : 3 - Math.floor((id + 1) / recordsPerPage("B", PAGE)));
    }
    expect(contains(flash, macOf().slice(0, 16)) || contains(flash, macOf().slice(32, 48))).toBe(false);
  });

  test("destroys all records of an epoch when the next one begins", () => {
    const flash = freshFlash();
    const bank = open(flash);
    for (const kind of RECORD_KINDS) bank.append(batchOf(kind, 0, 9, 1));
    bank.erase("A", 4);
    bank.append(batchOf("A", 0, 9, 2));
    expect(bank.epoch()).toBe(2);
    expect(bank.read("A", 0)).toEqual({ id: 0, bytes: recordOf("A", 0, 2) });
    expect(bank.read("B", 0)).toBeNull();
    for (const kind of RECORD_KINDS) {
      for (let id = 0; id < 9; id++) expect(contains(flash, recordOf(kind, id, 1).slice(0, 20))).toBe(false);
    }
    for (const half of [macOf(1).slice(0, 32), macOf(1).slice(32)]) expect(contains(flash, half)).toBe(false);
  });
});

describe("A record bank whose power is cut", () => {
  /** A used bank: chargings, uses with their cursors, as a device and its owner would. */
  function live(
    flash: MemoryFlash,
    random: () => number,
    steps: number,
    cursors: Record<RecordKind, number>,
  ) {
    const bank = open(flash);
    for (let step = 0; step < steps; step++) {
      const kind = RECORD_KINDS[Math.floor(random() * 3)]!;
      const left = bank.left(kind, cursors[kind]);
      const used = Math.min(left, 1 + Math.floor(random() * 3));
      if (used > 0) {
        // The commit of the journal: from here on these are used, whatever happens to their bits.
        cursors[kind] = bank.read(kind, cursors[kind])!.id + used;
        bank.erase(kind, cursors[kind]);
      } else {
        const firstId = Math.max(bank.end(kind), cursors[kind]);
        const count = 1 + Math.floor(random() * 12);
        if (
          Math.ceil(count / recordsPerPage(kind, PAGE)) * recordsPerPage(kind, PAGE) <=
          bank.capacity(kind)
        ) {
          bank.append(batchOf(kind, firstId, count));
        }
      }
    }
  }

  function judge(bank: RecordBank, flash: MemoryFlash, cursors: Record<RecordKind, number>) {
    for (const kind of RECORD_KINDS) {
      bank.erase(kind, cursors[kind]);
      for (let id = Math.max(0, cursors[kind] - 20); id < cursors[kind]; id++) {
        expect(contains(flash, recordOf(kind, id).slice(0, 20))).toBe(false);
        expect(codeFrom(() => bank.read(kind, id))).toBe("policy-record-reuse");
      }
      let id = cursors[kind];
      for (let left = bank.left(kind, id); left > 0; left--) {
        const record = bank.read(kind, id)!;
        expect(record).toEqual({ id: record.id, bytes: readOf(kind, record.id) });
        id = record.id + 1;
      }
      expect(bank.read(kind, id)).toBeNull();
    }
    for (let page = FIRST; page < FIRST + PAGES; page++) {
      const head = pageHead(flash, page);
      if (head?.kind === "B" && head.spent)
        expect(flash.read(page * PAGE + SLOTS, 64)).toEqual(new Uint8Array(64));
    }
  }

  test("gives only genuine unused records afterwards, and clears what was used", () => {
    fc.assert(
      fc.property(fc.integer(), seed => {
        const random = seeded(seed);
        let flash = freshFlash();
        const cursors = { A: 0, B: 0, H: 0 };
        for (let life = 0; life < 4; life++) {
          flash.cutDuring(flash.operations() + Math.floor(random() * 30), random);
          if (!powerFails(() => live(flash, random, 25, cursors))) continue;
          flash = powerOn(flash);
          // The next boot may be cut short as well.
          flash.cutDuring(Math.floor(random() * 4), random);
          powerFails(() => {
            const bank = open(flash);
            for (const kind of RECORD_KINDS) bank.erase(kind, cursors[kind]);
          });
          flash = powerOn(flash);
          judge(open(flash), flash, cursors);
        }
      }),
      { numRuns: 80 },
    );
  });

  test("at any operation of a change of epochs, still destroys the whole old epoch", () => {
    const rehearsal = freshFlash();
    const prepare = (flash: MemoryFlash) => {
      const bank = open(flash);
      for (const kind of RECORD_KINDS) bank.append(batchOf(kind, 0, 9, 1));
      return bank;
    };
    const bank = prepare(rehearsal);
    const start = rehearsal.operations();
    bank.append(batchOf("A", 0, 9, 2));
    const operations = rehearsal.operations() - start;
    for (let cut = 0; cut < operations; cut++) {
      for (let seed = 0; seed < 5; seed++) {
        let flash = freshFlash();
        const cutBank = prepare(flash);
        flash.cutDuring(start + cut, seeded(100 * cut + seed));
        expect(powerFails(() => cutBank.append(batchOf("A", 0, 9, 2)))).toBe(true);
        flash = powerOn(flash);
        const reopened = open(flash);
        const old = reopened.epoch() === 1;
        for (const kind of RECORD_KINDS) {
          for (let id = 0; id < 9; id++) {
            expect(contains(flash, recordOf(kind, id, 1).slice(0, 20))).toBe(old);
          }
        }
        for (const half of [macOf(1).slice(0, 16), macOf(1).slice(32, 48)])
          expect(contains(flash, half)).toBe(old);
        expect(reopened.read("A", 0)?.bytes).toEqual(recordOf("A", 0, reopened.epoch()));
      }
    }
  });
});

describe("An old image of the flash", () => {
  test("of the journal alone is recognised: its cursor calls records unused that are gone", () => {
    for (const [used, older] of [
      [1, 0],
      [5, 4],
      [6, 2],
      [14, 13],
      [20, 0],
      [20, 19],
    ] as const) {
      const flash = freshFlash();
      const bank = open(flash);
      bank.append(batchOf("A", 0, 20));
      bank.erase("A", used);
      const again = open(flash);
      again.erase("A", older);
      expect(codeFrom(() => again.read("A", older))).toBe("vault-rolled-back");
    }
  });

  test("of the journal alone is recognised when the used pages were written again since", () => {
    const flash = freshFlash();
    const bank = open(flash);
    let end = 0;
    for (let charging = 0; charging < 8; charging++) {
      bank.append(batchOf("A", end, 21));
      end += 21;
      bank.erase("A", end - 1);
    }
    for (const older of [0, 21, 40, end - 22, end - 2]) {
      expect(codeFrom(() => open(flash).read("A", older))).toBe("vault-rolled-back");
    }
    expect(open(flash).read("A", end - 1)?.id).toBe(end - 1);
  });

  test("of the journal alone is recognised when every batch was a page and most are gone", () => {
    const flash = freshFlash();
    const bank = open(flash);
    for (let id = 0; id < 5 * 3 * PAGES; id += 5) {
      bank.append(batchOf("A", id, 5));
      bank.erase("A", id + 4);
    }
    const end = bank.end("A");
    bank.erase("A", end);
    bank.append(batchOf("A", end, 5));
    for (const older of [0, 3, end - 40, end - 6, end - 1]) {
      expect(codeFrom(() => open(flash).read("A", older))).toBe("vault-rolled-back");
    }
    expect(open(flash).read("A", end)?.id).toBe(end);
  });

  test("of the records alone gives nothing back: what the journal calls used is cleared again", () => {
    const flash = freshFlash();
    const bank = open(flash);
    bank.append(batchOf("A", 0, 12));
    bank.erase("A", 2);
    const old = flash.image();
    bank.erase("A", 9);
    const restored = memoryFlash(PAGE, FIRST + PAGES + 1, old);
    const again = open(restored);
    again.erase("A", 9);
    expect(again.read("A", 9)?.id).toBe(9);
    for (let id = 0; id < 9; id++) expect(contains(restored, recordOf("A", id).slice(0, 20))).toBe(false);
  });
});

test("Random flash holds no records", () => {
  fc.assert(
    fc.property(fc.integer(), seed => {
      const random = seeded(seed);
      const image = randomBytes(random, (FIRST + PAGES + 1) * PAGE);
      // Heads that are genuine, over random records.
      const genuine = freshFlash();
      open(genuine).append(batchOf("A", 0, 10));
      const headed = random() < 0.5;
      if (headed) image.set(genuine.read(FIRST * PAGE, 36), FIRST * PAGE);
      const bank = open(memoryFlash(PAGE, FIRST + PAGES + 1, image));
      for (const kind of RECORD_KINDS) expect(bank.read(kind, 0)).toBeNull();
      expect(bank.left("A", 0)).toBe(headed ? recordsPerPage("A", PAGE) : 0);
    }),
    { numRuns: 100 },
  );
});

describe("The head of a page", () => {
  test("that is whole and says what cannot be is none", () => {
    const flash = freshFlash();
    open(flash).append(batchOf("A", 0, 3));
    const image = flash.image();
    const headWith = (change: (head: DataView) => void) => {
      const changed = image.slice();
      const head = new DataView(changed.buffer, FIRST * PAGE, 24);
      change(head);
      const at = FIRST * PAGE;
      changed.set(sha256(changed.subarray(at, at + 24)).subarray(0, 8), at + 24);
      return pageHead(memoryFlash(PAGE, FIRST + PAGES + 1, changed), FIRST);
    };
    expect(headWith(() => {})).toMatchObject({ kind: "A", count: 3, epoch: 1, first: 0, spent: false });
    expect(headWith(head => head.setUint32(0, 0x4c475299))).toBeNull();
    for (const kind of [0, 4]) expect(headWith(head => head.setUint8(4, kind))).toBeNull();
    const most = recordsPerPage("A", PAGE);
    expect(headWith(head => head.setUint16(6, most))).toMatchObject({ count: most });
    expect(headWith(head => head.setUint16(6, most + 1))).toBeNull();
  });
});

test("A bank that is opened counts no page that was spent before, and writes nothing where nothing is left to destroy", () => {
  const flash = freshFlash();
  const most = recordsPerPage("A", PAGE);
  open(flash).append(batchOf("A", 0, 2 * most));
  open(flash).erase("A", most);
  const again = powerOn(flash);
  const before = again.operations();
  const bank = open(again);
  expect(bank.left("A", 0)).toBe(most);
  expect(again.operations()).toBe(before);
  expect(again.image()).toEqual(flash.image());
});

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { concat, toHex, u32be } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import {
  type Batch,
  decodeBatch,
  encodeBatch,
  PresignatureJournal,
  type RecordKind,
} from "../../src/threshold/records.ts";
import { codeThrownBy } from "../thrown.ts";
import { seededRandom } from "./parties.ts";

const random = seededRandom("records");
const sid = random(32);

/** Records that look like real ones. */
function batchOf(kind: RecordKind, firstId: number, count: number, size = 64, epoch = 0): Batch {
  return { kind, epoch, firstId, count, records: random(count * size) };
}

const message = (n: number) => sha256(u32be(n));
const echo = (z: Uint8Array) => (record: Uint8Array) => sha256(concat([record, z]));

describe("a store of records", () => {
  test("takes records in order, one per message, and repeats itself", () => {
    const store = new PresignatureJournal(sid, 0);
    const batch = batchOf("A", 0, 4);
    store.activate(batch);
    const answers = [0, 1, 2, 1, 0, 3].map(n => store.take("A", message(n), echo(message(n))));
    expect(answers.map(({ id }) => id)).toEqual([0, 1, 2, 1, 0, 3]);
    expect(answers[4]).toEqual(answers[0]);
    const record = batch.records.slice(64, 128);
    expect(answers[1]!.answer).toEqual(sha256(concat([record, message(1)])));
    expect(store.remaining("A")).toBe(0);
    expect(codeThrownBy(() => store.take("A", message(4), echo(message(4))))).toBe("records-exhausted");
    expect(codeThrownBy(() => store.take("B", message(0), echo(message(0))))).toBe("records-exhausted");
  });

  test("by id: unknown records and other messages are refused, whatever was asked before", () => {
    const store = new PresignatureJournal(sid, 0);
    store.activate(batchOf("B", 100, 4, 128));
    const first = store.use("B", 102, message(1), echo(message(1)));
    expect(store.use("B", 102, message(1), () => new Uint8Array(1))).toEqual(first);
    expect(codeThrownBy(() => store.use("B", 102, message(2), echo(message(2))))).toBe("policy-record-reuse");
    expect(codeThrownBy(() => store.use("B", 104, message(2), echo(message(2))))).toBe("record-unknown");
    expect(codeThrownBy(() => store.use("A", 102, message(2), echo(message(2))))).toBe("record-unknown");
    expect(codeThrownBy(() => store.use("B", 101, new Uint8Array(31), echo(sid)))).toBe("bad-sighash");
    // In order now means around the one that is used.
    const ids = [3, 4, 5].map(n => store.take("B", message(n), echo(message(n))).id);
    expect(ids).toEqual([100, 101, 103]);
  });

  test("a record whose answer cannot be made is burnt, and the message gets another", () => {
    const store = new PresignatureJournal(sid, 0);
    store.activate(batchOf("A", 0, 4));
    const fail = () => {
      throw new Error("made nothing");
    };
    expect(() => store.take("A", message(1), fail)).toThrow("made nothing");
    expect(codeThrownBy(() => store.use("A", 0, message(1), echo(message(1))))).toBe("record-unknown");
    expect(store.take("A", message(1), echo(message(1))).id).toBe(1);
  });

  test("ids never come twice", () => {
    const store = new PresignatureJournal(sid, 0);
    expect(store.reserve("A", 16)).toBe(0);
    expect(store.reserve("A", 4)).toBe(16);
    expect(store.reserve("B", 4)).toBe(0);
    store.activate(batchOf("A", 16, 4));
    expect(store.nextId("A")).toBe(20);
    for (const firstId of [16, 19, 12, 0]) {
      expect(codeThrownBy(() => store.activate(batchOf("A", firstId, 4)))).toBe("record-ids-taken");
    }
    store.activate(batchOf("A", 40, 4));
    expect(store.unused("A")).toEqual([
      { firstId: 16, count: 4 },
      { firstId: 40, count: 4 },
    ]);
    expect(codeThrownBy(() => store.reserve("A", 0xffffffff))).toBe("record-ids-taken");
  });

  test("belongs to one key and one epoch", () => {
    const store = new PresignatureJournal(sid, 2);
    expect(codeThrownBy(() => store.activate(batchOf("A", 0, 4)))).toBe("threshold-old-epoch");
    store.activate(batchOf("A", 0, 4, 64, 2));
    const events = [...store.events()];
    expect(new PresignatureJournal(sid, 2, undefined, events).remaining("A")).toBe(4);
    expect(codeThrownBy(() => new PresignatureJournal(sid, 1, undefined, events))).toBe(
      "threshold-old-epoch",
    );
    expect(codeThrownBy(() => new PresignatureJournal(random(32), 2, undefined, events))).toBe(
      "threshold-old-epoch",
    );
    const later = new PresignatureJournal(sid, 3, undefined, events);
    expect([later.epoch, later.remaining("A"), later.nextId("A")]).toEqual([3, 0, 0]);
  });

  test("erases what is burnt, and keeps what was answered", () => {
    const store = new PresignatureJournal(sid, 0);
    const batch = batchOf("B", 8, 8, 128);
    const contents = batch.records.slice();
    store.activate(batch);
    const first = store.take("B", message(1), echo(message(1)));
    store.burn("B", { firstId: 8, count: 3 });
    expect(store.unused("B")).toEqual([{ firstId: 11, count: 5 }]);
    expect(store.use("B", 8, message(1), () => new Uint8Array(0))).toEqual(first);
    expect(codeThrownBy(() => store.use("B", 9, message(2), echo(message(2))))).toBe("record-unknown");
    const kept = [...store.events()].map(toHex).join();
    for (let i = 0; i < 8; i++)
      expect(kept.includes(toHex(contents.slice(128 * i, 128 * i + 32)))).toBe(i >= 3);
  });

  test("whatever is asked in whatever order, also after reading its events back", () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("take" as const), n: fc.nat({ max: 9 }) }),
      fc.record({ do: fc.constant("use" as const), n: fc.nat({ max: 9 }), id: fc.nat({ max: 12 }) }),
      fc.record({ do: fc.constant("burn" as const), id: fc.nat({ max: 12 }) }),
      fc.record({ do: fc.constant("reopen" as const) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), steps => {
        let store = new PresignatureJournal(sid, 0);
        store.activate(batchOf("A", 0, 4));
        store.activate(batchOf("A", 6, 4));
        const messageOf = new Map<number, string>();
        const answerOf = new Map<string, string>();
        for (const each of steps) {
          if (each.do === "reopen") {
            store = new PresignatureJournal(sid, 0, undefined, [...store.events()]);
          } else if (each.do === "burn") {
            store.burn("A", { firstId: each.id, count: 1 });
          } else {
            const z = message(each.n);
            try {
              const { id, answer } =
                each.do === "take" ? store.take("A", z, echo(z)) : store.use("A", each.id, z, echo(z));
              // One message per record, one answer per record and message.
              expect(messageOf.get(id) ?? toHex(z)).toBe(toHex(z));
              expect(answerOf.get(`${id} ${toHex(z)}`) ?? toHex(answer)).toBe(toHex(answer));
              messageOf.set(id, toHex(z));
              answerOf.set(`${id} ${toHex(z)}`, toHex(answer));
            } catch (error) {
              expect(["records-exhausted", "record-unknown", "policy-record-reuse"]).toContain(
                (error as { code?: string }).code,
              );
            }
          }
          const unused = store.unused("A").reduce((sum, { count }) => sum + count, 0);
          expect(store.remaining("A")).toBe(unused);
        }
      }),
    );
  });
});

describe("batches as bytes", () => {
  test("come back as they were", () => {
    for (const batch of [
      batchOf("A", 7, 5),
      batchOf("A", 9, 5, 96),
      batchOf("B", 0xfffffff0, 4, 128),
      batchOf("H", 0, 300, 64, 9),
    ]) {
      expect(decodeBatch(encodeBatch(batch))).toEqual(batch);
    }
    expect(encodeBatch(batchOf("A", 0, 4))).toHaveLength(13 + 4 * 64);
  });

  test("are refused when anything about them is not so", () => {
    const bytes = encodeBatch(batchOf("A", 7, 4));
    const changed = (at: number, value: number) => {
      const copy = bytes.slice();
      copy[at] = value;
      return copy;
    };
    const bad = [
      new Uint8Array(0),
      bytes.subarray(0, 12),
      bytes.subarray(0, bytes.length - 1),
      concat([bytes, new Uint8Array(1)]),
      changed(0, 2),
      changed(1, 0x43),
      changed(11, 5),
      changed(11, 0),
      changed(12, 63),
      encodeBatch({ ...batchOf("H", 0, 4, 96) }),
      // Of kind B there are no answering records without MACs, and the device's own never travel.
      encodeBatch(batchOf("B", 0, 4, 64)),
      encodeBatch(batchOf("B", 0, 4, 96)),
      encodeBatch(batchOf("A", 0xfffffffe, 4)),
    ];
    for (const each of bad) expect(codeThrownBy(() => decodeBatch(each))).toBe("bad-batch");
  });
});

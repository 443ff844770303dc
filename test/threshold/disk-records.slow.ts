import { spawn } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "@jest/globals";
import { build } from "esbuild";
import { type Disk, openRecordStore } from "../../gateway/store/presignature-journal.ts";
import { concat, toHex, u32be } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { codeOf } from "../../src/errors.ts";
import { lockPath } from "../../src/node/lock.ts";
import type { Batch, RecordStore } from "../../src/threshold/records.ts";
import { codeThrownBy } from "../thrown.ts";
import { seededRandom } from "./parties.ts";

const random = seededRandom("disk records");
const sid = random(32);
const folder = mkdtempSync(join(tmpdir(), "lngate-records-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const message = (n: number) => sha256(u32be(n));
const echo = (z: Uint8Array) => (record: Uint8Array) => sha256(concat([record, z]));

function batchOf(firstId: number, count: number, epoch = 0): Batch {
  return { kind: "A", epoch, firstId, count, records: random(count * 64) };
}

/**
 * A disk in memory on which the power goes at a chosen operation. What was written and not synced survives as far
 * as `survives` says: a write may be there, not at all, or in part.
 */
class FailingDisk implements Disk {
  operations = 0;
  readonly names = new Map<string, number>();
  private durableNames = new Map<string, number>();
  private readonly files: { content: Uint8Array; durable: number }[] = [];
  private readonly failAt: number;
  private readonly survives: (bytes: number) => number;

  constructor(failAt: number, survives: (bytes: number) => number) {
    this.failAt = failAt;
    this.survives = survives;
  }

  private step(): void {
    if (this.operations++ === this.failAt) throw new Error("power cut");
  }

  /** The disk as the next process finds it. */
  afterPowerCut(): FailingDisk {
    const next = new FailingDisk(Number.POSITIVE_INFINITY, this.survives);
    const namesSurvive = this.survives(2) > 0;
    for (const [name, file] of namesSurvive ? this.names : this.durableNames) {
      const { content, durable } = this.files[file]!;
      const kept = content.slice(0, durable + this.survives(content.length - durable));
      next.files.push({ content: kept, durable: kept.length });
      next.names.set(name, next.files.length - 1);
    }
    next.durableNames = new Map(next.names);
    return next;
  }

  lock(): () => void {
    return () => {};
  }

  read(path: string): Uint8Array | undefined {
    const file = this.names.get(path);
    return file === undefined ? undefined : this.files[file]!.content.slice();
  }

  openEmpty(path: string): number {
    this.step();
    this.files.push({ content: new Uint8Array(0), durable: 0 });
    this.names.set(path, this.files.length - 1);
    return this.files.length - 1;
  }

  write(file: number, bytes: Uint8Array): void {
    const at = this.files[file]!;
    if (this.operations === this.failAt)
      at.content = concat([at.content, bytes.slice(0, this.survives(bytes.length))]);
    this.step();
    at.content = concat([at.content, bytes]);
  }

  sync(file: number): void {
    this.step();
    this.files[file]!.durable = this.files[file]!.content.length;
  }

  close(): void {}

  rename(from: string, to: string): void {
    this.step();
    this.names.set(to, this.names.get(from)!);
    this.names.delete(from);
  }

  syncFolder(): void {
    this.step();
    this.durableNames = new Map(this.names);
  }
}

describe("killed between any two writes", () => {
  /** What the outside world has seen of each record: the messages it answered. */
  type Seen = Map<number, Map<string, string>>;

  function ask(store: RecordStore, n: number, seen: Seen): void {
    const z = message(n);
    const { id, answer } = store.take("A", z, record => {
      // From here on an answer may exist somewhere, in a log or in a packet, whatever happens next.
      const made = echo(z)(record);
      const id = idOf.get(toHex(record))!;
      const answers = seen.get(id) ?? new Map<string, string>();
      seen.set(id, answers.set(toHex(z), toHex(made)));
      return made;
    });
    expect(seen.get(id)!.get(toHex(z))).toBe(toHex(answer));
  }

  const idOf = new Map<string, number>();
  const batches = [0, 4, 8].map(firstId => batchOf(firstId, 4));
  for (const { firstId, records } of batches) {
    for (let i = 0; i < 4; i++) idOf.set(toHex(records.slice(i * 64, (i + 1) * 64)), firstId + i);
  }
  const copyOf = (batch: Batch): Batch => ({ ...batch, records: batch.records.slice() });

  /** Three days of work. */
  function work(disk: Disk, seen: Seen): void {
    const store = openRecordStore("records", sid, 0, disk);
    for (const [day, batch] of batches.entries()) {
      if (store.nextId("A") <= batch.firstId) store.activate(copyOf(batch));
      for (const n of [0, 1, 2]) ask(store, 10 * day + n, seen);
      ask(store, 10 * day + 1, seen);
      if (day === 1) store.compact();
    }
    store.close();
  }

  const survivals: [string, (bytes: number) => number][] = [
    ["nothing that was not synced", () => 0],
    ["everything that was written", bytes => bytes],
    ["half of what was written", bytes => bytes >> 1],
    ["all but the last byte", bytes => Math.max(0, bytes - 1)],
  ];

  test.each(survivals)("surviving: %s; no record ever answers two messages", (_, survives) => {
    const undisturbed = new FailingDisk(Number.POSITIVE_INFINITY, survives);
    work(undisturbed, new Map());
    expect(undisturbed.operations).toBeGreaterThan(40);
    for (let failAt = 0; failAt < undisturbed.operations; failAt++) {
      const disk = new FailingDisk(failAt, survives);
      const seen: Seen = new Map();
      expect(() => work(disk, seen)).toThrow("power cut");

      // The next process asks other things first, then the old ones again.
      const store = openRecordStore("records", sid, 0, disk.afterPowerCut());
      for (const batch of batches) if (store.nextId("A") <= batch.firstId) store.activate(copyOf(batch));
      for (const n of [101, 102, 0, 1, 2, 10, 11, 12, 20, 21, 22]) ask(store, n, seen);
      for (const [id, answers] of seen) {
        expect({ failAt, id, messages: answers.size }).toEqual({ failAt, id, messages: 1 });
      }
      // And no record is lost.
      expect(store.remaining("A") + seen.size).toBe(12);
    }
  });

  test("on a disk that lies about syncing, the same store answers two messages with one record", () => {
    // The guard taken away, to see that the game above would notice.
    class LyingDisk extends FailingDisk {
      lies = false;
      override sync(file: number): void {
        if (!this.lies) super.sync(file);
      }
    }
    const disk = new LyingDisk(Number.POSITIVE_INFINITY, () => 0);
    const seen: Seen = new Map();
    const store = openRecordStore("records", sid, 0, disk);
    store.activate(copyOf(batches[0]!));
    disk.lies = true;
    ask(store, 1, seen);
    disk.syncFolder();
    ask(openRecordStore("records", sid, 0, disk.afterPowerCut()), 2, seen);
    expect([...seen.values()].map(answers => answers.size)).toEqual([2]);
  });

  test("a process killed with SIGKILL, again and again, in the middle of its work", async () => {
    const program = join(folder, "worker.mjs");
    const root = fileURLToPath(new URL("../..", import.meta.url));
    await build({
      stdin: {
        // Says which message it is about to answer with which record, then answers.
        contents: `
          import { writeSync } from "node:fs";
          import { openRecordStore } from "./gateway/store/presignature-journal.ts";
          import { sha256 } from "./src/crypto/hash.ts";
          const [path, run] = process.argv.slice(2);
          const store = openRecordStore(path, new Uint8Array(32), 0);
          if (store.nextId("A") === 0) {
            const records = new Uint8Array(4000 * 64);
            for (let i = 0; i < 4000; i++) new DataView(records.buffer).setUint32(i * 64, i + 1);
            store.activate({ kind: "A", epoch: 0, firstId: 0, count: 4000, records });
          }
          writeSync(1, "open\\n");
          for (let n = 0; ; n++) {
            const z = sha256(new TextEncoder().encode(run + " " + n));
            store.take("A", z, record => {
              const id = new DataView(record.buffer, record.byteOffset).getUint32(0) - 1;
              writeSync(1, id + " " + run + "-" + n + "\\n");
              return z;
            });
          }`,
        resolveDir: root,
        loader: "ts",
      },
      bundle: true,
      platform: "node",
      format: "esm",
      outfile: program,
    });
    const path = join(folder, "killed", "records");
    const messages = new Map<string, Set<string>>();
    for (let run = 0; run < 6; run++) {
      const child = spawn(process.execPath, [program, path, String(run)], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      let output = "";
      const ended = new Promise(resolve => child.once("close", resolve));
      await new Promise<void>(resolve => {
        child.stdout.on("data", (data: Buffer) => {
          output += data.toString();
          // Killed after some answers, at whatever instant that is.
          if (output.split("\n").length > 5 + 7 * run) resolve();
        });
        child.once("close", () => resolve());
      });
      child.kill("SIGKILL");
      await ended;
      for (const line of output.split("\n")) {
        const [id, said] = line.split(" ");
        if (id === undefined || said === undefined) continue;
        messages.set(id, (messages.get(id) ?? new Set()).add(said));
      }
    }
    expect(messages.size).toBeGreaterThan(50);
    for (const [id, said] of messages) expect({ id, messages: said.size }).toEqual({ id, messages: 1 });
    // The lock of the killed process does not keep the next one out.
    const store = openRecordStore(path, new Uint8Array(32), 0);
    expect(store.remaining("A")).toBeLessThanOrEqual(4000 - messages.size);
    store.close();
  });
});

describe("the file", () => {
  const open = (name: string, epoch = 0) => openRecordStore(join(folder, name), sid, epoch);

  test("keeps everything over a restart", () => {
    const store = open("restart");
    store.activate(batchOf(0, 8));
    store.reserve("A", 16);
    const first = store.take("A", message(1), echo(message(1)));
    store.burn("A", { firstId: 5, count: 1 });
    store.close();
    expect(codeThrownBy(() => store.take("A", message(2), echo(message(2))))).toBe("record-store-closed");
    const again = open("restart");
    expect(again.take("A", message(1), () => new Uint8Array(0))).toEqual(first);
    expect(again.unused("A")).toEqual([
      { firstId: 1, count: 4 },
      { firstId: 6, count: 2 },
    ]);
    expect(again.nextId("A")).toBe(24);
    again.close();
  });

  test("is open once at a time", () => {
    const store = open("locked");
    expect(codeThrownBy(() => open("locked"))).toBe("record-store-busy");
    // Another one of the same folder goes with it.
    const other = open("locked-not");
    store.close();
    other.close();
    open("locked").close();
    // A process that has the folder.
    const release = lockPath(folder, () => new Error("taken"));
    expect(codeThrownBy(() => open("locked"))).toBe("record-store-busy");
    release();
    open("locked").close();
  });

  test("is not kept closed by the number of a process that a power cut has left beside it", () => {
    writeFileSync(join(folder, "once.lock"), `${process.ppid}\n`);
    open("once").close();
  });

  test("forgets used records when it is compacted, and does not grow without bound", () => {
    const disk = new FailingDisk(Number.POSITIVE_INFINITY, bytes => bytes);
    const bytes = () => disk.read("records")!;
    const store = openRecordStore("records", sid, 0, disk);
    const batch = batchOf(0, 512);
    const contents = batch.records.slice();
    store.activate(batch);
    for (let n = 0; n < 512; n++) store.take("A", message(n), echo(message(n)));
    store.compact();
    const file = toHex(bytes());
    for (let i = 0; i < 512; i++)
      expect(file.includes(toHex(contents.slice(i * 64, i * 64 + 32)))).toBe(false);
    const compact = bytes().length;
    for (let n = 0; n < 10_000; n++) store.burn("A", { firstId: 0, count: 1 });
    expect(bytes().length).toBeLessThan(2 * compact + 65 * 1024);
    expect(store.take("A", message(3), () => new Uint8Array(0)).id).toBe(3);
  });

  test("of an earlier epoch is emptied, of a later one or another key refused", () => {
    const store = open("epochs", 1);
    store.activate(batchOf(0, 4, 1));
    store.close();
    expect(codeThrownBy(() => open("epochs", 0))).toBe("threshold-old-epoch");
    const otherKey = () => openRecordStore(join(folder, "epochs"), random(32), 1);
    expect(codeThrownBy(otherKey)).toBe("threshold-old-epoch");
    const later = open("epochs", 2);
    expect([later.epoch, later.remaining("A"), later.nextId("A")]).toEqual([2, 0, 0]);
    later.close();
    expect(codeThrownBy(() => open("epochs", 1))).toBe("threshold-old-epoch");
  });

  describe("damaged", () => {
    const path = join(folder, "damaged");
    const fill = () => {
      rmSync(path, { force: true });
      const store = open("damaged");
      store.activate(batchOf(0, 4));
      store.take("A", message(1), echo(message(1)));
      store.close();
      return readFileSync(path);
    };
    const outcome = (content: Uint8Array) => {
      writeFileSync(path, content);
      try {
        open("damaged").close();
        return "opened";
      } catch (error) {
        return codeOf(error);
      }
    };

    test("in any byte is refused, or loses no more than an append that was being written", () => {
      const whole = fill();
      for (let at = 0; at < whole.length; at++) {
        const content = Uint8Array.from(whole);
        content[at] = content[at]! ^ 0x10;
        expect({ at, outcome: outcome(content) }).toEqual({ at, outcome: "record-store-damaged" });
      }
    });

    test("at its end by a crash, it opens without what was being written", () => {
      const whole = fill();
      const store = open("damaged");
      store.take("A", message(2), echo(message(2)));
      store.close();
      const longer = readFileSync(path);
      // The last append was an answer: without it the record is still bound.
      const last = 8 + 2 + 4 + 32 + 8;
      for (let cut = 1; cut < last; cut++) {
        writeFileSync(path, longer.subarray(0, longer.length - cut));
        const again = open("damaged");
        expect(again.take("A", message(2), echo(message(2))).id).toBe(1);
        expect(again.take("A", message(3), echo(message(3))).id).toBe(2);
        again.close();
      }
      writeFileSync(path, whole);
      appendFileSync(path, new Uint8Array(5000));
      const again = open("damaged");
      expect(again.remaining("A")).toBe(3);
      again.close();
      expect(outcome(whole.subarray(0, 3))).toBe("record-store-damaged");
      expect(outcome(new Uint8Array(0))).toBe("record-store-damaged");
    });
  });

  test("after a write that failed the store refuses, until its state is written again", () => {
    let full = false;
    class FullDisk extends FailingDisk {
      override write(file: number, bytes: Uint8Array): void {
        if (full) {
          super.write(file, bytes.subarray(0, 10));
          throw new Error("no space left");
        }
        super.write(file, bytes);
      }
    }
    const disk = new FullDisk(Number.POSITIVE_INFINITY, bytes => bytes);
    const store = openRecordStore("records", sid, 0, disk);
    store.activate(batchOf(0, 4));
    full = true;
    const make = () => {
      throw new Error("no answer may be made");
    };
    expect(() => store.take("A", message(1), make)).toThrow("no space left");
    full = false;
    expect(codeThrownBy(() => store.take("A", message(1), make))).toBe("record-store-closed");
    store.compact();
    expect(store.take("A", message(1), echo(message(1))).id).toBe(0);
    const reopened = openRecordStore("records", sid, 0, disk.afterPowerCut());
    expect(reopened.take("A", message(2), echo(message(2))).id).toBe(1);
  });
});

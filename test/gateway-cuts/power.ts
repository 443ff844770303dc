/**
 * The gateway's power supply. Everything that leaves the gateway (a write, a message, a transaction) passes through
 * it, is counted, and may be the last thing before the power fails, or the first that does not happen any more.
 * What runs on in memory afterwards reaches nothing and nobody.
 */
import type { Database } from "lmdb";
import type { NodeStore } from "../../gateway/lightning/store.ts";
import type { Disk } from "../../gateway/store/presignature-journal.ts";
import { concat } from "../../src/bytes/bytes.ts";

/**
 * Right before or right after the effect of this number, counted from when the cut was planned: of all effects, or of
 * those of one name. Their order is the machine's, so what has to happen at a certain effect names it.
 */
export interface Cut {
  readonly at: "before" | "after";
  readonly effect: number;
  readonly of?: string;
}

export class Power {
  private failed = false;
  private cut: Cut | undefined;
  private count = 0;
  private readonly listeners: (() => void)[] = [];
  /** The effects since the cut was planned, by name. */
  trace: string[] = [];

  get isOn(): boolean {
    return !this.failed;
  }

  onFailure(listener: () => void): void {
    this.listeners.push(listener);
  }

  /** Counting begins again; undefined: nothing will fail. */
  plan(cut: Cut | undefined): void {
    this.cut = cut;
    this.count = 0;
    this.trace = [];
  }

  /** Carries an effect out, as far as there is power. */
  effect(name: string, work: () => void): void {
    const end = this.begin(name);
    if (!end) return;
    work();
    end();
  }

  /** Undefined: there is no power for this effect. Otherwise to be called when it is complete. */
  begin(name: string): (() => void) | undefined {
    if (this.failed) return undefined;
    const { cut } = this;
    const isMeant = (cut?.of === undefined || cut.of === name) && cut?.effect === this.count++;
    this.trace.push(name);
    if (isMeant && cut?.at === "before") {
      this.fail();
      return undefined;
    }
    return () => {
      if (isMeant && cut?.at === "after") this.fail();
    };
  }

  fail(): void {
    if (this.failed) return;
    this.failed = true;
    for (const listener of this.listeners) listener();
  }
}

/** A table whose writes need power, a transaction's all at once. They are durable when they return. */
export function poweredTable<T extends Database<Uint8Array, string>>(
  table: T,
  name: string,
  power: Power,
): T {
  let inTransaction = false;
  const write = (work: () => void) => (inTransaction ? work() : power.effect(`write ${name}`, work));
  const writes: { readonly [key: string | symbol]: unknown } = {
    putSync: (id: string, value: Uint8Array) => write(() => void table.putSync(id, value)),
    removeSync: (id: string) => write(() => void table.removeSync(id)),
    transactionSync<T>(work: () => T): T {
      let result!: T;
      write(() => {
        inTransaction = true;
        result = table.transactionSync(work);
        inTransaction = false;
      });
      return result;
    },
  };
  return new Proxy(table, {
    get(target, key) {
      if (Object.hasOwn(writes, key)) return writes[key];
      const member: unknown = Reflect.get(target, key, target);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
}

/** LDK's store: a write that is under way when the power fails may be lost or not, as `survives` says. */
export class PoweredStore implements NodeStore {
  private readonly inner: NodeStore;
  private readonly power: Power;
  private readonly survives: () => boolean;
  private readonly latencyMs: () => number;
  private writing: Promise<void> = Promise.resolve();

  constructor(inner: NodeStore, power: Power, survives: () => boolean, latencyMs: () => number) {
    this.inner = inner;
    this.power = power;
    this.survives = survives;
    this.latencyMs = latencyMs;
  }

  get(key: string): Uint8Array | undefined {
    return this.inner.get(key);
  }

  keys(begin: string): string[] {
    return this.inner.keys(begin);
  }

  write(rows: ReadonlyMap<string, Uint8Array | null>): Promise<void> {
    const monitors = [...rows.keys()].some(key => !key.startsWith("manager") && !key.startsWith("book/"));
    const end = this.power.begin(monitors ? "write monitor and manager" : "write manager");
    if (!end) return new Promise(() => {});
    const written = this.writeSoon(new Map(rows)).then(end);
    this.writing = written;
    return written.then(() => (this.power.isOn ? undefined : new Promise(() => {})));
  }

  private async writeSoon(rows: ReadonlyMap<string, Uint8Array | null>): Promise<void> {
    await new Promise(resolve => setTimeout(resolve, this.latencyMs()));
    if (this.power.isOn || this.survives()) await this.inner.write(rows);
  }

  /** Resolves when it is decided what became of the last write. */
  settled(): Promise<void> {
    return this.writing;
  }
}

/** A disk in memory: what was written and not synced when the power failed is there in part or not at all. */
export class MemoryDisk implements Disk {
  private files: { content: Uint8Array; durable: number }[] = [];
  private names = new Map<string, number>();
  private durableNames = new Map<string, number>();
  private power = new Power();

  /** The disk as the gateway finds it that starts now. */
  poweredBy(power: Power, random: () => number): this {
    this.power = power;
    const kept = random() < 0.5 ? this.names : this.durableNames;
    for (const file of this.files) {
      const unsynced = file.content.length - file.durable;
      const length = file.durable + Math.floor(random() * (unsynced + 1));
      file.content = file.content.slice(0, length);
      file.durable = length;
    }
    this.names = new Map(kept);
    this.durableNames = new Map(kept);
    return this;
  }

  lock(): () => void {
    return () => {};
  }

  read(path: string): Uint8Array | undefined {
    const file = this.names.get(path);
    return file === undefined ? undefined : this.files[file]!.content.slice();
  }

  openEmpty(path: string): number {
    this.power.effect("open records", () => this.names.set(path, this.files.length));
    return this.files.push({ content: new Uint8Array(0), durable: 0 }) - 1;
  }

  write(file: number, bytes: Uint8Array): void {
    const at = this.files[file]!;
    this.power.effect("write records", () => {
      at.content = concat([at.content, bytes]);
    });
  }

  sync(file: number): void {
    const at = this.files[file]!;
    this.power.effect("sync records", () => {
      at.durable = at.content.length;
    });
  }

  close(): void {}

  rename(from: string, to: string): void {
    this.power.effect("rename records", () => {
      this.names.set(to, this.names.get(from)!);
      this.names.delete(from);
    });
  }

  syncFolder(): void {
    this.power.effect("sync the records' folder", () => {
      this.durableNames = new Map(this.names);
    });
  }
}

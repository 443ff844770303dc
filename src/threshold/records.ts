/**
 * Where presignature records wait for their message. A record that serves two messages gives the whole key to the
 * other side, so the one rule is: *bound durably to one message before the answer exists*. The same message gets
 * the same answer for ever; another message is refused.
 *
 * PresignatureJournal keeps that rule over a journal of events. Without a journal it is the store in memory; the one on disk
 * (gateway/store/presignature-journal.ts) writes the events to a file and replays them.
 */
import { concat, equal, toHex, u32be } from "../bytes/bytes.ts";
import { lngateError } from "../errors.ts";
import {
  ANSWERING_RECORD_BYTES,
  AUTHENTICATED_RECORD_BYTES,
  COMPLETING_RECORD_BYTES,
  NONCE_RECORD_BYTES,
} from "./online.ts";
import type { Kind } from "./transfer/setup.ts";
import { fieldsOf } from "./turns.ts";

/** A and B are presignatures, H are nonces prepared for the device's own HTLC key. */
export type RecordKind = Kind | "H";

/** Records of one kind with consecutive ids, in online.ts's layouts. */
export interface Batch {
  readonly kind: RecordKind;
  readonly epoch: number;
  readonly firstId: number;
  readonly count: number;
  /** `count` records of equal length, one after the other. */
  readonly records: Uint8Array;
  /** What the device has of a batch of kind B besides: α ‖ key of the batch's MACs, 64 bytes (mac-keys.ts). */
  readonly mac?: Uint8Array;
}

const BATCH_HEAD_BYTES = 1 + 1 + 4 + 4 + 2 + 1;
const VERSION = 1;
const KINDS: readonly RecordKind[] = ["A", "B", "H"];

/** What records of a kind may have: whose they are tells their length. Of kind B only the gateway's are ever encoded. */
const SIZES: Readonly<Record<RecordKind, readonly number[]>> = {
  A: [ANSWERING_RECORD_BYTES, COMPLETING_RECORD_BYTES],
  B: [AUTHENTICATED_RECORD_BYTES],
  H: [NONCE_RECORD_BYTES],
};

/**
 * The side a batch's records are for: A `w ‖ v` 64 bytes or `r ‖ κ ‖ c` 96, B `w ‖ v ‖ t_w ‖ t_v` 128, H `w ‖ r` 64.
 * The head is version, kind, epoch (4), first id (4), count (2), bytes of a record.
 */
export function encodeBatch({ kind, epoch, firstId, count, records }: Batch): Uint8Array {
  const size = new Uint8Array([count >> 8, count & 255, records.length / count]);
  return concat([new Uint8Array([VERSION, kind.charCodeAt(0)]), u32be(epoch), u32be(firstId), size, records]);
}

/** Reads encodeBatch's bytes. Throws `bad-batch` for anything else. */
export function decodeBatch(bytes: Uint8Array): Batch {
  const kind = KINDS.find(name => name.charCodeAt(0) === bytes[1]);
  if (bytes.length < BATCH_HEAD_BYTES || bytes[0] !== VERSION || kind === undefined) {
    throw lngateError("bad-batch", "these bytes are no batch of records");
  }
  const fields = fieldsOf("batch", bytes, bytes.length);
  fields.take(2);
  const epoch = fields.number(4);
  const firstId = fields.number(4);
  const count = fields.number(2);
  const size = fields.number(1);
  if (count === 0 || !SIZES[kind].includes(size) || bytes.length !== BATCH_HEAD_BYTES + count * size) {
    throw lngateError("bad-batch", "a batch of records has another length");
  }
  if (firstId + count > 0xffffffff) throw lngateError("bad-batch", "record ids have 32 bits");
  return { kind, epoch, firstId, count, records: fields.take(count * size).slice() };
}

/** Consecutive ids. */
export interface Run {
  readonly firstId: number;
  readonly count: number;
}

/** Which record answered, and what. */
export interface Answer {
  readonly id: number;
  readonly answer: Uint8Array;
}

/** Makes the answer of a record that has been bound; it must depend on nothing that a repetition may change. */
export type MakeAnswer = (record: Uint8Array) => Uint8Array;

/** The records of one side, and what became of each. */
export interface RecordStore {
  readonly epoch: number;

  /** Sets aside the ids of a batch that is about to be made, and returns the first. They never come again. */
  reserve(kind: RecordKind, count: number): number;

  /** The least id that a further batch may begin with. */
  nextId(kind: RecordKind): number;

  /**
   * Takes a finished batch in, all of it or nothing. Throws `threshold-old-epoch` for another epoch, and
   * `record-ids-taken` if a batch with these or later ids came before it.
   */
  activate(batch: Batch): void;

  /**
   * Answers `message` (32 bytes) with the next unused record, for the side that counts. Repeated, gives what it
   * gave before. Throws `records-exhausted`, and what `make` throws; then the record is burnt.
   */
  take(kind: RecordKind, message: Uint8Array, make: MakeAnswer): Answer;

  /**
   * Answers `message` with the record that the other side names. Throws `record-unknown` (never had, burnt),
   * `policy-record-reuse` if it belongs to another message, and what `make` throws; then the record is burnt.
   */
  use(kind: RecordKind, id: number, message: Uint8Array, make: MakeAnswer): Answer;

  /** Erases unused and bound records of these ids; what was answered stays answered. */
  burn(kind: RecordKind, run: Run): void;

  /** Unused records. */
  remaining(kind: RecordKind): number;

  /** Unused records by runs of consecutive ids. */
  unused(kind: RecordKind): Run[];
}

/** Keeps events. `durable` events must be on the medium when append returns. */
export interface Journal {
  append(event: Uint8Array, durable: boolean): void;
}

interface Entry {
  /** Absent once answered or burnt. */
  record: Uint8Array | undefined;
  message: Uint8Array | undefined;
  answer: Uint8Array | undefined;
}

/**
 * Answers that are kept for repetitions, of each kind. Asked again can be what the last two states of a channel need; an
 * older one that is asked for again is unknown (`use`), or costs another record (`take`), and gives nothing away: its
 * record is gone, and no other message can get it.
 */
const KEPT_ANSWERS = 1024;

interface Shelf {
  nextId: number;
  readonly entries: Map<number, Entry>;
  /** Ids in order; those before `head` are used or burnt. */
  readonly order: number[];
  head: number;
  remaining: number;
  /** Ids in the order in which they were answered. */
  readonly answered: number[];
  /** Message (hex) to the id it is bound to. */
  readonly bound: Map<string, number>;
}

/** A stored run stays well below the limits of its encoding. */
const RUN_TO_STORE = 1024;

const EVENT = { epoch: 1, reserve: 2, activate: 3, bind: 4, answer: 5, burn: 6 } as const;

/** A store over a journal, or in memory only. Opened in a later epoch, it erases everything of the earlier ones. */
export class PresignatureJournal implements RecordStore {
  private readonly sid: Uint8Array;
  private currentEpoch: number;
  private shelves = emptyShelves();
  private readonly journal: Journal | undefined;

  /**
   * @param sid the key the records belong to, 32 bytes
   * @param past the journal's events so far, oldest first. Throws `bad-record-event` if they are none, and
   *   `threshold-old-epoch` if they belong to another key or to a later epoch
   */
  constructor(sid: Uint8Array, epoch: number, journal?: Journal, past: Iterable<Uint8Array> = []) {
    this.sid = sid.slice();
    this.currentEpoch = -1;
    for (const event of past) this.apply(event);
    this.journal = journal;
    if (this.currentEpoch > epoch) {
      throw lngateError("threshold-old-epoch", `the records are of epoch ${this.currentEpoch}, not ${epoch}`);
    }
    if (this.currentEpoch < epoch) {
      this.write(concat([new Uint8Array([EVENT.epoch]), this.sid, u32be(epoch)]), true);
    }
  }

  get epoch(): number {
    return this.currentEpoch;
  }

  reserve(kind: RecordKind, count: number): number {
    const firstId = this.shelf(kind).nextId;
    if (firstId + count > 0xffffffff) throw lngateError("record-ids-taken", "the record ids are used up");
    this.write(concat([eventHead(EVENT.reserve, kind), u32be(firstId + count)]), true);
    return firstId;
  }

  nextId(kind: RecordKind): number {
    return this.shelf(kind).nextId;
  }

  activate(batch: Batch): void {
    if (batch.epoch !== this.epoch) {
      throw lngateError(
        "threshold-old-epoch",
        `these records are of epoch ${batch.epoch}, not ${this.epoch}`,
      );
    }
    const { order } = this.shelf(batch.kind);
    if (order.length > 0 && batch.firstId <= order[order.length - 1]!) {
      throw lngateError("record-ids-taken", "a batch with these or later record ids was there before");
    }
    const encoded = encodeBatch(batch);
    decodeBatch(encoded).records.fill(0); // refuses what could not be read back
    this.write(concat([eventHead(EVENT.activate, batch.kind), encoded]), true);
  }

  take(kind: RecordKind, message: Uint8Array, make: MakeAnswer): Answer {
    const shelf = this.shelf(kind);
    const before = shelf.bound.get(toHex(message));
    if (before !== undefined) return this.use(kind, before, message, make);
    while (shelf.head < shelf.order.length && !isUnused(shelf, shelf.order[shelf.head]!)) shelf.head++;
    const id = shelf.order[shelf.head];
    if (id === undefined) throw lngateError("records-exhausted", `no record of kind ${kind} is left`);
    return this.use(kind, id, message, make);
  }

  use(kind: RecordKind, id: number, message: Uint8Array, make: MakeAnswer): Answer {
    if (message.length !== 32) throw lngateError("bad-sighash", "a record is bound to 32 bytes");
    const entry = this.shelf(kind).entries.get(id);
    if (entry?.message !== undefined && !equal(entry.message, message)) {
      throw lngateError("policy-record-reuse", `record ${id} of kind ${kind} belongs to another message`);
    }
    if (entry?.answer !== undefined) return { id, answer: entry.answer.slice() };
    if (entry?.record === undefined) {
      throw lngateError("record-unknown", `there is no record ${id} of kind ${kind}`);
    }
    if (entry.message === undefined) {
      this.write(concat([eventHead(EVENT.bind, kind), u32be(id), message]), true);
    }
    let answer: Uint8Array;
    try {
      answer = make(entry.record);
    } catch (error) {
      this.burn(kind, { firstId: id, count: 1 });
      throw error;
    }
    // Need not be durable: lost, it is made again from the record, which is bound.
    this.write(concat([eventHead(EVENT.answer, kind), u32be(id), answer]), false);
    return { id, answer: answer.slice() };
  }

  burn(kind: RecordKind, { firstId, count }: Run): void {
    this.write(concat([eventHead(EVENT.burn, kind), u32be(firstId), u32be(count)]), true);
  }

  remaining(kind: RecordKind): number {
    return this.shelf(kind).remaining;
  }

  unused(kind: RecordKind): Run[] {
    const shelf = this.shelf(kind);
    const runs: { firstId: number; count: number }[] = [];
    for (let at = shelf.head; at < shelf.order.length; at++) {
      const id = shelf.order[at]!;
      if (!isUnused(shelf, id)) continue;
      const last = runs[runs.length - 1];
      if (last !== undefined && last.firstId + last.count === id) last.count++;
      else runs.push({ firstId: id, count: 1 });
    }
    return runs;
  }

  /** The present state as the fewest events: what a compacted journal holds. */
  *events(): Generator<Uint8Array> {
    yield concat([new Uint8Array([EVENT.epoch]), this.sid, u32be(this.epoch)]);
    for (const kind of KINDS) {
      const shelf = this.shelf(kind);
      for (const batch of storedRuns(shelf, kind, this.epoch)) {
        yield concat([eventHead(EVENT.activate, kind), encodeBatch(batch)]);
      }
      for (const [id, { record, message, answer }] of shelf.entries) {
        if (record !== undefined && message !== undefined) {
          yield concat([eventHead(EVENT.bind, kind), u32be(id), message]);
        } else if (message !== undefined && answer !== undefined) {
          yield concat([eventHead(EVENT.bind, kind), u32be(id), message]);
          yield concat([eventHead(EVENT.answer, kind), u32be(id), answer]);
        }
      }
      yield concat([eventHead(EVENT.reserve, kind), u32be(shelf.nextId)]);
    }
  }

  private shelf(kind: RecordKind): Shelf {
    return this.shelves[kind];
  }

  private write(event: Uint8Array, durable: boolean): void {
    this.journal?.append(event, durable);
    this.apply(event);
  }

  private apply(event: Uint8Array): void {
    const fields = fieldsOf("record event", event, event.length);
    const type = fields.number(1);
    if (type === EVENT.epoch) {
      ensureEvent(event.length === 1 + 32 + 4);
      if (!equal(fields.take(32), this.sid)) {
        throw lngateError("threshold-old-epoch", "the records belong to another key");
      }
      const epoch = fields.number(4);
      ensureEvent(epoch > this.currentEpoch);
      for (const kind of KINDS) {
        for (const { record } of this.shelf(kind).entries.values()) record?.fill(0);
      }
      this.shelves = emptyShelves();
      this.currentEpoch = epoch;
      return;
    }
    const kindCode = fields.number(1);
    const kind = KINDS.find(name => name.charCodeAt(0) === kindCode);
    ensureEvent(kind !== undefined && this.currentEpoch >= 0);
    const shelf = this.shelf(kind);
    if (type === EVENT.reserve) {
      ensureEvent(event.length === 2 + 4);
      shelf.nextId = Math.max(shelf.nextId, fields.number(4));
    } else if (type === EVENT.activate) {
      applyBatch(shelf, decodeBatch(event.subarray(2)));
    } else if (type === EVENT.bind) {
      ensureEvent(event.length === 2 + 4 + 32);
      applyBinding(shelf, fields.number(4), fields.take(32).slice());
    } else if (type === EVENT.answer) {
      ensureEvent(event.length >= 2 + 4);
      applyAnswer(shelf, fields.number(4), event.slice(6));
    } else {
      ensureEvent(type === EVENT.burn && event.length === 2 + 4 + 4);
      applyBurn(shelf, fields.number(4), fields.number(4));
    }
  }
}

function emptyShelves(): Record<RecordKind, Shelf> {
  const empty = (): Shelf => ({
    nextId: 0,
    entries: new Map(),
    order: [],
    head: 0,
    remaining: 0,
    answered: [],
    bound: new Map(),
  });
  return { A: empty(), B: empty(), H: empty() };
}

function isUnused(shelf: Shelf, id: number): boolean {
  const entry = shelf.entries.get(id);
  return entry?.record !== undefined && entry.message === undefined;
}

function eventHead(type: number, kind: RecordKind): Uint8Array {
  return new Uint8Array([type, kind.charCodeAt(0)]);
}

function ensureEvent(condition: boolean): asserts condition {
  if (!condition) throw lngateError("bad-record-event", "the record journal holds an event that is none");
}

function applyBatch(shelf: Shelf, { firstId, count, records }: Batch): void {
  const size = records.length / count;
  for (let i = 0; i < count; i++) {
    const record = records.slice(i * size, (i + 1) * size);
    shelf.entries.set(firstId + i, { record, message: undefined, answer: undefined });
    shelf.order.push(firstId + i);
  }
  shelf.remaining += count;
  shelf.nextId = Math.max(shelf.nextId, firstId + count);
  records.fill(0);
}

function applyBinding(shelf: Shelf, id: number, message: Uint8Array): void {
  if (isUnused(shelf, id)) shelf.remaining--;
  const entry = shelf.entries.get(id);
  shelf.entries.set(id, { record: entry?.record, message, answer: entry?.answer });
  shelf.bound.set(toHex(message), id);
}

function applyAnswer(shelf: Shelf, id: number, answer: Uint8Array): void {
  const entry = shelf.entries.get(id);
  ensureEvent(entry?.message !== undefined);
  entry.record?.fill(0);
  entry.record = undefined;
  entry.answer = answer;
  shelf.answered.push(id);
  if (shelf.answered.length < 2 * KEPT_ANSWERS) return;
  for (const old of shelf.answered.splice(0, KEPT_ANSWERS)) {
    const message = shelf.entries.get(old)?.message;
    if (message !== undefined) shelf.bound.delete(toHex(message));
    shelf.entries.delete(old);
  }
  // The last of them says which ids a further batch may have.
  const { order } = shelf;
  while (shelf.head < order.length - 1 && !isUnused(shelf, order[shelf.head]!)) shelf.head++;
  order.splice(0, shelf.head);
  shelf.head = 0;
}

function applyBurn(shelf: Shelf, firstId: number, count: number): void {
  for (const [id, { record, message, answer }] of shelf.entries) {
    if (id < firstId || id >= firstId + count || answer !== undefined) continue;
    if (message === undefined) shelf.remaining--;
    else shelf.bound.delete(toHex(message));
    record?.fill(0);
    shelf.entries.delete(id);
  }
}

/** Records still there, unused or bound, as batches of neighbours. */
function* storedRuns(shelf: Shelf, kind: RecordKind, epoch: number): Generator<Batch> {
  let run: Uint8Array[] = [];
  let firstId = 0;
  for (const [id, { record }] of shelf.entries) {
    const continues =
      id === firstId + run.length && record?.length === run[0]?.length && run.length < RUN_TO_STORE;
    if (run.length > 0 && !continues) {
      yield { kind, epoch, firstId, count: run.length, records: concat(run) };
      run = [];
    }
    if (record === undefined) continue;
    if (run.length === 0) firstId = id;
    run.push(record);
  }
  if (run.length > 0) yield { kind, epoch, firstId, count: run.length, records: concat(run) };
}

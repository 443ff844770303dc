/**
 * The record store on disk, for the gateway (one file per device) and the owner's computer. It may be killed at any
 * instant, or the power cut: no record ever serves two messages.
 *
 * The file is a journal of PresignatureJournal's events, each framed as length ‖ check of the length ‖ event ‖ check of all
 * before. One use of a record costs one short append and one fsync. Now and then the journal is replaced by the
 * events of its present state, which also is when used records leave the disk (as far as a disk forgets).
 *
 * The folder is worth as much as the key. It must never be part of a backup: an old copy brought back answers with
 * used records.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from "node:fs";
import { dirname, resolve } from "node:path";
import { concat, equal, u32be } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import { lockPath } from "../../src/node/lock.ts";
import { type Journal, PresignatureJournal, type RecordStore } from "../../src/threshold/records.ts";

/** The few things asked of a disk, each of which may be the last one before the power goes. */
export interface Disk {
  /** Keeps others from opening this file; creates its folder. Returns the unlocking. */
  lock(path: string): () => void;
  /** The whole file, or undefined if there is none. */
  read(path: string): Uint8Array | undefined;
  /** Opens to write, empty. */
  openEmpty(path: string): number;
  /** Writes on where the last write ended. */
  write(file: number, bytes: Uint8Array): void;
  /** Everything written to the file is on the medium afterwards. */
  sync(file: number): void;
  close(file: number): void;
  rename(from: string, to: string): void;
  /** The names in the folder of `path` are on the medium afterwards. */
  syncFolder(path: string): void;
}

const nodeDisk: Disk = {
  lock,
  // A plain array: slicing a Buffer would not copy.
  read: path => (existsSync(path) ? new Uint8Array(readFileSync(path)) : undefined),
  openEmpty: path => openSync(path, "w", 0o600),
  write(file, bytes) {
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
  },
  sync: fsyncSync,
  close: closeSync,
  rename: renameSync,
  syncFolder(path) {
    const folder = openSync(dirname(path), "r");
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  },
};

export interface DiskRecordStore extends RecordStore {
  /** Rewrites the journal without what is used; happens by itself as well. */
  compact(): void;
  /** Further calls throw `record-store-closed`. */
  close(): void;
}

const MAGIC = new Uint8Array([0x4c, 0x4e, 0x52, 0x31]); // "LNR1"
const HEAD_BYTES = 8;
const CHECK_BYTES = 8;
/** The journal is replaced once this much of it is dead, and more than what lives. */
const DEAD_BYTES_TO_COMPACT = 64 * 1024;

/**
 * Opens the records of one key, or begins them. Records of an earlier epoch are erased.
 *
 * @param path the journal; its folder is created
 * @param sid the key share's sid, 32 bytes
 * @throws `record-store-busy` (another process has it open), `record-store-damaged` (not by a crash: enter a new
 *   epoch with an empty store), `threshold-old-epoch` (it is of a later epoch, or of another key)
 */
export function openRecordStore(
  path: string,
  sid: Uint8Array,
  epoch: number,
  disk: Disk = nodeDisk,
): DiskRecordStore {
  const unlock = disk.lock(path);
  try {
    return new JournaledStore(path, sid, epoch, disk, unlock);
  } catch (error) {
    unlock();
    throw error;
  }
}

class JournaledStore extends PresignatureJournal implements DiskRecordStore {
  private readonly file: JournalFile;
  private readonly unlock: () => void;

  constructor(path: string, sid: Uint8Array, epoch: number, disk: Disk, unlock: () => void) {
    const file = new JournalFile(path, disk);
    super(sid, epoch, file, file.past());
    this.file = file;
    this.unlock = unlock;
    file.begin(() => this.events());
  }

  compact(): void {
    this.file.compact();
  }

  close(): void {
    this.file.close();
    this.unlock();
  }
}

/** Appends framed events to a file, and replaces the file when most of it is dead. */
class JournalFile implements Journal {
  /** The present state; undefined until the book has replayed the past. */
  private events: (() => Iterable<Uint8Array>) | undefined;
  private closed = false;
  private readonly path: string;
  private readonly disk: Disk;
  private file: number | undefined;
  private check: Uint8Array = new Uint8Array(CHECK_BYTES);
  private bytes = 0;
  private bytesWhenCompact = 0;

  constructor(path: string, disk: Disk) {
    this.path = path;
    this.disk = disk;
  }

  /** The events of the past. The file is not written on again: compact() puts a whole new one in its place. */
  past(): Uint8Array[] {
    const content = this.disk.read(this.path);
    return content === undefined ? [] : parseJournal(content, this.path);
  }

  /** Begins a new file with the state that the past has led to. */
  begin(events: () => Iterable<Uint8Array>): void {
    this.events = events;
    this.compact();
  }

  append(event: Uint8Array, durable: boolean): void {
    if (this.events === undefined) return; // the book enters its epoch while it is built; begin() writes that
    if (this.bytes - this.bytesWhenCompact > DEAD_BYTES_TO_COMPACT + this.bytesWhenCompact) this.compact();
    // Taken away until the append has worked: after a failed write nobody knows what the file ends with.
    const file = this.takeFile();
    const framed = this.frame(event);
    this.disk.write(file, framed);
    if (durable) this.disk.sync(file);
    this.file = file;
  }

  compact(): void {
    if (this.events === undefined || this.closed) throw closedError();
    if (this.file !== undefined) this.disk.close(this.takeFile());
    this.check = new Uint8Array(CHECK_BYTES);
    this.bytes = 0;
    const content = concat([MAGIC, ...Array.from(this.events(), event => this.frame(event))]);
    const fresh = `${this.path}.new`;
    const file = this.disk.openEmpty(fresh);
    this.disk.write(file, content);
    this.disk.sync(file);
    this.disk.rename(fresh, this.path);
    // The name must be durable before anything that is appended under it.
    this.disk.syncFolder(this.path);
    this.file = file;
    this.bytesWhenCompact = this.bytes;
  }

  close(): void {
    this.closed = true;
    if (this.file !== undefined) this.disk.close(this.takeFile());
  }

  private takeFile(): number {
    const file = this.file;
    if (file === undefined) throw closedError();
    this.file = undefined;
    return file;
  }

  private frame(event: Uint8Array): Uint8Array {
    const length = u32be(event.length);
    const framed = concat([length, lengthCheck(length, this.check), event, eventCheck(event, this.check)]);
    this.check = framed.slice(framed.length - CHECK_BYTES);
    this.bytes += framed.length;
    return framed;
  }
}

function closedError(): Error {
  return lngateError("record-store-closed", "the record store is closed, or a write to it has failed");
}

/** Each check covers the one before, so that frames cannot be swapped or left out. */
function eventCheck(event: Uint8Array, before: Uint8Array): Uint8Array {
  return sha256(concat([before, event])).subarray(0, CHECK_BYTES);
}

/** A length of its own check: a damaged one must not pass for a frame that the file is too short for. */
function lengthCheck(length: Uint8Array, before: Uint8Array): Uint8Array {
  return sha256(concat([length, before])).subarray(0, 4);
}

/**
 * The events of a journal. An unfinished frame at its end is what a crash leaves of an append that nobody was told
 * of; anything else that does not fit could be a use of a record that is lost, and throws `record-store-damaged`.
 */
function parseJournal(content: Uint8Array, path: string): Uint8Array[] {
  const damaged = () =>
    lngateError("record-store-damaged", `the journal of its records is damaged (${path})`);
  if (!equal(content.subarray(0, MAGIC.length), MAGIC)) throw damaged();
  const events: Uint8Array[] = [];
  let check: Uint8Array = new Uint8Array(CHECK_BYTES);
  for (let at = MAGIC.length; at < content.length; ) {
    const rest = content.subarray(at);
    // Some file systems leave zeros where a write did not get to.
    if (rest.length < HEAD_BYTES || rest.every(byte => byte === 0)) break;
    const length = rest.subarray(0, 4);
    if (!equal(lengthCheck(length, check), rest.subarray(4, HEAD_BYTES))) throw damaged();
    const end = HEAD_BYTES + new DataView(length.buffer, length.byteOffset, 4).getUint32(0);
    if (end + CHECK_BYTES > rest.length) break;
    const event = rest.slice(HEAD_BYTES, end);
    const found = rest.slice(end, end + CHECK_BYTES);
    if (!equal(eventCheck(event, check), found)) throw damaged();
    events.push(event);
    check = found;
    at += end + CHECK_BYTES;
  }
  return events;
}

/** The folders whose journals this process has, each with one lock for all of them. */
const foldersHere = new Map<string, { readonly open: Set<string>; readonly unlock: () => void }>();

/** Keeps a second process out of a journal's folder, and this one from opening a journal twice. */
function lock(path: string): () => void {
  const folder = resolve(dirname(path));
  const busy = () => lngateError("record-store-busy", `another process has the record store open (${path})`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const here = foldersHere.get(folder) ?? { open: new Set<string>(), unlock: lockPath(folder, busy) };
  if (here.open.has(path)) throw busy();
  here.open.add(path);
  foldersHere.set(folder, here);
  return () => {
    if (!here.open.delete(path) || here.open.size > 0) return;
    foldersHere.delete(folder);
    here.unlock();
  };
}

/**
 * A ChannelManager of LDK 0.1.2 that is stored between the storing of a claim (an incoming payment taken) and its
 * completion cannot be read again: the claim is in the manager and in the monitor, and reading takes that for
 * corruption (later releases of LDK do not, but the binding has none of them). The monitor's half is enough: LDK
 * rebuilds the manager's from it. So the manager's is taken out.
 */
import { concat } from "../../src/bytes/bytes.ts";

/** The last part of a serialized manager is a length-prefixed TLV stream (BOLT #1) that has all of these. */
const ALWAYS_PRESENT = [1, 3, 5, 7, 11, 15];
const PENDING_CLAIMS = 4;

interface TlvRecord {
  readonly type: number;
  /** With type and length. */
  readonly bytes: Uint8Array;
}

/** The serialized manager without its pending claims; null if it has none (or is no manager). */
export function withoutPendingClaims(manager: Uint8Array): Uint8Array | null {
  for (let at = manager.length - 1; at >= 0; at--) {
    const length = bigSize(manager, at);
    if (length === null || length.end + length.value !== manager.length) continue;
    const records = readRecords(manager.subarray(length.end));
    const types = records?.map(record => record.type) ?? [];
    if (!records || !ALWAYS_PRESENT.every(type => types.includes(type))) continue;
    if (!types.includes(PENDING_CLAIMS)) return null;
    const kept = concat(records.filter(({ type }) => type !== PENDING_CLAIMS).map(({ bytes }) => bytes));
    return concat([manager.subarray(0, at), bigSizeBytes(kept.length), kept]);
  }
  return null;
}

/** All records of a stream, or null if it is none: their types ascend, and they fill it exactly. */
function readRecords(stream: Uint8Array): TlvRecord[] | null {
  const records: TlvRecord[] = [];
  let last = -1;
  for (let at = 0; at < stream.length; ) {
    const type = bigSize(stream, at);
    const length = type && bigSize(stream, type.end);
    if (!type || !length || type.value <= last) return null;
    const end = length.end + length.value;
    if (end > stream.length) return null;
    records.push({ type: type.value, bytes: stream.subarray(at, end) });
    last = type.value;
    at = end;
  }
  return records;
}

/** A BigSize up to 32 bits in its shortest form, and where it ends. */
function bigSize(bytes: Uint8Array, at: number): { readonly value: number; readonly end: number } | null {
  const first = bytes[at];
  if (first === undefined || first === 0xff) return null;
  const size = first < 0xfd ? 0 : first === 0xfd ? 2 : 4;
  const end = at + 1 + size;
  if (end > bytes.length) return null;
  let value = size === 0 ? first : 0;
  for (let i = at + 1; i < end; i++) value = value * 256 + bytes[i]!;
  const isShortest = size === 0 || value >= (size === 2 ? 0xfd : 0x10000);
  return isShortest ? { value, end } : null;
}

function bigSizeBytes(value: number): Uint8Array {
  if (value < 0xfd) return new Uint8Array([value]);
  if (value < 0x10000) return new Uint8Array([0xfd, value >> 8, value & 255]);
  return new Uint8Array([0xfe, value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]);
}

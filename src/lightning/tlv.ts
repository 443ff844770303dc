/** BigSize numbers and TLV records (BOLT #1), as LDK serializes with them. */

/** A number, and where it ends. */
export interface BigSize {
  readonly value: number;
  readonly end: number;
}

/** A BigSize up to 32 bits in its shortest form; null for anything else, and where the bytes end before it does. */
export function readBigSize(bytes: Uint8Array, at: number): BigSize | null {
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

/** A number below 2^32 as BigSize. */
export function bigSizeBytes(value: number): Uint8Array {
  if (value < 0xfd) return new Uint8Array([value]);
  if (value < 0x10000) return new Uint8Array([0xfd, value >> 8, value & 255]);
  return new Uint8Array([0xfe, value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]);
}

/** One record of a stream. */
export interface TlvRecord {
  readonly type: number;
  readonly value: Uint8Array;
  /** With type and length. */
  readonly bytes: Uint8Array;
}

/** All records of a stream, or null if it is none: their types ascend, and they fill it exactly. */
export function readTlvStream(stream: Uint8Array): TlvRecord[] | null {
  const records: TlvRecord[] = [];
  let last = -1;
  for (let at = 0; at < stream.length; ) {
    const type = readBigSize(stream, at);
    const length = type && readBigSize(stream, type.end);
    if (!type || !length || type.value <= last) return null;
    const end = length.end + length.value;
    if (end > stream.length) return null;
    records.push({ type: type.value, value: stream.slice(length.end, end), bytes: stream.subarray(at, end) });
    last = type.value;
    at = end;
  }
  return records;
}

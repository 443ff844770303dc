/**
 * What the multiplication of presigning (presign.ts) and the MACs of its records (mac.ts) have in common: 416
 * oblivious transfers each, a public gadget, and pads that are chosen by secret bits without branching on them.
 */
import { concat } from "../../bytes/bytes.ts";
import { RepeatedHash } from "../hash.ts";

/**
 * Transfers per multiplication: ξ = κ + 2·λs = 256 + 2·80. A subset sum of so many public scalars stays uniform
 * for one who has learnt a few of the bits that choose it.
 */
export const TRANSFERS_EACH = 416;
/** A row of the OT extension, and a seed made of one. */
export const ROW_BYTES = 16;

/** The gadget: 416 public scalars g_j = Hs(tag, id, j). */
export function gadgetOf(tag: string, id: Uint8Array): bigint[] {
  const hash = new RepeatedHash(tag, id, new Uint8Array(4));
  const view = new DataView(hash.block.buffer);
  return Array.from({ length: TRANSFERS_EACH }, (_, j) => {
    view.setUint32(40, j);
    return hash.scalar();
  });
}

/** Σ g_j over the bits that are set. */
export function subsetSum(gadget: readonly bigint[], bits: Uint8Array, firstBit = 0): bigint {
  return gadget.reduce((sum, element, j) => sum + (element & maskOf(bitOf(bits, firstBit + j))), 0n);
}

/** Makes pads out of rows: pad(j, k, row) = Hs(tag, session, j, k, row). */
export class PadHash {
  private readonly hash: RepeatedHash;
  private readonly view: DataView;

  constructor(tag: string, sessionId: Uint8Array) {
    // The session's id is padded to 60 bytes, so that it fills a block with its length, and a pad costs one block.
    const padded = concat([sessionId, new Uint8Array(28)]);
    this.hash = new RepeatedHash(
      tag,
      padded,
      new Uint8Array(4),
      new Uint8Array(1),
      new Uint8Array(ROW_BYTES),
    );
    this.view = new DataView(this.hash.block.buffer);
  }

  row(j: number, row: Uint8Array): void {
    this.view.setUint32(4, j);
    this.hash.block.set(row, 17);
  }

  pad(k: 0 | 1): bigint {
    this.hash.block[12] = k;
    return this.hash.scalar();
  }

  erase(): void {
    this.hash.erase();
  }
}

/** Bit `at` of a byte string, lowest first. */
export function bitOf(bytes: Uint8Array, at: number): number {
  return (bytes[at >> 3]! >> (at & 7)) & 1;
}

/** −1n or 0n: selects a number by a bit without branching on it. */
export function maskOf(bit: number): bigint {
  return -BigInt(bit);
}

/** A view for reading and writing numbers in these bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Runs a step and overwrites what it was given, whatever comes of it. */
export function erasing<Result>(secrets: readonly Uint8Array[], step: () => Result): Result {
  try {
    return step();
  } finally {
    for (const secret of secrets) secret.fill(0);
  }
}

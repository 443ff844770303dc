/** The keys of a record's MAC, as the device makes them of what is in its flash, and the owner's computer in advance. */
import { concat, u32be } from "../../bytes/bytes.ts";
import { hmacSha256 } from "../../crypto/hash.ts";

/** α ‖ key: what all records of a batch of kind B have in common on the device's side. */
export const BATCH_MAC_BYTES = 64;

/**
 * b_w ‖ b_v of record `id`, 64 bytes; each is taken modulo n. `key` (32 bytes) belongs to one batch: under a key of two
 * batches a record of the same id would get the same b for another w, and two equations tell α.
 */
export function macKeys(key: Uint8Array, id: number): Uint8Array {
  const keyOf = (which: number) => hmacSha256(key, concat([u32be(id), new Uint8Array([which])]));
  return concat([keyOf(0), keyOf(1)]);
}

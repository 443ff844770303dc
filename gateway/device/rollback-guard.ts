/**
 * The last `hello` of each device. The number of writes to its flash only grows: one that is smaller than before comes
 * from an old image that was put back, or from a second device with the same vault. Either would use records again,
 * and a record used twice gives the key away, so nothing is asked of such a device (docs/vault.md). The states of its
 * channel tell the same, and sooner (`deviceReached` of signer/state.ts).
 */
import type { Database } from "lmdb";
import {
  decodeValue,
  encodeValue,
  optional,
  struct,
  UINT32,
  UINT53,
  uint,
  type ValueOf,
} from "../../src/bytes/schema.ts";

const sightingCodec = struct({
  /** Unix seconds. */
  at: [1, uint(UINT53)],
  /** The highest that was ever said. */
  generation: [2, uint(UINT53)],
  /** The device's clock then, Unix seconds. */
  clock: optional([3, uint(UINT53)]),
  /** What it refuses to sign (channel/bounds.ts). */
  bounds: optional([
    4,
    struct({
      minFeeratePerKw: [1, uint(UINT32)],
      maxFeeratePerKw: [2, uint(UINT32)],
      maxCloseFeeSat: [3, uint(UINT53)],
    }),
  ]),
});
/** What a device said of itself in a `hello`. */
export type Sighting = ValueOf<typeof sightingCodec>;

/** The newest sighting of a device; undefined if it was never here. */
export function lastSeen(table: Database<Uint8Array, string>, deviceId: string): Sighting | undefined {
  const stored = table.get(deviceId);
  return stored && decodeValue(sightingCodec, new Uint8Array(stored));
}

/** Durable when it returns. False, and nothing noted, for a generation below the one that was seen. */
export function noteSeen(table: Database<Uint8Array, string>, deviceId: string, sighting: Sighting): boolean {
  const last = lastSeen(table, deviceId);
  if (last && sighting.generation < last.generation) return false;
  table.putSync(deviceId, encodeValue(sightingCodec, sighting));
  return true;
}

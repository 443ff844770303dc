/** The table of points and keys for a board that cannot compute them (device/keys/prepared.ts). */

import { contextOf } from "../../device/board-context.ts";
import { POINTS_AHEAD } from "../../device/channel/normal.ts";
import { readState } from "../../device/channel/state.ts";
import {
  channelHash,
  entryCheck,
  KEY_ENTRY,
  KEY_TABLE_HEAD,
  KEY_TABLE_MAGIC,
} from "../../device/keys/prepared.ts";
import type { Vault } from "../../device/vault/vault.ts";
import { concat, u32be } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { lngateError } from "../../src/errors.ts";

/**
 * The table for the channel that is open in this vault: as many commitments as its records can finish, from the one
 * that is held on. Throws `channel-not-open`.
 */
export function makeKeyTable(vault: Vault): Uint8Array {
  const { books, parameters, holder } = readState(vault.journal);
  if (books.phase !== "open" || parameters === null || holder === null) {
    throw lngateError(
      "channel-not-open",
      "keys are prepared for an open channel: run the device on this computer until its channel is ready",
    );
  }
  const { pointOf, keysFor } = contextOf({ vault, curve: nobleCurve, now: Date.now, ticks: () => 0 });
  const { proposal } = parameters;
  const count = vault.records.left("B", books.cursors.B) + POINTS_AHEAD + 2;
  const parts = [
    u32be(KEY_TABLE_MAGIC),
    u32be(books.index),
    u32be(holder.number),
    u32be(count),
    channelHash(proposal),
  ];
  for (let i = 0; i < count; i++) {
    const point = pointOf(books.index, holder.number + i);
    const keys = keysFor(proposal, true, point);
    const points = concat([
      point,
      keys.revocation,
      keys.delayed,
      keys.broadcasterHtlc,
      keys.countersignatoryHtlc,
    ]);
    parts.push(points, entryCheck(points));
  }
  const table = concat(parts);
  if (table.length !== KEY_TABLE_HEAD + count * KEY_ENTRY) throw new Error("a table of another size");
  return table;
}

/**
 * Points and keys for a board without a curve: a table that the owner's computer made for the open channel
 * (owner/board/key-table.ts), and for the bridge's commitments the gateway's word. Our own keys never come from the gateway.
 *
 *     header   magic 4 | channel 4 | first number 4 | count 4 | channel's hash 8
 *     entry    point 33 | revocation 33 | delayed 33 | our HTLC key 33 | the bridge's 33 | hash of these 3
 *
 * Numbers are big-endian, hashes the first bytes of SHA-256, that of the channel over its proposal.
 */

import { equal } from "../../src/bytes/bytes.ts";
import { encodeValue } from "../../src/bytes/schema.ts";
import { type Proposal, proposalCodec } from "../../src/channel/terms.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import type { CommitmentKeys } from "../../src/lightning/keys.ts";
import type { KeySource } from "../channel/context.ts";
import { shortHash, u32At } from "../vault/flash.ts";

export const KEY_TABLE_MAGIC = 0x4c474b31;
export const KEY_TABLE_HEAD = 24;
const POINT = 33;
const KEYS = 5;
const CHECK = 3;
export const KEY_ENTRY = KEYS * POINT + CHECK;

/** What a channel's table is bound to. */
export function channelHash(proposal: Proposal): Uint8Array {
  return shortHash(encodeValue(proposalCodec, proposal));
}

/** The hash at the end of an entry. */
export function entryCheck(points: Uint8Array): Uint8Array {
  return sha256(points).subarray(0, CHECK);
}

/** @param read bytes of the table; null where there is none */
export function preparedKeys(read: (offset: number, length: number) => Uint8Array | null): KeySource {
  const head = read(0, KEY_TABLE_HEAD);
  /** The entries that were looked up last: the keys of a commitment are asked for by its point. */
  let last: Uint8Array[] = [];

  function pointOf(index: number, number: number): Uint8Array {
    if (head === null || u32At(head, 0) !== KEY_TABLE_MAGIC || u32At(head, 4) !== index) throw noKeys();
    const at = number - u32At(head, 8);
    if (at < 0 || at >= u32At(head, 12)) throw noKeys();
    const entry = read(KEY_TABLE_HEAD + at * KEY_ENTRY, KEY_ENTRY);
    const points = entry === null ? null : entry.subarray(0, KEYS * POINT);
    if (points === null || !equal(entryCheck(points), entry!.subarray(KEYS * POINT))) throw noKeys();
    last = [points].concat(last.slice(0, 1));
    return new Uint8Array(points.subarray(0, POINT));
  }

  return {
    pointOf,
    keysFor: (proposal, ours, point, told) => {
      if (!ours) {
        if (told === undefined || told.length !== KEYS - 1) throw noKeys();
        return keysOf(told);
      }
      const entry = last.filter(points => equal(points.subarray(0, POINT), point))[0];
      if (entry === undefined || !equal(head!.subarray(16), channelHash(proposal))) throw noKeys();
      const keys: Uint8Array[] = [];
      for (let i = 1; i < KEYS; i++) keys.push(new Uint8Array(entry.subarray(POINT * i, POINT * (i + 1))));
      return keysOf(keys);
    },
  };
}

function keysOf(points: readonly Uint8Array[]): CommitmentKeys {
  return {
    revocation: points[0]!,
    delayed: points[1]!,
    broadcasterHtlc: points[2]!,
    countersignatoryHtlc: points[3]!,
  };
}

function noKeys(): Error {
  return lngateError("keys-used-up", "no keys are prepared for this commitment: make a new image");
}

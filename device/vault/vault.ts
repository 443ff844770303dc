/**
 * The vault: all that a device keeps in its flash. The owner's computer makes it with this same code, on an
 * image in memory or a file, and charges it (charging.ts).
 *
 *     pages   identity | journal, two areas | records …
 *
 * The identity's head is written last: without it there is no vault.
 */
import { ascii, concat, equal, u32be } from "../../src/bytes/bytes.ts";
import { hmacSha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import type { DeviceIdentity } from "../identity.ts";
import { type Drbg, hmacDrbg } from "./drbg.ts";
import { erasePage, type Flash, isAll, shortHash, u16At, u16be, u32At, write } from "./flash.ts";
import { decodeIdentity, encodeIdentity, MAX_IDENTITY_BYTES, withOwnersWord } from "./identity.ts";
import { formatJournal, type Journal, type JournalPlace, openJournal } from "./journal.ts";
import { openRecords, type RecordBank } from "./records.ts";

/** All that a device keeps: identity, journal, records, random bytes. */
export interface Vault {
  /** As it was paired, with the owner's last word on limits and height. */
  readonly identity: DeviceIdentity;
  /** The channel's state, under keys below `RESERVED_KEYS`. */
  readonly journal: Journal;
  readonly records: RecordBank;
  /** Seeded again at every boot: no two boots of one flash draw the same. */
  readonly drbg: Drbg;
  /** How often this vault was opened. */
  readonly boots: number;
}

/** Keys from here on belong to the vault itself. */
export const RESERVED_KEYS = 0xff00;
const BOOTS_KEY = 0xff00;
/** What the owner's computer has told since the pairing. */
export const OWNERS_KEY = 0xff01;
const RESERVED_BYTES = 20;

const MAGIC = 0x4c475632;
/** What earlier versions wrote: without MACs, secrets of the bridge's and all that. */
const OUTDATED_MAGIC = 0x4c475631;
const HEAD = 24;

/**
 * Pages of each of the journal's two areas by default: a sixteenth of the flash, 3 to 8. In fewer there is no room for
 * a payment beside the exit of the channel before.
 */
function defaultAreaPages(pageCount: number): number {
  return Math.max(3, Math.min(8, Math.floor(pageCount / 16)));
}

interface Layout {
  readonly identityPages: number;
  readonly areaPages: number;
  readonly recordsPage: number;
}

function layoutOf(flash: Flash, areaPages: number): Layout {
  const identityPages = Math.ceil((HEAD + MAX_IDENTITY_BYTES) / flash.pageBytes);
  return { identityPages, areaPages, recordsPage: identityPages + 2 * areaPages };
}

/**
 * Makes a new vault in a flash and erases all of it. Throws `vault-exists` where there is one (`wipeVault`
 * removes it, with everything that may still be needed to close a channel), `vault-too-small`,
 * `identity-malformed`.
 */
export function formatVault(
  flash: Flash,
  identity: DeviceIdentity,
  areaPages = defaultAreaPages(flash.pageCount),
): void {
  const encoded = encodeIdentity(identity);
  const layout = layoutOf(flash, areaPages);
  if (layout.recordsPage + 3 > flash.pageCount) {
    throw lngateError("vault-too-small", `${flash.pageCount} pages of flash are too few for a vault`);
  }
  if (!isAll(flash.read(0, HEAD), 255)) {
    throw lngateError("vault-exists", "the flash holds a vault, or something else: wipe it first");
  }
  wipeVault(flash);
  formatJournal(flash, { firstPage: layout.identityPages, areaPages });
  write(flash, HEAD, encoded);
  const head = concat([
    u32be(MAGIC),
    u16be(areaPages),
    u16be(encoded.length),
    u32be(flash.pageBytes),
    u32be(flash.pageCount),
  ]);
  write(flash, 0, concat([head, shortHash(concat([head, encoded]))]));
}

/** Destroys everything in the flash: keys, state, exit and records. */
export function wipeVault(flash: Flash): void {
  for (let page = 0; page < flash.pageCount; page++) erasePage(flash, page);
}

/**
 * Opens a vault, completes what a power cut interrupted and counts the boot. Throws `vault-empty` for a flash
 * that was never written, `vault-outdated` for one of an earlier version, `vault-corrupt` for one that holds no whole vault; then nothing is written.
 * @param entropy more randomness if the board has any: mixed in, never relied on
 */
export function openVault(flash: Flash, entropy: Uint8Array = new Uint8Array(0)): Vault {
  const { identity, layout, pageCount } = readHead(flash);
  const { identityPages, areaPages, recordsPage } = layout;
  const journal = openJournal(flash, { firstPage: identityPages, areaPages });
  const records = openRecords(flash, recordsPage, pageCount - recordsPage, recordsKey(identity));

  const counted = journal.get(BOOTS_KEY);
  const boots = counted === null ? 1 : u32At(counted, 0) + 1;
  journal.commit([{ key: BOOTS_KEY, value: u32be(boots) }]);
  const drbg = hmacDrbg(identity.drbgSeed, u32be(boots), concat([ascii("lngate/vault/1"), entropy]));
  const word = journal.get(OWNERS_KEY);
  return {
    identity: withOwnersWord(identity, word),
    journal: withoutReserved(journal, RESERVED_BYTES + (word === null ? 0 : word.length + 16)),
    records,
    drbg,
    boots,
  };
}

/** The identity as it was paired, and where the journal is. Throws as `openVault` does. */
export function pairedIdentity(flash: Flash): { identity: DeviceIdentity; place: JournalPlace } {
  const { identity, layout } = readHead(flash);
  return { identity, place: { firstPage: layout.identityPages, areaPages: layout.areaPages } };
}

/** The pages of the record bank, and the key of its checks. Throws as `openVault` does. */
export function recordArea(flash: Flash): {
  readonly first: number;
  readonly count: number;
  readonly key: Uint8Array;
} {
  const { identity, layout, pageCount } = readHead(flash);
  return {
    first: layout.recordsPage,
    count: pageCount - layout.recordsPage,
    key: recordsKey(identity),
  };
}

function recordsKey(identity: DeviceIdentity): Uint8Array {
  return hmacSha256(identity.drbgSeed, ascii("lngate/vault/records"));
}

function readHead(flash: Flash): { identity: DeviceIdentity; layout: Layout; pageCount: number } {
  const head = flash.read(0, HEAD);
  if (isAll(head, 255)) throw lngateError("vault-empty", "the flash holds no vault: pair the device first");
  if (u32At(head, 0) === OUTDATED_MAGIC) {
    throw lngateError(
      "vault-outdated",
      "the flash was written by an earlier version of LNGate: close its channel with that version, and pair the device again",
    );
  }
  const areaPages = u16At(head, 4);
  const length = u16At(head, 6);
  const pageCount = u32At(head, 12);
  const layout = layoutOf(flash, areaPages);
  const fits =
    u32At(head, 0) === MAGIC &&
    length <= MAX_IDENTITY_BYTES &&
    u32At(head, 8) === flash.pageBytes &&
    pageCount <= flash.pageCount &&
    layout.recordsPage < pageCount;
  if (!fits) throw noVault();
  const encoded = flash.read(HEAD, length);
  if (!equal(shortHash(concat([head.subarray(0, 16), encoded])), head.subarray(16))) throw noVault();
  return { identity: decodeIdentity(encoded), layout, pageCount };
}

/** The journal as the channel sees it: without the vault's own keys. */
function withoutReserved(journal: Journal, reservedBytes: number): Journal {
  return {
    get: key => (key < RESERVED_KEYS ? journal.get(key) : null),
    keys: () => journal.keys().filter(key => key < RESERVED_KEYS),
    commit: changes => {
      for (const { key } of changes) {
        if (key >= RESERVED_KEYS)
          throw lngateError("vault-bad-key", `key ${key} belongs to the vault itself`);
      }
      journal.commit(changes);
    },
    fits: (changes, spareBytes) => journal.fits(changes, spareBytes),
    get generation() {
      return journal.generation;
    },
    capacity: journal.capacity - reservedBytes,
    tidy: () => journal.tidy(),
  };
}

function noVault(): Error {
  return lngateError("vault-corrupt", "the flash holds no vault, or one that is damaged");
}

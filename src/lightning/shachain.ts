/**
 * Per-commitment secrets (BOLT #3, Per-commitment Secret Requirements): all of one side's secrets follow from its
 * seed, and the other side stores them in at most 49 entries, since later ones yield the earlier ones.
 *
 * Everything here counts commitments 0, 1, 2 …; BOLT's index I counts down from 2^48 − 1.
 */
import { equal } from "../bytes/bytes.ts";
import { sha256 } from "../crypto/hash.ts";
import { lngateError } from "../errors.ts";

/** 2^24; a 48-bit index is handled as two such halves, since bit operations have 32 bits. */
const HALF = 16777216;
const INDEX_BITS = 48;
export const MAX_COMMITMENT_NUMBER = HALF * HALF - 1;

/** The index of commitment `number`. Throws `bad-secret` for a number that has none. */
function indexOf(number: number): number {
  if (!(number >= 0 && number <= MAX_COMMITMENT_NUMBER && Math.floor(number) === number)) {
    throw lngateError("bad-secret", "a commitment number out of range");
  }
  return MAX_COMMITMENT_NUMBER - number;
}

function bitOf(index: number, bit: number): number {
  return bit < 24 ? ((index % HALF) >> bit) & 1 : (Math.floor(index / HALF) >> (bit - 24)) & 1;
}

/** The secret one bit further down: that bit flipped, then hashed. */
function step(secret: Uint8Array, bit: number): Uint8Array {
  const flipped = secret.slice();
  flipped[bit >> 3]! ^= 1 << (bit & 7);
  return sha256(flipped);
}

/** The secret at `index` from one whose index agrees with it above the lowest `bits` bits and is 0 in those. */
function derive(secret: Uint8Array, bits: number, index: number): Uint8Array {
  let derived = secret;
  for (let bit = bits - 1; bit >= 0; bit--) if (bitOf(index, bit)) derived = step(derived, bit);
  return derived;
}

/** The secrets of this many neighbouring commitments have all but their last hashes in common. */
export const BRANCH_COMMITMENTS = 256;
const BRANCH_BITS = 8;

/** What the secrets of commitment `number` and its neighbours are made from: the same for `number` / 256 rounded down. */
export function commitmentBranch(seed: Uint8Array, number: number): Uint8Array {
  const index = indexOf(number);
  const start = index - (index % BRANCH_COMMITMENTS);
  return derive(seed, INDEX_BITS, start);
}

/** The secret of a commitment from the branch that it is on: 8 hashes at most instead of 48. */
export function branchSecret(branch: Uint8Array, number: number): Uint8Array {
  return derive(branch, BRANCH_BITS, indexOf(number));
}

/** The secret of commitment `number` of the side that has this 32-byte seed. */
export function commitmentSecret(seed: Uint8Array, number: number): Uint8Array {
  return branchSecret(commitmentBranch(seed, number), number);
}

/** The secrets of commitments 0 … count − 1, in the order they were revealed. Plain data; never changed in place. */
export interface SecretStore {
  readonly count: number;
  /** At b: the latest secret whose index ends in exactly b zero bits. */
  readonly secrets: readonly Uint8Array[];
}

export const EMPTY_SECRET_STORE: SecretStore = { count: 0, secrets: [] };

/** The store with the secret of commitment `store.count` added; null if earlier ones do not follow from it. */
export function addSecret(store: SecretStore, secret: Uint8Array): SecretStore | null {
  const index = indexOf(store.count);
  if (secret.length !== 32) return null;
  let zeros = 0;
  // Each entry below this one's place differs from it in a single bit, so that one step leads there.
  while (zeros < INDEX_BITS && bitOf(index, zeros) === 0) {
    if (!equal(step(secret, zeros), store.secrets[zeros]!)) return null;
    zeros++;
  }
  const secrets = store.secrets.slice();
  secrets[zeros] = secret;
  return { count: store.count + 1, secrets };
}

/** The same. Throws `bad-secret` if earlier ones do not follow. */
export function storeSecret(store: SecretStore, secret: Uint8Array): SecretStore {
  const added = addSecret(store, secret);
  if (added === null)
    throw lngateError("bad-secret", "this commitment secret does not belong to the earlier ones");
  return added;
}

/** The secret of an earlier commitment. Throws `bad-secret` if it was not revealed yet. */
export function storedSecret(store: SecretStore, number: number): Uint8Array {
  const index = indexOf(number);
  if (number >= store.count) throw lngateError("bad-secret", "this commitment secret is not known yet");
  const lowest = indexOf(store.count - 1);
  let bits = 0;
  let size = 1;
  for (; bits < INDEX_BITS; bits++, size *= 2) {
    if (index - (index % size) === entryAt(lowest, size)) break;
  }
  return derive(store.secrets[bits]!, bits, index);
}

/**
 * True if a store that comes from elsewhere is one that `addSecret` can have led to: as many entries as that many
 * commitments leave, and each the one that follows from the later ones wherever it does.
 */
export function isSecretStore({ count, secrets }: SecretStore): boolean {
  const kept: number[] = [];
  const lowest = HALF * HALF - count;
  for (let bits = 0, size = 1; size <= count; bits++, size *= 2) {
    const secret = secrets[bits];
    if (secret === undefined || secret.length !== 32) return false;
    const entry = entryAt(lowest, size);
    for (let below = 0; below < bits; below++) {
      const index = kept[below]!;
      if (index - (index % size) === entry && !equal(derive(secret, bits, index), secrets[below]!))
        return false;
    }
    kept.push(entry);
  }
  return secrets.length === kept.length;
}

/** The smallest index from `lowest` on that ends in as many zero bits as `size`, a power of two, and no more. */
function entryAt(lowest: number, size: number): number {
  return Math.ceil((lowest - size) / (2 * size)) * 2 * size + size;
}

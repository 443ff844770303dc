/** What the owner tells a device that is paired: other limits, and where the chain is. Only here, on the owner's computer. */

import { openFileFlash } from "../device/boards/node/flash.ts";
import { MAX_INVOICE_SECONDS } from "../device/channel/paying.ts";
import { changesBetween, readState } from "../device/channel/state.ts";
import type { SpendingPolicy } from "../device/identity.ts";
import { writeOwnersWord } from "../device/vault/charging.ts";
import type { Flash } from "../device/vault/flash.ts";
import { MAX_PAYEES } from "../device/vault/identity.ts";
import { openVault } from "../device/vault/vault.ts";
import { fromHex } from "../src/bytes/bytes.ts";
import { nobleCurve } from "../src/bytes/curve.ts";
import { codeOf, lngateError } from "../src/errors.ts";
import { needVaultHere } from "./image.ts";

/**
 * The device's limits, after they were changed by these. Throws `device-in-use`, `device-moved`, `limits-malformed`,
 * `vault-full`.
 *
 * @param path the device's folder
 */
export function changeLimits(path: string, changed: Partial<SpendingPolicy>): SpendingPolicy {
  needVaultHere(path);
  const flash = openFileFlash(path);
  try {
    const { identity } = openVault(flash);
    if (Object.keys(changed).length === 0) return identity.policy;
    const policy = { ...identity.policy, ...changed };
    writeOwnersWord(flash, { policy, height: identity.birthHeight, time: identity.birthTime });
    return policy;
  } finally {
    flash.close();
  }
}

/**
 * Tells the device in this flash where the chain is now: from here it reckons how far ahead a payment may be locked. And
 * what it remembers of invoices that expire in a time which is far from now, a wrong clock has made it remember.
 */
export function tellHeight(flash: Flash, height: number): void {
  const { identity, journal } = openVault(flash);
  const time = Math.floor(Date.now() / 1000);
  const state = readState(journal);
  const forgotten = Math.min(state.books.forgotten, time + MAX_INVOICE_SECONDS);
  if (forgotten < state.books.forgotten)
    journal.commit(changesBetween(state, { ...state, books: { ...state.books, forgotten } }));
  writeOwnersWord(flash, { policy: identity.policy, height, time });
}

/** Node ids as they are written, separated by commas. Throws `limits-malformed`. */
export function payeesOf(text: string): Uint8Array[] {
  const payees = text
    .split(",")
    .map(each => each.trim())
    .filter(each => each !== "")
    .map(each => {
      let key: Uint8Array;
      try {
        key = fromHex(each);
      } catch (error) {
        if (codeOf(error) !== "bad-hex") throw error;
        throw malformed(each);
      }
      if (!nobleCurve.isPoint(key)) throw malformed(each);
      return key;
    });
  if (payees.length > MAX_PAYEES)
    throw lngateError("limits-malformed", `a device remembers ${MAX_PAYEES} payees at most`);
  return payees;
}

function malformed(text: string): Error {
  return lngateError(
    "limits-malformed",
    `"${text}" is not a node id: 66 hexadecimal digits that begin with 02 or 03 (invoices name their payee so)`,
  );
}

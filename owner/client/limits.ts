/**
 * What the owner tells a device that is paired: other limits, and where the chain is. Only here, on the owner's computer.
 *
 * Limits are in two places: the device's flash, and at the gateway, which holds the device to them even if somebody has
 * changed its flash. Neither is believed by the other, and what is stricter of the two holds.
 */

import { openFileFlash } from "../../device/boards/node/flash.ts";
import { MAX_INVOICE_SECONDS } from "../../device/channel/payments/policy.ts";
import { changesBetween, readState } from "../../device/channel/state.ts";
import { writeOwnersWord } from "../../device/vault/charging.ts";
import type { Flash } from "../../device/vault/flash.ts";
import { MAX_PAYEES } from "../../device/vault/identity.ts";
import { openVault } from "../../device/vault/vault.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import type { SpendingLimits } from "../../src/messages/owner.ts";
import { ensureVaultHere } from "../board/image.ts";

/** Of what the owner allows the device, what the gateway holds it to as well. */
export function spendingLimits(policy: SpendingLimits): SpendingLimits {
  const { perPaymentMsat, perHourMsat, perDayMsat, payees } = policy;
  return { perPaymentMsat, perHourMsat, perDayMsat, payees };
}

/** Tells the gateway these limits, if any, and says which it keeps (`askLimits`). */
export type AskGateway = (limits?: SpendingLimits) => Promise<SpendingLimits | undefined>;

/**
 * The limits in the device's flash. Throws `device-in-use`, `device-moved`.
 *
 * @param path the device's folder
 */
export function limitsInFlash(path: string): SpendingLimits {
  return withFlash(path, flash => spendingLimits(openVault(flash).identity.policy));
}

/**
 * Changes the limits of device and gateway to the same, and returns them. The gateway comes first: if it can't be reached,
 * nothing has changed. If it breaks off after that, what is stricter holds, and the same change can be made again. What is
 * not named stays; it must be the same on both sides, since one of them may have it from somebody else. Throws
 * `device-in-use`, `device-moved`, `limits-differ`, `vault-full`, and what the gateway does.
 */
export function changeLimits(
  path: string,
  changed: Partial<SpendingLimits>,
  gateway: AskGateway,
): Promise<SpendingLimits> {
  return withFlash(path, async flash => {
    const { identity } = openVault(flash);
    const policy = { ...identity.policy, ...changed };
    const limits = spendingLimits(policy);
    const kept = await gateway();
    if (kept) ensureSame({ ...kept, ...changed }, limits);
    await gateway(limits);
    writeOwnersWord(flash, { policy, height: identity.birthHeight, time: identity.birthTime });
    return limits;
  });
}

/**
 * Changes those at the gateway alone, also while the device runs or is in its board. What is not named is as the gateway
 * has it, or else as `otherwise` says.
 */
export async function changeGatewayLimits(
  changed: Partial<SpendingLimits>,
  otherwise: SpendingLimits,
  gateway: AskGateway,
): Promise<SpendingLimits> {
  const limits = { ...((await gateway()) ?? otherwise), ...changed };
  await gateway(limits);
  return limits;
}

/** By the names of the command's options, what differs. */
export function differences(one: SpendingLimits, other: SpendingLimits): string[] {
  const payees = (limits: SpendingLimits) => limits.payees.map(toHex).sort().join();
  return [
    ...(one.perPaymentMsat === other.perPaymentMsat ? [] : ["--max-payment"]),
    ...(one.perHourMsat === other.perHourMsat ? [] : ["--max-hour"]),
    ...(one.perDayMsat === other.perDayMsat ? [] : ["--max-day"]),
    ...(payees(one) === payees(other) ? [] : ["--payee"]),
  ];
}

function ensureSame(gateway: SpendingLimits, device: SpendingLimits): void {
  const different = differences(gateway, device);
  if (different.length > 0)
    throw lngateError(
      "limits-differ",
      `gateway and device do not have the same limits (\`lngate device limits\` shows both): say what they are to be, with ${different.join(", ")}`,
    );
}

/** No other program has the flash meanwhile. */
function withFlash<T>(path: string, work: (flash: Flash) => T): T {
  ensureVaultHere(path);
  const flash = openFileFlash(path);
  let result: T;
  try {
    result = work(flash);
  } catch (error) {
    flash.close();
    throw error;
  }
  if (result instanceof Promise) return result.finally(() => flash.close()) as T;
  flash.close();
  return result;
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

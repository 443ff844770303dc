/**
 * The owner's spending limits, at the gateway. The device has them in its flash, and whoever reads that can write others
 * into it, or run a program that asks for none; so the gateway, without which nothing is paid, holds the device to what the
 * owner has told it. It counts as the device does (device/channel/payments/policy.ts): when a payment begins, all that it may cost; what
 * is known not to have left is given back, to the windows in which it was counted. An hour begins with the first payment after
 * the last one was over, and is over by the gateway's clock.
 */
import type { Database } from "lmdb";
import { equal } from "../../src/bytes/bytes.ts";
import {
  decodeValue,
  encodeValue,
  struct,
  UINT32,
  UINT53,
  uint,
  type ValueOf,
} from "../../src/bytes/schema.ts";
import { lngateError } from "../../src/errors.ts";
import type { SpendingLimits } from "../../src/messages/owner.ts";

const windowCodec = struct({
  serial: [1, uint(UINT32)],
  /** Unix milliseconds. */
  startedAt: [2, uint(UINT53)],
  spentMsat: [3, uint(UINT53)],
});
type SpendingWindow = ValueOf<typeof windowCodec>;

const windowsCodec = struct({ hour: [1, windowCodec], day: [2, windowCodec] });
type SpendingWindows = ValueOf<typeof windowsCodec>;

/** How much of a payment was counted, and in which windows: by their serials. */
export const countedCodec = struct({
  hour: [1, uint(UINT32)],
  day: [2, uint(UINT32)],
  msat: [3, uint(UINT53)],
});
/** See `countedCodec`. */
export type Counted = ValueOf<typeof countedCodec>;

const HOUR_MS = 3600 * 1000;
const DAY_MS = 24 * HOUR_MS;
const NEVER: SpendingWindow = { serial: 0, startedAt: 0, spentMsat: 0 };

/** What one device has spent. Changes belong into the transaction that stores the payment they come from. */
export class Spending {
  private readonly table: Database<Uint8Array, string>;
  private readonly key: string;

  /** `table`: that of the payments. */
  constructor(table: Database<Uint8Array, string>, deviceId: string) {
    this.table = table;
    // No device's name (they have no dash): payments are under those.
    this.key = `spent-windows/${deviceId}`;
  }

  /**
   * Counts a payment that begins. Without limits it is counted all the same, for the time when the owner sets some. Throws
   * `policy-payment-limit`, `policy-payee`, `policy-velocity`; then nothing is counted.
   */
  begin(
    limits: SpendingLimits | undefined,
    { costMsat, payee }: { readonly costMsat: number; readonly payee: Uint8Array | null },
    nowMs: number,
  ): Counted {
    const before = this.windows();
    const hour = windowAt(before.hour, HOUR_MS, nowMs);
    const day = windowAt(before.day, DAY_MS, nowMs);
    // Also where it is refused: a clock that was ahead would refuse for as long.
    this.put({ hour, day });
    if (limits) check(limits, costMsat, payee, hour.spentMsat, day.spentMsat);
    const counted = { hour: hour.serial, day: day.serial, msat: Math.min(costMsat, UINT53) };
    this.change(counted, counted.msat);
    return counted;
  }

  /** What was counted turns out to be so much more, or less: in the windows in which it was counted, if they still run. */
  change({ hour, day }: Counted, byMsat: number): void {
    const windows = this.windows();
    this.put({
      hour: windows.hour.serial === hour ? changed(windows.hour, byMsat) : windows.hour,
      day: windows.day.serial === day ? changed(windows.day, byMsat) : windows.day,
    });
  }

  private windows(): SpendingWindows {
    const stored = this.table.get(this.key);
    return stored ? decodeValue(windowsCodec, new Uint8Array(stored)) : { hour: NEVER, day: NEVER };
  }

  private put(windows: SpendingWindows): void {
    this.table.putSync(this.key, encodeValue(windowsCodec, windows));
  }
}

function check(
  { perPaymentMsat, perHourMsat, perDayMsat, payees }: SpendingLimits,
  costMsat: number,
  payee: Uint8Array | null,
  hourMsat: number,
  dayMsat: number,
): void {
  if (costMsat > perPaymentMsat)
    throw lngateError(
      "policy-payment-limit",
      `${costMsat} msat with fees is over the limit of ${perPaymentMsat} that the owner has told the gateway`,
    );
  if (payees.length > 0 && !payees.some(allowed => payee !== null && equal(allowed, payee)))
    throw lngateError(
      "policy-payee",
      "the list of payees that the owner has told the gateway does not have this one",
    );
  if (hourMsat + costMsat > perHourMsat || dayMsat + costMsat > perDayMsat)
    throw lngateError(
      "policy-velocity",
      "this payment would exceed what the owner has told the gateway to allow per hour or per day",
    );
}

/** The window now: the one that runs, or a new one. A clock that was ahead when it began does not keep it open for ever. */
function windowAt(window: SpendingWindow, lengthMs: number, nowMs: number): SpendingWindow {
  if (nowMs - window.startedAt >= lengthMs)
    return { serial: window.serial + 1, startedAt: nowMs, spentMsat: 0 };
  return { ...window, startedAt: Math.min(window.startedAt, nowMs) };
}

function changed(window: SpendingWindow, byMsat: number): SpendingWindow {
  return { ...window, spentMsat: Math.min(Math.max(0, window.spentMsat + byMsat), UINT53) };
}

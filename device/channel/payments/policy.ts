/** What the owner allows, as the device's identity has it: how much a payment may cost, to whom, how much an hour and a day, for how long. */
import { equal } from "../../../src/bytes/bytes.ts";
import type { DeviceIdentity } from "../../identity.ts";
import type { Context } from "../context.ts";
import { enforce } from "../enforce.ts";
import type { ChannelSummary, SpendingWindow } from "../state.ts";

/** An invoice is remembered until it has expired, so it must not be payable for longer: 30 days. */
export const MAX_INVOICE_SECONDS = 2592000;

/** The spending windows of hour and day. */
type Windows = Pick<ChannelSummary, "hour" | "day">;

/**
 * The spending windows with a payment in them that may cost this many msat, or throws `policy-payment-limit`, `policy-payee`,
 * `policy-invoice-expiry`, `policy-velocity`.
 */
export function countSpending(
  books: ChannelSummary,
  context: Context,
  { payee, expiresAt }: { readonly payee: Uint8Array | null; readonly expiresAt: number },
  costMsat: number,
): Windows {
  const { policy } = context.identity;
  enforce(
    "payment-limit",
    costMsat <= policy.perPaymentMsat,
    `${costMsat} msat with fees is over the owner's limit of ${policy.perPaymentMsat}`,
  );
  enforce(
    "payee",
    policy.payees.length === 0 || (payee !== null && policy.payees.some(allowed => equal(allowed, payee))),
    "the owner's list of payees does not have this one",
  );
  const nowSeconds = context.nowMs / 1000;
  enforce(
    "invoice-expiry",
    expiresAt <= nowSeconds + MAX_INVOICE_SECONDS && expiresAt > books.forgotten,
    "the invoice can be paid for longer, or expires earlier, than the device remembers what it has paid",
  );
  const hour = windowAt(books.hour, 3600, context);
  const day = windowAt(books.day, 86400, context);
  enforce(
    "velocity",
    hour.spentMsat + costMsat <= policy.perHourMsat && day.spentMsat + costMsat <= policy.perDayMsat,
    "this payment would exceed what the owner allows per hour or per day",
  );
  return {
    hour: { ...hour, spentMsat: hour.spentMsat + costMsat },
    day: { ...day, spentMsat: day.spentMsat + costMsat },
  };
}

/**
 * The chain's height is bounded from the device's own clock: a block in ten minutes, and as much more as mainnet has ever
 * been ahead of that: it gains at most a twentieth over the years, since miners become more, and a few days within a
 * period of 2,016 blocks. The owner's computer tells height and time again at each charging. (A clock that was set ahead
 * makes honest invoices expire before it makes this bound larger.)
 */
export function highestExpiry(identity: DeviceIdentity, nowMs: number): number {
  const seconds = Math.max(0, nowMs / 1000 - identity.birthTime);
  const height = identity.birthHeight + Math.ceil((seconds / 600) * 1.05) + 432;
  return height + identity.policy.maxCltvExpiryDelta;
}

/** What a payment did not use of its limit (msat) counts no longer, if this is the window in which it was counted. */
export function giveBack(
  window: SpendingWindow,
  serial: number | undefined,
  unspentMsat: number,
): SpendingWindow {
  if (serial !== window.serial) return window;
  return { ...window, spentMsat: Math.max(0, window.spentMsat - unspentMsat) };
}

/**
 * The spending window now: the running one, or a new one. Within one boot the board's ticks say when it is over, which
 * nobody can set; how long a board was off, only its clock can say. So a lie about the time opens one window a boot.
 */
function windowAt(
  window: SpendingWindow,
  lengthSeconds: number,
  { nowMs, ticks, boot }: Context,
): SpendingWindow {
  const now = Math.max(0, Math.floor(nowMs / 1000));
  const tick = Math.max(0, Math.floor(ticks));
  const isOver =
    window.boot === boot
      ? tick - window.ticks >= lengthSeconds * 1000
      : now - window.startedAt >= lengthSeconds;
  if (isOver) return { serial: window.serial + 1, startedAt: now, boot, ticks: tick, spentMsat: 0 };
  if (window.boot === boot && window.ticks <= tick) return window;
  // A clock that was ahead when it began does not keep it open for ever.
  return { ...window, startedAt: Math.min(window.startedAt, now), boot, ticks: tick };
}

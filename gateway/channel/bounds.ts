/**
 * What a device refuses to sign, by its owner's policy. A state that LDK has come to and the device refuses can't be taken
 * back: the channel is stuck. So the gateway asks LDK for nothing that leads to one. But the device's word for it comes from
 * its flash, which a thief may have written: a feerate that burns the channel, or that no mempool takes, would be its owner's
 * loss. So it moves the gateway's own choice only between what mempools take and what is reasonable now.
 */
import { recordsToSettle } from "../../src/channel/records-to-settle.ts";
import { lngateError } from "../../src/errors.ts";
import type { ToGateway } from "../../src/messages/device.ts";
import { FEERATE_TAKEN_BY_ALL, MIN_FEERATE } from "../chain/fees.ts";

/** What a device has said that it refuses: feerates in sat per 1000 weight units. */
export type DeviceBounds = NonNullable<Extract<ToGateway, { type: "hello" }>["bounds"]>;

/** Presignatures, by kind. */
export interface RecordsLeft {
  readonly A: number;
  readonly B: number;
  readonly H: number;
}

/** Enough for this many payments in flight, and a close after them. */
export function areEnoughFor(payments: number, left: RecordsLeft): boolean {
  const needed = recordsToSettle(payments);
  return left.A >= needed.A && left.B >= needed.B && left.H >= needed.H;
}

/** The highest feerate to which a device's bounds may raise what the gateway wants. */
function mostReasonable(wanted: number): number {
  return Math.max(wanted, FEERATE_TAKEN_BY_ALL);
}

/**
 * Throws `feerates-apart` if there is no feerate that the device signs, mempools take and is reasonable now: no channel is
 * opened then. `wanted`, `least`: what is right now, and what mempools take at all, sat per 1000 weight units.
 */
export function ensureFeerate(wanted: number, least: number, bounds: DeviceBounds | undefined): void {
  if (!bounds) return;
  const { minFeeratePerKw: from, maxFeeratePerKw: to } = bounds;
  const most = mostReasonable(wanted);
  if (from <= most && to >= least && from <= to) return;
  throw lngateError(
    "feerates-apart",
    `the device signs commitments of ${from} to ${to} sat/kw, and now only ${least} to ${most} make sense`,
  );
}

/**
 * The feerate that the channel's commitments are to have, sat per 1000 weight units: the one of the day, within the device's
 * bounds as far as they make sense, reached in steps, since a peer that is surprised by one closes by force. Another than the present one costs
 * signatures that nobody asked for, and a device without enough of them to undo it would refuse it: then it stays as it is.
 */
export function commitmentFeerate(
  wanted: number,
  bounds: DeviceBounds | undefined,
  /** Absent: there is no channel yet. */
  present: number | undefined,
  payments: number,
  left: RecordsLeft,
  /** It may rise above what every peer takes: it has not done so for a while. */
  mayRise = true,
  /** What mempools take at all. */
  least = MIN_FEERATE,
): number {
  const within = boundFeerate(wanted, bounds, present, least);
  if (present === undefined) return within;
  const next = within > present ? Math.min(within, 2 * present) : within;
  const isTooSoon = next > present && next > FEERATE_TAKEN_BY_ALL && !mayRise;
  const step = isTooSoon ? Math.max(present, FEERATE_TAKEN_BY_ALL) : next;
  // What is less than twice too much is left: it harms nobody.
  const isAmple = step < present && 2 * step > present && present <= (bounds?.maxFeeratePerKw ?? present);
  if (step === present || isAmple) return present;
  // One record for the bridge's commitment and two for ours, and then what the device keeps back.
  const after = { A: left.A - 1, B: left.B - 2, H: left.H };
  return areEnoughFor(payments + 1, after) ? step : present;
}

/** A channel that is there stays where it is rather than follow its device to where nobody should go. */
function boundFeerate(
  wanted: number,
  bounds: DeviceBounds | undefined,
  present: number | undefined,
  least: number,
): number {
  if (!bounds) return wanted;
  const { minFeeratePerKw: from, maxFeeratePerKw: to } = bounds;
  const most = mostReasonable(wanted);
  if (present !== undefined && from > most) return present;
  // Too little for mempools now, but nearer to it.
  if (present !== undefined && to < least) return Math.max(present, to);
  return Math.max(Math.min(Math.max(wanted, from), to, most), Math.min(least, most));
}

/** Heaviest mutual close: two outputs of the longest scripts that there are. */
const CLOSING_WEIGHT = 780;

/** The highest feerate at which a mutual close costs no more than the device signs, sat per 1000 weight units. */
export function mostForClosing(bounds: DeviceBounds | undefined): number {
  return bounds ? Math.floor((bounds.maxCloseFeeSat * 1000) / CLOSING_WEIGHT) : Number.POSITIVE_INFINITY;
}

/** A block may come between the choice of a way and a second try, which is bound like the first. */
const SPARE_BLOCKS = 6;

/** The most blocks for which a payment may lock money now, so that its HTLC expires at `highestExpiry` at the latest. */
export function blocksAllowed(highestExpiry: number, height: number): number {
  return Math.max(0, highestExpiry - height - SPARE_BLOCKS);
}

/** A clock that is off by so much is said to be wrong, s. */
const CLOCK_SECONDS = 3600;

/** How far a device's clock is behind, in words; undefined if it is not, or says nothing. Unix seconds. */
export function clockBehind(clock: number | undefined, now: number): string | undefined {
  const behind = clock === undefined ? 0 : now - clock;
  if (behind <= CLOCK_SECONDS) return undefined;
  const hours = Math.round(behind / 3600);
  return hours < 72 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

/**
 * What a device refuses to sign, by its owner's policy. A state that LDK has come to and the device refuses can't be taken
 * back: the channel is stuck. So the gateway asks LDK for nothing that leads to one. What it is told here is no secret, and
 * a device that says something wrong harms nobody but itself: its own rules stay what they are.
 */
import { recordsToSettle } from "../../src/channel/records-to-settle.ts";
import type { ToGateway } from "../../src/messages/device.ts";
import { FEERATE_TAKEN_BY_ALL } from "../chain/fees.ts";

/** What a device has said that it refuses: feerates in sat per 1000 weight units. */
export type DeviceBounds = NonNullable<Extract<ToGateway, { type: "hello" }>["bounds"]>;

/** Presignatures, by kind. */
export interface RecordsLeft {
  readonly A: number;
  readonly B: number;
  readonly H: number;
}

/** Enough for so many payments in flight, and a close after them. */
export function areEnoughFor(payments: number, left: RecordsLeft): boolean {
  const needed = recordsToSettle(payments);
  return left.A >= needed.A && left.B >= needed.B && left.H >= needed.H;
}

/**
 * The feerate that the channel's commitments are to have, sat per 1000 weight units: the one of the day within the device's
 * bounds, reached in steps, since a peer that is surprised by one closes by force. Another than the present one costs
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
): number {
  const within = bounds ? Math.min(Math.max(wanted, bounds.minFeeratePerKw), bounds.maxFeeratePerKw) : wanted;
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

/**
 * A chip's time: what the device computes takes as long as the chip would, while nothing else happens on it, as on the
 * chip. The work itself is done by this computer, and its time is part of the chip's.
 */
import type { PublicCurve } from "../../src/crypto/curve.ts";
import { type Costs, JAVASCRIPT, NATIVE, SPEED } from "../bench/chip.ts";

/** Which curve the chip has. */
export type CurveKind = "native" | "javascript";
/** From when to when, in Unix milliseconds. */
export type Interval = readonly [from: number, to: number];

const NAMES = ["publicKey", "isPoint", "add", "combine", "verify", "recover"] as const;
/** What the device did: operations of the curve, and messages. */
export type Operations = Record<(typeof NAMES)[number] | "messages" | "signals", number>;

export const noOperations = (): Operations => ({
  verify: 0,
  recover: 0,
  publicKey: 0,
  combine: 0,
  add: 0,
  isPoint: 0,
  messages: 0,
  signals: 0,
});

/** With fractions, and the same in all processes of a computer. */
export const unixMs = (): number => performance.timeOrigin + performance.now();

/** `npm run bench -- device`: JavaScript, hashes and cipher of the six messages until the receipt, for each of them. */
const MESSAGE = { computrons: 103_000, hashes: 19, cipherBytes: 146 };
/** A frame without content: hello, welcome, acknowledgement. */
const SIGNAL = { computrons: 15_000, hashes: 6, cipherBytes: 0 };
const LONGEST_SIGNAL = 48;

/** The seconds of an operation. */
function secondsOf(costs: Costs, operation: keyof Operations): number {
  if (operation === "messages" || operation === "signals") {
    const work = operation === "messages" ? MESSAGE : SIGNAL;
    const { computrons, hashes, cipherBytes } = costs;
    return (
      (work.computrons * computrons + work.hashes * hashes + work.cipherBytes * cipherBytes) / SPEED.esp32
    );
  }
  return (operation === "combine" ? 2 * costs.multiply : costs[operation]) / SPEED.esp32;
}

/** What all of these take on the chip. */
export function chipSeconds(kind: CurveKind, operations: Operations): number {
  const names = Object.keys(operations) as (keyof Operations)[];
  return names.reduce((sum, name) => sum + operations[name] * secondsOf(COSTS[kind], name), 0);
}

const COSTS = { native: NATIVE, javascript: JAVASCRIPT };
const cell = new Int32Array(new SharedArrayBuffer(4));
/** An operation that follows so soon after another belongs to the same work. */
const PAUSE_MS = 2;

/** Keeps the device's time. */
export class ChipTime {
  /** Off while the channel is opened, which nobody waits for. */
  isOn = false;
  busy: Interval[] = [];
  operations = noOperations();
  private readonly costs: Costs;
  /** The chip would be so far; this computer wakes up late from a pause, and makes it good in the next. */
  private chipAt = 0;

  constructor(kind: CurveKind) {
    this.costs = COSTS[kind];
  }

  /** What a frame costs besides the curve. */
  frame(bytes: Uint8Array): void {
    this.spend(bytes.length > LONGEST_SIGNAL ? "messages" : "signals", () => {});
  }

  /** The curve as the chip has it. */
  curve(curve: PublicCurve): PublicCurve {
    const slow: Record<string, unknown> = {};
    for (const name of NAMES) {
      const run = curve[name] as (...args: unknown[]) => unknown;
      slow[name] = (...args: unknown[]) => this.spend(name, () => run(...args));
    }
    return slow as unknown as PublicCurve;
  }

  private spend<T>(operation: keyof Operations, work: () => T): T {
    this.operations[operation]++;
    if (!this.isOn) return work();
    const from = unixMs();
    const last = this.busy.at(-1);
    const isFollowing = last !== undefined && from - last[1] < PAUSE_MS;
    this.chipAt = (isFollowing ? this.chipAt : from) + secondsOf(this.costs, operation) * 1000;
    try {
      return work();
    } finally {
      const rest = this.chipAt - unixMs();
      if (rest > 0) Atomics.wait(cell, 0, 0, rest);
      this.busy.push([from, unixMs()]);
    }
  }
}

/**
 * What a device's work takes on a chip, estimated from instructions that were counted in emulators. docs/chip.md has the
 * method, where the factors come from, and what no chip has confirmed.
 */
import type { EngineWork } from "../engines/engine.ts";
import type { CurveWork } from "../engines/xs.ts";

/** Counted work: the device's own JavaScript, what is asked of the curve, and what else a board does natively. */
export interface Work {
  readonly computrons: number;
  readonly verify: number;
  readonly recover: number;
  readonly publicKey: number;
  /** Of a point by a scalar: two in each combination. */
  readonly multiply: number;
  readonly add: number;
  readonly isPoint: number;
  readonly hashes: number;
  readonly cipherBytes: number;
  readonly flashWrites: number;
}

export function workOf(engine: EngineWork, curve: CurveWork): Work {
  return {
    computrons: engine.computrons,
    verify: curve.verify,
    recover: curve.recover,
    publicKey: curve.publicKey,
    multiply: 2 * curve.combine,
    add: curve.add,
    isPoint: curve.isPoint,
    hashes: engine.hashes,
    cipherBytes: engine.cipheredBytes,
    flashWrites: engine.flashWrites,
  };
}

const NONE: Work = {
  computrons: 0,
  verify: 0,
  recover: 0,
  publicKey: 0,
  multiply: 0,
  add: 0,
  isPoint: 0,
  hashes: 0,
  cipherBytes: 0,
  flashWrites: 0,
};

function zip(a: Work, b: Work, join: (a: number, b: number) => number): Work {
  const names = Object.keys(NONE) as (keyof Work)[];
  return Object.fromEntries(names.map(name => [name, join(a[name], b[name])])) as unknown as Work;
}

/** What was done between two readings of the counters. */
export function workBetween(before: Work, after: Work): Work {
  return zip(before, after, (a, b) => b - a);
}

export function averageWork(works: readonly Work[]): Work {
  const sum = works.reduce((a, b) => zip(a, b, (x, y) => x + y), NONE);
  return zip(sum, NONE, total => total / works.length);
}

/** Instructions that one core of each does in a second, as its CoreMark says. */
export const SPEED = { esp32: 148e6, esp32s3: 176e6, esp32c3: 121e6 };

export type Costs = Omit<Work, "flashWrites">;

/** Instructions of everything but the curve. */
const REST = { computrons: 32, hashes: 8800, cipherBytes: 115 };

/** Instructions with libsecp256k1 as the board's module has it. */
export const NATIVE: Costs = {
  ...REST,
  verify: 2.05e6,
  recover: 2.04e6,
  publicKey: 1.08e6,
  multiply: 1.7e6,
  add: 0.45e6,
  isPoint: 0.19e6,
};

/** And without: the curve in JavaScript, over the SDK's arithmetic. */
export const JAVASCRIPT: Costs = {
  ...REST,
  verify: 37e6,
  recover: 43e6,
  publicKey: 40e6,
  multiply: 20e6,
  add: 5e6,
  isPoint: 3e6,
};

/** The work, and the seconds that it takes. */
export function chipFigures(work: Work): Readonly<Record<string, number>> {
  const seconds = (costs: Costs, speed: number) => {
    const names = Object.keys(costs) as (keyof Costs)[];
    const instructions = names.reduce((sum, name) => sum + costs[name] * work[name], 0);
    return Number((instructions / speed).toFixed(3));
  };
  return {
    ...work,
    computrons: Math.round(work.computrons),
    esp32Seconds: seconds(NATIVE, SPEED.esp32),
    esp32SecondsWithoutNative: seconds(JAVASCRIPT, SPEED.esp32),
    esp32s3Seconds: seconds(NATIVE, SPEED.esp32s3),
    esp32s3SecondsWithoutNative: seconds(JAVASCRIPT, SPEED.esp32s3),
    esp32c3Seconds: seconds(NATIVE, SPEED.esp32c3),
    esp32c3SecondsWithoutNative: seconds(JAVASCRIPT, SPEED.esp32c3),
  };
}

/**
 * The curve of a device in XS: the board's native one where the worker has it, as on a chip, and otherwise the JavaScript. What
 * it is asked is counted by kind, and its work is kept apart from the device's own.
 */
import { type NativeCurve, nativeCurve } from "../../../device/boards/moddable/native-curve.ts";
import type { PublicCurve } from "../../../src/crypto/curve.ts";
import { bigintCurve } from "../../../src/crypto/curve-bigint.ts";

/** The worker's meter: the computrons so far, which then stand at `start`. */
declare function resetMeter(limit: number, start: number): number;
/** `xs_lngate_curve`, in a worker that was built with it (scripts/engines/install.ts). */
declare const lngateCurve: NativeCurve | undefined;

const curve = typeof lngateCurve === "undefined" ? bigintCurve : nativeCurve(lngateCurve);

/** The curve's own computrons, and how often each of its operations ran (scripts/engines/xs.ts has the order). */
const work = [0, 0, 0, 0, 0, 0, 0];

function counted<A extends unknown[], T>(kind: number, run: (...args: A) => T): (...args: A) => T {
  return (...args) => {
    const before = resetMeter(0, 0);
    try {
      return run(...args);
    } finally {
      work[0]! += resetMeter(0, before);
      work[kind]!++;
    }
  };
}

export const countedCurve: PublicCurve = {
  publicKey: counted(1, curve.publicKey),
  isPoint: counted(2, curve.isPoint),
  add: counted(3, curve.add),
  combine: counted(4, curve.combine),
  verify: counted(5, curve.verify),
  recover: counted(6, curve.recover),
};

/** The curve's work so far; before it the device's own computrons in this turn. */
export function workSoFar(): number[] {
  const turn = resetMeter(0, 0);
  resetMeter(0, turn);
  return [turn].concat(work);
}

/**
 * The curve, remembering what it was asked. A test plays the same channel hundreds of times: nearly every question
 * comes again, and the answers are those of the real curve.
 */
import { type Curve, nobleCurve } from "../../src/bytes/curve.ts";

function remembering<A extends (Uint8Array | number)[], T>(make: (...args: A) => T): (...args: A) => T {
  const known = new Map<string, T>();
  return (...args) => {
    let key = "";
    for (const arg of args) key += `${typeof arg === "number" ? arg : Buffer.from(arg).toString("latin1")}|`;
    let value = known.get(key);
    if (value === undefined) {
      value = make(...args);
      known.set(key, value);
    }
    return value instanceof Uint8Array ? (value.slice() as T) : value;
  };
}

/** Makes `nobleCurve` itself remember, for all of the process. Called once by the world. */
export function rememberCurve(): Curve {
  const { publicKey, isPoint, add, multiply, combine, verify, sign } = nobleCurve;
  Object.assign(nobleCurve, {
    publicKey: remembering(publicKey),
    isPoint: remembering(isPoint),
    add: remembering(add),
    multiply: remembering(multiply),
    combine: remembering(combine),
    verify: remembering(verify),
    sign: remembering(sign),
  });
  return nobleCurve;
}

/**
 * The curve, remembering what it was asked. A test plays the same channel hundreds of times: nearly every question
 * comes again, and the answers are those of the real curve.
 */
import { type Curve, nobleCurve } from "../../src/crypto/curve.ts";

type Known = Map<string, unknown>;
/** Of the answers that are remembered, so that thousands of lives fit into memory. */
const MOST = 200_000;

function remembering<A extends (Uint8Array | number)[], T>(
  name: string,
  known: Known,
  make: (...args: A) => T,
): (...args: A) => T {
  return (...args) => {
    let key = name;
    for (const arg of args) key += `|${typeof arg === "number" ? arg : Buffer.from(arg).toString("latin1")}`;
    let value = known.get(key) as T | undefined;
    if (value === undefined) {
      value = make(...args);
      if (known.size > MOST) known.clear();
      known.set(key, value);
    }
    return value instanceof Uint8Array ? (value.slice() as T) : value;
  };
}

/** Makes `nobleCurve` itself remember, for all of the process. Called once by the world. */
export function rememberCurve(): Curve {
  const { publicKey, isPoint, add, multiply, combine, verify, sign } = nobleCurve;
  // Who runs the same tests again and again (test/mutation) keeps the answers.
  const known: Known = Reflect.get(globalThis, "rememberedCurve") ?? new Map();
  Object.assign(nobleCurve, {
    publicKey: remembering("publicKey", known, publicKey),
    isPoint: remembering("isPoint", known, isPoint),
    add: remembering("add", known, add),
    multiply: remembering("multiply", known, multiply),
    combine: remembering("combine", known, combine),
    verify: remembering("verify", known, verify),
    sign: remembering("sign", known, sign),
  });
  return nobleCurve;
}

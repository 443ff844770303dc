/**
 * A case for a curve as a line: a function's name and its arguments, bytes as hex. What comes out is hex, true, false, or an
 * error's code. For engines of their own, which are told by text (test/engines/curve-cases.ts).
 */
import { fromHex, toHex } from "../../../src/bytes/bytes.ts";
import type { PublicCurve } from "../../../src/crypto/curve.ts";
import { codeOf } from "../../../src/errors.ts";

function run(curve: PublicCurve, name: string, [a, b, c, d]: Uint8Array[]): Uint8Array | boolean {
  switch (name) {
    case "publicKey":
      return curve.publicKey(a!);
    case "isPoint":
      return curve.isPoint(a!);
    case "add":
      return curve.add(a!, b!);
    case "combine":
      return curve.combine(a!, b!, c!, d!);
    case "verify":
      return curve.verify(a!, b!, c!);
    default:
      return curve.recover(a!, b![0]!, c!);
  }
}

export function curveOutcome(curve: PublicCurve, line: string): string {
  const [name, ...words] = line.split(" ");
  try {
    const result = run(curve, name!, words.map(fromHex));
    return typeof result === "boolean" ? String(result) : toHex(result);
  } catch (error) {
    return codeOf(error) ?? String(error);
  }
}

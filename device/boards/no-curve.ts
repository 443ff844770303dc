/** In place of src/bytes/curve-bigint.ts, to see what a board's bundle is without the curve. */
import type { PublicCurve } from "../../src/bytes/curve.ts";

export const bigintCurve: PublicCurve | null = null;

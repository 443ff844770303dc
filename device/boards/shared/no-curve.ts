/** In place of src/crypto/curve-bigint.ts, to see what a board's bundle is without the curve. */
import type { PublicCurve } from "../../../src/crypto/curve.ts";

export const bigintCurve: PublicCurve | null = null;

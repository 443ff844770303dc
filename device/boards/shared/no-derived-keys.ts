/** In place of device/keys/derived.ts on a board without a curve, which must have prepared ones. */
import { lngateError } from "../../../src/errors.ts";
import type { KeySource } from "../../channel/context.ts";

/** Throws `board-without-curve`. */
export function derivedKeys(): KeySource {
  throw lngateError("board-without-curve", "a board without a curve needs prepared keys");
}

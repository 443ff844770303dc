/** Points and keys of commitments on a board with a curve. They are costly: the last few are remembered. */

import { compareBytes } from "../../src/bytes/bytes.ts";
import { counterpartyBasepoints, type DeviceKeys, holderBasepoints } from "../../src/channel/device-keys.ts";
import type { PublicCurve } from "../../src/crypto/curve.ts";
import { lngateError } from "../../src/errors.ts";
import { deriveCommitmentKeys } from "../../src/lightning/keys.ts";
import type { KeySource } from "../channel/context.ts";
import type { Proposal } from "../channel/state.ts";
import { memoize } from "./memoize.ts";

/** Without a curve it throws `board-without-curve` when it is asked. */
export function derivedKeys(
  identity: DeviceKeys,
  curve: PublicCurve | null,
  secretOf: (index: number, number: number) => Uint8Array,
): KeySource {
  function ensureCurve() {
    if (curve === null) throw lngateError("board-without-curve", "this board has no points prepared for it");
    return curve;
  }
  return {
    pointOf: memoize(
      16,
      (a: readonly [index: number, number: number], b) => a[0] === b[0] && a[1] === b[1],
      (index, number) => ensureCurve().publicKey(secretOf(index, number)),
    ),
    keysFor: memoize(
      4,
      // Another proposal may come with the same point.
      (a: readonly [proposal: Proposal, ours: boolean, point: Uint8Array], b) =>
        a[0] === b[0] && a[1] === b[1] && compareBytes(a[2], b[2]) === 0,
      (proposal, ours, point) => {
        const sides = [holderBasepoints(identity), counterpartyBasepoints(proposal)] as const;
        const [broadcaster, other] = ours ? sides : [sides[1], sides[0]];
        return deriveCommitmentKeys(ensureCurve(), point, broadcaster, other);
      },
    ),
  };
}

/** Points and keys of commitments on a board with a curve. They are costly: the last few are remembered. */
import { concat, toHex } from "../src/bytes/bytes.ts";
import type { PublicCurve } from "../src/bytes/curve.ts";
import { lngateError } from "../src/errors.ts";
import { deriveCommitmentKeys } from "../src/lightning/keys.ts";
import { type DeviceKeys, ourBasepoints, theirBasepoints } from "../src/link/transactions.ts";
import type { KeySource } from "./channel/context.ts";

/** Keeps the last few results of a costly function. */
function remember<A extends readonly unknown[], T>(
  keep: number,
  keyOf: (...args: A) => string,
  make: (...args: A) => T,
): (...args: A) => T {
  let kept: { key: string; value: T }[] = [];
  return (...args) => {
    const key = keyOf(...args);
    for (const entry of kept) if (entry.key === key) return entry.value;
    const value = make(...args);
    kept = [{ key, value }].concat(kept.slice(0, keep - 1));
    return value;
  };
}

/** Without a curve it throws `board-without-curve` when it is asked. */
export function derivedKeys(
  identity: DeviceKeys,
  curve: PublicCurve | null,
  secretOf: (index: number, number: number) => Uint8Array,
): KeySource {
  function needCurve() {
    if (curve === null) throw lngateError("board-without-curve", "this board has no points prepared for it");
    return curve;
  }
  return {
    pointOf: remember(
      16,
      (index: number, number: number) => `${index}/${number}`,
      (index, number) => needCurve().publicKey(secretOf(index, number)),
    ),
    keysFor: remember(
      4,
      // All that the keys depend on: another proposal may come with the same point.
      ({ revocationBasepoint, delayedPaymentBasepoint, htlcBasepoint }, ours: boolean, point) =>
        ours + toHex(concat([point, revocationBasepoint, delayedPaymentBasepoint, htlcBasepoint])),
      (proposal, ours, point) => {
        const sides = [ourBasepoints(identity), theirBasepoints(proposal)] as const;
        const [broadcaster, other] = ours ? sides : [sides[1], sides[0]];
        return deriveCommitmentKeys(needCurve(), point, broadcaster, other);
      },
    ),
  };
}

/** What the channel's state machine may use of a board. Points and keys are costly: the last few are remembered. */
import { ascii, concat, toHex, u32be } from "../src/bytes/bytes.ts";
import { hmacSha256 } from "../src/bytes/hash.ts";
import { lngateError } from "../src/errors.ts";
import { deriveCommitmentKeys } from "../src/lightning/keys.ts";
import { commitmentSecret } from "../src/lightning/shachain.ts";
import { ourBasepoints, theirBasepoints } from "../src/link/transactions.ts";
import type { Board } from "./board.ts";
import type { Context } from "./channel/context.ts";

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

/** What the board offers, as the state machine sees it. */
export function contextOf(board: Pick<Board, "vault" | "curve" | "now">): Context {
  const { vault, curve } = board;
  const { identity } = vault;
  function needCurve() {
    if (curve === null) throw lngateError("board-without-curve", "this board has no points prepared for it");
    return curve;
  }
  function secretOf(index: number, number: number): Uint8Array {
    const seed = hmacSha256(identity.commitmentMaster, concat([ascii("shachain"), u32be(index)]));
    return commitmentSecret(seed, number);
  }
  return {
    identity,
    curve,
    records: vault.records,
    secretOf,
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
    roomBytes: vault.journal.capacity,
    get nowMs() {
      return board.now();
    },
  };
}

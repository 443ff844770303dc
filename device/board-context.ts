/** What the channel's state machine may use of a board. */
import { ascii, concat, u32be } from "../src/bytes/bytes.ts";
import { channelOf } from "../src/channel/transactions.ts";
import { hmacSha256 } from "../src/crypto/hash.ts";
import { BRANCH_COMMITMENTS, branchSecret, commitmentBranch } from "../src/lightning/shachain.ts";
import type { Board } from "./board.ts";
import type { Context } from "./channel/context.ts";
import { htlcsAreSigned } from "./channel/normal.ts";
import type { Holder, Proposal } from "./channel/state.ts";
import { derivedKeys } from "./keys/derived.ts";
import { memoize } from "./keys/memoize.ts";

/** The per-commitment secret `number` of channel `index`; those near the last one come cheaply. */
export function commitmentSecrets(
  commitmentMaster: Uint8Array,
): (index: number, number: number) => Uint8Array {
  let branch: { key: string; secret: Uint8Array } = { key: "", secret: new Uint8Array(0) };
  return (index, number) => {
    const key = `${index}/${Math.floor(number / BRANCH_COMMITMENTS)}`;
    if (branch.key !== key) {
      const seed = hmacSha256(commitmentMaster, concat([ascii("shachain"), u32be(index)]));
      branch = { key, secret: commitmentBranch(seed, number) };
    }
    return branchSecret(branch.secret, number);
  };
}

/** What the board offers, as the state machine sees it. */
export function contextOf(board: Pick<Board, "vault" | "curve" | "preparedKeys" | "now" | "ticks">): Context {
  const { vault, curve } = board;
  const { identity } = vault;
  const secretOf = commitmentSecrets(identity.commitmentMaster);
  const keys = board.preparedKeys || derivedKeys(identity, curve, secretOf);
  /** Of the newest exit: how many of its HTLC signatures were looked at, and whether all of them were valid. */
  let seen = { index: 0, number: -1, count: 0, isSigned: true };
  const context: Context = {
    identity,
    curve,
    records: vault.records,
    secretOf,
    pointOf: keys.pointOf,
    keysFor: keys.keysFor,
    ...(keys.keyAt ? { keyAt: keys.keyAt } : {}),
    channelOf: memoize(
      1,
      (a, b) => a[0] === b[0],
      (proposal: Proposal) => channelOf(identity, proposal),
    ),
    htlcsSigned(holder: Holder, proposal: Proposal, most: number): boolean {
      const { number } = holder;
      // A number has one content; the exit itself is not kept for it.
      if (seen.number !== number || seen.index !== proposal.index)
        seen = { index: proposal.index, number, count: 0, isSigned: true };
      const end = Math.min(holder.htlcSignatures.length, seen.count + most);
      if (seen.isSigned && seen.count < end) {
        seen.isSigned = htlcsAreSigned(context, holder, proposal, seen.count, end);
        seen.count = end;
      }
      return seen.isSigned;
    },
    capacityBytes: vault.journal.capacity,
    fits: (changes, spareBytes) => vault.journal.fits(changes, spareBytes),
    get nowMs() {
      return board.now();
    },
    get ticks() {
      return board.ticks();
    },
    boot: vault.boots,
  };
  return context;
}

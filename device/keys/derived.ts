/** Points and keys of commitments on a board with a curve. They are costly: the last few are remembered. */

import { compareBytes } from "../../src/bytes/bytes.ts";
import { counterpartyBasepoints, type DeviceKeys, holderBasepoints } from "../../src/channel/device-keys.ts";
import type { PublicCurve } from "../../src/crypto/curve.ts";
import { lngateError } from "../../src/errors.ts";
import { derivePublicKey, deriveRevocationPublicKey } from "../../src/lightning/keys.ts";
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
  // Of three commitments: the bridge's next, and two of ours.
  const keyOf = memoize(
    12,
    // By value: another proposal may come with the same point.
    (a: readonly [isRevocation: boolean, basepoint: Uint8Array, point: Uint8Array], b) =>
      a[0] === b[0] && compareBytes(a[2], b[2]) === 0 && compareBytes(a[1], b[1]) === 0,
    (isRevocation, basepoint, point) =>
      (isRevocation ? deriveRevocationPublicKey : derivePublicKey)(ensureCurve(), basepoint, point),
  );
  function keyAt(proposal: Proposal, isHolder: boolean, point: Uint8Array, which: number): Uint8Array {
    const us = holderBasepoints(identity);
    const them = counterpartyBasepoints(proposal);
    const [broadcaster, other] = isHolder ? [us, them] : [them, us];
    if (which === 0) return keyOf(true, other.revocation, point);
    return keyOf(
      false,
      which === 1 ? broadcaster.delayed : which === 2 ? broadcaster.htlc : other.htlc,
      point,
    );
  }
  return {
    pointOf: memoize(
      16,
      (a: readonly [index: number, number: number], b) => a[0] === b[0] && a[1] === b[1],
      (index, number) => ensureCurve().publicKey(secretOf(index, number)),
    ),
    keyAt,
    keysFor: (proposal, isHolder, point) => ({
      revocation: keyAt(proposal, isHolder, point, 0),
      delayed: keyAt(proposal, isHolder, point, 1),
      broadcasterHtlc: keyAt(proposal, isHolder, point, 2),
      countersignatoryHtlc: keyAt(proposal, isHolder, point, 3),
    }),
  };
}

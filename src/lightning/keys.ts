/** Keys of one commitment, derived from basepoints and a per-commitment point (BOLT #3, Key Derivation). */
import { concat } from "../bytes/bytes.ts";
import type { PublicCurve } from "../crypto/curve.ts";
import { sha256 } from "../crypto/hash.ts";
import { addMod, mulAddMod, mulMod } from "../crypto/scalar.ts";

/** What one side of a channel announces at opening besides its funding key: 33-byte points. */
export interface Basepoints {
  readonly revocation: Uint8Array;
  /** Not derived any further: with option_static_remotekey it is the key of to_remote itself. */
  readonly payment: Uint8Array;
  readonly delayed: Uint8Array;
  readonly htlc: Uint8Array;
}

/** The keys inside one commitment, 33-byte points. The broadcaster is the side that may publish it. */
export interface CommitmentKeys {
  readonly revocation: Uint8Array;
  readonly delayed: Uint8Array;
  readonly broadcasterHtlc: Uint8Array;
  readonly countersignatoryHtlc: Uint8Array;
}

function tweak(first: Uint8Array, second: Uint8Array): Uint8Array {
  return sha256(concat([first, second]));
}

/** The htlc or delayed key of a commitment. Throws `bad-point`. */
export function derivePublicKey(
  curve: PublicCurve,
  basepoint: Uint8Array,
  commitmentPoint: Uint8Array,
): Uint8Array {
  return curve.add(basepoint, curve.publicKey(tweak(commitmentPoint, basepoint)));
}

/** The private half of derivePublicKey; needs no curve. */
export function derivePrivateKey(
  basepointSecret: Uint8Array,
  basepoint: Uint8Array,
  commitmentPoint: Uint8Array,
): Uint8Array {
  return addMod(basepointSecret, tweak(commitmentPoint, basepoint));
}

/** The revocation key of a commitment: the other side's basepoint and the broadcaster's point. Throws `bad-point`. */
export function deriveRevocationPublicKey(
  curve: PublicCurve,
  revocationBasepoint: Uint8Array,
  commitmentPoint: Uint8Array,
): Uint8Array {
  return curve.combine(
    revocationBasepoint,
    tweak(revocationBasepoint, commitmentPoint),
    commitmentPoint,
    tweak(commitmentPoint, revocationBasepoint),
  );
}

/** The private half of deriveRevocationPublicKey, known once the per-commitment secret is; needs no curve. */
export function deriveRevocationPrivateKey(
  revocationSecret: Uint8Array,
  revocationBasepoint: Uint8Array,
  commitmentSecret: Uint8Array,
  commitmentPoint: Uint8Array,
): Uint8Array {
  const theirs = mulMod(commitmentSecret, tweak(commitmentPoint, revocationBasepoint));
  return mulAddMod(revocationSecret, tweak(revocationBasepoint, commitmentPoint), theirs);
}

/** All keys of the commitment that belongs to a per-commitment point of the broadcaster. Throws `bad-point`. */
export function deriveCommitmentKeys(
  curve: PublicCurve,
  commitmentPoint: Uint8Array,
  broadcaster: Basepoints,
  countersignatory: Basepoints,
): CommitmentKeys {
  return {
    revocation: deriveRevocationPublicKey(curve, countersignatory.revocation, commitmentPoint),
    delayed: derivePublicKey(curve, broadcaster.delayed, commitmentPoint),
    broadcasterHtlc: derivePublicKey(curve, broadcaster.htlc, commitmentPoint),
    countersignatoryHtlc: derivePublicKey(curve, countersignatory.htlc, commitmentPoint),
  };
}

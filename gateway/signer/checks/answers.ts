/** The device's answers are checked before they are kept: a wrong signature would make the bridge close the channel. */
import { equal } from "../../../src/bytes/bytes.ts";
import { nobleCurve } from "../../../src/crypto/curve.ts";
import { lngateError } from "../../../src/errors.ts";
import type { SignatureCheck, SigningAnswer } from "../parts.ts";

/** True if the secret is that of this point; null is the point of none. */
export function isSecretOf(point: Uint8Array | null, secret: Uint8Array): boolean {
  try {
    return point !== null && equal(nobleCurve.publicKey(secret), point);
  } catch {
    // What is not a scalar is no secret of any point.
    return false;
  }
}

/** The point. Throws `bad-point` if it is none. */
export function checkedPoint(point: Uint8Array): Uint8Array {
  if (!nobleCurve.isPoint(point))
    throw lngateError("bad-point", "a commitment point is not a point of the curve");
  return point;
}

/** The signatures of an answer, one for each check. Throws `bad-answer`, `bad-signature`. */
export function checkedSignatures(
  answer: SigningAnswer,
  checks: readonly SignatureCheck[],
): readonly Uint8Array[] {
  const signatures = answer.signatures ?? [];
  if (signatures.length !== checks.length) {
    throw lngateError(
      "bad-answer",
      `${answer.id}: ${checks.length} signatures wanted, ${signatures.length} came`,
    );
  }
  checks.forEach(({ hash, publicKey }, i) => {
    if (!nobleCurve.verify(signatures[i]!, hash, publicKey)) {
      throw lngateError("bad-signature", `${answer.id}: signature ${i} is not valid`);
    }
  });
  return signatures;
}

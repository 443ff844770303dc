import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { fromHex } from "../../src/bytes/bytes.ts";
import { nobleCurve as curve } from "../../src/crypto/curve.ts";
import {
  deriveCommitmentKeys,
  derivePrivateKey,
  deriveRevocationPrivateKey,
} from "../../src/lightning/keys.ts";
import { codeThrownBy } from "../thrown.ts";

describe("commitment keys", () => {
  const secrets = fc.uint8Array({ minLength: 32, maxLength: 32, min: 1, max: 254 });

  test("have the private halves that their owners derive without a curve", () => {
    const party = fc.record({ revocation: secrets, payment: secrets, delayed: secrets, htlc: secrets });
    fc.assert(
      fc.property(party, party, secrets, (ours, theirs, commitmentSecret) => {
        const publish = (party: typeof ours) => ({
          revocation: curve.publicKey(party.revocation),
          payment: curve.publicKey(party.payment),
          delayed: curve.publicKey(party.delayed),
          htlc: curve.publicKey(party.htlc),
        });
        const [us, them] = [publish(ours), publish(theirs)];
        const point = curve.publicKey(commitmentSecret);
        const revocation = deriveRevocationPrivateKey(
          theirs.revocation,
          them.revocation,
          commitmentSecret,
          point,
        );
        expect(deriveCommitmentKeys(curve, point, us, them)).toEqual({
          revocation: curve.publicKey(revocation),
          delayed: curve.publicKey(derivePrivateKey(ours.delayed, us.delayed, point)),
          broadcasterHtlc: curve.publicKey(derivePrivateKey(ours.htlc, us.htlc, point)),
          countersignatoryHtlc: curve.publicKey(derivePrivateKey(theirs.htlc, them.htlc, point)),
        });
      }),
      { numRuns: 10 },
    );
  });

  test("are not derived from what is no point", () => {
    const point = curve.publicKey(new Uint8Array(32).fill(1));
    const basepoints = { revocation: point, payment: point, delayed: point, htlc: point };
    const bad = fromHex(`02${"ff".repeat(32)}`);
    expect(codeThrownBy(() => deriveCommitmentKeys(curve, bad, basepoints, basepoints))).toBe("bad-point");
    const broken = { ...basepoints, revocation: bad };
    expect(codeThrownBy(() => deriveCommitmentKeys(curve, point, basepoints, broken))).toBe("bad-point");
  });
});

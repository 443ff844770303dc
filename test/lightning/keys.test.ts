import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve as curve } from "../../src/bytes/curve.ts";
import {
  deriveCommitmentKeys,
  derivePrivateKey,
  derivePublicKey,
  deriveRevocationPrivateKey,
  deriveRevocationPublicKey,
} from "../../src/lightning/keys.ts";
import { codeThrownBy } from "../thrown.ts";
import { describeVectors } from "../vectors.ts";

type KeyVectors = Record<
  | "base_secret"
  | "per_commitment_secret"
  | "base_point"
  | "per_commitment_point"
  | "localpubkey"
  | "localprivkey"
  | "revocationpubkey"
  | "revocationprivkey",
  string
>;

describeVectors<KeyVectors>("BOLT #3 appendix E, key derivation", "bolt3-keys.json", vectors => {
  const hex = (name: keyof KeyVectors) => fromHex(vectors[name]);

  test("derives a public and a private key", () => {
    const [point, base] = [hex("per_commitment_point"), hex("base_point")];
    expect(toHex(curve.publicKey(hex("base_secret")))).toBe(vectors.base_point);
    expect(toHex(derivePublicKey(curve, base, point))).toBe(vectors.localpubkey);
    expect(toHex(derivePrivateKey(hex("base_secret"), base, point))).toBe(vectors.localprivkey);
  });

  test("derives a public and a private revocation key", () => {
    const [point, base] = [hex("per_commitment_point"), hex("base_point")];
    expect(toHex(curve.publicKey(hex("per_commitment_secret")))).toBe(vectors.per_commitment_point);
    expect(toHex(deriveRevocationPublicKey(curve, base, point))).toBe(vectors.revocationpubkey);
    const secret = deriveRevocationPrivateKey(hex("base_secret"), base, hex("per_commitment_secret"), point);
    expect(toHex(secret)).toBe(vectors.revocationprivkey);
  });
});

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

import { describe, expect, test } from "@jest/globals";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { ascii, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { bigintCurve } from "../../src/crypto/curve-bigint.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { fromBigInt, N } from "../../src/crypto/scalar-bigint.ts";
import { RepeatedHash, tagged, taggedScalar } from "../../src/threshold/hash.ts";
import {
  decodePoint,
  decodeScalar,
  encodePoints,
  G,
  hashToCurve,
  multiply,
  prove,
  sumOfProducts,
  verifyProofs,
  xsModN,
} from "../../src/threshold/points.ts";
import { codeThrownBy } from "../thrown.ts";
import { describeVectors } from "../vectors.ts";
import { WYCHEPROOF_FILE, type Wycheproof, wycheproofCases } from "../wycheproof.ts";
import { seededRandom } from "./parties.ts";

const random = seededRandom("curve");
const P = 2n ** 256n - 2n ** 32n - 977n;

describe("encodings", () => {
  test("a point is compressed, on the curve and not infinity", () => {
    const point = secp256k1.Point.BASE.multiply(7n);
    expect(decodePoint(point.toBytes()).equals(point)).toBe(true);
    const offCurve = [1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n].map(fromBigInt).filter(x => {
      const candidate = new Uint8Array([2, ...x]);
      return !nobleCurve.isPoint(candidate);
    });
    expect(offCurve.length).toBeGreaterThan(0);
    const bad = [
      ...offCurve.map(x => new Uint8Array([2, ...x])),
      new Uint8Array(0),
      new Uint8Array(1),
      new Uint8Array(33),
      new Uint8Array([0, ...point.toBytes().subarray(1)]),
      new Uint8Array([4, ...point.toBytes().subarray(1)]),
      new Uint8Array([2, ...fromBigInt(P)]),
      new Uint8Array([2, ...fromBigInt(P + 1n)]),
      point.toBytes(false),
      new Uint8Array([...point.toBytes(), 0]),
      point.toBytes().subarray(0, 32),
    ];
    for (const bytes of bad) expect(codeThrownBy(() => decodePoint(bytes))).toBe("threshold-bad-message");
    const infinity = secp256k1.Point.ZERO;
    expect(codeThrownBy(() => encodePoints([point, infinity]))).toBe("threshold-bad-message");
    expect(codeThrownBy(() => xsModN([infinity]))).toBe("threshold-bad-message");
    expect(codeThrownBy(() => multiply(infinity, 1n))).toBe("threshold-bad-message");
    expect(codeThrownBy(() => multiply(point, 0n))).toBe("threshold-bad-message");
  });

  test("a scalar is below n", () => {
    expect(decodeScalar(fromBigInt(N - 1n))).toBe(N - 1n);
    expect(decodeScalar(new Uint8Array(32))).toBe(0n);
    for (const value of [N, N + 1n, 2n ** 256n - 1n]) {
      expect(codeThrownBy(() => decodeScalar(fromBigInt(value)))).toBe("threshold-bad-message");
    }
  });
});

describe("proofs of knowledge", () => {
  const sid = random(32);
  const claims = [5n, 6n, 7n].map((secret, i) => {
    const decoded = G.multiply(secret);
    const statement = { sid, role: i === 0 ? "P1" : "P2", point: decoded.toBytes() };
    return { ...statement, decoded, proof: prove([{ ...statement, secret }], random)[0]! };
  });

  test("verify together and alone", () => {
    verifyProofs(claims, random);
    for (const claim of claims) verifyProofs([claim], random);
  });

  test("one false proof among good ones is found, whatever is false about it", () => {
    const [first, second] = [claims[0]!, claims[1]!];
    const twice = first.proof.slice();
    twice[64] = twice[64]! ^ 1;
    const falsified = [
      { ...first, proof: twice },
      { ...first, proof: second.proof },
      { ...first, role: "P2" },
      { ...first, sid: random(32) },
      { ...first, point: second.point, decoded: second.decoded },
    ];
    for (const claim of falsified) {
      expect(codeThrownBy(() => verifyProofs([second, claim], random))).toBe("threshold-bad-proof");
    }
    const tooBig = new Uint8Array([...first.proof.subarray(0, 33), ...fromBigInt(N)]);
    const offCurve = new Uint8Array([5, ...first.proof.subarray(1)]);
    for (const proof of [tooBig, offCurve]) {
      expect(codeThrownBy(() => verifyProofs([{ ...first, proof }], random))).toBe("threshold-bad-message");
    }
  });

  test("two false proofs whose errors cancel out do not pass together", () => {
    const shift = (claim: (typeof claims)[number], by: bigint) => {
      const z = BigInt(`0x${toHex(claim.proof.subarray(33))}`);
      return {
        ...claim,
        proof: new Uint8Array([...claim.proof.subarray(0, 33), ...fromBigInt((z + by) % N)]),
      };
    };
    const both = [shift(claims[0]!, 1n), shift(claims[1]!, N - 1n)];
    expect(codeThrownBy(() => verifyProofs(both, random))).toBe("threshold-bad-proof");
  });

  test("a multiplication is that of @noble, for edge values and random ones", () => {
    const point = G.multiply(0xabcdefn);
    const lambda = 0x5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72n;
    const awkward = [1n, 2n, 15n, 16n, N - 1n, N - 2n, N >> 1n, lambda, lambda + 1n, N - lambda, lambda - 1n];
    const powers = Array.from({ length: 32 }, (_, i) => 2n ** BigInt(8 * i));
    const randoms = Array.from({ length: 100 }, () => BigInt(`0x${toHex(random(32))}`) % N);
    for (const scalar of [...awkward, ...powers, ...randoms]) {
      expect(multiply(point, scalar).equals(point.multiply(scalar))).toBe(true);
    }
  });

  test("sums of products are what they say", () => {
    const point = G.multiply(9n);
    expect(sumOfProducts([G, point], [4n, N - 1n]).equals(G.multiply(N - 5n))).toBe(true);
    expect(sumOfProducts([G, point.negate()], [9n, 1n]).is0()).toBe(true);
  });
});

describe("tagged hashing", () => {
  test("is SHA-256 over the doubled hash of the tag and the length-prefixed fields", () => {
    const tag = sha256(ascii("2pe/v1/some"));
    const expected = sha256(new Uint8Array([...tag, ...tag, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0]));
    expect(tagged("some", new Uint8Array([7, 8]), new Uint8Array(0))).toEqual(expected);
  });

  test("repeated hashing gives the same as hashing again, wherever the block boundary falls", () => {
    for (const [first, second] of [
      [0, 0],
      [32, 4],
      [60, 25],
      [60, 0],
      [59, 50],
      [200, 13],
    ] as const) {
      const fields = [random(first), new Uint8Array(second)] as const;
      const hash = new RepeatedHash("many", ...fields);
      const at = (4 + first + 4) % 64;
      for (let round = 0; round < 3; round++) {
        fields[1].set(random(second));
        // The block only holds what fits after the last whole one.
        if (second > 0 && at + second < 56) hash.block.set(fields[1], at);
        else if (second > 0) continue;
        const out = new Uint8Array(40);
        hash.into(new DataView(out.buffer), 8);
        expect(toHex(out.subarray(8))).toBe(toHex(tagged("many", ...fields)));
        expect(hash.scalar()).toBe(taggedScalar("many", ...fields));
      }
    }
  });
});

interface HashToCurve {
  readonly dst: string;
  readonly vectors: readonly {
    readonly msg: string;
    readonly P: { readonly x: string; readonly y: string };
  }[];
}

describeVectors<HashToCurve>("RFC 9380", "h2c-secp256k1-sswu-ro.json", ({ dst, vectors }) => {
  test.each(vectors.map(vector => ({ ...vector, name: vector.msg.slice(0, 20) })))(
    "hashes “$name…” to its point",
    ({ msg, P }) => {
      const { x, y } = hashToCurve(ascii(msg), ascii(dst)).toAffine();
      expect([x, y]).toEqual([BigInt(P.x), BigInt(P.y)]);
    },
  );
});

describeVectors<Wycheproof>("Wycheproof ECDSA", WYCHEPROOF_FILE, vectors => {
  test.each([
    ["the library", nobleCurve],
    ["the curve without tables", bigintCurve],
  ] as const)("every signature is judged by %s as the file says", (_name, curve) => {
    const cases = wycheproofCases(vectors);
    let decidedByUs = 0;
    for (const { tcId, comment, signature, hash, key, isValid } of cases) {
      if (signature !== undefined && !isValid) decidedByUs++;
      const valid = signature !== undefined && curve.verify(signature, hash, key);
      expect({ tcId, comment, valid }).toEqual({ tcId, comment, valid: isValid });
    }
    expect(cases.length).toBe(463);
    // Enough of them are well-formed, so that it is the rules for r and s that refuse.
    expect(decidedByUs).toBeGreaterThan(20);
  });
});

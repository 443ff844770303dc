import { describe, expect, test } from "@jest/globals";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 as nobleSha256 } from "@noble/hashes/sha2.js";
import * as noble from "@noble/secp256k1";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve as curve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { codeThrownBy } from "../thrown.ts";

noble.hashes.sha256 = nobleSha256;
noble.hashes.hmacSha256 = (key, message) => hmac(nobleSha256, key, message);

const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const G = fromHex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");

const scalarOf = (value: bigint) => fromHex(value.toString(16).padStart(64, "0"));
const scalars = fc.bigInt(1n, ORDER - 1n).map(scalarOf);
const runs = { numRuns: 20 };

describe("the curve port", () => {
  test("multiplies as an independent implementation does", () => {
    fc.assert(
      fc.property(scalars, scalars, (a, b) => {
        const point = noble.getPublicKey(a);
        expect(curve.publicKey(a)).toEqual(point);
        fc.pre(toHex(b) !== toHex(scalarOf(ORDER - 1n))); // a·G + (n−1)·a·G is infinity, tested below
        const product = noble.Point.fromBytes(point).multiply(BigInt(`0x${toHex(b)}`));
        expect(curve.multiply(point, b)).toEqual(product.toBytes());
        expect(curve.combine(G, a, point, b)).toEqual(noble.Point.fromBytes(point).add(product).toBytes());
      }),
      runs,
    );
  });

  test("adds points, and refuses a sum that is infinity", () => {
    expect(curve.add(G, G)).toEqual(curve.publicKey(scalarOf(2n)));
    expect(codeThrownBy(() => curve.add(G, curve.publicKey(scalarOf(ORDER - 1n))))).toBe("point-at-infinity");
    expect(codeThrownBy(() => curve.combine(G, scalarOf(ORDER - 5n), G, scalarOf(5n)))).toBe(
      "point-at-infinity",
    );
  });

  test("refuses bytes that are no compressed point", () => {
    const bad = [
      new Uint8Array(0),
      new Uint8Array(33),
      G.subarray(1),
      concat([new Uint8Array([5]), G.subarray(1)]),
      concat([new Uint8Array([2]), new Uint8Array(31), new Uint8Array([5])]),
      concat([new Uint8Array([2]), new Uint8Array(32).fill(255)]),
      noble.Point.BASE.toBytes(false),
    ];
    const [one, hash, signature] = [scalarOf(1n), new Uint8Array(32), new Uint8Array(64)];
    for (const point of bad) {
      expect(curve.isPoint(point)).toBe(false);
      expect(codeThrownBy(() => curve.add(G, point))).toBe("bad-point");
      expect(codeThrownBy(() => curve.multiply(point, one))).toBe("bad-point");
      expect(codeThrownBy(() => curve.combine(G, one, point, one))).toBe("bad-point");
      expect(codeThrownBy(() => curve.verify(signature, hash, point))).toBe("bad-point");
    }
    expect(curve.isPoint(G)).toBe(true);
  });

  test("refuses scalars out of range", () => {
    for (const scalar of [scalarOf(0n), scalarOf(ORDER), new Uint8Array(31).fill(1), new Uint8Array(33)]) {
      expect(codeThrownBy(() => curve.publicKey(scalar))).toBe("bad-scalar");
      expect(codeThrownBy(() => curve.multiply(G, scalar))).toBe("bad-scalar");
      expect(codeThrownBy(() => curve.sign(new Uint8Array(32), scalar))).toBe("bad-scalar");
    }
    expect(toHex(curve.publicKey(scalarOf(ORDER - 1n)))).toBe(`03${toHex(G.subarray(1))}`);
  });

  test("signs by RFC 6979 with a low s, and verifies and recovers what it signed", () => {
    fc.assert(
      fc.property(scalars, fc.uint8Array({ minLength: 32, maxLength: 32 }), (secret, hash) => {
        const key = curve.publicKey(secret);
        const signature = curve.sign(hash, secret);
        expect(signature).toEqual(noble.sign(hash, secret, { prehash: false }));
        expect(curve.verify(signature, hash, key)).toBe(true);
        const candidates = [0, 1].map(id => toHex(curve.recover(signature, id, hash)));
        expect(candidates).toContain(toHex(key));
        const other = hash.slice();
        other[31]! ^= 1;
        expect(curve.verify(signature, other, key)).toBe(false);
      }),
      runs,
    );
  });

  test("does not accept a high s, a signature out of range or of another length", () => {
    const [secret, hash] = [scalarOf(7n), sha256(G)];
    const key = curve.publicKey(secret);
    const signature = curve.sign(hash, secret);
    const r = signature.subarray(0, 32);
    const highS = scalarOf(ORDER - BigInt(`0x${toHex(signature.subarray(32))}`));
    expect(curve.verify(signature, hash, key)).toBe(true);
    expect(curve.verify(concat([r, highS]), hash, key)).toBe(false);
    expect(curve.verify(concat([r, new Uint8Array(32)]), hash, key)).toBe(false);
    expect(curve.verify(new Uint8Array(64).fill(255), hash, key)).toBe(false);
    expect(curve.verify(signature.subarray(1), hash, key)).toBe(false);
    expect(codeThrownBy(() => curve.recover(new Uint8Array(64), 0, hash))).toBe("bad-signature");
    expect(codeThrownBy(() => curve.recover(signature, 4, hash))).toBe("bad-signature");
  });
});

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { concat, equal, fromHex, toHex } from "../src/bytes/bytes.ts";
import { hmacSha256, ripemd160, sha256 } from "../src/crypto/hash.ts";

describe("bytes", () => {
  test("hex goes there and back", () => {
    fc.assert(fc.property(fc.uint8Array(), b => expect(fromHex(toHex(b))).toEqual(b)));
  });

  test("hex that is not whole bytes of digits is refused by code", () => {
    for (const bad of ["0", "0g", "zz", " 0"])
      expect(() => fromHex(bad)).toThrow(expect.objectContaining({ code: "bad-hex" }));
  });

  test("equal means equal length and content", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) =>
        expect(equal(a, b)).toBe(toHex(a) === toHex(b)),
      ),
    );
    expect(equal(concat([new Uint8Array([1]), new Uint8Array([2])]), new Uint8Array([1, 2]))).toBe(true);
  });

  test("the hashes are the published ones", () => {
    const abc = new Uint8Array([97, 98, 99]);
    expect(toHex(sha256(abc))).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect(toHex(ripemd160(abc))).toBe("8eb208f7e05d987a9b044a8e98c6b087f15a0bfc");
    // RFC 4231 test case 2
    const key = new Uint8Array([74, 101, 102, 101]);
    const data = Uint8Array.from("what do ya want for nothing?", c => c.charCodeAt(0));
    expect(toHex(hmacSha256(key, data))).toBe(
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    );
  });
});

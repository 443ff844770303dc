import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { hmacOver } from "../../device/boards/shared/hmac.ts";
import { ripemd160 } from "../../device/boards/shared/ripemd160.ts";
import * as library from "../../src/crypto/hash.ts";

const anything = fc.uint8Array({ maxLength: 300 });

describe("hashes that boards lack", () => {
  test("RIPEMD-160 is the library's, at every length around a block's end", () => {
    for (let length = 0; length < 200; length++) {
      const bytes = new Uint8Array(length).map((_, i) => i * 7 + length);
      expect(ripemd160(bytes)).toEqual(library.ripemd160(bytes));
    }
    fc.assert(fc.property(anything, bytes => expect(ripemd160(bytes)).toEqual(library.ripemd160(bytes))));
  });

  test("HMAC is the library's, for keys shorter and longer than a block", () => {
    const hmac = hmacOver(library.sha256);
    fc.assert(
      fc.property(anything, anything, (key, bytes) =>
        expect(hmac(key, bytes)).toEqual(library.hmacSha256(key, bytes)),
      ),
    );
  });
});

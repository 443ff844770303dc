import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { aes256Ctr, sha256 } from "../../scripts/engines/boards/es5-crypto.ts";
import * as library from "../../src/crypto/hash.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";

test("Duktape's hash and cipher are the platform's", () => {
  const block = fc.uint8Array({ minLength: 16, maxLength: 16 });
  const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
  fc.assert(
    fc.property(key, block, fc.uint8Array({ maxLength: 200 }), (secret, iv, bytes) => {
      expect(sha256(bytes)).toEqual(library.sha256(bytes));
      expect(aes256Ctr(secret, iv, bytes)).toEqual(nodeLinkCrypto.aes256Ctr(secret, iv, bytes));
    }),
  );
  const full = new Uint8Array(16).fill(255);
  expect(aes256Ctr(new Uint8Array(32), full, new Uint8Array(40))).toEqual(
    nodeLinkCrypto.aes256Ctr(new Uint8Array(32), full, new Uint8Array(40)),
  );
});

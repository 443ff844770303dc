import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { toHex } from "../../src/bytes/bytes.ts";
import {
  commitmentSecret,
  EMPTY_SECRET_STORE,
  storedSecret,
  storeSecret,
} from "../../src/lightning/shachain.ts";
import { codeThrownBy } from "../thrown.ts";

describe("the store of revealed secrets", () => {
  const seeds = fc.uint8Array({ minLength: 32, maxLength: 32 });

  function storeOf(seed: Uint8Array, count: number) {
    let store = EMPTY_SECRET_STORE;
    for (let number = 0; number < count; number++) store = storeSecret(store, commitmentSecret(seed, number));
    return store;
  }

  test("gives back every secret it was ever told, from few entries", () => {
    fc.assert(
      fc.property(seeds, fc.integer({ min: 1, max: 140 }), (seed, count) => {
        const store = storeOf(seed, count);
        expect(store.secrets.length).toBe(Math.floor(Math.log2(count)) + 1);
        for (let number = 0; number < count; number++) {
          expect(toHex(storedSecret(store, number))).toBe(toHex(commitmentSecret(seed, number)));
        }
      }),
      { numRuns: 10 },
    );
  });

  test("accepts no other secret in the place of one that earlier ones follow from", () => {
    fc.assert(
      fc.property(seeds, fc.nat(30), seeds, (seed, half, wrong) => {
        const number = 2 * half + 1; // An index that ends in 0: there is something to check it against.
        fc.pre(toHex(wrong) !== toHex(commitmentSecret(seed, number)));
        expect(codeThrownBy(() => storeSecret(storeOf(seed, number), wrong))).toBe("bad-secret");
      }),
      { numRuns: 20 },
    );
  });

  test("knows no later secret, and does not forget earlier states of itself", () => {
    const before = storeOf(new Uint8Array(32), 6);
    const copy = JSON.stringify(before);
    storeSecret(before, commitmentSecret(new Uint8Array(32), 6));
    expect(JSON.stringify(before)).toBe(copy);
    expect(codeThrownBy(() => storedSecret(before, 6))).toBe("bad-secret");
    expect(codeThrownBy(() => storedSecret(EMPTY_SECRET_STORE, 0))).toBe("bad-secret");
    expect(codeThrownBy(() => storeSecret(before, new Uint8Array(31)))).toBe("bad-secret");
  });

  test.each([-1, 0.5, 2 ** 48])("has no commitment %d", number => {
    expect(codeThrownBy(() => commitmentSecret(new Uint8Array(32), number))).toBe("bad-secret");
  });
});

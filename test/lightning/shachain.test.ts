import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { toHex } from "../../src/bytes/bytes.ts";
import {
  commitmentSecret,
  EMPTY_SECRET_STORE,
  isSecretStore,
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

  test("is known again as one; with an entry changed that follows from another, one missing or one too many it is none", () => {
    expect(isSecretStore(EMPTY_SECRET_STORE)).toBe(true);
    fc.assert(
      fc.property(seeds, fc.integer({ min: 1, max: 140 }), (seed, count) => {
        const store = storeOf(seed, count);
        const { secrets } = store;
        expect(isSecretStore(store)).toBe(true);
        expect(isSecretStore({ count, secrets: secrets.slice(1) })).toBe(false);
        expect(isSecretStore({ count, secrets: [...secrets, new Uint8Array(32)] })).toBe(false);
        expect(isSecretStore({ count: 2 * count, secrets })).toBe(false);
        expect(isSecretStore({ count, secrets: secrets.map(each => each.slice(1)) })).toBe(false);
        // A hole is what flash without one of the entries gives.
        const holed = secrets.slice();
        delete holed[0];
        expect(isSecretStore({ count, secrets: holed })).toBe(false);
        for (let at = 0; at < secrets.length; at++) {
          const other = secrets.map((each, i) => (i === at ? each.map(byte => byte ^ 1) : each));
          // An entry that is tied to no other is any 32 bytes: a point tells, where it is known.
          const isTied = storeIsTied(count, at);
          expect(isSecretStore({ count, secrets: other })).toBe(!isTied);
        }
      }),
      { numRuns: 30 },
    );
  });

  /** Whether the entry at this place is derived from another, or another from it. By the commitments' numbers. */
  function storeIsTied(count: number, at: number): boolean {
    // The newest commitment of each place: its number ends in exactly that many ones.
    const numberAt = (place: number) => {
      for (let number = count - 1; number >= 0; number--)
        if (((number + 1) & -(number + 1)) === 1 << place) return number;
      return -1;
    };
    const covers = (high: number, low: number) => numberAt(high) >> high === numberAt(low) >> high;
    for (let other = 0; 1 << other <= count; other++) {
      if (other !== at && covers(Math.max(other, at), Math.min(other, at))) return true;
    }
    return false;
  }

  test.each([-1, 0.5, 2 ** 48])("has no commitment %d", number => {
    expect(codeThrownBy(() => commitmentSecret(new Uint8Array(32), number))).toBe("bad-secret");
  });
});

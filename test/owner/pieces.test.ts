import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { QUEUE, WINDOW } from "../../src/link/session.ts";
import {
  Fragments,
  inFragments,
  OWNER_MAX_BYTES,
  OWNER_MAX_MESSAGE_BYTES,
} from "../../src/messages/fragments.ts";
import { codeThrownBy } from "../thrown.ts";

describe("a question or answer in pieces", () => {
  test("comes out whole, whatever its length, and one after the other", () => {
    const pieces = new Fragments();
    const lengths = fc.integer({ min: 0, max: 3 * OWNER_MAX_MESSAGE_BYTES });
    fc.assert(
      fc.property(lengths, fc.integer({ min: 0, max: 255 }), (length, fill) => {
        const whole = new Uint8Array(length).fill(fill);
        const parts = inFragments(whole);
        const results = parts.map(part => pieces.add(part));
        expect(results.slice(0, -1).every(result => result === undefined)).toBe(true);
        expect(Buffer.compare(results[results.length - 1]!, whole)).toBe(0);
        expect(Math.max(...parts.map(part => part.length))).toBeLessThanOrEqual(OWNER_MAX_MESSAGE_BYTES);
      }),
      { numRuns: 30 },
    );
  });

  test("fits into what the link lets wait, at its longest", () => {
    expect(inFragments(new Uint8Array(OWNER_MAX_BYTES)).length).toBeLessThanOrEqual(QUEUE + WINDOW);
    expect(codeThrownBy(() => inFragments(new Uint8Array(OWNER_MAX_BYTES + 1)))).toBe("message-too-large");
  });

  test("is forgotten when it grows too long or has a piece that is none, and the next is whole again", () => {
    const pieces = new Fragments();
    const part = new Uint8Array(OWNER_MAX_MESSAGE_BYTES);
    const endless = () => {
      for (;;) pieces.add(part);
    };
    expect(codeThrownBy(endless)).toBe("message-too-large");
    for (const bad of [new Uint8Array(0), new Uint8Array([2, 1])])
      expect(codeThrownBy(() => pieces.add(bad))).toBe("message-malformed");
    expect(pieces.add(new Uint8Array([1, 9]))).toEqual(new Uint8Array([9]));
  });
});

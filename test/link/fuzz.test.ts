import { describe, expect, test } from "@jest/globals";
import { fuzzLink } from "./fuzz.ts";

describe("the link under fuzz", () => {
  test("delivers only what was sent, and refuses everything else with a code", () => {
    const report = fuzzLink(30_000, 1);
    expect(report.accepted).toBeGreaterThan(100);
    expect(report.outcomes).toBeGreaterThan(200);
    expect(Object.keys(report.refused)).toEqual(
      expect.arrayContaining([
        "cbor-not-shortest",
        "cbor-trailing",
        "cbor-truncated",
        "cbor-unsorted",
        "cbor-unsupported",
        "link-bad-tag",
        "link-malformed",
        "link-out-of-order",
        "link-repeated",
        "link-unexpected",
        "link-unknown-session",
        "message-malformed",
        "message-too-large",
        "message-unknown",
      ]),
    );
  });
});

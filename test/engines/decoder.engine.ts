import { readFileSync } from "node:fs";
import { createContext, runInContext } from "node:vm";
import { expect, test } from "@jest/globals";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import { toDevice } from "../../src/messages/device.ts";
import { messagesToDevice } from "../link/fuzz.ts";

/** What the sources make of a message: it encoded again, or the code of the refusal. */
function bySource(message: Uint8Array): string {
  try {
    return toHex(toDevice.encode(toDevice.decode(message)));
  } catch (error) {
    return codeOf(error) ?? "no code";
  }
}

test.each(["xs", "es5"])(
  "What the build makes of the decoder (%s) takes and refuses as the sources do",
  engine => {
    const bundle = readFileSync(
      new URL(`../../dist/device/engines/decoder-${engine}.js`, import.meta.url),
      "utf8",
    );
    const realm = createContext({});
    runInContext(bundle, realm);
    const byBundle = Reflect.get(realm, "tell") as (hex: string) => string;
    const outcomes = new Set<string>();
    for (const message of messagesToDevice(20_000, 1)) {
      const outcome = bySource(message);
      outcomes.add(/^[a-z]+-/.exec(outcome) ? outcome : toDevice.decode(fromHex(outcome)).type);
      if (byBundle(toHex(message)) !== outcome)
        expect([toHex(message), byBundle(toHex(message))]).toEqual([toHex(message), outcome]);
    }
    // All messages were among them, and all reasons to refuse one.
    expect([...outcomes]).toEqual(
      expect.arrayContaining([
        ...toDevice.kinds.map(({ name }) => name),
        "cbor-trailing",
        "cbor-truncated",
        "cbor-unsorted",
        "cbor-unsupported",
        "message-malformed",
        "message-unknown",
      ]),
    );
  },
);

/** `lngate device limits` as a program, with the gateway as far as owners see it. */
import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { DEFAULT_POLICY } from "../../device/identity.ts";
import { askLimits } from "../../owner/client/channel.ts";
import { changeGatewayLimits, spendingLimits } from "../../owner/client/limits.ts";
import { pairDevice } from "../../owner/client/pair.ts";
import { type GatewayHalf, newOwner, startGatewayHalf } from "./gateway-half.ts";

let gateway: GatewayHalf;
let folder: string;
let deviceId: string;
beforeAll(async () => {
  gateway = await startGatewayHalf();
  folder = newOwner();
  ({ deviceId } = await pairDevice({ folder, code: gateway.invite("car") }));
});
afterAll(async () => {
  await gateway?.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function device(command: string, ...args: readonly string[]): Promise<Outcome> {
  const child = spawn(process.execPath, ["dist/lngate.mjs", "device", command, "--data", folder, ...args]);
  let [out, err] = ["", ""];
  child.stdout.on("data", chunk => (out += chunk));
  child.stderr.on("data", chunk => (err += chunk));
  return new Promise(resolve => child.on("close", code => resolve({ code, out, err })));
}

describe("a device's limits on the command line", () => {
  test("are those of pairing, in both places", async () => {
    expect((await device("limits")).out).toBe(`Device ${deviceId} may spend on its own, all fees included:
  per payment  5000 sat
  per hour     20000 sat
  per day      50000 sat
  to           anybody
The gateway holds it to the same.
`);
  });

  test("are shown side by side where they differ, and changed to the same when the owner says to what", async () => {
    const ask = (told?: Parameters<typeof askLimits>[1]) => askLimits({ folder, deviceId }, told);
    await changeGatewayLimits({ perPaymentMsat: 9_000 }, spendingLimits(DEFAULT_POLICY), ask);
    expect((await device("limits")).out).toContain("what is stricter of the two holds");
    const differ = await device("limits", "--max-day", "70000");
    expect([differ.code, differ.err]).toEqual([
      1,
      expect.stringMatching(/^limits-differ: .*--max-payment$/m),
    ]);
    const { out } = await device("limits", "--max-payment", "10", "--max-day", "70000");
    expect(out).toContain("per day      70000 sat\n  to           anybody\nThe gateway holds");
    const shown = JSON.parse((await device("limits", "--json")).out) as Record<string, unknown>;
    expect(shown["device"]).toEqual(shown["gateway"]);
    expect(shown["gateway"]).toMatchObject({ perPaymentMsat: 10_000, perDayMsat: 70_000_000 });
  });

  test("are said to be none at a gateway that has none, and can be given to it as the device has them", async () => {
    gateway.answer = answer => (answer.type === "limits" ? { type: "limits" } : answer);
    expect((await device("status")).out).toContain("LIMITS    the gateway has none");
    expect((await device("limits")).out).toContain(
      "By the gateway: it holds the device to none; --gateway gives it some",
    );
    const { out } = await device("limits", "--gateway");
    expect(out).toContain(
      "  per day      70000 sat\n  to           anybody\nThe gateway holds it to the same.",
    );
    gateway.answer = answer => answer;
  });

  test("can't be changed through a gateway that is too old, and are shown all the same", async () => {
    gateway.answer = answer =>
      answer.type === "limits" ? { type: "refused", code: "message-unknown", sentence: "no 20" } : answer;
    const refused = await device("limits", "--max-day", "1");
    expect([refused.code, refused.err]).toEqual([1, expect.stringMatching(/^gateway-outdated: /)]);
    expect((await device("limits")).out).toMatch(/per day {6}70000 sat[\s\S]*By the gateway: .* too old/);
    expect((await device("status")).out).toContain("LIMITS    the gateway has none");
    gateway.answer = answer => answer;
  });
});

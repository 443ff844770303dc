import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { exampleConfig } from "../../gateway/config.ts";
import { claimDataFolder } from "../../gateway/store/folder-lock.ts";
import { reservePort } from "../../scripts/ports.ts";
import { described } from "../../src/node/command.ts";
import { decodePairingCode } from "../../src/pairing/code.ts";
import { codeThrownBy } from "../thrown.ts";
import { home, jsonOf, lngate } from "./program.ts";

const NODE_ID = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

describe("the command line", () => {
  test("explains itself", async () => {
    const [bare, group, command] = await Promise.all([
      lngate(["--help"]),
      lngate(["device", "--help"]),
      lngate(["device", "charge", "--help"]),
    ]);
    expect([bare.code, group.code, command.code]).toEqual([0, 0, 0]);
    expect(bare.out).toContain("gateway add-device");
    expect(group.out).toContain("device pair");
    expect(group.out).not.toContain("gateway add-device");
    expect(command.out).toMatch(/--payments <N> .*100/);
    const names = [...bare.out.matchAll(/^ {2}((?:gateway|owner|device) [a-z-]+)/gm)].map(
      ([, name]) => name!,
    );
    expect(names.length).toBeGreaterThan(10);
    const helps = await Promise.all(names.slice(0, 4).map(name => lngate([...name.split(" "), "--help"])));
    for (const { code, out } of helps) {
      expect(code).toBe(0);
      expect(out).toMatch(/^Usage: lngate .*\n\n[A-Z].*\.\n\n[A-Z]/);
      expect(Math.max(...out.split("\n").map(line => line.length))).toBeLessThanOrEqual(110);
    }
  });

  test("answers what it does not understand with usage and 2", async () => {
    const cases: [string[], RegExp][] = [
      [["devicce", "list"], /^usage: unknown command 'devicce' \(Did you mean device\?\)/],
      [["device", "lost"], /^usage: unknown command 'lost' \(Did you mean list\?\)\nusage: lngate device /],
      [
        ["device", "charge", "--payment", "3"],
        /^usage: unknown option '--payment' \(Did you mean --payments\?\)\nusage: lngate device charge/,
      ],
      [["device", "charge", "--payments"], /^usage: option '--payments <N>' argument missing/],
      [["device", "charge", "--payments", "many"], /^usage: --payments must be a whole number from 1/],
      [["device", "pair"], /^usage: missing required argument 'CODE'\nusage: lngate device pair/],
      [["gateway", "devices", "please"], /^usage: too many arguments for 'devices'/],
      [["owner", "init"], /^usage: --network is missing/],
      [["owner", "init", "--network", "bitcoin"], /^usage: --network must be one of/],
    ];
    const outcomes = await Promise.all(cases.map(([args]) => lngate(args)));
    outcomes.forEach(({ code, out, err }, i) => {
      expect(err).toMatch(cases[i]![1]);
      expect([code, out]).toEqual([2, ""]);
    });
  });

  test("says its version, takes what is common to all commands before them too, and completes words in shells", async () => {
    const [version, refused, help, script, words] = await Promise.all([
      lngate(["--version"]),
      lngate(["--json", "device", "list"]),
      lngate(["help", "device", "pair"]),
      lngate(["completion", "bash"]),
      lngate(["complete", "--", "device", "cha"]),
    ]);
    expect([version.code, version.out]).toEqual([
      0,
      `${JSON.parse(readFileSync("package.json", "utf8")).version}\n`,
    ]);
    expect([refused.code, refused.err]).toEqual([1, expect.stringMatching(/^owner-missing: /)]);
    expect([help.code, help.out]).toEqual([0, (await lngate(["device", "pair", "--help"])).out]);
    expect(script.out).toContain("lngate complete --");
    expect(words.out.split("\n")[0]).toBe("charge\tmake the device ready for a number of payments");
  });

  test("says what the operating system refuses in one line, and a fault of its own without a stack unless asked", async () => {
    const folder = join(home, "a-file");
    writeFileSync(folder, "");
    const refused = await lngate(["owner", "init", "--network", "regtest", "--data", join(folder, "owner")]);
    expect([refused.code, refused.err]).toEqual([
      1,
      expect.stringMatching(/^system-refused: ENOTDIR: .*a-file.*\n$/),
    ]);
    const fault = () => described(new TypeError("x is not a function\n    at somewhere"));
    expect(fault()).toBe("internal-error: x is not a function at somewhere");
    process.env["LNGATE_TRACE"] = "1";
    expect(fault()).toMatch(
      /^internal-error: x is not a function at somewhere\nTypeError: [\s\S]*cli\.test\.ts/,
    );
    delete process.env["LNGATE_TRACE"];
  });

  test("answers what it refuses with a code, a sentence and 1", async () => {
    const bad = join(home, "bad.conf");
    writeFileSync(bad, exampleConfig("regtest"));
    const cases: [string[], RegExp][] = [
      [["gateway", "devices"], /^config-missing: .*gateway init/],
      [["gateway", "run", "--config", bad], /^config-invalid: .*"lightning.bridge" must look like/],
      [["device", "list"], /^owner-missing: .*owner init/],
      [["device", "charge", "--json"], /^owner-missing: /],
    ];
    const outcomes = await Promise.all(cases.map(([args]) => lngate(args)));
    outcomes.forEach(({ code, out, err }, i) => {
      expect(err).toMatch(cases[i]![1]);
      expect(err.trim().split("\n")).toHaveLength(1);
      expect([code, out]).toEqual([1, ""]);
    });
  });
});

describe("the operator of a gateway", () => {
  const config = join(home, ".lngate", "gateway.conf");
  let port: number;

  test("makes a configuration and has it checked against reality", async () => {
    const made = await lngate([
      "gateway",
      "init",
      "--network",
      "regtest",
      "--bridge",
      `${NODE_ID}@127.0.0.1:1`,
    ]);
    expect(made).toMatchObject({ code: 0, err: "" });
    expect(made.out).toContain(config);
    expect((await lngate(["gateway", "init"])).err).toMatch(/^config-exists: /);
    port = await reservePort();
    writeFileSync(config, readFileSync(config, "utf8").replace("18443", "1").replace(": 1883", `: ${port}`));

    const checked = await lngate(["gateway", "check", "--json"]);
    expect(checked.code).toBe(1);
    expect(checked.err).toMatch(/^check-failed: 2 of 5 checks failed/);
    const { checks } = jsonOf(checked) as { checks: { what: string; ok: boolean; detail: string }[] };
    expect(checks.map(({ what, ok }) => [what, ok])).toEqual([
      ["configuration", true],
      ["data folder", true],
      ["bitcoind", false],
      ["MQTT broker", true],
      ["bridge", false],
    ]);
    expect(checks[4]!.detail).toMatch(/127.0.0.1:1 can't be reached \(ECONNREFUSED\)/);
  });

  test("gives out pairing codes that contain where and who, and sees and withdraws them", async () => {
    const made = await lngate(["gateway", "add-device", "my", "car", "--minutes", "5"]);
    expect(made.code).toBe(0);
    const text = /^ {4}(lnga te1[a-z0-9 ]+)$/m.exec(made.out)![1]!;
    const code = decodePairingCode(text);
    expect(code.port).toBe(port);
    expect(made.out).toMatch(/[▀▄█]/);
    expect(made.err).toContain("The gateway is not running");

    const listed = jsonOf(await lngate(["gateway", "devices", "--json"]));
    expect(listed).toMatchObject({
      devices: [{ deviceId: code.deviceId, name: "my car", state: "invited" }],
    });
    expect((await lngate(["gateway", "remove-device", code.deviceId])).code).toBe(0);
    expect((await lngate(["gateway", "devices"])).out).toMatch(/^No device yet/);
    expect((await lngate(["gateway", "remove-device", code.deviceId])).err).toMatch(/^device-unknown: /);
    expect((await lngate(["gateway", "add-device", "-"])).err).toMatch(/^device-name-invalid: /);
  });

  test("can't run two gateways on one data folder, but can after one has given it back", () => {
    const folder = join(home, "claimed");
    const release = claimDataFolder(folder);
    expect(codeThrownBy(() => claimDataFolder(folder))).toBe("gateway-in-use");
    release();
    const again = claimDataFolder(folder);
    release();
    expect(codeThrownBy(() => claimDataFolder(folder))).toBe("gateway-in-use");
    again();
  });
});

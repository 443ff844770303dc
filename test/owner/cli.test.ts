import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { openNodeBoard } from "../../device/boards/node/board.ts";
import { exampleConfig } from "../../gateway/config.ts";
import { ServiceFees } from "../../gateway/fees/service-fees.ts";
import { createLog } from "../../gateway/log.ts";
import { claimDataFolder } from "../../gateway/store/folder-lock.ts";
import { openStore } from "../../gateway/store/registry.ts";
import { deviceFolder } from "../../owner/folder/folder.ts";
import { newWords } from "../../owner/folder/seed.ts";
import { reservePort } from "../../scripts/ports.ts";
import { described } from "../../src/node/command.ts";
import { decodePairingCode } from "../../src/pairing/code.ts";
import { codeThrownBy } from "../thrown.ts";
import { type GatewayHalf, startGatewayHalf } from "./gateway-half.ts";

const PROGRAM = "dist/lngate.mjs";
const NODE_ID = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
const home = mkdtempSync(join(tmpdir(), "lngate-cli-"));
afterAll(() => rmSync(home, { recursive: true }));

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the program as built, with a home of its own. */
function start(args: readonly string[]): { child: ChildProcess; ended: Promise<Outcome> } {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    env: { ...process.env, HOME: home, LNGATE_CONFIG: "", LNGATE_OWNER: "" },
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", chunk => (out += chunk));
  child.stderr.on("data", chunk => (err += chunk));
  const ended = new Promise<Outcome>(resolve => child.on("close", code => resolve({ code, out, err })));
  return { child, ended };
}
function lngate(args: readonly string[], input = ""): Promise<Outcome> {
  const { child, ended } = start(args);
  child.stdin!.end(input);
  return ended;
}
const jsonOf = ({ out }: Outcome) => JSON.parse(out) as Record<string, unknown>;

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

describe("an owner", () => {
  let gateway: GatewayHalf;
  const data = join(home, "owner");
  beforeAll(async () => {
    gateway = await startGatewayHalf();
  });
  afterAll(() => gateway.stop());

  test("gets 24 words once, and can bring them back", async () => {
    const made = await lngate(["owner", "init", "--network", "regtest", "--data", data]);
    expect(made.code).toBe(0);
    const words = [...made.out.matchAll(/ {2,3}(\d+) ([a-z]+)/g)].map(
      ([, n, word]) => [Number(n), word] as const,
    );
    const list = words.filter(([n]) => n >= 1 && n <= 24).sort(([a], [b]) => a - b);
    expect(list).toHaveLength(24);
    const phrase = list.map(([, word]) => word).join(" ");
    expect(readFileSync(join(data, "owner.json"), "utf8")).not.toContain(list[0]![1]);
    expect((await lngate(["owner", "init", "--network", "regtest", "--data", data])).err).toMatch(
      /^owner-exists: /,
    );

    const restored = join(home, "restored");
    const args = ["owner", "init", "--network", "regtest", "--data", restored, "--restore"];
    expect((await lngate(args, "abandon ability\n")).err).toMatch(/^words-invalid: 24 words are needed/);
    expect(existsSync(restored)).toBe(false);
    expect((await lngate(args, `${phrase}\n`)).code).toBe(0);
    expect(readFileSync(join(restored, "owner.json"))).toEqual(readFileSync(join(data, "owner.json")));

    const other = await lngate([
      "owner",
      "init",
      "--network",
      "regtest",
      "--data",
      join(home, "json"),
      "--json",
    ]);
    expect(String(jsonOf(other)["words"]).split(" ")).toHaveLength(24);
    expect(newWords()).not.toBe(phrase);
  });

  test("sees what the gateway takes before a device is paired, and the operator what it has earned", async () => {
    gateway.serviceFee = { ratePpm: 60_000, baseMsat: 0, settleFromMsat: 1_000_000, creditMsat: 5_000_000 };
    const [folder, conf] = [join(home, "fees"), join(home, "fees.conf")];
    await lngate(["owner", "init", "--network", "regtest", "--data", folder]);
    const code = gateway.invite("dear car");
    const pair = ["device", "pair", code, "--data", folder];
    expect((await lngate(pair)).err).toMatch(
      /^service-fee-too-high: .*6 %.*agreed to are at most 5 % \+ 1 sat/,
    );
    expect((await lngate([...pair, "--max-service-fee", "lots"])).err).toMatch(/^usage: --max-service-fee/);
    const paired = await lngate([...pair, "--max-service-fee", "6"]);
    expect(paired.out).toMatch(/^The gateway takes 6 % of each payment that arrives\..*1000 sat.*5000 sat/);
    gateway.serviceFee = undefined;

    const { deviceId } = decodePairingCode(code);
    const store = openStore(gateway.folder);
    const fees = new ServiceFees({
      deviceId,
      terms: gateway.registry.device(deviceId).pairing!.serviceFee!,
      table: store.openDB({ name: "payments", encoding: "binary" }),
      log: createLog("error", () => {}),
      send: () => false,
      soon: () => {},
      now: Date.now,
    });
    for (let i = 0; i < 30; i++) fees.earned(750_000);
    fees.settled(999_000, 1_000);
    await store.close();
    writeFileSync(
      conf,
      JSON.stringify({
        dataDir: gateway.folder,
        network: "regtest",
        bitcoind: { url: "http://127.0.0.1:1", user: "a", password: "b" },
        mqtt: { host: "127.0.0.1", port: 1883 },
        lightning: { bridge: `${NODE_ID}@127.0.0.1:1` },
      }),
    );
    const show = (...args: string[]) => lngate(["gateway", "fees", "--config", conf, ...args]);
    const line = {
      deviceId,
      name: "dear car",
      ratePpm: 60_000,
      baseMsat: 0,
      earnedMsat: 1_350_000,
      owedMsat: 350_000,
      settledMsat: 1_000_000,
      receivedMsat: 999_000,
      routingMsat: 1_000,
      settlements: 1,
    };
    expect(jsonOf(await show("--json"))).toEqual({ ownNode: null, devices: [line] });
    const [head, row] = (await show("--csv")).out.trim().split("\n");
    expect(head).toBe(Object.keys(line).join(","));
    expect(row).toBe(Object.values(line).join(","));
    const { out } = await show();
    expect(out).toMatch(/^dear car +6 % +1,350\.000 +350\.000 +999\.000 +1\.000$/m);
    expect(out).toMatch(/^all, sat +1,350\.000 +350\.000 +999\.000 +1\.000$/m);
    expect((await lngate(["gateway", "payout", "--config", conf])).err).toMatch(
      /^config-invalid: .*"serviceFee.address" is missing/,
    );
  });

  test("pairs, charges, funds and looks after a device", async () => {
    const owner = ["--data", data];
    const code = gateway.invite("toll tag");
    // As somebody types it: in groups, in capitals.
    const paired = await lngate(["device", "pair", ...code.toUpperCase().split(" "), ...owner, "--json"]);
    expect(paired).toMatchObject({ code: 0, err: "" });
    const { deviceId } = jsonOf(paired) as { deviceId: string };
    expect(jsonOf(paired)).toMatchObject({ name: "toll tag", network: "regtest" });

    expect((await lngate(["device", "pair", code, ...owner])).err).toMatch(/^pairing-code-used: /);
    expect((await lngate(["device", "pair", `${code}q`, ...owner])).err).toMatch(/^pairing-code-malformed: /);

    const charged = await lngate(["device", "charge", "--payments", "1", ...owner]);
    expect(charged.code).toBe(0);
    expect(charged.out).toMatch(/^Made 24 presignatures of kind A and 24 of kind B: .* for 1 payments?\.\n$/);

    const funded = await lngate(["device", "fund", ...owner]);
    expect(funded.out).toMatch(/^ {4}bcrt1q[a-z0-9]{58}$/m);
    expect(funded.out).toContain("At least 20000 sat");

    gateway.status = {
      online: true,
      rolledBack: false,
      stuck: false,
      time: 1_700_000_000,
      blockTime: 1_700_000_000,
      channel: "ready",
      depositSat: 0,
      depositUnconfirmedSat: 0,
      balanceSat: 99_000,
      inFlightSat: 9_900,
      graph: { channels: 0, changedAt: 0 },
    };
    const board = openNodeBoard(deviceFolder(data, deviceId));
    const busy = await lngate(["device", "charge", "--payments", "2", ...owner]);
    expect([busy.code, busy.err]).toEqual([
      1,
      expect.stringMatching(/^device-in-use: the device is running/),
    ]);
    const running = await lngate(["device", "status", ...owner]);
    expect(running.out).toMatch(/toll tag .*the device can pay/);
    expect(running.out).toContain("balance   99000 sat");
    expect(running.out).toContain("at a time 9900 sat: the bridge lets no more be in flight");
    expect(running.out).toContain("network   the gateway knows no channel of the network");
    expect(running.out).not.toContain("LIMITS");
    // At the gateway alone, also while the device runs.
    const stricter = await lngate(["device", "limits", "--gateway", "--max-payment", "9", ...owner]);
    expect(stricter.out).toContain("By the device itself: not known here (it is running)\nBy the gateway:\n");
    expect(gateway.registry.limits(deviceId)).toMatchObject({ perPaymentMsat: 9_000 });
    board.close();
    expect(jsonOf(await lngate(["device", "status", ...owner, "--json"]))).toMatchObject({
      deviceId,
      payments: 1,
      gatewayLimits: { perPaymentMsat: 9_000, perDayMsat: 50_000_000, payees: [] },
    });

    expect((await lngate(["device", "close", ...owner])).out).toMatch(/being closed; it pays bcrt1q/);
    expect(gateway.closed).toEqual([deviceId]);
    expect((await lngate(["device", "status", "--device", "zzzzzzzz", ...owner])).err).toMatch(
      /^device-unknown: .*there are/,
    );
  });
});

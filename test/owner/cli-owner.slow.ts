import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { openNodeBoard } from "../../device/boards/node/board.ts";
import { ServiceFees } from "../../gateway/fees/service-fees.ts";
import { createLog } from "../../gateway/log.ts";
import { openStore } from "../../gateway/store/registry.ts";
import { deviceFolder } from "../../owner/folder/folder.ts";
import { newWords } from "../../owner/folder/seed.ts";
import { decodePairingCode } from "../../src/pairing/code.ts";
import { type GatewayHalf, startGatewayHalf } from "./gateway-half.ts";
import { home, jsonOf, lngate } from "./program.ts";

const NODE_ID = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

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

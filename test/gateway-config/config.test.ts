import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "@jest/globals";
import {
  bridgeText,
  exampleConfig,
  loadConfig,
  parseConfig,
  splitHostPort,
  writeExampleConfig,
} from "../../gateway/config.ts";
import { fromHex } from "../../src/bytes/bytes.ts";
import { codeThrownBy } from "../thrown.ts";

const NODE = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
const folder = mkdtempSync(join(tmpdir(), "lngate-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

const valid = () => ({
  dataDir: "data",
  network: "regtest",
  bitcoind: { url: "http://127.0.0.1:18443", cookieFile: "~/.bitcoin/regtest/.cookie" } as object,
  mqtt: { host: "127.0.0.1", port: 1883 } as object,
  lightning: { bridge: `${NODE}@127.0.0.1:9735` } as object,
});
const read = (value: unknown) => parseConfig(JSON.stringify(value), "/etc/lngate/gateway.conf");

/** What a person would be told. */
function complaint(value: unknown): string {
  try {
    read(value);
  } catch (error) {
    expect(error).toMatchObject({ code: "config-invalid" });
    return (error as Error).message.replace("/etc/lngate/gateway.conf: ", "");
  }
  throw new Error("this configuration was expected to be refused");
}

describe("the configuration file", () => {
  test("is read, with paths made absolute and the rest as written", () => {
    expect(read(valid())).toEqual({
      file: "/etc/lngate/gateway.conf",
      dataDir: "/etc/lngate/data",
      network: "regtest",
      bitcoind: { url: "http://127.0.0.1:18443", cookieFile: join(homedir(), ".bitcoin/regtest/.cookie") },
      mqtt: { kind: "embedded", host: "127.0.0.1", port: 1883 },
      bridge: { nodeId: NODE, host: "127.0.0.1", port: 9735 },
      logFormat: "text",
      logLevel: "info",
    });
  });

  test("may name a broker elsewhere, a password instead of the cookie, and a bridge at an IPv6 address", () => {
    const config = read({
      ...valid(),
      bitcoind: { url: "http://10.0.0.2:18443", user: "me", password: "secret" },
      mqtt: { url: "mqtt://broker.local:1883", user: "lngate", password: "secret" },
      lightning: { bridge: `${NODE.toUpperCase()}@[fd00::7]:9735` },
      logLevel: "debug",
    });
    expect(config.bitcoind).toEqual({ url: "http://10.0.0.2:18443", user: "me", password: "secret" });
    expect(config.mqtt).toEqual({
      kind: "external",
      url: "mqtt://broker.local:1883",
      user: "lngate",
      password: "secret",
    });
    expect(bridgeText(config)).toBe(`${NODE}@[fd00::7]:9735`);
  });

  test("says what the gateway takes for its service, and where the earnings go", () => {
    const serviceFee = { ratePpm: 50_000, baseMsat: 10, settleFromSat: 1_000, creditSat: 5_000 };
    const terms = { ratePpm: 50_000, baseMsat: 10, settleFromMsat: 1_000_000, creditMsat: 5_000_000 };
    expect(read({ ...valid(), serviceFee }).serviceFee).toEqual({ terms });
    const address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    expect(read({ ...valid(), serviceFee: { ...serviceFee, address } }).serviceFee).toEqual({
      terms,
      payoutScript: fromHex("0014751e76e8199196d454941c45d1b3a323f1433bd6"),
    });
    expect(read({ ...valid(), serviceFee: { ...serviceFee, ratePpm: 0, baseMsat: 0 } })).not.toHaveProperty(
      "serviceFee",
    );
    const wrong = (part: object) => complaint({ ...valid(), serviceFee: { ...serviceFee, ...part } });
    expect(wrong({ ratePpm: 500_001 })).toMatch(
      /^"serviceFee.ratePpm" must be a whole number from 0 to 500000/,
    );
    expect(wrong({ ratePpm: "5 %" })).toMatch(/^"serviceFee.ratePpm" must be a whole number/);
    expect(wrong({ baseMsat: -1 })).toMatch(/^"serviceFee.baseMsat"/);
    expect(wrong({ settleFromSat: 999 })).toMatch(/^"serviceFee" .*too small to be seen/);
    expect(wrong({ creditSat: 1_999 })).toMatch(/^"serviceFee" .*at least twice/);
    expect(wrong({ address: "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4" })).toMatch(
      /^"serviceFee.address" is not an address of regtest/,
    );
    expect(wrong({ rate: 1 })).toMatch(/^"serviceFee.rate" is not a setting/);
    expect(complaint({ ...valid(), serviceFee: { ratePpm: 1 } })).toMatch(
      /^"serviceFee.baseMsat" is missing/,
    );
  });

  test("that was written as an example is valid once the bridge is filled in, explained, and private", () => {
    const file = join(folder, "new", "gateway.conf");
    writeExampleConfig(file, "mainnet", `${NODE}@bridge.example:9735`);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(loadConfig(file)).toMatchObject({ network: "mainnet", dataDir: join(folder, "new", "data") });
    // 5 %, as in the article.
    expect(loadConfig(file).serviceFee).toMatchObject({ terms: { ratePpm: 50_000, baseMsat: 0 } });
    const text = readFileSync(file, "utf8");
    for (const key of ["dataDir", "network", "bitcoind", "mqtt", "lightning", "serviceFee", "logLevel"])
      expect(text).toMatch(new RegExp(`//[^\n]*\n( *//[^\n]*\n)* *"${key}"`));
    expect(codeThrownBy(() => writeExampleConfig(file, "regtest"))).toBe("config-exists");
  });

  test("is refused as an example that nobody filled in, naming the key", () => {
    expect(() => parseConfig(exampleConfig("regtest"), "f")).toThrow(
      expect.objectContaining({
        code: "config-invalid",
        message: expect.stringContaining('"lightning.bridge"'),
      }),
    );
  });

  test("is refused with key and expectation", () => {
    const { dataDir, ...withoutData } = valid();
    expect(dataDir).toBe("data");
    expect(complaint(withoutData)).toMatch(/^"dataDir" is missing: it must be a text/);
    expect(complaint({ ...valid(), newtork: 1 })).toMatch(/^"newtork" is not a setting; there are "network"/);
    expect(complaint({ ...valid(), network: "main" })).toMatch(
      /^"network" must be one of "mainnet", "testnet"/,
    );
    expect(complaint({ ...valid(), mqtt: { host: "0.0.0.0", port: "1883" } })).toMatch(
      /^"mqtt.port" must be a number .* without quotes/,
    );
    expect(complaint({ ...valid(), mqtt: { host: "0.0.0.0", port: 70000 } })).toMatch(/^"mqtt.port"/);
    expect(complaint({ ...valid(), mqtt: { url: "http://x" } })).toMatch(/^"mqtt.url" .* mqtt:\/\//);
    expect(complaint({ ...valid(), mqtt: { url: "mqtt://a:b@x" } })).toMatch(/^"mqtt.url" must not contain/);
    expect(complaint({ ...valid(), mqtt: { url: "mqtt://x", host: "y" } })).toMatch(/^"mqtt.host" is not/);
    expect(complaint({ ...valid(), mqtt: 7 })).toMatch(/^"mqtt" must be an object/);
    expect(complaint({ ...valid(), bitcoind: { url: "http://x" } })).toMatch(/^"bitcoind" needs either/);
    expect(complaint({ ...valid(), bitcoind: { url: "http://x", cookieFile: "c", user: "u" } })).toMatch(
      /^"bitcoind" needs either/,
    );
    expect(complaint({ ...valid(), lightning: { bridge: `${NODE}@host` } })).toMatch(/^"lightning.bridge"/);
    expect(complaint({ ...valid(), lightning: { bridge: `05${NODE.slice(2)}@host:1` } })).toMatch(
      /^"lightning.bridge"/,
    );
    expect(complaint([])).toMatch(/^the file must be an object/);
  });

  test("that is no JSON is refused with the line", () => {
    expect(() => parseConfig('// one\n{\n  "network": "regtest"\n  "dataDir": "x"\n}', "f")).toThrow(
      expect.objectContaining({
        code: "config-invalid",
        message: expect.stringContaining("line 4, column 3"),
      }),
    );
    expect(codeThrownBy(() => loadConfig(join(folder, "nowhere.conf")))).toBe("config-missing");
  });

  test("host and port are told apart", () => {
    expect(splitHostPort("a.b:1")).toEqual({ host: "a.b", port: 1 });
    expect(splitHostPort("[::1]:65535")).toEqual({ host: "::1", port: 65535 });
    for (const bad of ["a", "a:", ":1", "a:0", "a:65536", "::1:9", "a:b:1", "[a]:1"])
      expect(splitHostPort(bad)).toBeUndefined();
  });
});

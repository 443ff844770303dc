/**
 * The gateway's configuration file: JSON in which a line that starts with // is a comment. Reading is strict,
 * because a misspelt key that is silently ignored is found weeks later.
 */

import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { homedir } from "node:os";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { addressScript } from "../src/bitcoin/address.ts";
import { NETWORKS, type Network } from "../src/bitcoin/network.ts";
import { fromHex } from "../src/bytes/bytes.ts";
import { MAX_RATE_PPM, type ServiceFee, serviceFeeFault } from "../src/channel/service-fee.ts";
import { nobleCurve } from "../src/crypto/curve.ts";
import { lngateError } from "../src/errors.ts";
import { LOG_FORMATS, type LogFormat } from "./log.ts";

/** Where bitcoind listens and how to log in; what src/node/bitcoind-rpc.ts takes. */
export interface BitcoindConfig {
  readonly url: string;
  readonly cookieFile?: string;
  readonly user?: string;
  readonly password?: string;
}

/** The broker inside the gateway, or one elsewhere that the gateway logs in to. */
export type MqttConfig =
  | {
      readonly kind: "embedded";
      readonly host: string;
      readonly port: number;
      /** `host:port` under which devices reach this broker; absent: this machine's own address is guessed. */
      readonly publicAddress?: string;
    }
  | { readonly kind: "external"; readonly url: string; readonly user?: string; readonly password?: string };

export interface GatewayConfig {
  /** The file that this was read from. */
  readonly file: string;
  /** Absolute. Everything the gateway knows is in this folder. */
  readonly dataDir: string;
  readonly network: Network;
  readonly bitcoind: BitcoindConfig;
  readonly mqtt: MqttConfig;
  /** The peer that every device's channel goes to. */
  readonly bridge: { readonly nodeId: string; readonly host: string; readonly port: number };
  /** The smallest channel that the bridge is asked for, sat. */
  readonly leastChannelSat?: number;
  readonly logLevel: "debug" | "info" | "warn" | "error";
  readonly logFormat: LogFormat;
  /** What the gateway takes for its service; absent: nothing. */
  readonly serviceFee?: ServiceFeeConfig;
}

/** What devices that are paired from now on agree to, and where the earnings go. */
export interface ServiceFeeConfig {
  readonly terms: ServiceFee;
  /** scriptPubKey of the operator's address; absent: what comes back to the chain waits until there is one. */
  readonly payoutScript?: Uint8Array;
}

/** What is opened where the operator says nothing: LND's least. */
export const LEAST_CHANNEL_SAT = 20_000;
/** Largest channel without option_support_large_channel (BOLT #2). */
const MAX_CHANNEL_SAT = 16_777_215;
const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
const DEFAULT_RPC_PORT = { mainnet: 8332, testnet: 18332, signet: 38332, regtest: 18443 } as const;
const COOKIE_FOLDER = { mainnet: "", testnet: "testnet3/", signet: "signet/", regtest: "regtest/" } as const;

/** Where the configuration is looked for when no --config is given: $LNGATE_CONFIG, else `~/.lngate/gateway.conf`. */
export function defaultConfigFile(): string {
  return process.env["LNGATE_CONFIG"] || join(homedir(), ".lngate", "gateway.conf");
}

/** Reads and validates a configuration file. Throws `config-missing`, or `config-invalid` naming key and expectation. */
export function loadConfig(file: string): GatewayConfig {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT")
      throw lngateError(
        "config-missing",
        `there is no configuration file ${file}; \`lngate gateway init\` writes one to start from`,
      );
    throw lngateError("config-missing", `the configuration file can't be read: ${(error as Error).message}`);
  }
  return parseConfig(text, resolve(file));
}

/** `loadConfig` on text; relative paths are relative to `file`. */
export function parseConfig(text: string, file: string): GatewayConfig {
  const root = section(parseJson(text, file), "", file);
  const network = root.choice("network", NETWORKS);
  const serviceFee = root.optional("serviceFee") && readServiceFee(root.section("serviceFee"), network);
  const config: GatewayConfig = {
    file,
    dataDir: root.path("dataDir"),
    network,
    bitcoind: readBitcoind(root.section("bitcoind")),
    mqtt: readMqtt(root.section("mqtt")),
    ...readLightning(root.section("lightning")),
    logFormat: root.optional("logFormat")?.choice("logFormat", LOG_FORMATS) ?? "text",
    logLevel: root.optional("logLevel")?.choice("logLevel", LOG_LEVELS) ?? "info",
    ...(serviceFee ? { serviceFee } : {}),
  };
  root.end();
  return config;
}

function readBitcoind(from: Section): BitcoindConfig {
  const url = from.url("url", ["http:", "https:"]);
  const cookieFile = from.optional("cookieFile")?.path("cookieFile");
  const user = from.optional("user")?.text("user");
  const password = from.optional("password")?.text("password");
  from.end();
  if (cookieFile !== undefined ? user !== undefined || password !== undefined : !user || !password)
    throw from.invalid("", 'needs either "cookieFile" or both "user" and "password"');
  return cookieFile !== undefined ? { url, cookieFile } : { url, user: user!, password: password! };
}

function readMqtt(from: Section): MqttConfig {
  if (from.optional("url")) {
    const url = from.url("url", ["mqtt:"]);
    const user = from.optional("user")?.text("user");
    const password = from.optional("password")?.text("password");
    from.end();
    return {
      kind: "external",
      url,
      ...(user === undefined ? {} : { user }),
      ...(password === undefined ? {} : { password }),
    };
  }
  const host = from.text("host");
  const port = from.port("port");
  const publicAddress = from.optional("publicAddress")?.text("publicAddress");
  from.end();
  if (publicAddress !== undefined && !splitHostPort(publicAddress))
    throw from.invalid("publicAddress", 'must look like "192.168.1.10:1883"');
  return { kind: "embedded", host, port, ...(publicAddress === undefined ? {} : { publicAddress }) };
}

function readLightning(from: Section): Pick<GatewayConfig, "bridge" | "leastChannelSat"> {
  const bridge = readBridge(from);
  const leastChannelSat = from.optional("leastChannelSat")?.number("leastChannelSat", MAX_CHANNEL_SAT);
  from.end();
  return { bridge, ...(leastChannelSat === undefined ? {} : { leastChannelSat }) };
}

function readBridge(from: Section): GatewayConfig["bridge"] {
  const text = from.text("bridge");
  const [, nodeId, address] = /^([0-9a-f]{66})@(.+)$/i.exec(text) ?? [];
  const at = address === undefined ? undefined : splitHostPort(address);
  if (nodeId === undefined || !at || !nobleCurve.isPoint(fromHex(nodeId)))
    throw from.invalid(
      "bridge",
      'must look like "02ab…@192.168.1.20:9735": the public key of the node (66 hex digits), @, its address and port',
    );
  return { nodeId: nodeId.toLowerCase(), ...at };
}

/** Undefined where nothing is taken. */
function readServiceFee(from: Section, network: Network): ServiceFeeConfig | undefined {
  const terms: ServiceFee = {
    ratePpm: from.number("ratePpm", MAX_RATE_PPM),
    baseMsat: from.number("baseMsat", 1e9),
    settleFromMsat: 1000 * from.number("settleFromSat", 1e9),
    creditMsat: 1000 * from.number("creditSat", 1e9),
  };
  const fault = serviceFeeFault(terms);
  if (fault) throw from.invalid("", fault);
  const address = from.optional("address")?.text("address");
  from.end();
  if (terms.ratePpm === 0 && terms.baseMsat === 0) return undefined;
  if (address === undefined) return { terms };
  try {
    return { terms, payoutScript: addressScript(address, network) };
  } catch (error) {
    throw from.invalid("address", `is not an address of ${network}: ${(error as Error).message}`);
  }
}

/** Splits `host:port` or `[ipv6]:port`; undefined if it is neither. */
export function splitHostPort(text: string): { host: string; port: number } | undefined {
  const [, v6, name, digits] = /^(?:\[([0-9a-f:.]+)\]|([^\s:@/[\]]+)):(\d{1,5})$/i.exec(text) ?? [];
  const host = v6 === undefined ? name : isIPv6(v6) ? v6 : undefined;
  const port = Number(digits);
  return host !== undefined && port >= 1 && port <= 65535 ? { host, port } : undefined;
}

/** JSON after the comment lines are blanked (not removed: line numbers in messages stay right). */
function parseJson(text: string, file: string): unknown {
  const blanked = text.replace(/^[ \t]*\/\/.*$/gm, comment => " ".repeat(comment.length));
  try {
    return JSON.parse(blanked) as unknown;
  } catch (error) {
    const message = (error as Error).message;
    const position = /at position (\d+)/.exec(message)?.[1];
    const before = blanked.slice(0, position === undefined ? blanked.length : Number(position));
    const lines = before.split("\n");
    const where = `line ${lines.length}, column ${lines[lines.length - 1]!.length + 1}`;
    throw lngateError(
      "config-invalid",
      `${file} is not valid JSON at ${where} (a missing or extra comma or quote is usual): ${message.split(" in JSON")[0]}`,
    );
  }
}

/** One object of the file whose keys are taken one by one; `end` refuses what nobody took. */
interface Section {
  /** Itself if `key` is there, to be read as if required. */
  optional(key: string): Section | undefined;
  section(key: string): Section;
  text(key: string): string;
  path(key: string): string;
  port(key: string): number;
  /** A whole number from 0 to `max`. */
  number(key: string, max: number): number;
  url(key: string, protocols: readonly string[]): string;
  choice<T extends string>(key: string, choices: readonly T[]): T;
  invalid(key: string, expectation: string): Error;
  end(): void;
}

function section(value: unknown, name: string, file: string): Section {
  const invalid = (key: string, expectation: string): Error => {
    const full = [name, key].filter(part => part !== "").join(".");
    return lngateError("config-invalid", `${file}: ${full === "" ? "the file" : `"${full}"`} ${expectation}`);
  };
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw invalid("", "must be an object: { … }");
  const given = value as Record<string, unknown>;
  const taken = new Set<string>();

  function take(key: string, expectation: string): unknown {
    taken.add(key);
    if (!Object.hasOwn(given, key)) throw invalid(key, `is missing: it ${expectation}`);
    return given[key];
  }
  const self: Section = {
    invalid,
    optional: key => (Object.hasOwn(given, key) ? self : undefined),
    section: key =>
      section(take(key, "must be an object: { … }"), name === "" ? key : `${name}.${key}`, file),
    text(key) {
      const text = take(key, "must be a text");
      if (typeof text !== "string" || text === "") throw invalid(key, "must be a text in double quotes");
      return text;
    },
    path(key) {
      const text = self.text(key);
      const expanded = text === "~" || text.startsWith("~/") ? join(homedir(), text.slice(1)) : text;
      return isAbsolute(expanded) ? expanded : resolve(dirname(file), expanded);
    },
    port(key) {
      const port = take(key, "must be a number from 1 to 65535");
      if (typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65535)
        throw invalid(key, "must be a number from 1 to 65535, without quotes");
      return port;
    },
    number(key, max) {
      const expectation = `must be a whole number from 0 to ${max}, without quotes`;
      const number = take(key, expectation);
      if (typeof number !== "number" || !Number.isInteger(number) || number < 0 || number > max)
        throw invalid(key, expectation);
      return number;
    },
    url(key, protocols) {
      const text = self.text(key);
      const parsed = URL.canParse(text) ? new URL(text) : undefined;
      if (!parsed || !protocols.includes(parsed.protocol) || parsed.hostname === "")
        throw invalid(
          key,
          `must be an address that starts with ${protocols.map(p => `${p}//`).join(" or ")}`,
        );
      if (parsed.username !== "" || parsed.password !== "")
        throw invalid(
          key,
          'must not contain a user name or password; "user" and "password" are keys of their own',
        );
      return text;
    },
    choice(key, choices) {
      const expectation = `must be one of ${choices.map(choice => `"${choice}"`).join(", ")}`;
      const chosen = choices.find(choice => choice === take(key, expectation));
      if (chosen === undefined) throw invalid(key, expectation);
      return chosen;
    },
    end() {
      const unknown = Object.keys(given).find(key => !taken.has(key));
      if (unknown !== undefined)
        throw invalid(
          unknown,
          `is not a setting; ${name === "" ? "there are" : `"${name}" has`} ${[...taken].map(key => `"${key}"`).join(", ")}`,
        );
    },
  };
  return self;
}

/**
 * Writes a configuration with every setting explained. Throws `config-exists` rather than overwrite one.
 */
export function writeExampleConfig(file: string, network: Network, bridge?: string): void {
  if (existsSync(file))
    throw lngateError("config-exists", `${file} is there already; change it with an editor, or name another`);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(file, exampleConfig(network, bridge), { mode: 0o600, flag: "wx" });
  chmodSync(file, 0o600);
}

/** The text of an explained configuration; a `bridge` that is not given stays to be filled in. */
export function exampleConfig(network: Network, bridge?: string): string {
  return `// Configuration of an LNGate gateway. It is JSON; lines that start with // are comments.
// After a change: \`lngate gateway check\` says what is wrong with it, then start the gateway again.
{
  // Everything the gateway knows: keys, channels, devices. Keep it on a disk that does not wear out, and never
  // run two gateways on copies of it. A path that does not start with / is relative to this file.
  "dataDir": "data",

  // The Bitcoin network: "mainnet", "testnet", "signet" or "regtest".
  "network": "${network}",

  // Your own bitcoind (Bitcoin Core or Knots). It needs no wallet and may be pruned.
  "bitcoind": {
    "url": "http://127.0.0.1:${DEFAULT_RPC_PORT[network]}",
    // bitcoind writes this file at each start. If it runs as another user or on another machine, use
    // "user" and "password" (its rpcuser and rpcpassword) instead.
    "cookieFile": "~/.bitcoin/${COOKIE_FOLDER[network]}.cookie"
  },

  // The MQTT broker that devices talk to is part of the gateway. "0.0.0.0" listens on all networks of this machine.
  // Devices need to reach it: if this machine has several addresses, add
  //   "publicAddress": "192.168.1.10:1883"
  // To use a broker of your own instead, write
  //   "mqtt": { "url": "mqtt://broker.local:1883", "user": "…", "password": "…" }
  "mqtt": {
    "host": "0.0.0.0",
    "port": 1883
  },

  // The Lightning node that the devices' channels lead to, any implementation that knows anchors channels
  // (Core Lightning, LND, Eclair, LDK): its public key, @, its address and port.
  "lightning": {
    "bridge": "${bridge ?? "PUBLIC_KEY@HOST:9735"}",
    // The smallest channel that it opens, in satoshis: LND wants 20000, Eclair 100000. A deposit has to be a little larger.
    "leastChannelSat": ${LEAST_CHANNEL_SAT}
  },

  // What this gateway takes for its service, of every payment of its devices: so many millionths of the amount
  // (50000 is 5 %) and so many msat besides. The owner of a device sees it before pairing and agrees to it; later
  // changes are for devices paired later. With both 0 nothing is taken.
  //   "settleFromSat"  a device is asked to pay once it owes this much (1000 at least)
  //   "creditSat"      one that owes this much, was asked and did not pay makes no further payments
  //   "address"        your own address: what the gateway has earned goes there when its channel is closed
  // Devices pay to a Lightning node of the gateway's own, in a channel that the bridge opens to it:
  // \`lngate gateway fees\` shows its public key.
  "serviceFee": {
    // "address": "…",
    "ratePpm": 50000,
    "baseMsat": 0,
    "settleFromSat": 1000,
    "creditSat": 5000
  },

  // How much to print: "debug", "info", "warn" or "error".
  "logLevel": "info",
  // "text" is for people, "json" for programs: a line of JSON for each event.
  "logFormat": "text"
}
`;
}

/** The bridge as it is written in the file. */
export function bridgeText(config: GatewayConfig): string {
  const { nodeId, host, port } = config.bridge;
  return `${nodeId}@${host.includes(":") ? `[${host}]` : host}:${port}`;
}

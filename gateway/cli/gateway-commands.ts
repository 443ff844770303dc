/** `lngate gateway …`: what the operator of a gateway does. */

import { randomBytes } from "node:crypto";
import { accessSync, constants, mkdirSync } from "node:fs";
import { connect, createServer } from "node:net";
import { networkInterfaces } from "node:os";
import { renderUnicodeCompact } from "uqr";
import type { Network } from "../../device/identity.ts";
import { lngateError } from "../../src/errors.ts";
import { encodePairingCode } from "../../src/link/pairing-code.ts";
import { serviceFeeText } from "../../src/link/service-fee.ts";
import { connectRpc } from "../chain/rpc.ts";
import {
  bridgeText,
  defaultConfigFile,
  type GatewayConfig,
  loadConfig,
  splitHostPort,
  writeExampleConfig,
} from "../config.ts";
import { ownNodeId, wishPayout } from "../own-node-wishes.ts";
import { openRegistry, openStore, type Registry } from "../registry.ts";
import { gatewayRuns } from "../registry-lock.ts";
import { readFeeBooks } from "../service-fees.ts";
import { needReadableStore } from "../store-file.ts";
import { superviseGateway } from "../supervisor.ts";
import { type Command, type Given, usage } from "./command.ts";

const CONFIG = {
  config: { value: "FILE", help: "configuration file (default: ~/.lngate/gateway.conf, or $LNGATE_CONFIG)" },
};
const NETWORKS = ["mainnet", "testnet", "signet", "regtest"];

function configFile(given: Given): string {
  return given.text("config") ?? defaultConfigFile();
}

/** A network as it was typed, or undefined. Throws `usage`. */
export function networkOf(given: Given): Network | undefined {
  const network = given.text("network");
  if (network !== undefined && !NETWORKS.includes(network))
    throw usage(`--network must be one of ${NETWORKS.join(", ")}`);
  return network as Network | undefined;
}

const init: Command = {
  name: "gateway init",
  summary: "write a configuration file with every setting explained",
  help: `Writes a configuration to start from; an editor does the rest. It is never overwritten.

The gateway needs a bitcoind (Bitcoin Core or Knots, pruned or not) and the address of one Lightning node, the bridge, to which the channels of your devices are opened.`,
  options: {
    ...CONFIG,
    network: { value: "NAME", help: "mainnet (default), testnet, signet or regtest" },
    bridge: { value: "KEY@HOST:PORT", help: "the Lightning node that channels are opened to" },
  },
  async run(given, terminal) {
    const file = configFile(given);
    const bridge = given.text("bridge");
    writeExampleConfig(file, networkOf(given) ?? "mainnet", bridge);
    terminal.say(`Wrote ${file}.`);
    terminal.say(
      bridge === undefined
        ? 'Fill in "bridge" in it, look at the rest, and then run: lngate gateway check'
        : "Look through it, and then run: lngate gateway check",
    );
    terminal.result({ config: file });
  },
};

const check: Command = {
  name: "gateway check",
  summary: "check the configuration against reality",
  help: `Reads the configuration as strictly as the gateway does, and then tries what it says: is the data folder writable, does bitcoind answer, is it on the right network and in step with the chain, is the broker's port free, does the bridge listen.`,
  options: CONFIG,
  async run(given, terminal) {
    const config = loadConfig(configFile(given));
    const checks: { what: string; ok: boolean; detail: string }[] = [];
    for (const [what, work] of checksOf(config)) {
      terminal.progress(`${what} …`);
      try {
        checks.push({ what, ok: true, detail: await work() });
      } catch (error) {
        checks.push({ what, ok: false, detail: (error as Error).message });
      }
      const { ok, detail } = checks[checks.length - 1]!;
      terminal.say(`${ok ? "ok     " : "FAILED "} ${what}: ${detail}`);
    }
    terminal.result({ config: config.file, checks });
    const failed = checks.filter(({ ok }) => !ok).length;
    if (failed > 0)
      throw lngateError(
        "check-failed",
        `${failed} of ${checks.length} checks failed; ${config.file} is where to look`,
      );
    terminal.say("Everything is in place: lngate gateway run");
  },
};

/** What `check` tries, each with a sentence as its result. */
function checksOf(config: GatewayConfig): [string, () => Promise<string>][] {
  return [
    [
      "data folder",
      async () => {
        mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
        accessSync(config.dataDir, constants.W_OK);
        return config.dataDir;
      },
    ],
    [
      "bitcoind",
      async () => {
        const rpc = connectRpc({ ...config.bitcoind, timeoutMs: 5000 });
        try {
          const info = await rpc.call<{
            chain: string;
            blocks: number;
            headers: number;
            initialblockdownload: boolean;
          }>("getblockchaininfo");
          const expected = { mainnet: "main", testnet: "test", signet: "signet", regtest: "regtest" }[
            config.network
          ];
          if (info.chain !== expected)
            throw lngateError(
              "check-failed",
              `it is on "${info.chain}", but "network" in the configuration is "${config.network}"`,
            );
          if (info.initialblockdownload && config.network !== "regtest")
            throw lngateError(
              "check-failed",
              `it is still downloading the chain (block ${info.blocks} of ${info.headers}); wait until it is done`,
            );
          return `${config.bitcoind.url}, block ${info.blocks} of ${config.network}`;
        } finally {
          rpc.close();
        }
      },
    ],
    ["MQTT broker", () => checkBroker(config)],
    [
      "bridge",
      async () => {
        await reach(config.bridge.host, config.bridge.port);
        return `${bridgeText(config)} accepts connections`;
      },
    ],
  ];
}

async function checkBroker(config: GatewayConfig): Promise<string> {
  const { mqtt } = config;
  if (mqtt.kind === "external") {
    const url = new URL(mqtt.url);
    await reach(url.hostname, Number(url.port || 1883));
    return `${mqtt.url} accepts connections`;
  }
  if (gatewayRuns(config.dataDir)) return `port ${mqtt.port} belongs to the gateway that runs`;
  await new Promise<void>((resolve, reject) => {
    const server = createServer();
    server.once("error", error =>
      reject(
        lngateError(
          "check-failed",
          (error as NodeJS.ErrnoException).code === "EADDRINUSE"
            ? `port ${mqtt.port} is taken by another program (mosquitto?); stop that one or change "mqtt.port"`
            : `it can't listen on ${mqtt.host}:${mqtt.port}: ${error.message}`,
        ),
      ),
    );
    server.listen(mqtt.port, mqtt.host, () => server.close(() => resolve()));
  });
  return `port ${mqtt.port} is free; devices will connect to ${brokerAddress(config).host}:${brokerAddress(config).port}`;
}

function reach(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: 5000 });
    const fail = (why: string) => {
      socket.destroy();
      reject(lngateError("check-failed", `${host}:${port} can't be reached (${why})`));
    };
    socket.once("connect", () => {
      socket.destroy();
      resolve();
    });
    socket.once("timeout", () => fail("no answer within 5 s"));
    socket.once("error", error => fail((error as NodeJS.ErrnoException).code ?? error.message));
  });
}

const run: Command = {
  name: "gateway run",
  summary: "run the gateway until it is stopped",
  help: `Runs the broker, the Lightning nodes and everything else in the foreground. It prints what happens; SIGINT (Ctrl-C) or SIGTERM stops it in good order. It may be killed at any time and started again.

To start it with the machine, let systemd run this command as a user of its own; docs/operating.md has a unit to copy.`,
  options: CONFIG,
  async run(given, terminal) {
    const config = loadConfig(configFile(given));
    const gateway = superviseGateway(config, () =>
      terminal.result({ running: true, pid: process.pid, dataDir: config.dataDir }),
    );
    process.once("SIGINT", gateway.stop);
    process.once("SIGTERM", gateway.stop);
    await gateway.ended;
  },
};

const addDevice: Command = {
  name: "gateway add-device",
  summary: "make a pairing code for a new device",
  help: `Prints a one-time code, as text and as a QR code, for the owner of a device to pair it with this gateway: lngate device pair CODE

Whoever has the code first can pair a device under this name, so give it to the owner alone. It can be used once, and expires. Giving the same name again, before it was paired, makes the old code worthless. The gateway may run meanwhile.`,
  positionals: [{ name: "NAME", help: "what to call the device", rest: true }],
  options: { ...CONFIG, minutes: { value: "N", help: "how long the code can be used (default: 60)" } },
  async run(given, terminal) {
    const config = loadConfig(configFile(given));
    const minutes = given.number("minutes", 1, 60 * 24 * 30) ?? 60;
    const address = brokerAddress(config);
    const made = await withStore(config, registry =>
      registry.invite(given.text("NAME")!, minutes * 60, length => new Uint8Array(randomBytes(length))),
    );
    const code = encodePairingCode({ deviceId: made.deviceId, secret: made.secret, ...address });
    terminal.say(
      `Pairing code for "${given.text("NAME")}" (device ${made.deviceId}), good for ${minutes} minutes:`,
    );
    terminal.say();
    terminal.say(`    ${code}`);
    terminal.say();
    terminal.say(renderUnicodeCompact(code.replaceAll(" ", "").toUpperCase(), { border: 2 }));
    terminal.say("On the owner's computer:  lngate device pair CODE");
    terminal.say(`The device and that computer must be able to reach ${address.host}:${address.port}.`);
    if (!gatewayRuns(config.dataDir))
      terminal.note("The gateway is not running: start it before the code is used.");
    if (isLoopback(address.host))
      terminal.note(
        'Only this machine reaches that address. Set "publicAddress" in the configuration for others.',
      );
    terminal.result({
      deviceId: made.deviceId,
      name: given.text("NAME"),
      code: code.replaceAll(" ", ""),
      expiresAt: made.expiresAt,
      broker: `mqtt://${address.host}:${address.port}`,
    });
  },
};

const devices: Command = {
  name: "gateway devices",
  summary: "list the devices of this gateway",
  help: "Lists the devices that are paired with this gateway, and those that have been given a code.",
  options: CONFIG,
  async run(given, terminal) {
    const config = loadConfig(configFile(given));
    const list = await withStore(config, registry =>
      registry.devices().map(({ id, name, state, invitation, pairing }) => ({
        deviceId: id,
        name,
        state: state === "invited" && (invitation?.expiresAt ?? 0) < Date.now() / 1000 ? "expired" : state,
        since: new Date(1000 * (pairing?.pairedAt ?? invitation?.expiresAt ?? 0)).toISOString(),
      })),
    );
    if (list.length === 0) terminal.say("No device yet: lngate gateway add-device NAME");
    const explained = { paired: "paired on", invited: "code good until", expired: "code expired at" };
    for (const { deviceId, name, state, since } of list)
      terminal.say(
        state === "damaged"
          ? `${name.padEnd(24)} ${deviceId}   can't be read: the store is damaged here, it is not served`
          : `${name.padEnd(24)} ${deviceId}   ${explained[state as keyof typeof explained]} ${since.slice(0, 16).replace("T", " ")} UTC`,
      );
    terminal.result({ devices: list });
  },
};

const removeDevice: Command = {
  name: "gateway remove-device",
  summary: "withdraw a pairing code that was not used",
  help: "Forgets a device that was never paired; its code becomes worthless. A paired device stays: its channel and keys can't be forgotten.",
  positionals: [{ name: "ID", help: "the device's eight characters, from `lngate gateway devices`" }],
  options: CONFIG,
  async run(given, terminal) {
    const config = loadConfig(configFile(given));
    await withStore(config, registry => registry.cancelInvitation(given.text("ID")!));
    terminal.say(`The code of ${given.text("ID")} can't be used any more.`);
    terminal.result({ removed: given.text("ID") });
  },
};

const fees: Command = {
  name: "gateway fees",
  summary: "show what the service has earned, device by device",
  help: `Shows for each device what its payments have earned, what of that it still owes, and what it has settled: what has arrived at the gateway's own node, and what the way there took. The gateway may run meanwhile.

Devices settle over Lightning, to a node of the gateway's own; the bridge has to open a channel to its public key, large enough for what you expect to earn before the next \`lngate gateway payout\`.`,
  options: { ...CONFIG, csv: { help: "a table for a spreadsheet, amounts in msat" } },
  async run(given, terminal) {
    const { list, nodeId } = await withStore(loadConfig(configFile(given)), (registry, store) => {
      const payments = store.openDB<Uint8Array, string>({ name: "payments", encoding: "binary" });
      const paired = registry.devices().filter(({ pairing }) => pairing);
      return {
        nodeId: ownNodeId(store),
        list: paired.map(({ id, name, pairing }) => {
          const { earnedMsat, settledMsat, routingMsat, settlements } = readFeeBooks(payments, id);
          const { ratePpm = 0, baseMsat = 0 } = pairing?.serviceFee ?? {};
          return {
            deviceId: id,
            name,
            ratePpm,
            baseMsat,
            earnedMsat,
            owedMsat: earnedMsat - settledMsat,
            settledMsat,
            receivedMsat: settledMsat - routingMsat,
            routingMsat,
            settlements,
          };
        }),
      };
    });
    if (given.flag("csv")) {
      terminal.say(csv(list));
    } else {
      terminal.say(nodeId ? `Own node: ${nodeId}` : "Own node: none yet (it starts with the gateway)");
      terminal.say();
      terminal.say(feeTable(list));
    }
    terminal.result({ ownNode: nodeId ?? null, devices: list });
  },
};

type FeeLine = Readonly<Record<string, string | number>>;

/** A line of names and one per device. A device's name has no comma and no quote in it, so nothing needs quoting. */
function csv(list: readonly FeeLine[]): string {
  const names = [
    "deviceId",
    "name",
    "ratePpm",
    "baseMsat",
    "earnedMsat",
    "owedMsat",
    "settledMsat",
    "receivedMsat",
    "routingMsat",
    "settlements",
  ];
  return [names.join(","), ...list.map(line => names.map(name => line[name]).join(","))].join("\n");
}

/** Satoshis with three decimals, in columns. */
function feeTable(list: readonly FeeLine[]): string {
  if (list.length === 0) return "No device is paired yet.";
  const sat = (msat: unknown) =>
    (Number(msat) / 1000).toLocaleString("en-US", { minimumFractionDigits: 3, maximumFractionDigits: 3 });
  const columns = ["earnedMsat", "owedMsat", "receivedMsat", "routingMsat"] as const;
  const total = Object.fromEntries(
    columns.map(column => [column, list.reduce((sum, line) => sum + Number(line[column]), 0)]),
  );
  const rows = [
    ["device", "fee", "earned", "owed", "received", "routing"],
    ...list.map(line => {
      const { name, ratePpm, baseMsat } = line;
      const terms = serviceFeeText({ ratePpm: Number(ratePpm), baseMsat: Number(baseMsat) });
      return [String(name), terms, ...columns.map(column => sat(line[column]))];
    }),
    ["all, sat", "", ...columns.map(column => sat(total[column]))],
  ];
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map(row => row[i]!.length)));
  return rows
    .map(row =>
      row.map((text, i) => (i < 2 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!))).join("   "),
    )
    .map(line => line.trimEnd())
    .join("\n");
}

const payout: Command = {
  name: "gateway payout",
  summary: "send the earnings to your own address",
  help: `Has the gateway close its own channel together with the bridge: what it has earned goes to "serviceFee.address" of the configuration. It begins with the next block, and takes some blocks more. For the fees of the time after, the bridge has to open another channel.`,
  options: CONFIG,
  async run(given, terminal) {
    const config = loadConfig(configFile(given));
    if (!config.serviceFee?.payoutScript)
      throw lngateError(
        "config-invalid",
        `${config.file}: "serviceFee.address" is missing: your own address, to which the earnings are to go`,
      );
    await withStore(config, (_registry, store) => wishPayout(store));
    terminal.say("The gateway closes its own channel at the next block; its log says how that goes on.");
    if (!gatewayRuns(config.dataDir))
      terminal.note("The gateway is not running: it will do so when it does.");
    terminal.result({ payout: "wished" });
  },
};

export const gatewayCommands: readonly Command[] = [
  init,
  check,
  run,
  addDevice,
  devices,
  removeDevice,
  fees,
  payout,
];

/** Opens the registry beside a gateway that may be running (and has looked at the store), and closes it again. */
async function withStore<T>(
  config: GatewayConfig,
  work: (registry: Registry, store: ReturnType<typeof openStore>) => T,
): Promise<T> {
  if (!gatewayRuns(config.dataDir)) await needReadableStore(config.dataDir);
  const store = openStore(config.dataDir);
  try {
    return work(openRegistry(store), store);
  } finally {
    await store.close();
  }
}

/** Where devices reach the broker. Throws `config-invalid` if it can't be told. */
export function brokerAddress({ mqtt, file }: GatewayConfig): { host: string; port: number } {
  if (mqtt.kind === "external") {
    const url = new URL(mqtt.url);
    return { host: url.hostname, port: Number(url.port || 1883) };
  }
  if (mqtt.publicAddress !== undefined) return splitHostPort(mqtt.publicAddress)!;
  if (mqtt.host.includes(":") && mqtt.host !== "::")
    throw lngateError(
      "config-invalid",
      `${file}: with an IPv6 address in "mqtt.host", "mqtt.publicAddress" is needed`,
    );
  if (mqtt.host !== "0.0.0.0" && mqtt.host !== "::") return { host: mqtt.host, port: mqtt.port };
  const own = Object.values(networkInterfaces())
    .flatMap(addresses => addresses ?? [])
    .find(({ family, internal }) => family === "IPv4" && !internal);
  return { host: own?.address ?? "127.0.0.1", port: mqtt.port };
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host.startsWith("127.");
}

/** `lngate gateway …`: what the operator of a gateway does. */

import { randomBytes } from "node:crypto";
import { renderUnicodeCompact } from "uqr";
import { serviceFeeText } from "../../src/channel/service-fee.ts";
import { lngateError } from "../../src/errors.ts";
import { type Command, networkOf } from "../../src/node/command.ts";
import { encodePairingCode } from "../../src/pairing/code.ts";
import { loadConfig, writeExampleConfig } from "../config.ts";
import { feeNodeId, requestPayout } from "../fees/payout-request.ts";
import { readFeeBooks } from "../fees/service-fees.ts";
import { gatewayRuns } from "../store/folder-lock.ts";
import { superviseGateway } from "../supervisor.ts";
import { check } from "./check.ts";
import { brokerAddress, CONFIG, configFile, withStore } from "./gateway-target.ts";

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
        nodeId: feeNodeId(store),
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
    await withStore(config, (_registry, store) => requestPayout(store));
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

function isLoopback(host: string): boolean {
  return host === "localhost" || host.startsWith("127.");
}

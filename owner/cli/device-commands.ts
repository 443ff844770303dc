/** `lngate device …`: what an owner does with a device that is paired. */

import { runDevice } from "../../device/boards/node/run.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { graphTrouble } from "../../src/lightning/graph-knowledge.ts";
import type { SpendingLimits } from "../../src/messages/owner.ts";
import type { Command } from "../../src/node/command.ts";
import { writeText } from "../../src/node/streams.ts";
import { ensureVaultHere, movedTo } from "../board/image.ts";
import {
  askClose,
  askDeposit,
  askLimits,
  askStatus,
  closeAddress,
  depositAddress,
  OUTDATED,
} from "../client/channel.ts";
import { chargeDevice, recordsInFlash } from "../client/charge.ts";
import { paymentsFor, recordsFor } from "../client/records-needed.ts";
import { readDeviceInfo } from "../folder/device-files.ts";
import { deviceFolder, openOwner, pairedDevices } from "../folder/folder.ts";
import { flash, image } from "./board-commands.ts";
import { CHAIN, heightOf } from "./chain-options.ts";
import { doctor } from "./doctor.ts";
import { limits, shownLimits } from "./limits-command.ts";
import { pair } from "./pair-command.ts";
import { DATA, DEVICE, ownerFolder, target } from "./target.ts";

const charge: Command = {
  name: "device charge",
  summary: "make the device ready for a number of payments",
  help: `A device does no heavy arithmetic when it pays: signatures are prepared in advance, together with the gateway, and written into the device. Each payment uses up two presignatures for the bridge's side of the channel (A) and three for the device's own (B); ${recordsFor(0).A} A and ${recordsFor(0).B} B more are kept to open and close the channel and for changes of the feerate.

Name a bitcoind or an Esplora server of your own, if you have one: the device is told the chain's height, from which it reckons how long a payment may be locked.

Stop the device first. After this command it can make N payments, those it was charged for before included. Ctrl-C stops after the batch at hand; nothing is lost, and the same command goes on from there.`,
  options: {
    ...DEVICE,
    payments: { value: "N", help: "how many payments the device can make afterwards (default: 100)" },
    ...CHAIN,
    "confirm-reset": { help: "go on after a failed check, once you know why it failed" },
  },
  async run(given, terminal) {
    const payments = given.number("payments", 1, 1_000_000) ?? 100;
    const { folder, deviceId } = target(given);
    const stop = new AbortController();
    const onSignal = () => {
      if (stop.signal.aborted) process.exit(130);
      stop.abort();
      terminal.note("Stopping after this batch (Ctrl-C again: at once; nothing is lost either way).");
    };
    process.on("SIGINT", onSignal);
    const started = performance.now();
    try {
      const height = await heightOf(given, openOwner(folder).network, terminal.note);
      const result = await chargeDevice({
        folder,
        ...(height === undefined ? {} : { height }),
        deviceId,
        payments,
        confirmReset: given.flag("confirm-reset"),
        signal: stop.signal,
        onProgress({ made, total, payments: now, bytes }) {
          const part = total === 0 ? 1 : made / total;
          const seconds = (performance.now() - started) / 1000;
          const left = made === 0 ? "" : `, about ${Math.ceil((seconds / made) * (total - made))} s left`;
          terminal.progress(
            `${bar(part)} ${made}/${total} presignatures, good for ${now} payments, ${(bytes / 1e6).toFixed(1)} MB${left}`,
          );
        },
      });
      const { A, B } = result.added;
      terminal.say(
        A + B === 0
          ? `The device is charged for ${paymentsText(result.payments)} already.`
          : `Made ${A} presignatures of kind A and ${B} of kind B: the device is charged for ${paymentsText(result.payments)}.`,
      );
      if (result.interrupted) terminal.say("It was stopped early; the same command goes on.");
      terminal.result(result);
    } catch (error) {
      if (codeOf(error) === "threshold-awaiting-owner")
        throw lngateError(
          "threshold-awaiting-owner",
          "a check failed the last time: one side is faulty, or the gateway is hostile. If you know why, add --confirm-reset; after the third time the key is locked",
        );
      throw error;
    } finally {
      process.off("SIGINT", onSignal);
    }
  },
};

function paymentsText(count: number): string {
  return `${count} payment${count === 1 ? "" : "s"}`;
}

function bar(part: number): string {
  const filled = Math.round(part * 20);
  return `[${"#".repeat(filled)}${"-".repeat(20 - filled)}]`;
}

const fund: Command = {
  name: "device fund",
  summary: "show the address to which the device's money is sent",
  help: `Shows the deposit address. When a deposit is confirmed and the device is running, a channel to the bridge opens by itself with it.

The address belongs to device and gateway together, and after the delay to you alone: nobody's disappearance locks the money up. This computer makes the address itself and checks that the gateway means the same one.`,
  options: DEVICE,
  async run(given, terminal) {
    const { folder, deviceId } = target(given);
    const { address, minimumSat, confirmations, delay } = await askDeposit({ folder, deviceId });
    terminal.say("Send the device's money to this address, from any wallet:");
    terminal.say();
    terminal.say(`    ${address}`);
    terminal.say();
    terminal.say(`At least ${minimumSat} sat. Smaller deposits wait until they add up to that.`);
    terminal.say(
      `After ${confirmations} confirmation${confirmations === 1 ? "" : "s"} the channel opens by itself, while the device is running.`,
    );
    terminal.say(`If that never happens, the money is yours alone ${delay} blocks after the deposit.`);
    terminal.result({ deviceId, address, minimumSat, confirmations, delayBlocks: delay });
  },
};

const CHANNEL: { readonly [state: string]: string } = {
  none: "no channel yet",
  opening: "the channel is being opened",
  ready: "the channel is open: the device can pay",
  closing: "the channel is being closed",
  closed: "the channel is closed",
};

const TROUBLE: ReadonlyMap<string, string> = new Map([
  ["locked", "the key is locked after failed checks: close the channel"],
  ["rolled-back", "an old image of this device has turned up: `lngate device doctor`"],
  [
    "stuck",
    "the channel can't go on, the gateway's log says why: `lngate device close` has the bridge close it",
  ],
  [
    "awaiting-bridge",
    "the bridge was told to close the channel and has not: it is called again every minute until it has",
  ],
  [
    "close-stalled",
    "the bridge does not end the mutual close: it is tried again, and `lngate owner freeze` has the bridge close alone",
  ],
  [
    "feerates-apart",
    "no channel is opened: the device signs no feerate of a commitment that makes sense now; if you have not set minFeeratePerKw and maxFeeratePerKw so, somebody else has: `lngate owner freeze`",
  ],
  ["awaiting-owner", "a check failed while charging: charge again with --confirm-reset once you know why"],
]);

/** To which limits the gateway holds the device; null for none, also where it can't. */
async function keptLimits(device: { folder: string; deviceId: string }): Promise<SpendingLimits | null> {
  try {
    return (await askLimits(device)) ?? null;
  } catch (error) {
    if (codeOf(error) !== "gateway-outdated") throw error;
    return null;
  }
}

const status: Command = {
  name: "device status",
  summary: "show how the device and its channel stand",
  help: "Asks the gateway how the channel stands; works while the device is running. What is in the device itself is shown when it is not running.",
  options: DEVICE,
  async run(given, terminal) {
    const { folder, deviceId } = target(given);
    const report = await askStatus({ folder, deviceId });
    const limits = await keptLimits({ folder, deviceId });
    const path = deviceFolder(folder, deviceId);
    const moved = movedTo(path);
    let records: ReturnType<typeof recordsInFlash> | undefined;
    try {
      records = recordsInFlash(path);
    } catch (error) {
      if (codeOf(error) !== "device-in-use" && codeOf(error) !== "device-moved") throw error;
    }
    const payments = records && paymentsFor(records);
    terminal.say(`${report.name} (${deviceId}): ${CHANNEL[report.channel] ?? report.channel}`);
    const last = report.seen ? `, last seen ${shownTime(report.seen.at)}` : "";
    terminal.say(`  device    ${report.online ? "connected to the gateway" : `not connected${last}`}`);
    if (report.depositSat + report.depositUnconfirmedSat > 0)
      terminal.say(
        `  deposit   ${report.depositSat} sat confirmed, ${report.depositUnconfirmedSat} sat on the way`,
      );
    const { balanceSat, inFlightSat } = report;
    if (balanceSat !== undefined) terminal.say(`  balance   ${balanceSat} sat`);
    if (inFlightSat !== undefined && inFlightSat < (balanceSat ?? 0))
      terminal.say(`  at a time ${inFlightSat} sat: the bridge lets no more be in flight`);
    const ignorance = report.graph && graphTrouble(report.graph, report.time);
    if (ignorance) terminal.say(`  network   ${ignorance}`);
    if (report.fundingTxid) terminal.say(`  funding   ${report.fundingTxid}`);
    if (report.closeTxid) terminal.say(`  close     ${report.closeTxid}`);
    terminal.say(
      payments === undefined
        ? `  charged   the device is ${moved ? "in its board" : "running"}; the gateway has ${report.records.A} A and ${report.records.B} B`
        : `  charged   for ${paymentsText(payments)}`,
    );
    if (report.bridgeWords) terminal.say(`  bridge    says: ${report.bridgeWords}`);
    if (limits === null)
      terminal.say(
        "  LIMITS    the gateway has none: whoever reads the device's flash can spend all of its money; `lngate device limits` says what to do",
      );
    if (report.trouble) terminal.say(`  TROUBLE   ${TROUBLE.get(report.trouble) ?? report.trouble}`);
    const shown = { gatewayLimits: shownLimits(limits) };
    terminal.result({
      deviceId,
      ...report,
      ...shown,
      ...(payments === undefined ? {} : { payments, flash: records }),
    });
  },
};

/** The gateway's word, which may be of no calendar. */
function shownTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? `at ${seconds}, which is not a time` : date.toISOString();
}

const close: Command = {
  name: "device close",
  summary: "close the channel; the money goes to your own address",
  help: "Asks the gateway to close the channel together with the bridge. The device has to be running: it signs, and only a transaction that pays your address. The address is an ordinary one of your 24 words (BIP 84).",
  options: DEVICE,
  async run(given, terminal) {
    const { folder, deviceId } = target(given);
    const answer = await askClose({ folder, deviceId });
    const address = closeAddress(readDeviceInfo(deviceFolder(folder, deviceId)));
    terminal.say(`${CHANNEL[answer.channel] ?? answer.channel}; it pays ${address}.`);
    if (answer.closeTxid) terminal.say(`Closing transaction: ${answer.closeTxid}`);
    terminal.say("`lngate device status` tells how it goes on.");
    if (answer.gatewayOutdated) terminal.note(OUTDATED);
    terminal.result({ deviceId, ...answer, address });
  },
};

const list: Command = {
  name: "device list",
  summary: "list the devices of this owner",
  help: "Lists the paired devices in the owner's folder, without asking anybody.",
  options: DATA,
  async run(given, terminal) {
    const { folder } = openOwner(ownerFolder(given));
    const devices = pairedDevices(folder).map(id => {
      const info = readDeviceInfo(deviceFolder(folder, id));
      const { name, network, brokerUrl } = info;
      return { deviceId: id, name, network, broker: brokerUrl, depositAddress: depositAddress(info) };
    });
    if (devices.length === 0) terminal.say("No device yet: lngate device pair CODE");
    for (const { deviceId, name, network, broker } of devices)
      terminal.say(`${deviceId}   ${name.padEnd(24)} ${network.padEnd(8)} ${broker}`);
    terminal.result({ devices });
  },
};

const run: Command = {
  name: "device run",
  summary: "run a device on this computer",
  help: `Runs the device in its folder as a process: it connects to its gateway, opens its channel when there is a deposit, and pays. Commands are read from standard input, a line each; every answer is a line of JSON.

    pay INVOICE [MAX_FEE_MSAT]
    quote INVOICE [MAX_FEE_MSAT]
    balance
    settled                     (answered when what was paid is settled: then the power may be cut)
    close
    exit
    forget CHANNEL`,
  options: DEVICE,
  async run(given) {
    const { folder, deviceId } = target(given);
    ensureVaultHere(deviceFolder(folder, deviceId));
    await runDevice({
      folder: deviceFolder(folder, deviceId),
      input: process.stdin,
      print: line => void writeText(1, `${line}\n`),
    });
  },
};

/** What an owner does with a device, in the order in which it is listed. */
export const deviceCommands: readonly Command[] = [
  pair,
  limits,
  charge,
  fund,
  status,
  close,
  list,
  run,
  image,
  flash,
  doctor,
];

/** `lngate device doctor`: the usual troubles of a device, each with what to do about it. */
import { existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { memoryFlash } from "../../device/vault/memory-flash.ts";
import { openVault } from "../../device/vault/vault.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { linkTopic } from "../../src/link/topics.ts";
import type { Command } from "../../src/node/command.ts";
import { loginFails } from "../../src/node/mqtt-login.ts";
import { boards } from "../board/boards.ts";
import { type Moved, movedTo } from "../board/image.ts";
import { askStatus, type DeviceReport } from "../client/channel.ts";
import { PER_PAYMENT, RESERVE } from "../client/records-needed.ts";
import { type DeviceInfo, readDeviceInfo } from "../folder/device-files.ts";
import { deviceFolder, FLASH_FILE } from "../folder/folder.ts";
import { boardOf, checkPort, findTools } from "./board-commands.ts";
import { DEVICE, target } from "./target.ts";

/** One thing that was looked at. `remedy` where something is wrong. */
interface Finding {
  readonly what: string;
  readonly found: string;
  readonly remedy?: string;
}

const REACH_MS = 5_000;
/** A clock that is further off than this is wrong: invoices expire, and limits count by the hour. */
const CLOCK_SECONDS = 120;
/** A chain whose newest block is older than this is not followed (regtest has no clock). */
const BLOCK_SECONDS = 3 * 3600;
/** Fewer payments than these are few. */
const FEW_PAYMENTS = 10;

export const doctor: Command = {
  name: "device doctor",
  summary: "look for what may be wrong with a device",
  help: `Looks at everything between this computer and a payment: the board's port and tools (with --port and --board), the broker, the gateway, the clocks, presignatures, deposit and channel, and whether the device in the board is the newest one. Says what to do about what is wrong, and then ends with 1.`,
  options: {
    ...DEVICE,
    board: { value: "NAME", help: "look for this board's tools, too" },
    port: { value: "PORT", help: "look at this port, too" },
  },
  async run(given, terminal) {
    const { folder, deviceId } = target(given);
    const path = deviceFolder(folder, deviceId);
    const info = readDeviceInfo(path);
    const moved = movedTo(path);
    const findings: Finding[] = [];
    const board = boardOf(given);
    const port = given.text("port");
    if (board !== undefined)
      findings.push(attempt("tools", `those for ${board} are here`, () => findTools(board)));
    if (port !== undefined) findings.push(attempt("port", `${port} can be used`, () => checkPort(port)));

    const broker = await lookAtBroker(info);
    findings.push(broker);
    if (!broker.remedy) {
      const asked = await askGateway(folder, deviceId);
      findings.push(asked.finding);
      if (asked.report) {
        const { report } = asked;
        if (!report.online) findings.push(...(await lookAtLogin(path, moved, info)));
        findings.push(...lookAtClocks(report, info), lookAtDevice(report, moved), lookAtRecords(report));
        findings.push(lookAtChannel(report, moved));
      }
    }
    const width = Math.max(...findings.map(({ what }) => what.length));
    for (const { what, found, remedy } of findings) {
      terminal.say(`${remedy ? "✗" : "✔"} ${what.padEnd(width)}  ${found}`);
      if (remedy) terminal.say(`  ${" ".repeat(width)}  → ${remedy}`);
    }
    const wrong = findings.filter(({ remedy }) => remedy).length;
    terminal.result({ deviceId, ok: wrong === 0, findings });
    if (wrong > 0)
      throw lngateError(
        "doctor-found-trouble",
        `${wrong} of ${findings.length} things ${wrong === 1 ? "needs" : "need"} attention`,
      );
  },
};

/** What throws an error of ours is wrong, and its sentence the remedy. */
function attempt(what: string, fine: string, look: () => unknown): Finding {
  try {
    look();
    return { what, found: fine };
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    return { what, found: code, remedy: (error as Error).message };
  }
}

function lookAtBroker({ brokerUrl }: DeviceInfo): Promise<Finding> {
  const { hostname, port } = new URL(brokerUrl);
  const what = "broker";
  return new Promise(resolve => {
    const socket = connect({ host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || 1883) });
    const end = (finding: Finding) => {
      socket.destroy();
      resolve(finding);
    };
    socket.setTimeout(REACH_MS, () => end(closed("it does not answer")));
    socket.once("error", error => end(closed(error.message)));
    socket.once("connect", () => end({ what, found: `${hostname}:${port || 1883} is reached` }));
    function closed(why: string): Finding {
      return {
        what,
        found: `${hostname}:${port || 1883} is not reached (${why})`,
        remedy:
          "is the gateway running (`lngate gateway check` there), has its address changed, does a firewall keep this network out? The device has the address for good: give the old one back to the gateway",
      };
    }
  });
}

async function askGateway(
  folder: string,
  deviceId: string,
): Promise<{ finding: Finding; report?: DeviceReport }> {
  const started = performance.now();
  try {
    const report = await askStatus({ folder, deviceId });
    const ms = Math.round(performance.now() - started);
    return { finding: { what: "gateway", found: `answers in ${ms} ms` }, report };
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    return { finding: { what: "gateway", found: code, remedy: (error as Error).message } };
  }
}

/** Logs in as the device would. Not while it is there: the second login would throw it out. */
async function lookAtLogin(path: string, moved: Moved | undefined, info: DeviceInfo): Promise<Finding[]> {
  const file = moved ? moved.image : join(path, FLASH_FILE);
  if (file === undefined || !existsSync(file)) return [];
  const content = new Uint8Array(readFileSync(file));
  const { identity } = openVault(memoryFlash(4096, content.length / 4096, content));
  const what = "login";
  const why = await loginFails({
    url: identity.brokerUrl,
    username: identity.deviceId,
    password: identity.brokerPassword,
    topics: [linkTopic(identity.deviceId, "down")],
  });
  return [
    why === undefined
      ? { what, found: "the broker lets the device in" }
      : {
          what,
          found: `the broker does not let the device in (${why})`,
          remedy: `the gateway at ${new URL(info.brokerUrl).host} does not know it, or is still starting its node; with a broker of your own, see to its accounts`,
        },
  ];
}

function lookAtClocks({ time, blockTime, seen }: DeviceReport, { network }: DeviceInfo): Finding[] {
  const here = Math.floor(Date.now() / 1000);
  const findings = [
    clock(
      "clocks",
      "this computer's and the gateway's",
      here - time,
      "set both by a time server (`timedatectl`)",
    ),
  ];
  if (seen?.clock !== undefined)
    findings.push(
      clock(
        "device's clock",
        "the device's and the gateway's",
        seen.clock - seen.at,
        'the board takes its time from a time server: can it reach one (setting "timeServer")?',
      ),
    );
  if (network !== "regtest") {
    const age = time - blockTime;
    const found = blockTime === 0 ? "no block yet" : `the newest block is ${duration(age)} old`;
    findings.push(
      blockTime === 0 || age > BLOCK_SECONDS
        ? {
            what: "chain",
            found,
            remedy: "the gateway's bitcoind is not in step: `lngate gateway check` there",
          }
        : { what: "chain", found },
    );
  }
  return findings;
}

function clock(what: string, whose: string, off: number, remedy: string): Finding {
  const apart = Math.abs(off);
  const found = `${whose} are ${apart <= 2 ? "together" : `${duration(apart)} apart`}`;
  return apart > CLOCK_SECONDS ? { what, found, remedy } : { what, found };
}

function duration(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

function lookAtDevice({ online, seen, trouble, time }: DeviceReport, moved: Moved | undefined): Finding {
  const what = "device";
  if (trouble === "rolled-back")
    return {
      what,
      found: "an older flash than the newest one has turned up: an old image, or two devices with one vault",
      remedy:
        "switch it off; the gateway signs nothing with it. The newest one goes on; if it is gone, close with `lngate owner freeze`",
    };
  const where = moved ? `in its board (${moved.board})` : "on this computer";
  if (online) return { what, found: `is there, ${where}` };
  const last = seen ? `was last seen ${duration(Math.max(0, time - seen.at))} ago` : "was never seen";
  if (moved && (!seen || seen.generation <= moved.generation))
    return {
      what,
      found: "has not been heard of from its board",
      remedy: moved.image
        ? `is it flashed (\`lngate device flash --board ${moved.board}\`), and in reach of the Wi-Fi? Its log says more (docs/boards.md)`
        : "watch the board's log (docs/boards.md)",
    };
  return {
    what,
    found: `${last}, ${where}`,
    remedy: moved
      ? "has it power, and reach of the Wi-Fi? Watch its log (docs/boards.md)"
      : "start it: `lngate device run`",
  };
}

function lookAtRecords({ records, trouble }: DeviceReport): Finding {
  const what = "charge";
  if (trouble === "locked" || trouble === "awaiting-owner")
    return {
      what,
      found: "a check failed while charging",
      remedy:
        trouble === "locked"
          ? "the key is locked: close the channel"
          : "`lngate device charge --confirm-reset`, once you know why",
    };
  const of = (kind: "A" | "B") => Math.floor((records[kind] - RESERVE[kind]) / PER_PAYMENT[kind]);
  const payments = Math.max(0, Math.min(of("A"), of("B")));
  const found = `the gateway has presignatures for ${payments} payment${payments === 1 ? "" : "s"}`;
  return payments < FEW_PAYMENTS
    ? { what, found, remedy: "`lngate device charge` (a device in a board: take it back first)" }
    : { what, found };
}

function lookAtChannel(report: DeviceReport, moved: Moved | undefined): Finding {
  const { channel, balanceSat, depositSat, depositUnconfirmedSat, bridgeWords } = report;
  const what = "channel";
  const said = bridgeWords === undefined ? "" : `; the bridge said: ${bridgeWords}`;
  if (report.trouble === "awaiting-bridge")
    return {
      what,
      found: `has ended here, and the bridge has not closed it yet${said}`,
      remedy:
        "wait: the bridge is called again every minute until it has. Its operator may close it by force",
    };
  if (report.trouble === "close-stalled")
    return {
      what,
      found: `is being closed, and the bridge does not end that${said}`,
      remedy: "it is tried again; `lngate owner freeze` has the bridge close it alone",
    };
  if (report.trouble === "feerates-apart")
    return {
      what,
      found: "is not opened: the device signs no feerate of a commitment that makes sense now",
      remedy:
        "wait for other feerates; if they are not the bounds that you have set, somebody has the flash: `lngate owner freeze`",
    };
  if (report.trouble === "stuck" && channel !== "closing")
    return {
      what,
      found: "can't go on: the device has refused a state of it, or given a wrong half of a signature",
      remedy: "`lngate device close` has the bridge close it; the gateway's log says what was refused",
    };
  if (channel === "ready") return { what, found: `is open, ${balanceSat ?? 0} sat` };
  if (channel === "closing" || channel === "opening") return { what, found: `is ${channel}` };
  const deposit = `${depositSat} sat deposited, ${depositUnconfirmedSat} sat on the way`;
  const found = `${channel === "none" ? "none yet" : "is closed"}; ${deposit}${said}`;
  if (depositSat + depositUnconfirmedSat === 0) return { what, found, remedy: "`lngate device fund`" };
  if (moved && !boards[moved.board].hasCurve)
    return {
      what,
      found,
      remedy: `the board ${moved.board} can open none: take the device back, and \`lngate device run\` until it is ready`,
    };
  return { what, found, remedy: "it opens when the deposit is confirmed and the device is there" };
}

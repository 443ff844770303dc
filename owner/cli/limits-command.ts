/** `lngate device limits`: what a device may spend on its own; and limits as other commands name and show them. */
import { DEFAULT_POLICY, type SpendingPolicy } from "../../device/identity.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import type { SpendingLimits } from "../../src/messages/owner.ts";
import type { Command, Given, Terminal } from "../../src/node/command.ts";
import { askLimits } from "../client/channel.ts";
import {
  type AskGateway,
  changeGatewayLimits,
  changeLimits,
  differences,
  limitsInFlash,
  payeesOf,
  spendingLimits,
} from "../client/limits.ts";
import { deviceFolder } from "../folder/folder.ts";
import { DEVICE, target } from "./target.ts";

const MAX_SAT = 21e14;

/** `lngate device limits`. */
export const limits: Command = {
  name: "device limits",
  summary: "show what the device may spend on its own, or change it",
  help: `Without options it shows the limits: those in the device, and those to which the gateway holds it, whatever somebody may have written into a stolen device. What is stricter of the two holds.

With limits it changes both; all others stay. Stop the device first. Of a device that is in its board the flash has to be read back first (lngate device image). If it is interrupted, give the same command again.

With --gateway it changes those at the gateway alone, at once, also while the device runs or is in its board: to make them stricter, or to give limits to a gateway that has none because the device was paired before gateways kept them. What is not named is then as the gateway has it, or else as the device has it, or (of a device that is not on this computer) as a device has it that is paired without options.

Nobody else can change them: the gateway not those in the device, and who has the device in hand not those at the gateway.`,
  options: {
    ...DEVICE,
    "max-payment": { value: "SAT", help: "most per payment, all fees included" },
    "max-hour": { value: "SAT", help: "most per hour" },
    "max-day": { value: "SAT", help: "most per day" },
    payee: { value: "IDS", help: "node ids that it may pay, separated by commas; any: anybody" },
    gateway: { help: "change only those at the gateway" },
  },
  async run(given, terminal) {
    const { folder, deviceId } = target(given);
    const path = deviceFolder(folder, deviceId);
    const changed = limitsOf(given);
    const ask: AskGateway = told => askLimits({ folder, deviceId }, told);
    let device: SpendingLimits | undefined;
    let gateway: SpendingLimits | undefined;
    let whyNot = { device: "", gateway: "it holds the device to none; --gateway gives it some" };
    if (given.flag("gateway") || Object.keys(changed).length === 0) {
      try {
        device = limitsInFlash(path);
      } catch (error) {
        const code = codeOf(error);
        if (code !== "device-in-use" && code !== "device-moved") throw error;
        whyNot = { ...whyNot, device: code === "device-moved" ? "in its board" : "it is running" };
      }
    }
    if (given.flag("gateway")) {
      gateway = await changeGatewayLimits(changed, device ?? spendingLimits(DEFAULT_POLICY), ask);
    } else if (Object.keys(changed).length > 0) {
      device = gateway = await changeLimits(path, changed, ask);
    } else {
      try {
        gateway = await ask();
      } catch (error) {
        const code = codeOf(error);
        if (code !== "gateway-unreachable" && code !== "gateway-outdated") throw error;
        whyNot = { ...whyNot, gateway: (error as Error).message };
      }
    }
    const isSame = device !== undefined && gateway !== undefined && differences(device, gateway).length === 0;
    terminal.say(`Device ${deviceId} may spend on its own, all fees included:`);
    if (isSame) {
      sayLimits(terminal, device!);
      terminal.say("The gateway holds it to the same.");
    } else {
      terminal.say(`By the device itself:${device ? "" : ` not known here (${whyNot.device})`}`);
      if (device) sayLimits(terminal, device);
      terminal.say(`By the gateway:${gateway ? "" : ` ${whyNot.gateway}`}`);
      if (gateway) sayLimits(terminal, gateway);
      if (device && gateway) terminal.say("They are not the same: what is stricter of the two holds.");
    }
    terminal.result({ deviceId, device: shownLimits(device), gateway: shownLimits(gateway) });
  },
};

/** The limits that the options `max-payment`, `max-hour`, `max-day` and `payee` name. Throws `usage`. */
export function limitsOf(given: Given): Partial<SpendingPolicy> {
  const limits: { -readonly [K in keyof SpendingPolicy]?: SpendingPolicy[K] } = {};
  for (const [option, key] of [
    ["max-payment", "perPaymentMsat"],
    ["max-hour", "perHourMsat"],
    ["max-day", "perDayMsat"],
  ] as const) {
    const sat = given.number(option, 1, MAX_SAT);
    if (sat !== undefined) limits[key] = sat * 1000;
  }
  const payees = given.text("payee");
  if (payees !== undefined) limits.payees = payees === "any" ? [] : payeesOf(payees);
  return limits;
}

/** Limits as results have them; null for none. */
export function shownLimits(limits: SpendingLimits | null | undefined): object | null {
  return limits ? { ...limits, payees: limits.payees.map(toHex) } : null;
}

function sayLimits(terminal: Terminal, limits: SpendingLimits): void {
  const sat = (msat: number) => `${Math.floor(msat / 1000)} sat`;
  terminal.say(`  per payment  ${sat(limits.perPaymentMsat)}`);
  terminal.say(`  per hour     ${sat(limits.perHourMsat)}`);
  terminal.say(`  per day      ${sat(limits.perDayMsat)}`);
  if (limits.payees.length === 0) terminal.say("  to           anybody");
  for (const payee of limits.payees) terminal.say(`  to           ${toHex(payee)}`);
}

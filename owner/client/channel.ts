/** What the owner asks of the gateway about a paired device's channel, whether the device is running or not. */

import { scriptAddress } from "../../src/bitcoin/address.ts";
import { p2wsh } from "../../src/bitcoin/script.ts";
import { shownHash } from "../../src/bitcoin/transaction.ts";
import { depositScriptOf } from "../../src/channel/device-keys.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import type { FromOwner, SpendingLimits, ToOwner } from "../../src/messages/owner.ts";
import { type DeviceInfo, keepHeldChannels, readDeviceInfo } from "../folder/device-files.ts";
import { deviceFolder } from "../folder/folder.ts";
import { wasRefused } from "./connection.ts";
import { connectToDevice } from "./device-link.ts";

/** Of which device the gateway is asked. */
export interface ChannelOptions {
  /** The owner's folder. */
  readonly folder: string;
  readonly deviceId: string;
  readonly connectTimeoutMs?: number;
}

/** Where the device's money is sent. */
export interface Deposit {
  readonly address: string;
  /** Smallest deposit from which a channel is opened. */
  readonly minimumSat: number;
  readonly confirmations: number;
  /** Blocks after which the owner alone can take it back. */
  readonly delay: number;
}

type StatusReport = Extract<ToOwner, { type: "status-report" }>;
export type DeviceReport = Omit<StatusReport, "type" | "fundingTxid" | "closeTxid"> & {
  /** As explorers write them. */
  readonly fundingTxid?: string;
  readonly closeTxid?: string;
};

/** The address of deposits, made of the keys that this computer knows. */
export function depositAddress({ keys, network }: DeviceInfo): string {
  return scriptAddress(p2wsh(depositScriptOf(keys)), network);
}

/** Where mutual closes pay: an ordinary address of the owner's words. */
export function closeAddress({ keys, network }: DeviceInfo): string {
  return scriptAddress(keys.shutdownScript, network);
}

/** Throws `deposit-address-mismatch` if the gateway names another address, and `gateway-unreachable`. */
export async function askDeposit(options: ChannelOptions): Promise<Deposit> {
  const info = readDeviceInfo(deviceFolder(options.folder, options.deviceId));
  const { address, minimumSat, confirmations } = await askOnce(options, { type: "fund" }, "deposit");
  const own = depositAddress(info);
  if (address !== own)
    throw lngateError(
      "deposit-address-mismatch",
      "the gateway names another deposit address than this computer: pay nothing, the gateway is faulty or hostile",
    );
  return { address: own, minimumSat, confirmations, delay: info.keys.depositDelay };
}

/** How device and channel stand, as the gateway says. */
export async function askStatus(options: ChannelOptions): Promise<DeviceReport> {
  const {
    type: _,
    fundingTxid,
    closeTxid,
    ...rest
  } = await askOnce(options, { type: "status" }, "status-report");
  return {
    ...rest,
    ...(fundingTxid ? { fundingTxid: shownHash(fundingTxid) } : {}),
    ...(closeTxid ? { closeTxid: shownHash(closeTxid) } : {}),
  };
}

/**
 * To which limits the gateway holds the device, after it was told these, if any; undefined: to none. Throws
 * `gateway-outdated` where it can't.
 */
export async function askLimits(
  options: ChannelOptions,
  limits?: SpendingLimits,
): Promise<SpendingLimits | undefined> {
  try {
    return (await askOnce(options, { type: "limits", ...(limits ? { limits } : {}) }, "limits")).limits;
  } catch (error) {
    if (!isUnknownTo(error)) throw error;
    throw lngateError(
      "gateway-outdated",
      "this gateway's program is too old to hold a device to its owner's limits: its operator has to update it",
    );
  }
}

/** How far a close is. */
export interface Closing {
  readonly channel: string;
  readonly closeTxid?: string;
  /** The gateway's program is too old to tell more than the terms of the present channel. */
  readonly gatewayOutdated?: true;
}

/** What that means, for people. */
export const OUTDATED =
  "This gateway's program is too old to tell everything with which the money of a stolen device is found: have its operator update it, and give this command again.";

/** Asks for a mutual close; the money goes to `closeAddress`. */
export function askClose(options: ChannelOptions): Promise<Closing> {
  return askForEnd(options, { type: "close" });
}

/** Has nothing co-signed for the device any more, and the bridge close; what that pays is found by `recover`. */
export function askFreeze(options: ChannelOptions): Promise<Closing> {
  return askForEnd(options, { type: "freeze" });
}

/** Keeps what `recover` needs if our own commitment gets onto the chain and the device is gone. */
async function askForEnd(options: ChannelOptions, question: FromOwner): Promise<Closing> {
  const folder = deviceFolder(options.folder, options.deviceId);
  const info = readDeviceInfo(folder);
  const connection = await connectToDevice(folder, info, options);
  try {
    const { channel, closeTxid, held } = await connection.ask(question, "closing");
    const closing = { channel, ...(closeTxid ? { closeTxid: shownHash(closeTxid) } : {}) };
    let known: Parameters<typeof keepHeldChannels>[2] = held ? [held] : [];
    try {
      const { channels } = await connection.ask({ type: "channels" }, "channels");
      known = [...channels, ...known];
      return closing;
    } catch (error) {
      if (!isUnknownTo(error)) throw error;
      return { ...closing, gatewayOutdated: true };
    } finally {
      keepHeldChannels(folder, info, known);
    }
  } finally {
    connection.close();
  }
}

/** The gateway's program is older than the question. */
function isUnknownTo(error: unknown): boolean {
  return wasRefused(error) && codeOf(error) === "message-unknown";
}

async function askOnce<T extends ToOwner["type"]>(
  options: ChannelOptions,
  question: FromOwner,
  expected: T,
): Promise<Extract<ToOwner, { type: T }>> {
  const folder = deviceFolder(options.folder, options.deviceId);
  const connection = await connectToDevice(folder, readDeviceInfo(folder), options);
  try {
    return await connection.ask(question, expected);
  } finally {
    connection.close();
  }
}

/**
 * The owner's folder:
 *
 *   owner.json             account keys (public) and the hot secret, made of the words by `lngate owner init`
 *   devices/<id>/          one paired device
 *     device.json            address and keys of the link to its gateway, which cold keys are its own
 *     backup.json            its share of the threshold key: what a copy elsewhere must contain
 *     charging.json          oblivious transfers for presigning; useless elsewhere, never to be copied
 *     channel.json           what the gateway said of channels whenever it was asked to close one
 *     flash.bin              what is written to the device (board `node`: the device itself)
 *     image.bin, lngate.keys, moved.json   instead of it, when it is on its way into a board or there (image.ts)
 *   devices/<id>.pairing/  a pairing that the gateway may or may not have completed
 *
 * Every file is readable by its owner alone and replaced as a whole. Nothing here is ever printed.
 */

import { existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { isNetwork, type Network } from "../../src/bitcoin/network.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import { makeFolder, readFileIfThere, syncFolder, writeFileAtomic } from "../../src/node/files.ts";
import { isDeviceId } from "../../src/pairing/code.ts";
import { type OwnerKeys, ownerKeysFrom } from "./seed.ts";

/** An owner's folder that is open. */
export interface Owner {
  readonly folder: string;
  readonly network: Network;
  readonly keys: OwnerKeys;
}

/** The files of one device. */
export const DEVICE_FILE = "device.json";
export const BACKUP_FILE = "backup.json";
export const CHARGING_FILE = "charging.json";
export const FLASH_FILE = "flash.bin";
export const CHANNEL_FILE = "channel.json";

const OWNER_FILE = "owner.json";

/** Where the owner's folder is when no --data is given: $LNGATE_OWNER, else `~/.lngate/owner`. */
export function defaultOwnerFolder(): string {
  return process.env["LNGATE_OWNER"] || join(homedir(), ".lngate", "owner");
}

/** Makes the folder from the words. Throws `owner-exists`, `words-invalid`. */
export function createOwner(folder: string, network: Network, words: string): Owner {
  const file = join(folder, OWNER_FILE);
  if (existsSync(file))
    throw lngateError(
      "owner-exists",
      `${folder} already belongs to an owner; name another folder with --data, or move this one away`,
    );
  const keys = ownerKeysFrom(words, network);
  makeFolder(folder);
  writeJson(file, { version: 1, network, ...keys, nextIndex: 0 });
  return { folder, network, keys };
}

/** Throws `owner-missing`, `owner-corrupt`. */
export function openOwner(folder: string): Owner {
  const { network, closeXpub, coldXpub, hotSecret } = readOwnerFile(folder);
  return { folder, network, keys: { closeXpub, coldXpub, hotSecret } };
}

/** The number of a new device: its cold keys are children of this number. Each call gives another. */
export function takeDeviceIndex(folder: string): number {
  const content = readOwnerFile(folder);
  writeJson(join(folder, OWNER_FILE), { version: 1, ...content, nextIndex: content.nextIndex + 1 });
  return content.nextIndex;
}

function readOwnerFile(folder: string) {
  const file = join(folder, OWNER_FILE);
  const json = readJson(file);
  if (!json)
    throw lngateError(
      "owner-missing",
      `${folder} is not an owner's folder; \`lngate owner init\` makes one (--data names it)`,
    );
  const network = json.text("network");
  if (!isNetwork(network)) throw json.corrupt("network");
  return {
    network: network as Network,
    closeXpub: json.text("closeXpub"),
    coldXpub: json.text("coldXpub"),
    hotSecret: json.bytes("hotSecret", 32),
    nextIndex: json.number("nextIndex"),
  };
}

/** Ids of the paired devices, sorted. */
export function pairedDevices(folder: string): string[] {
  const devices = join(folder, "devices");
  return existsSync(devices) ? readdirSync(devices).filter(isDeviceId).sort() : [];
}

/** The folder of a device, whether it is there or not. */
export function deviceFolder(folder: string, deviceId: string): string {
  return join(folder, "devices", deviceId);
}

/**
 * The paired device to work on: the one that is named, or the only one. Throws `device-unknown`,
 * `device-not-named`.
 */
export function chooseDevice(folder: string, named: string | undefined): string {
  const devices = pairedDevices(folder);
  if (named !== undefined) {
    if (devices.includes(named)) return named;
    throw lngateError(
      "device-unknown",
      `no device "${named}" is paired in ${folder}${devices.length > 0 ? `; there are ${devices.join(", ")}` : ""}`,
    );
  }
  if (devices.length === 0)
    throw lngateError(
      "device-unknown",
      `no device is paired in ${folder}; start with \`lngate device pair\``,
    );
  if (devices.length > 1)
    throw lngateError("device-not-named", `say which device with --device: ${devices.join(", ")}`);
  return devices[0]!;
}

/** A folder for a pairing that is not completed, empty. */
export function startPairingFolder(folder: string, deviceId: string): string {
  const pending = pairingFolder(folder, deviceId);
  rmSync(pending, { recursive: true, force: true });
  makeFolder(pending);
  return pending;
}

/** Where a pairing that has not ended keeps its files. */
export function pairingFolder(folder: string, deviceId: string): string {
  return `${deviceFolder(folder, deviceId)}.pairing`;
}

/** Turns a pairing's folder into a device's, in one step. */
export function completePairingFolder(folder: string, deviceId: string): void {
  renameSync(pairingFolder(folder, deviceId), deviceFolder(folder, deviceId));
  syncFolder(join(folder, "devices"));
}

/** JSON with byte strings as hex. */
export function writeJson(file: string, value: object): void {
  const text = JSON.stringify(
    value,
    (_key, part: unknown) => (part instanceof Uint8Array ? toHex(part) : part),
    2,
  );
  writeFileAtomic(file, `${text}\n`);
}

/** A JSON file of ours, read strictly: every method throws `owner-corrupt` for what should not be there. */
export interface JsonFile {
  text(key: string): string;
  number(key: string): number;
  /** Hex; of exactly `length` bytes where that is given. */
  bytes(key: string, length?: number): Uint8Array;
  has(key: string): boolean;
  section(key: string): JsonFile;
  optional(key: string): JsonFile | undefined;
  flag(key: string): boolean;
  corrupt(what: string): Error;
}

/** Undefined if there is no such file. Throws `owner-corrupt`. */
export function readJson(file: string): JsonFile | undefined {
  const bytes = readFileIfThere(file);
  if (!bytes) return undefined;
  const corrupt = (what: string) =>
    lngateError("owner-corrupt", `${file} is damaged (${what}); restore it from a copy`);
  let root: unknown;
  try {
    root = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    throw corrupt("it is not JSON");
  }
  const reader = (value: unknown, path: string): JsonFile => {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw corrupt(path || "no object");
    const given = value as { readonly [key: string]: unknown };
    const at = (key: string) => (Object.hasOwn(given, key) ? given[key] : undefined);
    return {
      corrupt,
      text(key) {
        const text = at(key);
        if (typeof text !== "string") throw corrupt(path + key);
        return text;
      },
      number(key) {
        const number = at(key);
        if (typeof number !== "number" || !Number.isSafeInteger(number) || number < 0)
          throw corrupt(path + key);
        return number;
      },
      flag(key) {
        const flag = at(key);
        if (typeof flag !== "boolean") throw corrupt(path + key);
        return flag;
      },
      bytes(key, length) {
        const text = at(key);
        if (typeof text !== "string" || !/^([0-9a-f]{2})*$/.test(text)) throw corrupt(path + key);
        if (length !== undefined && text.length !== 2 * length) throw corrupt(path + key);
        return fromHex(text);
      },
      has: key => at(key) !== undefined,
      section: key => reader(at(key), `${path}${key}.`),
      optional: key => (at(key) === undefined ? undefined : reader(at(key), `${path}${key}.`)),
    };
  };
  const json = reader(root, "");
  if (json.number("version") !== 1) throw corrupt("it was written by a newer version");
  return json;
}

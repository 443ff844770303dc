/** The files of one paired device: its link, its backup, and what charging needs. */

import { renameSync } from "node:fs";
import { join } from "node:path";
import type { Network } from "../../src/bitcoin/network.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { type Codec, decodeValue, encodeValue } from "../../src/bytes/schema.ts";
import type { DeviceKeys } from "../../src/channel/device-keys.ts";
import { proposalCodec } from "../../src/channel/terms.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { MAX_COMMITMENT_NUMBER } from "../../src/lightning/shachain.ts";
import { type ToldChannel, type ToldStates, toldStatesCodec } from "../../src/messages/owner.ts";
import { type AbortStatus, NO_ABORTS } from "../../src/threshold/abort.ts";
import { decodeKeyShare, encodeKeyShare, type KeyShare } from "../../src/threshold/keyshare.ts";
import { MacRun } from "../../src/threshold/presigning/mac.ts";
import { type Kind, OtSetup } from "../../src/threshold/transfer/setup.ts";
import {
  BACKUP_FILE,
  CHANNEL_FILE,
  CHARGING_FILE,
  DEVICE_FILE,
  type JsonFile,
  readJson,
  writeJson,
} from "./folder.ts";

/** How to reach the gateway for one device, and the device's public keys. */
export interface DeviceInfo {
  readonly deviceId: string;
  readonly name: string;
  readonly network: Network;
  readonly brokerUrl: string;
  readonly ownerPassword: string;
  readonly ownerLinkKey: Uint8Array;
  /** Number of its cold keys among the owner's (owner/folder/seed.ts). */
  readonly index: number;
  readonly keys: DeviceKeys;
}

/** Oblivious transfers and the fingerprint that the gateway's half has as well. */
export interface HeldSetup {
  readonly setup: OtSetup;
  readonly fingerprint: Uint8Array;
}

/** What charging needs from one time to the next. */
export interface ChargingState {
  readonly setups: { readonly [K in Kind]?: HeldSetup };
  /** Of kind B's MACs. A check that fails ends it. */
  readonly run?: MacRun;
  readonly aborts: AbortStatus;
  /** The id after the last batch of each kind that was ever begun with: none begins below it. */
  readonly ends: { readonly [K in Kind]: number };
}

/** Writes device.json. */
export function writeDeviceInfo(folder: string, info: DeviceInfo): void {
  writeJson(join(folder, DEVICE_FILE), { version: 1, ...info });
}

/** Throws `owner-corrupt`. */
export function readDeviceInfo(folder: string): DeviceInfo {
  const json = requiredJson(folder, DEVICE_FILE);
  return {
    deviceId: json.text("deviceId"),
    name: json.text("name"),
    network: json.text("network") as Network,
    brokerUrl: json.text("brokerUrl"),
    ownerPassword: json.text("ownerPassword"),
    ownerLinkKey: json.bytes("ownerLinkKey", 32),
    index: json.number("index"),
    keys: readKeys(json.section("keys")),
  };
}

function readKeys(keys: JsonFile): DeviceKeys {
  return {
    fundingKey: keys.bytes("fundingKey", 33),
    revocationBasepoint: keys.bytes("revocationBasepoint", 33),
    paymentBasepoint: keys.bytes("paymentBasepoint", 33),
    delayedPaymentBasepoint: keys.bytes("delayedPaymentBasepoint", 33),
    htlcBasepoint: keys.bytes("htlcBasepoint", 33),
    depositOwnerKey: keys.bytes("depositOwnerKey", 33),
    depositDelay: keys.number("depositDelay"),
    shutdownScript: keys.bytes("shutdownScript"),
  };
}

/** The backup holds the share and what is public, never presignatures or transfers. */
export function writeBackup(folder: string, info: DeviceInfo, share: KeyShare): void {
  const { deviceId, name, network, brokerUrl, index, keys } = info;
  writeJson(join(folder, BACKUP_FILE), {
    version: 1,
    about: "Backup of an LNGate device: half of its key. Keep a copy elsewhere, and keep it secret.",
    deviceId,
    name,
    network,
    brokerUrl,
    index,
    share: encodeKeyShare(share),
    keys,
  });
}

/** The owner's share of the threshold key. Throws `owner-corrupt`. */
export function readShare(folder: string): KeyShare {
  const json = requiredJson(folder, BACKUP_FILE);
  try {
    return decodeKeyShare(json.bytes("share"));
  } catch {
    throw json.corrupt("share");
  }
}

/** Writes what charging needs the next time. */
export function writeChargingState(folder: string, { setups, run, aborts, ends }: ChargingState): void {
  const stored = (held: HeldSetup | undefined) =>
    held && { fingerprint: held.fingerprint, setup: held.setup.toBytes() };
  writeJson(join(folder, CHARGING_FILE), {
    version: 1,
    setups: { A: stored(setups.A), B: stored(setups.B) },
    ...(run ? { run: { content: run.toBytes() } } : {}),
    standing: aborts,
    ends,
  });
}

/** No file means no transfers: new ones are made when charging. Throws `owner-corrupt`. */
export function readChargingState(folder: string): ChargingState {
  const json = readJson(join(folder, CHARGING_FILE));
  if (!json) return { setups: {}, aborts: NO_ABORTS, ends: { A: 0, B: 0 } };
  const setups = json.section("setups");
  const held = (kind: Kind): HeldSetup | undefined => {
    const stored = setups.optional(kind);
    return (
      stored && {
        fingerprint: stored.bytes("fingerprint", 32),
        setup: OtSetup.fromBytes(stored.bytes("setup")),
      }
    );
  };
  const [A, B] = [held("A"), held("B")];
  const run = json.optional("run");
  const aborts = json.section("standing");
  const ends = json.section("ends");
  return {
    setups: { ...(A ? { A } : {}), ...(B ? { B } : {}) },
    ...(run ? { run: MacRun.fromBytes(run.bytes("content")) } : {}),
    ends: { A: ends.number("A"), B: ends.number("B") },
    aborts: {
      resets: aborts.number("resets"),
      spoilt: aborts.number("spoilt"),
      awaitingOwner: aborts.flag("awaitingOwner"),
      locked: aborts.flag("locked"),
    },
  };
}

/** What a channel of a device was agreed to be, and how far it was: the gateway's word. Nothing of it is secret. */
export interface HeldChannel extends Omit<ToldChannel, "states"> {
  readonly deviceId: string;
  /** A file of an earlier version has no more than two of them. */
  readonly keys: DeviceKeys | Pick<DeviceKeys, "fundingKey" | "delayedPaymentBasepoint">;
  /** What is known of its commitments; undefined where the gateway's program was too old to tell. */
  readonly states?: ToldStates | undefined;
}

/**
 * Keeps them, the latest first, before all that was said earlier, of these channels and of others: a later word takes nothing away
 * that was true. A file that can't be read is set aside.
 */
export function keepHeldChannels(
  folder: string,
  { deviceId, keys }: Pick<HeldChannel, "deviceId" | "keys">,
  channels: readonly Pick<HeldChannel, "proposal" | "number" | "states">[],
): void {
  const file = join(folder, CHANNEL_FILE);
  let before: readonly HeldChannel[] = [];
  try {
    before = readHeldChannels(file) ?? [];
  } catch (error) {
    if (codeOf(error) !== "owner-corrupt") throw error;
    renameSync(file, `${file}.damaged`);
  }
  const entryOf = ({ proposal, number, states }: (typeof channels)[number]) => ({
    proposal: encodeValue(proposalCodec, proposal),
    number,
    ...(states ? { states: encodeValue(toldStatesCodec, states) } : {}),
  });
  type Entry = ReturnType<typeof entryOf>;
  const isSaidBy = (one: Entry, other: Entry) =>
    one.number === other.number &&
    equal(one.proposal, other.proposal) &&
    (!one.states || (other.states !== undefined && equal(one.states, other.states)));
  const known = before.map(entryOf);
  const fresh: Entry[] = [];
  for (const each of channels.map(entryOf))
    if (![...fresh, ...known].some(other => isSaidBy(each, other))) fresh.push(each);
  const kept = known.filter(each => !fresh.some(other => isSaidBy(each, other)));
  const [latest, ...earlier] = [...fresh, ...kept];
  if (!latest || fresh.length === 0) return;
  writeJson(file, {
    version: 1,
    about:
      "What `lngate owner recover` needs to collect from a commitment of this device's that is on the chain.",
    deviceId,
    keys,
    ...latest,
    earlier: { ...earlier },
  });
}

/** All that was kept, the latest first; undefined if there is no such file. Throws `owner-corrupt`. */
export function readHeldChannels(file: string): readonly HeldChannel[] | undefined {
  const json = readJson(file);
  if (!json) return undefined;
  const deviceId = json.text("deviceId");
  const section = json.section("keys");
  const keys = section.has("htlcBasepoint")
    ? readKeys(section)
    : {
        fundingKey: section.bytes("fundingKey", 33),
        delayedPaymentBasepoint: section.bytes("delayedPaymentBasepoint", 33),
      };
  const entries = [json];
  const earlier = json.optional("earlier");
  for (let at = 0; earlier?.optional(`${at}`); at++) entries.push(earlier.section(`${at}`));
  return entries.map(entry => {
    const decoded = <T>(name: string, codec: Codec<T>): T => {
      try {
        return decodeValue(codec, entry.bytes(name));
      } catch {
        throw json.corrupt(name);
      }
    };
    const proposal = decoded("proposal", proposalCodec);
    const states = entry.has("states") ? decoded("states", toldStatesCodec) : undefined;
    const number = entry.number("number");
    if (number > MAX_COMMITMENT_NUMBER) throw json.corrupt("number");
    return { deviceId, keys, proposal, number, ...(states ? { states } : {}) };
  });
}

function requiredJson(folder: string, file: string) {
  const json = readJson(join(folder, file));
  if (!json) throw lngateError("owner-corrupt", `${join(folder, file)} is missing; restore it from a copy`);
  return json;
}

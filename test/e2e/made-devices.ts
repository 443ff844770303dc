/**
 * Devices that are paired and charged once, and copied by every test: the ceremonies keep a core busy for ten seconds
 * each time, and have tests of their own. They are made at first use, and again when a source has changed.
 */
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { base32nopad } from "@scure/base";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { DEFAULT_POLICY, type SpendingPolicy } from "../../device/identity.ts";
import { openVaultToCharge } from "../../device/vault/charging.ts";
import { recordBytes } from "../../device/vault/records.ts";
import { formatVault, openVault, type Vault } from "../../device/vault/vault.ts";
import { openRecordStore } from "../../gateway/store/presignature-journal.ts";
import { openRegistry, openStore } from "../../gateway/store/registry.ts";
import { chargeDevice } from "../../owner/client/charge.ts";
import { spendingLimits } from "../../owner/client/limits.ts";
import { pairDevice } from "../../owner/client/pair.ts";
import { recordsFor } from "../../owner/client/records-needed.ts";
import { readDeviceInfo, readShare, writeBackup, writeDeviceInfo } from "../../owner/folder/device-files.ts";
import {
  CHARGING_FILE,
  createOwner,
  deviceFolder,
  pairedDevices,
  takeDeviceIndex,
} from "../../owner/folder/folder.ts";
import { concat, equal } from "../../src/bytes/bytes.ts";
import type { ServiceFee } from "../../src/channel/service-fee.ts";
import { lockPath } from "../../src/node/lock.ts";
import type { Batch, RecordKind } from "../../src/threshold/records.ts";
import { startGatewayHalf, WORDS } from "../owner/gateway-half.ts";

/** What each is charged for; a copy may be for fewer. */
export const MADE_FOR_PAYMENTS = 60;
/** Their owner's. */
export const OWNER_WORDS = WORDS;

const CACHE = "node_modules/.cache/lngate/devices";
const KINDS: readonly RecordKind[] = ["A", "B", "H"];

export interface DeviceCopy {
  /** The owner's folder and the gateway's data folder; the gateway must not run. */
  readonly ownerFolder: string;
  readonly dataDir: string;
  readonly name: string;
  readonly brokerUrl: string;
  readonly blockHeight: number;
  /** At most `MADE_FOR_PAYMENTS`; 0: not charged. */
  readonly payments: number;
  readonly policy: Partial<SpendingPolicy>;
  /** Of its flash; absent: as many as pairing takes. */
  readonly flashPages: number | undefined;
  readonly serviceFee: ServiceFee | undefined;
}

/** Copies the device of this number, from 0 on, as if it had just been paired and charged; its id. */
export async function copyDevice(number: number, to: DeviceCopy): Promise<string> {
  const made = join(to.dataDir, `made-${number}`);
  cpSync(await madeDevice(number), made, { recursive: true });
  const [deviceId = ""] = pairedDevices(join(made, "owner"));
  await copyToGateway(join(made, "gateway"), join(made, "owner"), deviceId, to);
  copyToOwner(join(made, "owner"), deviceId, to);
  rmSync(made, { recursive: true });
  return deviceId;
}

async function copyToGateway(from: string, owner: string, deviceId: string, to: DeviceCopy): Promise<void> {
  const info = readDeviceInfo(deviceFolder(owner, deviceId));
  const { brokerPassword, linkKey } = withVault(deviceFolder(owner, deviceId), vault => vault.identity);
  const madeStore = openStore(from);
  const store = openStore(to.dataDir);
  try {
    const made = openRegistry(madeStore);
    const { share } = made.device(deviceId).pairing!;
    const registry = openRegistry(store);
    // The first that is asked for is the id.
    const random = (length: number) =>
      length === 5 ? base32nopad.decode(deviceId.toUpperCase()) : new Uint8Array(length).fill(7);
    registry.invite(to.name, 3600, random);
    registry.completePairing(deviceId, {
      devicePassword: brokerPassword,
      ownerPassword: info.ownerPassword,
      deviceLinkKey: linkKey,
      ownerLinkKey: info.ownerLinkKey,
      keys: info.keys,
      share,
      setups: [made.setup(deviceId, "A")!, made.setup(deviceId, "B")!],
      confirmation: new Uint8Array(32).fill(7),
      limits: spendingLimits({ ...DEFAULT_POLICY, ...to.policy }),
      ...(to.serviceFee ? { serviceFee: to.serviceFee } : {}),
    });
    cpSync(join(from, "records", deviceId), join(to.dataDir, "records", deviceId));
    const records = openRecordStore(join(to.dataDir, "records", deviceId), share.sid, share.epoch);
    for (const kind of ["A", "B"] as const) {
      const kept = countOf(kind, to.payments);
      for (const run of records.unused(kind)) {
        const end = run.firstId + run.count;
        const firstId = Math.max(run.firstId, kept);
        if (firstId < end) records.burn(kind, { firstId, count: end - firstId });
      }
    }
    records.close();
  } finally {
    await madeStore.close();
    await store.close();
  }
}

function copyToOwner(from: string, deviceId: string, to: DeviceCopy): void {
  const made = deviceFolder(from, deviceId);
  const folder = deviceFolder(to.ownerFolder, deviceId);
  const info = { ...readDeviceInfo(made), name: to.name, brokerUrl: to.brokerUrl };
  const share = readShare(made);
  writeDeviceInfo(folder, info);
  writeBackup(folder, info, share);
  cpSync(join(made, CHARGING_FILE), join(folder, CHARGING_FILE));
  while (takeDeviceIndex(to.ownerFolder) < info.index);
  const { identity, batches } = withVault(made, vault => ({
    identity: vault.identity,
    batches: KINDS.flatMap(kind => firstRecords(vault, kind, share.epoch, countOf(kind, to.payments))),
  }));
  const flash = openFileFlash(folder, to.flashPages === undefined ? {} : { pageCount: to.flashPages });
  try {
    formatVault(flash, {
      ...identity,
      brokerUrl: to.brokerUrl,
      birthHeight: to.blockHeight,
      birthTime: Math.floor(Date.now() / 1000),
      policy: { ...DEFAULT_POLICY, ...to.policy },
      ...(to.serviceFee ? { serviceFee: to.serviceFee } : {}),
    });
    const { records } = openVaultToCharge(flash);
    for (const batch of batches) records.append(batch);
  } finally {
    flash.close();
  }
}

/** Ids begin at 0; presignatures come in fours. */
function countOf(kind: RecordKind, payments: number): number {
  if (payments === 0) return 0;
  const count = recordsFor(payments)[kind];
  return kind === "H" ? count : 4 * Math.ceil(count / 4);
}

/** In batches whose records have the keys of their MACs in common, as they were made. */
function firstRecords({ records }: Vault, kind: RecordKind, epoch: number, count: number): Batch[] {
  const batches: { firstId: number; mac: Uint8Array; found: Uint8Array[] }[] = [];
  for (let id = 0; id < count; id++) {
    const record = records.read(kind, id);
    if (record?.id !== id) throw new Error(`record ${id} of kind ${kind} is missing`);
    const [bytes, mac] = [record.bytes.slice(0, recordBytes(kind)), record.bytes.slice(recordBytes(kind))];
    const last = batches[batches.length - 1];
    if (last && equal(last.mac, mac)) last.found.push(bytes);
    else batches.push({ firstId: id, mac, found: [bytes] });
  }
  return batches.map(({ firstId, mac, found }) => ({
    kind,
    epoch,
    firstId,
    count: found.length,
    records: concat(found),
    ...(mac.length > 0 ? { mac } : {}),
  }));
}

function withVault<T>(folder: string, work: (vault: Vault) => T): T {
  const flash = openFileFlash(folder);
  try {
    return work(openVault(flash));
  } finally {
    flash.close();
  }
}

// ── making them ─────────────────────────────────────────────────────────────────────────────────────────

/** The folder of the made device of this number; one process makes it, others wait for it. */
async function madeDevice(number: number): Promise<string> {
  const cache = join(CACHE, keyOfSources());
  const folder = join(cache, String(number));
  mkdirSync(cache, { recursive: true });
  while (!existsSync(folder)) {
    let unlock: () => void;
    try {
      unlock = lockPath(join(cache, "making.lock"), () => new Error("somebody makes one"));
    } catch {
      await new Promise(resolve => setTimeout(resolve, 50 + Math.random() * 100));
      continue;
    }
    try {
      if (!existsSync(folder)) await make(number, folder);
    } finally {
      unlock();
    }
  }
  return folder;
}

async function make(number: number, folder: string): Promise<void> {
  const making = `${folder}.${process.pid}`;
  const owner = join(making, "owner");
  createOwner(owner, "regtest", OWNER_WORDS);
  for (let index = 0; index < number; index++) takeDeviceIndex(owner);
  const gateway = await startGatewayHalf();
  const { deviceId } = await pairDevice({ folder: owner, code: gateway.invite(`made ${number}`) });
  await chargeDevice({ folder: owner, deviceId, payments: MADE_FOR_PAYMENTS });
  await gateway.stop({ keep: true });
  cpSync(gateway.folder, join(making, "gateway"), { recursive: true });
  rmSync(gateway.folder, { recursive: true });
  renameSync(making, folder);
}

/** Of everything that has to do with pairing and charging, and with how their results are stored. */
function keyOfSources(): string {
  const folders = ["src", "owner", "device/vault", "gateway"].flatMap(folder =>
    readdirSync(folder, { recursive: true, encoding: "utf8" }).map(name => join(folder, name)),
  );
  const files = folders.filter(
    name =>
      name.endsWith(".ts") && !/^(gateway\/(chain|lightning|signer|cli)|owner\/(recovery|cli))\//.test(name),
  );
  const ours = ["test/e2e/made-devices.ts", "test/owner/gateway-half.ts"];
  const hash = createHash("sha256");
  for (const file of [...files, ...ours].sort()) hash.update(file).update(readFileSync(file));
  return hash.digest("hex").slice(0, 16);
}

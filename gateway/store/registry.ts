/**
 * The gateway's devices, in its lmdb store: who they are, how they log in, and the gateway's halves of their keys.
 * Secrets are in here and nowhere else. Another process (`lngate gateway add-device`) may write while the gateway
 * runs: nothing is cached.
 */

import { mkdirSync } from "node:fs";
import { type Database, open, type RootDatabase } from "lmdb";
import { ascii, concat } from "../../src/bytes/bytes.ts";
import {
  bool,
  bytes,
  type Codec,
  decodeValue,
  encodeValue,
  optional,
  struct,
  text,
  UINT32,
  UINT53,
  uint,
  type ValueOf,
} from "../../src/bytes/schema.ts";
import { type DeviceKeys, deviceKeysCodec } from "../../src/channel/device-keys.ts";
import { type ServiceFee, serviceFeeCodec } from "../../src/channel/service-fee.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { MAX_MESSAGE_BYTES } from "../../src/messages/device.ts";
import { OWNER_MAX_MESSAGE_BYTES } from "../../src/messages/fragments.ts";
import { type SpendingLimits, spendingLimitsCodec } from "../../src/messages/owner.ts";
import { deviceIdFrom } from "../../src/pairing/code.ts";
import { pairingKeys } from "../../src/pairing/keys.ts";
import { type AbortStatus, NO_ABORTS } from "../../src/threshold/abort.ts";
import {
  decodeKeyShare,
  encodeKeyShare,
  KEY_SHARE_BYTES,
  type KeyShare,
} from "../../src/threshold/keyshare.ts";
import { MacRun } from "../../src/threshold/presigning/mac.ts";
import { type Batch, decodeBatch, encodeBatch } from "../../src/threshold/records.ts";
import { OtSetup, type Kind as PresignKind } from "../../src/threshold/transfer/setup.ts";
import type { LinkAccount } from "../link/links.ts";
import { ensureStoreFile, storeFolder } from "./store-file.ts";

const hash = bytes(32);

/** An invitation: what the pairing code stands for. It stays after its use, to say that it was used. */
const invitationCodec = struct({
  /** Key of the pairing link, and SHA-256 of its broker password: both follow from the code's secret. */
  linkKey: [1, bytes(32)],
  passwordHash: [2, hash],
  /** The code's secret, until it is used. */
  secret: optional([3, bytes(16)]),
  /** Unix seconds. */
  expiresAt: [4, uint(UINT53)],
  /** Set when the code was used: the confirmation that its pairing ended with. */
  usedBy: optional([5, hash]),
});

const pairingCodec = struct({
  /** Unix seconds. */
  pairedAt: [1, uint(UINT53)],
  devicePasswordHash: [2, hash],
  ownerPasswordHash: [3, hash],
  deviceLinkKey: [4, bytes(32)],
  ownerLinkKey: [5, bytes(32)],
  keys: [6, deviceKeysCodec],
  /** The gateway's `KeyShare`. */
  share: [7, bytes(KEY_SHARE_BYTES)],
  /** What was agreed on for the gateway's service; absent: nothing. */
  serviceFee: optional([8, serviceFeeCodec]),
});

const deviceCodec = struct({
  name: [1, text(64)],
  createdAt: [2, uint(UINT53)],
  invitation: optional([3, invitationCodec]),
  pairing: optional([4, pairingCodec]),
});

const abortStatusCodec: Codec<AbortStatus> = struct({
  resets: [1, uint(UINT32)],
  spoilt: [2, uint(UINT32)],
  awaitingOwner: [3, bool()],
  locked: [4, bool()],
});

export type Invitation = ValueOf<typeof invitationCodec>;
type PairingRow = ValueOf<typeof pairingCodec>;
type DeviceRow = ValueOf<typeof deviceCodec>;

/** What pairing left on the gateway. */
export interface Pairing extends Omit<PairingRow, "share" | "keys"> {
  readonly keys: DeviceKeys;
  readonly share: KeyShare;
}

export interface RegisteredDevice {
  readonly id: string;
  readonly name: string;
  /** Unix seconds. */
  readonly createdAt: number;
  /** `damaged`: what is stored of it can't be read; its name is not known. */
  readonly state: "invited" | "paired" | "damaged";
  readonly invitation?: Invitation;
  readonly pairing?: Pairing;
}

/** Oblivious transfers, and the fingerprint by which both sides know that they hold the same: SHA256(E1 ‖ E2). */
export interface StoredSetup {
  readonly setup: OtSetup;
  readonly fingerprint: Uint8Array;
}

/** What a completed pairing stores. */
export interface NewPairing {
  readonly devicePassword: string;
  readonly ownerPassword: string;
  readonly deviceLinkKey: Uint8Array;
  readonly ownerLinkKey: Uint8Array;
  readonly keys: DeviceKeys;
  readonly share: KeyShare;
  readonly setups: readonly StoredSetup[];
  readonly confirmation: Uint8Array;
  readonly limits: SpendingLimits;
  readonly serviceFee?: ServiceFee;
}

export interface Registry {
  /** Every device, by name. */
  devices(): RegisteredDevice[];
  /** Throws `device-unknown`, `store-damaged`. */
  device(id: string): RegisteredDevice;
  /** Throws `store-damaged`. */
  find(id: string): RegisteredDevice | undefined;
  /**
   * A new device. One with this name that was never paired gives way to it, and its code with it. Throws
   * `device-name-taken`, `device-name-invalid`. `random` makes unpredictable bytes.
   */
  invite(
    name: string,
    lifetimeSeconds: number,
    random: (length: number) => Uint8Array,
  ): { readonly deviceId: string; readonly secret: Uint8Array; readonly expiresAt: number };
  /** Removes a device that was never paired. Throws `device-unknown`, `device-paired`. */
  cancelInvitation(id: string): void;
  /**
   * What an identity of the link (`<id>`, `<id>.owner`, `<id>.pair`) logs in with; for `GatewayLinks`. The last of
   * the three works on after the code is used, to say just that.
   */
  account(identity: string): LinkAccount | undefined;
  /** Every identity that has an account. */
  identities(): string[];

  /** In one durable step: the code is used, the device is paired. Throws `pairing-code-used`. */
  completePairing(id: string, pairing: NewPairing): void;

  /** What the owner allows the device to spend; undefined if the owner has never said. Throws `store-damaged`. */
  limits(id: string): SpendingLimits | undefined;
  /** Durable before it returns. */
  putLimits(id: string, limits: SpendingLimits): void;

  setup(id: string, kind: PresignKind): StoredSetup | undefined;
  putSetup(id: string, stored: StoredSetup): void;
  /** The gateway's half of the run that kind B's MACs are made in. */
  run(id: string): MacRun | undefined;
  putRun(id: string, run: MacRun): void;
  abortStatus(id: string): AbortStatus;
  /** Durable before it returns; `destroySetup`, and the run with it, goes in the same step. */
  putAbortStatus(id: string, status: AbortStatus, destroySetup?: PresignKind): void;
  /** A batch that is finished here but not known to be in the device's flash. */
  preparedBatch(id: string): Batch | undefined;
  putPreparedBatch(id: string, batch: Batch): void;
  dropPreparedBatch(id: string): void;
}

/** The one lmdb environment of a data folder. Every transaction is on disk when it returns. Throws `store-damaged`. */
export function openStore(dataDir: string): RootDatabase<unknown, string> {
  ensureStoreFile(dataDir);
  mkdirSync(storeFolder(dataDir), { recursive: true, mode: 0o700 });
  return open({
    path: storeFolder(dataDir),
    maxDbs: 64,
    // lmdb's own, which its types do not have: its files are for their owner alone.
    ...{ permissionsMode: 0o600 },
    // A commit that an fsync has not confirmed may be lost with the power, and with it money.
    overlappingSync: false,
  });
}

export function openRegistry(
  store: RootDatabase<unknown, string>,
  now = () => Math.floor(Date.now() / 1000),
): Registry {
  const table = (name: string): Database<Uint8Array, string> => store.openDB({ name, encoding: "binary" });
  const devices = table("devices");
  const setups = table("ot-setups");
  const abortStatuses = table("abortStatuses");
  const prepared = table("prepared-batches");
  const limits = table("spending-limits");

  function read<T>(from: Database<Uint8Array, string>, key: string, kind: Codec<T>): T | undefined {
    const stored = from.get(key);
    return stored === undefined ? undefined : decodeValue(kind, new Uint8Array(stored));
  }
  function row(id: string): DeviceRow | undefined {
    return read(devices, id, deviceCodec);
  }
  function putRow(id: string, value: DeviceRow): void {
    devices.putSync(id, encodeValue(deviceCodec, value));
  }
  function toDevice(id: string, { name, createdAt, invitation, pairing }: DeviceRow): RegisteredDevice {
    return {
      id,
      name,
      createdAt,
      state: pairing ? "paired" : "invited",
      ...(invitation ? { invitation } : {}),
      ...(pairing ? { pairing: { ...pairing, share: decodeKeyShare(pairing.share) } } : {}),
    };
  }
  function putSetup(id: string, { setup, fingerprint }: StoredSetup): void {
    setups.putSync(`${id}/${setup.kind}`, concat([fingerprint, setup.toBytes()]));
  }
  function putLimits(id: string, value: SpendingLimits): void {
    limits.putSync(id, encodeValue(spendingLimitsCodec, value));
  }
  /** Throws `store-damaged`. */
  function find(id: string): RegisteredDevice | undefined {
    return readable(id, () => {
      const found = row(id);
      return found && toDevice(id, found);
    });
  }
  function readable<T>(id: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (codeOf(error) === undefined) throw error;
      const why = (error as Error).message;
      throw lngateError("store-damaged", `what is stored of the device ${id} can't be read (${why})`);
    }
  }
  /** Undefined also for what can't be read: the damage of one device is not to become another's. */
  function rowIfReadable(id: string): DeviceRow | undefined {
    try {
      return readable(id, () => row(id));
    } catch (error) {
      if (codeOf(error) !== "store-damaged") throw error;
      return undefined;
    }
  }
  function rows(): { id: string; row: DeviceRow }[] {
    return [...devices.getKeys()].flatMap(id => {
      const found = rowIfReadable(id);
      return found ? [{ id, row: found }] : [];
    });
  }
  function deviceOrDamage(id: string): RegisteredDevice {
    try {
      return find(id)!;
    } catch (error) {
      if (codeOf(error) !== "store-damaged") throw error;
      return { id, name: id, createdAt: 0, state: "damaged" };
    }
  }
  function unknown(id: string): Error {
    return lngateError("device-unknown", `there is no device "${id}"; \`lngate gateway devices\` lists them`);
  }

  return {
    devices: () => [...devices.getKeys()].map(deviceOrDamage).sort((a, b) => (a.name < b.name ? -1 : 1)),
    find,
    device(id) {
      const found = find(id);
      if (!found) throw unknown(id);
      return found;
    },

    invite(name, lifetimeSeconds, random) {
      if (!/^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,31}$/u.test(name))
        throw lngateError(
          "device-name-invalid",
          "a device's name has 1 to 32 letters, digits, spaces, dots, dashes or underscores and starts with a letter or digit",
        );
      return store.transactionSync(() => {
        const known = rows().find(({ row }) => row.name === name);
        if (known?.row.pairing)
          throw lngateError("device-name-taken", `a device named "${name}" is paired already (${known.id})`);
        if (known) devices.removeSync(known.id);
        let deviceId = deviceIdFrom(random(5));
        while (row(deviceId)) deviceId = deviceIdFrom(random(5));
        const secret = random(16);
        const { linkKey, password } = pairingKeys(secret, deviceId);
        const expiresAt = now() + lifetimeSeconds;
        putRow(deviceId, {
          name,
          createdAt: now(),
          invitation: { linkKey, passwordHash: sha256(ascii(password)), secret, expiresAt },
        });
        return { deviceId, secret, expiresAt };
      });
    },

    cancelInvitation(id) {
      store.transactionSync(() => {
        const found = row(id);
        if (!found) throw unknown(id);
        if (found.pairing)
          throw lngateError("device-paired", `${id} is paired: its channel and keys can't be forgotten`);
        devices.removeSync(id);
      });
    },

    account(identity) {
      const [, id, role] = /^([a-z2-7]{8})(?:\.(owner|pair))?$/.exec(identity) ?? [];
      const { invitation, pairing } = (id !== undefined && rowIfReadable(id)) || {};
      if (role === "pair") {
        if (!invitation) return undefined;
        const { passwordHash, linkKey } = invitation;
        return { passwordHash, linkKey, maxMessageBytes: OWNER_MAX_MESSAGE_BYTES };
      }
      if (!pairing) return undefined;
      return role === "owner"
        ? {
            passwordHash: pairing.ownerPasswordHash,
            linkKey: pairing.ownerLinkKey,
            maxMessageBytes: OWNER_MAX_MESSAGE_BYTES,
          }
        : {
            passwordHash: pairing.devicePasswordHash,
            linkKey: pairing.deviceLinkKey,
            maxMessageBytes: MAX_MESSAGE_BYTES,
          };
    },

    identities: () =>
      rows().flatMap(({ id, row }) => [
        ...(row.pairing ? [id, `${id}.owner`] : []),
        ...(row.invitation ? [`${id}.pair`] : []),
      ]),

    completePairing(id, made) {
      store.transactionSync(() => {
        const found = row(id);
        if (!found) throw unknown(id);
        const { invitation } = found;
        if (found.pairing || !invitation?.secret)
          throw lngateError("pairing-code-used", "this pairing code has been used");
        const { linkKey, passwordHash, expiresAt } = invitation;
        putRow(id, {
          name: found.name,
          createdAt: found.createdAt,
          invitation: { linkKey, passwordHash, expiresAt, usedBy: made.confirmation },
          pairing: {
            pairedAt: now(),
            devicePasswordHash: sha256(ascii(made.devicePassword)),
            ownerPasswordHash: sha256(ascii(made.ownerPassword)),
            deviceLinkKey: made.deviceLinkKey,
            ownerLinkKey: made.ownerLinkKey,
            keys: made.keys,
            share: encodeKeyShare(made.share),
            ...(made.serviceFee ? { serviceFee: made.serviceFee } : {}),
          },
        });
        for (const stored of made.setups) putSetup(id, stored);
        putLimits(id, made.limits);
      });
    },

    limits: id => readable(id, () => read(limits, id, spendingLimitsCodec)),
    putLimits,

    setup(id, kind) {
      const stored = setups.get(`${id}/${kind}`);
      if (!stored) return undefined;
      const bytes = new Uint8Array(stored);
      return { fingerprint: bytes.slice(0, 32), setup: OtSetup.fromBytes(bytes.subarray(32)) };
    },
    putSetup,
    run(id) {
      const stored = setups.get(`${id}/run`);
      return stored && MacRun.fromBytes(new Uint8Array(stored));
    },
    putRun(id, run) {
      setups.putSync(`${id}/run`, run.toBytes());
    },
    abortStatus: id => read(abortStatuses, id, abortStatusCodec) ?? NO_ABORTS,
    putAbortStatus(id, status, destroySetup) {
      store.transactionSync(() => {
        abortStatuses.putSync(id, encodeValue(abortStatusCodec, status));
        if (!destroySetup) return;
        setups.removeSync(`${id}/${destroySetup}`);
        setups.removeSync(`${id}/run`);
      });
    },
    preparedBatch(id) {
      const stored = prepared.get(id);
      return stored && decodeBatch(new Uint8Array(stored));
    },
    putPreparedBatch(id, batch) {
      prepared.putSync(id, encodeBatch(batch));
    },
    dropPreparedBatch(id) {
      prepared.removeSync(id);
    },
  };
}

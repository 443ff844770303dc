/** What an owner can ask of a paired device and its channel, answered by the gateway that serves them. */
import { scriptAddress } from "../../src/bitcoin/address.ts";
import type { Network } from "../../src/bitcoin/network.ts";
import { p2wsh } from "../../src/bitcoin/script.ts";
import { depositScriptOf } from "../../src/channel/device-keys.ts";
import type { Proposal } from "../../src/channel/terms.ts";
import { lngateError } from "../../src/errors.ts";
import type { GraphKnowledge } from "../../src/lightning/graph-knowledge.ts";
import type { ToldChannel } from "../../src/messages/owner.ts";
import type { Deposits } from "../channel/deposits.ts";
import { DEPOSIT_CONFIRMATIONS } from "../channel/opening.ts";
import type { DeviceGateway } from "../device/device.ts";
import type { Sighting } from "../device/rollback-guard.ts";
import type { Registry } from "../store/registry.ts";

/** How a device and its channel stand. */
export interface DeviceStatus {
  /** A session with the device is up, and it has said where it stands. */
  readonly online: boolean;
  /** An old image of its flash has turned up. */
  readonly rolledBack: boolean;
  /** Its channel can do nothing any more but be closed. */
  readonly stuck: boolean;
  /** The bridge was told to close the channel, and has not. */
  readonly awaitingBridge?: boolean;
  /** The bridge does not end the mutual close. */
  readonly closeStalled?: boolean;
  /** No channel is opened, since the device signs no feerate that makes sense now. */
  readonly feeratesApart?: boolean;
  /** What the bridge said last of a channel that it ends or does not open. */
  readonly bridgeWords?: string;
  readonly seen?: Sighting;
  /** Of the gateway's clock, and of the best block, Unix seconds. */
  readonly time: number;
  readonly blockTime: number;
  readonly channel: "none" | "opening" | "ready" | "closing" | "closed";
  /** Deposits that are not spent. */
  readonly depositSat: number;
  readonly depositUnconfirmedSat: number;
  readonly balanceSat?: number;
  /** Most that the bridge lets be in flight in the channel. */
  readonly inFlightSat?: number;
  /** What the gateway knows of the network. */
  readonly graph?: GraphKnowledge;
  /** Internal byte order. */
  readonly fundingTxid?: Uint8Array;
  readonly closeTxid?: Uint8Array;
}

/** How far the end of a channel is. */
export interface Closing extends Pick<DeviceStatus, "channel" | "closeTxid"> {
  /** The terms of the present channel, and the number of our newest commitment. */
  readonly held?: { readonly proposal: Proposal; readonly number: number };
}

/** What the owner can ask of a paired device's channel. Everything may reject with a stable code. */
export interface OwnerApi {
  status(deviceId: string): Promise<DeviceStatus>;
  depositAddress(deviceId: string): Promise<{
    readonly address: string;
    /** Smallest deposit from which a channel opens. */
    readonly minimumSat: number;
    readonly confirmations: number;
  }>;
  /** Begins a mutual close, or says how far it is. */
  close(deviceId: string): Promise<Closing>;
  /** What is known of its channels' commitments: with it the owner finds their money without the device. */
  channels(deviceId: string): Promise<readonly ToldChannel[]>;
  /** Nothing is co-signed for this device any more, and the bridge is made to close. */
  freeze(deviceId: string): Promise<Closing>;
}

/** What `createOwnerApi` depends on. */
export interface OwnerApiOptions {
  readonly network: Network;
  readonly registry: Registry;
  /** A device that is served. Throws `device-not-served`, `device-not-ready`. */
  deviceOf(deviceId: string): DeviceGateway;
  /** There as soon as there is a device. */
  deposits(): Deposits;
  /** Whether the device's link has a connection, as far as is known. */
  isConnected(deviceId: string): boolean;
  /** Time of the best block, Unix seconds. */
  blockTime(): number;
  /** What the gateway knows of the network; undefined before LDK runs. */
  graph(): GraphKnowledge | undefined;
}

/** The answers of a running gateway. */
export function createOwnerApi(options: OwnerApiOptions): OwnerApi {
  const { registry, network, deviceOf } = options;
  return {
    async status(deviceId) {
      const device = deviceOf(deviceId);
      const unspent = await options.deposits().of(deviceId);
      const sum = (confirmed: boolean) =>
        unspent
          .filter(({ confirmations }) => confirmations >= DEPOSIT_CONFIRMATIONS === confirmed)
          .reduce((total, { valueSat }) => total + valueSat, 0);
      const report = device.status();
      const graph = options.graph();
      return {
        ...report,
        online: report.online && options.isConnected(deviceId),
        time: Math.floor(Date.now() / 1000),
        blockTime: options.blockTime(),
        depositSat: sum(true),
        depositUnconfirmedSat: sum(false),
        ...(graph ? { graph } : {}),
      };
    },
    async depositAddress(deviceId) {
      const { pairing } = registry.device(deviceId);
      if (!pairing) throw lngateError("device-unknown", `the device ${deviceId} is not paired`);
      return {
        address: scriptAddress(p2wsh(depositScriptOf(pairing.keys)), network),
        minimumSat: deviceOf(deviceId).leastDepositSat,
        confirmations: DEPOSIT_CONFIRMATIONS,
      };
    },
    async close(deviceId) {
      const device = deviceOf(deviceId);
      device.requestClose();
      return closingOf(device);
    },
    async channels(deviceId) {
      return deviceOf(deviceId).toldChannels;
    },
    async freeze(deviceId) {
      const device = deviceOf(deviceId);
      device.freeze();
      return closingOf(device);
    },
  };
}

function closingOf(device: DeviceGateway): Closing {
  const { held } = device;
  const { channel, closeTxid } = device.status();
  return { channel, ...(closeTxid ? { closeTxid } : {}), ...(held ? { held } : {}) };
}

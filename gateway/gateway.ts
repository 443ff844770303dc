/**
 * The gateway: broker, chain, one Lightning node per device, threshold server. This file joins the parts; each of
 * them is in a file of its own.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Database } from "lmdb";
import { scriptAddress } from "../src/bitcoin/address.ts";
import { p2wsh } from "../src/bitcoin/script.ts";
import { fromHex } from "../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../src/errors.ts";
import { depositScriptOf } from "../src/link/transactions.ts";
import type { RecordStore } from "../src/threshold/records.ts";
import { createChain } from "./chain/chain.ts";
import { openCeremonies } from "./charging-ceremonies.ts";
import type { GatewayConfig } from "./config.ts";
import { Deposits } from "./deposits.ts";
import { DEPOSIT_CONFIRMATIONS, DeviceGateway, MIN_DEPOSIT_SAT } from "./device-gateway.ts";
import { startRuntime } from "./lightning/runtime.ts";
import { openNodeStore } from "./lightning/store.ts";
import { GatewayLinks } from "./link-server.ts";
import { createLog, type Log } from "./log.ts";
import { OwnNode } from "./own-node.ts";
import { forgetPayout, payoutIsWished, rememberOwnNode } from "./own-node-wishes.ts";
import { type Closing, type DeviceStatus, type OwnerApi, OwnerService } from "./owner-service.ts";
import { type DiskRecordStore, openRecordStore } from "./records.ts";
import { openRegistry, openStore } from "./registry.ts";
import { claimDataFolder } from "./registry-lock.ts";
import { lastSighting } from "./sightings.ts";

export interface RunningGateway {
  /** Of the embedded broker. */
  readonly mqttPort: number | undefined;
  /** Packets and bytes of a device's link so far, MQTT headers included. */
  traffic(deviceId: string): ReturnType<GatewayLinks["traffic"]>;
  /** Ends everything in good order; what is stored stays consistent without it. */
  close(): Promise<void>;
}

/** Longest message of any account, for an external broker. */
const LONGEST_MESSAGE = 65_536;

/**
 * Runs the gateway. It waits for bitcoind as long as that takes. Throws `gateway-in-use`, `wrong-network`,
 * `broker-address`, `store-damaged`.
 */
export async function runGateway(
  config: GatewayConfig,
  log: Log = createLog(config.logLevel),
): Promise<RunningGateway> {
  const release = claimDataFolder(config.dataDir);
  const store = openClaimed(config.dataDir, release);
  const table = (name: string): Database<Uint8Array, string> => store.openDB({ name, encoding: "binary" });
  const registry = openRegistry(store);
  const devices = new Map<string, DeviceGateway>();
  const records = new Map<string, DiskRecordStore>();
  const chain = createChain({
    rpc: config.bitcoind,
    network: config.network,
    log: log.part("chain"),
    onTip: () => {
      for (const device of devices.values()) device.newBlock();
      ownNode?.newBlock();
      if (ownNode && payoutIsWished(store) && ownNode.payOut()) forgetPayout(store);
    },
  });
  const ceremonies = openCeremonies();
  const bridge = {
    nodeId: fromHex(config.bridge.nodeId),
    host: config.bridge.host,
    port: config.bridge.port,
  };

  /** LDK is broken: its locks are held, and only a new process helps. What is stored is consistent. */
  function fatal(error: unknown): void {
    log.error(`LDK has failed; the gateway must be started again: ${(error as Error).message}`);
    process.exitCode = 1;
    setImmediate(() => process.exit(1));
  }

  function recordsOf(deviceId: string): RecordStore {
    let open = records.get(deviceId);
    if (!open) {
      const { pairing } = registry.device(deviceId);
      if (!pairing) throw lngateError("device-unknown", `the device ${deviceId} is not paired`);
      const { sid, epoch } = pairing.share;
      open = openRecordStore(join(config.dataDir, "records", deviceId), sid, epoch);
      records.set(deviceId, open);
    }
    return open;
  }

  function deviceOf(deviceId: string): DeviceGateway {
    const device = devices.get(deviceId);
    if (!device) throw lngateError("device-not-ready", "the gateway is still starting this device's node");
    return device;
  }

  const api: OwnerApi = {
    async status(deviceId): Promise<DeviceStatus> {
      const device = deviceOf(deviceId);
      const standing = await deposits.of(deviceId);
      const sum = (confirmed: boolean) =>
        standing
          .filter(({ confirmations }) => confirmations >= DEPOSIT_CONFIRMATIONS === confirmed)
          .reduce((total, { valueSat }) => total + valueSat, 0);
      const { balanceSat, fundingTxid, closeTxid } = device;
      const seen = lastSighting(table("sightings"), deviceId);
      return {
        online: device.isOnline,
        rolledBack: device.isRolledBack,
        ...(seen ? { seen } : {}),
        time: Math.floor(Date.now() / 1000),
        blockTime: chain.follower.tipTime,
        channel: device.state() as DeviceStatus["channel"],
        depositSat: sum(true),
        depositUnconfirmedSat: sum(false),
        ...(balanceSat === undefined ? {} : { balanceSat }),
        ...(fundingTxid ? { fundingTxid } : {}),
        ...(closeTxid ? { closeTxid } : {}),
      };
    },
    async depositAddress(deviceId) {
      const { pairing } = registry.device(deviceId);
      if (!pairing) throw lngateError("device-unknown", `the device ${deviceId} is not paired`);
      const script = p2wsh(depositScriptOf(pairing.keys));
      return {
        address: scriptAddress(script, config.network),
        minimumSat: MIN_DEPOSIT_SAT,
        confirmations: DEPOSIT_CONFIRMATIONS,
      };
    },
    async close(deviceId) {
      const device = deviceOf(deviceId);
      device.requestClose();
      return closingOf(device);
    },
    async freeze(deviceId) {
      const device = deviceOf(deviceId);
      device.freeze();
      return closingOf(device);
    },
  };

  const owners = new OwnerService({
    registry,
    ceremonies,
    api,
    log: log.part("owner"),
    network: config.network,
    ...(config.serviceFee ? { serviceFee: config.serviceFee.terms } : {}),
    blockHeight: async () => (await chain.follower.currentTip()).height,
    records: recordsOf,
    send: (identity, message) => links.send(identity, message),
    paired: deviceId => {
      for (const identity of [deviceId, `${deviceId}.owner`]) links.forget(identity);
      void makeDevice(deviceId)
        .then(startDevice)
        .catch(error => log.error((error as Error).message, { device: deviceId }));
    },
    locked: deviceId => {
      log.error("the device's key must not be used any more: closing its channel", { device: deviceId });
      try {
        devices.get(deviceId)?.requestClose();
      } catch (error) {
        // There is nothing to close.
        if (codeOf(error) !== "close-state") throw error;
      }
    },
  });

  const links = await GatewayLinks.open({
    mqtt:
      config.mqtt.kind === "external" ? { ...config.mqtt, maxMessageBytes: LONGEST_MESSAGE } : config.mqtt,
    // A device is let in when its node runs: what it said before would be lost.
    account: identity =>
      OwnerService.serves(identity) || devices.has(identity) ? registry.account(identity) : undefined,
    identities: () => registry.identities(),
    onMessage: (identity, message) => {
      if (OwnerService.serves(identity)) owners.onMessage(identity, message);
      else devices.get(identity)?.received(message);
    },
    onSession: (identity, state) => {
      log.debug("session", { identity, state });
      if (OwnerService.serves(identity)) owners.onSession(identity, state);
      else devices.get(identity)?.session(state);
    },
    onRefused: (code, subject) => log.debug("refused", { code, subject }),
  }).catch(async error => {
    await store.close();
    release();
    throw error;
  });
  if (links.port !== undefined) log.info("the broker is open", { port: links.port });

  let closing = false;
  async function close(): Promise<void> {
    if (closing) return;
    closing = true;
    await Promise.all([...devices.values()].map(device => device.stop()));
    await ownNode?.stop();
    await runtime?.stop();
    await links.close();
    await chain.stop();
    await ceremonies.close();
    for (const open of records.values()) open.close();
    await store.close();
    release();
  }

  let deposits: Deposits;
  let runtime: Awaited<ReturnType<typeof startRuntime>> | undefined;
  let ownNode: OwnNode | undefined;
  const starting = new Set<string>();

  /** Undefined if it is there already, or not to be there yet. Its money is watched from now on. */
  async function makeDevice(deviceId: string): Promise<DeviceGateway | undefined> {
    const { pairing, name } = registry.device(deviceId);
    // Who is paired before the chain is there is started with all others.
    if (!pairing || starting.has(deviceId) || !runtime) return undefined;
    starting.add(deviceId);
    const nodeStore = openNodeStore(table("lightning"), deviceId);
    let seed = nodeStore.get("seed");
    if (!seed) {
      seed = new Uint8Array(randomBytes(32));
      await nodeStore.write(new Map([["seed", seed]]));
    }
    return new DeviceGateway(
      {
        deviceId,
        network: config.network,
        keys: pairing.keys,
        records: recordsOf(deviceId),
        deposits,
        channels: table("channels"),
        payments: table("payments"),
        sightings: table("sightings"),
        runtime,
        store: nodeStore,
        bridge,
        ...(pairing.serviceFee ? { serviceFee: pairing.serviceFee } : {}),
        ...(ownNode ? { till: ownNode } : {}),
        log: log.part(name),
        onFatal: fatal,
        send: message => {
          try {
            links.send(deviceId, message);
            return true;
          } catch (error) {
            if (codeOf(error) === undefined) throw error;
            return false;
          }
        },
      },
      seed,
    );
  }

  async function startDevice(device: DeviceGateway | undefined): Promise<void> {
    if (!device) return;
    await device.start();
    devices.set(device.id, device);
    links.greet(device.id);
  }

  try {
    await chain.start();
    runtime = await startRuntime(chain, log.part("ldk"), openNodeStore(table("lightning"), "shared"));
    deposits = await Deposits.open(table("deposits"), chain);
    const owing = registry.devices().some(({ pairing }) => pairing?.serviceFee);
    if (config.serviceFee || owing) {
      ownNode = await OwnNode.start({
        runtime,
        store: openNodeStore(table("lightning"), "own"),
        bridge,
        ...(config.serviceFee?.payoutScript ? { payoutScript: config.serviceFee.payoutScript } : {}),
        log: log.part("own node"),
        onFatal: fatal,
      });
      rememberOwnNode(store, ownNode.nodeId);
    }
    const made: (DeviceGateway | undefined)[] = [];
    for (const { id, state } of registry.devices()) if (state === "paired") made.push(await makeDevice(id));
    deposits.follow();
    for (const device of made) {
      await startDevice(device).catch(error => {
        if (codeOf(error) === undefined) throw error;
        log.error(`${(error as Error).message}: this device can't be served`, { device: device?.id });
      });
    }
    log.info("the gateway is running", { devices: devices.size, network: config.network });
  } catch (error) {
    await close();
    throw error;
  }
  return { mqttPort: links.port, traffic: deviceId => links.traffic(deviceId), close };
}

function openClaimed(dataDir: string, release: () => void): ReturnType<typeof openStore> {
  try {
    return openStore(dataDir);
  } catch (error) {
    release();
    throw error;
  }
}

function closingOf(device: DeviceGateway): Closing {
  const { closeTxid, held } = device;
  return {
    channel: device.state() as DeviceStatus["channel"],
    ...(closeTxid ? { closeTxid } : {}),
    ...(held ? { held } : {}),
  };
}

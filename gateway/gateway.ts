/**
 * The gateway: broker, chain, one Lightning node per device, threshold server. This file joins the parts; each of
 * them is in a file of its own.
 */

import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Database } from "lmdb";
import { scriptAddress } from "../src/bitcoin/address.ts";
import { p2wsh } from "../src/bitcoin/script.ts";
import { fromHex } from "../src/bytes/bytes.ts";
import { depositScriptOf } from "../src/channel/device-keys.ts";
import { codeOf, lngateError } from "../src/errors.ts";
import { afterAbort } from "../src/threshold/abort.ts";
import { RecordBook, type RecordStore } from "../src/threshold/records.ts";
import { createChain } from "./chain/chain.ts";
import { type GatewayConfig, LEAST_CHANNEL_SAT } from "./config.ts";
import { Deposits } from "./device/deposits.ts";
import { DEPOSIT_CONFIRMATIONS, DeviceGateway } from "./device/device.ts";
import { createOpenings } from "./device/openings.ts";
import { lastSighting } from "./device/rollback-guard.ts";
import { OwnNode } from "./fees/own-node.ts";
import { forgetPayout, payoutIsWished, rememberOwnNode } from "./fees/own-node-wishes.ts";
import type { Till } from "./fees/service-fees.ts";
import { type LightningRuntime, startRuntime } from "./lightning/runtime.ts";
import { type NodeStore, openNodeStore } from "./lightning/store.ts";
import { GatewayLinks } from "./link/links.ts";
import { counted, createLog, type Log, lastingTrouble } from "./log.ts";
import { openCeremonies } from "./owner/ceremonies.ts";
import { type Closing, type DeviceStatus, type OwnerApi, OwnerService } from "./owner/service.ts";
import { claimDataFolder } from "./store/folder-lock.ts";
import { type DiskRecordStore, openRecordStore } from "./store/presignature-journal.ts";
import { openRegistry, openStore, type Pairing } from "./store/registry.ts";
import { closeToOthers } from "./store/store-file.ts";

export interface RunningGateway {
  /** Of the embedded broker. */
  readonly mqttPort: number | undefined;
  /** Packets and bytes of a device's link so far, MQTT headers included. */
  traffic(deviceId: string): ReturnType<GatewayLinks["traffic"]>;
  /** Ends everything in good order; what is stored stays consistent without it. */
  close(): Promise<void>;
}

/** What a link refuses after a restart or a lost packet: part of its work. */
const EVERYDAY: ReadonlySet<string> = new Set([
  "link-unknown-session",
  "link-unexpected",
  "link-repeated",
  "link-out-of-order",
]);

/** Longest message of any account, for an external broker. */
const LONGEST_MESSAGE = 65_536;

/** The gateway's own node, where a device's id would stand. */
export const OWN_NODE = "own";

export interface GatewayOptions {
  /** Nodes (a device's id, or `OWN_NODE`) that are not to be started, and why: LDK broke at them before. */
  readonly leftOut?: ReadonlyMap<string, string>;
  /**
   * LDK is broken for all: its locks are held, and only a new process or thread helps. `culprit`: the node at which it
   * broke, if it was one. What is stored is consistent. Does not return; ends the process unless given.
   */
  onBroken?(culprit: string | undefined, why: string): void;
}

/**
 * Runs the gateway. It waits for bitcoind as long as that takes. What is wrong with one device keeps that device alone
 * from being served. Throws `gateway-in-use`, `wrong-network`, `broker-address`, `store-damaged`.
 */
export async function runGateway(
  config: GatewayConfig,
  log: Log = createLog(config.logLevel),
  options: GatewayOptions = {},
): Promise<RunningGateway> {
  const release = claimDataFolder(config.dataDir);
  const store = openClaimed(config.dataDir, release, log);
  const table = (name: string): Database<Uint8Array, string> => store.openDB({ name, encoding: "binary" });
  const registry = openRegistry(store);
  const devices = new Map<string, DeviceGateway>();
  /** Devices that cannot be served, and why. */
  const notServed = new Map<string, string>();
  const records = new Map<string, DiskRecordStore>();
  const chain = createChain({
    rpc: config.bitcoind,
    network: config.network,
    log: log.part("chain"),
    onTip: () => {
      for (const device of devices.values()) guarded(device.id, () => device.newBlock());
      guarded(OWN_NODE, () => {
        ownNode?.newBlock();
        if (ownNode && payoutIsWished(store) && ownNode.payOut()) forgetPayout(store);
      });
    },
  });
  const ceremonies = openCeremonies();
  const openings = createOpenings();
  const refusals = counted((text, fields) => log.warn(text, fields));
  const bridge = {
    nodeId: fromHex(config.bridge.nodeId),
    host: config.bridge.host,
    port: config.bridge.port,
  };

  let isBroken = false;
  /** `culprit`: whose node it was. A store that can't be written is nobody's fault. */
  function fatal(culprit: string, error: unknown): void {
    if (isBroken) return;
    isBroken = true;
    const why = (error as Error).message;
    // lmdb's own errors have numbers.
    if (codeOf(error) === "store-write-failed" || typeof (error as { code?: unknown }).code === "number") {
      log.error(`${why}; the gateway must be started again`);
      broken(undefined, why);
    } else {
      log.error(`LDK has failed at the node of ${titleOf(culprit)}: ${why}`);
      broken(culprit, why);
    }
  }

  function broken(culprit: string | undefined, why: string): void {
    if (options.onBroken) options.onBroken(culprit, why);
    else {
      process.exitCode = 1;
      setImmediate(() => process.exit(1));
    }
  }

  /** A device, as the log names it. */
  function titleOf(deviceId: string): string {
    if (deviceId === OWN_NODE) return "the gateway itself";
    const name = registry.devices().find(({ id }) => id === deviceId)?.name ?? deviceId;
    return `the device "${name}" (${deviceId})`;
  }

  /** What has no code has come out of LDK, and may have left its locks held. */
  function guarded(deviceId: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      if (codeOf(error) === undefined) fatal(deviceId, error);
      else throw error;
    }
  }

  function leaveOut(deviceId: string, error: unknown): void {
    const why = (error as Error).message;
    notServed.set(deviceId, why);
    log.error(
      `${titleOf(deviceId)} is not served, the others are: ${why}. What it has is in ${config.dataDir}; its owner can close the channel alone, with \`lngate device exit\` (docs/recovery.md)`,
      { code: codeOf(error) },
    );
  }

  function journalOf(deviceId: string): string {
    return join(config.dataDir, "records", deviceId);
  }

  function recordsOf(deviceId: string): RecordStore {
    needServable(deviceId);
    let open = records.get(deviceId);
    if (!open) {
      const { pairing } = registry.device(deviceId);
      if (!pairing) throw lngateError("device-unknown", `the device ${deviceId} is not paired`);
      const { sid, epoch } = pairing.share;
      open = openRecordStore(journalOf(deviceId), sid, epoch);
      records.set(deviceId, open);
    }
    return open;
  }

  function needServable(deviceId: string): void {
    const why = notServed.get(deviceId);
    if (why) throw lngateError("device-not-served", `the gateway can't serve this device: ${why}`);
  }

  function deviceOf(deviceId: string): DeviceGateway {
    const device = devices.get(deviceId);
    needServable(deviceId);
    if (!device)
      throw lngateError(
        "device-not-ready",
        "the gateway is still starting this device's node; if that lasts, its log says what it waits for",
      );
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
      const { balanceSat, inFlightSat, fundingTxid, closeTxid } = device;
      const seen = lastSighting(table("sightings"), deviceId);
      return {
        online: device.isOnline && links.isConnected(deviceId),
        rolledBack: device.isRolledBack,
        stuck: device.stuck !== null,
        awaitingBridge: device.isAwaitingBridge,
        closeStalled: device.isCloseStalled,
        feeratesApart: device.areFeeratesApart,
        ...(device.bridgeWords === undefined ? {} : { bridgeWords: device.bridgeWords }),
        ...(seen ? { seen } : {}),
        time: Math.floor(Date.now() / 1000),
        blockTime: chain.follower.tipTime,
        channel: device.state() as DeviceStatus["channel"],
        depositSat: sum(true),
        depositUnconfirmedSat: sum(false),
        ...(balanceSat === undefined ? {} : { balanceSat }),
        ...(inFlightSat === undefined ? {} : { inFlightSat }),
        ...(runtime ? { graph: runtime.knowledge() } : {}),
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
        minimumSat: deviceOf(deviceId).leastDepositSat,
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
      const arrival = makeDevice(deviceId)
        .then(startDevice)
        .catch(error => {
          if (!closing) log.error((error as Error).message, { device: deviceId });
        })
        .finally(() => arrivals.delete(arrival));
      arrivals.add(arrival);
    },
    locked,
  });

  function locked(deviceId: string): void {
    log.error("the device's key must not be used any more: closing its channel", { device: deviceId });
    try {
      devices.get(deviceId)?.requestClose();
    } catch (error) {
      // There is nothing to close.
      if (codeOf(error) !== "close-state") throw error;
    }
  }

  const links = await GatewayLinks.open({
    mqtt:
      config.mqtt.kind === "external" ? { ...config.mqtt, maxMessageBytes: LONGEST_MESSAGE } : config.mqtt,
    // A device is let in when its node runs: what it said before would be lost.
    account: identity =>
      OwnerService.serves(identity) || devices.has(identity) ? registry.account(identity) : undefined,
    identities: () => registry.identities(),
    onMessage: (identity, message) => {
      if (OwnerService.serves(identity)) owners.onMessage(identity, message);
      else guarded(identity, () => devices.get(identity)?.received(message));
    },
    onSession: (identity, state) => {
      log.debug("session", { identity, state });
      if (OwnerService.serves(identity)) owners.onSession(identity, state);
      else guarded(identity, () => devices.get(identity)?.session(state));
    },
    onRefused: (code, subject, count) => {
      if (code === "broker-flood")
        log.warn("one client floods the broker: it is not heard for some seconds", {
          identity: subject,
          packets: count,
        });
      else if (EVERYDAY.has(code)) log.debug("refused", { code, subject });
      else refusals.note("refused", { code, subject });
    },
    onTrouble: lastingTrouble(error => {
      if (error) log.error(error.message, { code: codeOf(error) });
      else log.info("the MQTT broker can be used");
    }),
    onFault: (identity, error) => {
      log.error(`a message could not be handled: ${error.message}`, { identity });
      log.debug(error.stack ?? "", { identity });
    },
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
    // First of all: what waits for an answer of bitcoind's would be waited for below.
    const chainEnd = chain.stop();
    await Promise.all([...devices.values()].map(device => device.stop()));
    await ownNode?.stop();
    await runtime?.stop();
    await links.close();
    await chainEnd;
    await Promise.all(arrivals);
    await ceremonies.close();
    refusals.flush();
    for (const open of records.values()) open.close();
    await store.close();
    release();
  }

  let deposits: Deposits;
  let runtime: LightningRuntime | undefined;
  let ownNode: OwnNode | undefined;
  const starting = new Set<string>();
  /** Devices that were paired just now and whose nodes are being started. */
  const arrivals = new Set<Promise<void>>();
  /** The gateway's own node, once it is there. */
  const till: Till = {
    canReceive: amountMsat => ownNode?.canReceive(amountMsat) ?? false,
    routingMsat: amountMsat => ownNode?.routingMsat(amountMsat) ?? 0,
    invoice: (...asked) => ownNode!.invoice(...asked),
  };

  /**
   * Undefined if it is there already, or not to be there yet, or can't be served. Its money is watched from now on, also
   * in the last case: blocks come once.
   */
  async function makeDevice(deviceId: string): Promise<DeviceGateway | undefined> {
    // Who is paired before the chain is there is started with all others.
    if (starting.has(deviceId) || !runtime) return undefined;
    starting.add(deviceId);
    try {
      const { pairing, name } = registry.device(deviceId);
      if (!pairing) return undefined;
      const nodeStore = openNodeStore(table("lightning"), deviceId);
      const { records, trouble } = usableRecords(deviceId, pairing, nodeStore.get("seed") !== undefined);
      const device = await newDevice(deviceId, name, pairing, nodeStore, records, runtime);
      if (!trouble) return device;
      leaveOut(deviceId, trouble);
    } catch (error) {
      leaveOut(deviceId, error);
    }
    return undefined;
  }

  /** The records of a device, or what stands for them in one that can't be served, and why it can't. */
  function usableRecords(
    deviceId: string,
    { share }: Pairing,
    wasHere: boolean,
  ): { readonly records: RecordStore; readonly trouble?: unknown } {
    try {
      const brokeLdk = options.leftOut?.get(deviceId);
      if (brokeLdk !== undefined) throw breaksLdk(brokeLdk);
      // A journal that is gone would begin anew: records would be missing, and nobody told why.
      if (wasHere && !existsSync(journalOf(deviceId)))
        throw lngateError(
          "record-store-damaged",
          `the journal of its records is gone (${journalOf(deviceId)})`,
        );
      return { records: recordsOf(deviceId) };
    } catch (trouble) {
      return { records: new RecordBook(share.sid, share.epoch), trouble };
    }
  }

  async function newDevice(
    deviceId: string,
    name: string,
    pairing: Pairing,
    nodeStore: NodeStore,
    records: RecordStore,
    runtime: LightningRuntime,
  ): Promise<DeviceGateway> {
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
        records,
        deposits,
        channels: table("channels"),
        payments: table("payments"),
        sightings: table("sightings"),
        limits: () => registry.limits(deviceId),
        runtime,
        store: nodeStore,
        bridge,
        leastChannelSat: config.leastChannelSat ?? LEAST_CHANNEL_SAT,
        openings,
        ...(pairing.serviceFee ? { serviceFee: pairing.serviceFee } : {}),
        ...(pairing.serviceFee ? { till } : {}),
        log: log.part(name),
        wrongAnswer: error => {
          const before = registry.standing(deviceId);
          const { standing, consequence, alarm } = afterAbort(before, error);
          if (consequence === "burn-record" || consequence === "lock")
            registry.putStanding(deviceId, standing);
          if (alarm)
            log.error(
              "this device's halves of signatures are wrong again and again: it is faulty, or not what it was",
              { code: codeOf(error), device: name, spoilt: standing.spoilt },
            );
          if (standing.locked && !before.locked) locked(deviceId);
        },
        onFatal: error => fatal(deviceId, error),
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

  /** Resolves when the device is served, or when it is clear that this will take its time: then the others go first. */
  async function startDevice(device: DeviceGateway | undefined): Promise<void> {
    if (!device) return;
    await untilWaiting(
      async onWaiting => {
        await device.start(onWaiting);
        // Who closes the gateway has not seen this one.
        if (closing) return device.stop();
        devices.set(device.id, device);
        links.greet(device.id);
      },
      titleOf(device.id),
      async error => {
        await device.stop();
        if (codeOf(error) === undefined) fatal(device.id, error);
        // A gateway that ends has taken away what this one was waiting for.
        else if (!closing) leaveOut(device.id, error);
      },
    );
  }

  /** Starts a node. One that waits for the chain goes on starting beside the others, and one that fails stops none of them. */
  function untilWaiting(
    start: (onWaiting: () => void) => Promise<void>,
    what: string,
    failed: (error: unknown) => Promise<void>,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      let isWaiting = false;
      const onWaiting = () => {
        if (!isWaiting)
          log.error(`${what} waits for blocks that bitcoind can't show: it is not served until it can`);
        isWaiting = true;
        resolve();
      };
      start(onWaiting)
        .then(() => {
          if (isWaiting) log.info(`${what} is served again`);
        }, failed)
        .then(resolve, reject);
    });
  }

  function startOwnNode(runtime: LightningRuntime): Promise<void> {
    return untilWaiting(
      async onWaiting => {
        const brokeLdk = options.leftOut?.get(OWN_NODE);
        if (brokeLdk !== undefined) throw breaksLdk(brokeLdk);
        ownNode = await OwnNode.start({
          runtime,
          store: openNodeStore(table("lightning"), OWN_NODE),
          bridge,
          ...(config.serviceFee?.payoutScript ? { payoutScript: config.serviceFee.payoutScript } : {}),
          log: log.part("own node"),
          onFatal: error => fatal(OWN_NODE, error),
          onWaiting,
        });
        rememberOwnNode(store, ownNode.nodeId);
      },
      "the gateway's own node",
      async error => {
        if (codeOf(error) === undefined) fatal(OWN_NODE, error);
        else if (!closing)
          log.error(
            `the gateway's own node can't run, devices are served without settling their fees: ${(error as Error).message}`,
            { code: codeOf(error) },
          );
      },
    );
  }

  try {
    await chain.start();
    runtime = await startRuntime(chain, log.part("ldk"), openNodeStore(table("lightning"), "shared"));
    deposits = await Deposits.open(table("deposits"), chain);
    const owing = registry.devices().some(({ pairing }) => pairing?.serviceFee);
    if (config.serviceFee || owing) await startOwnNode(runtime);
    const made: (DeviceGateway | undefined)[] = [];
    for (const { id, state } of registry.devices()) if (state !== "invited") made.push(await makeDevice(id));
    deposits.follow();
    for (const device of made) await startDevice(device);
    log.info("the gateway is running", { devices: devices.size, network: config.network });
  } catch (error) {
    await close();
    throw error;
  }
  return { mqttPort: links.port, traffic: deviceId => links.traffic(deviceId), close };
}

function openClaimed(dataDir: string, release: () => void, log: Log): ReturnType<typeof openStore> {
  try {
    const store = openStore(dataDir);
    for (const path of closeToOthers(dataDir))
      log.warn("others could have read this, with the keys in it; now they can't any more", { path });
    return store;
  } catch (error) {
    release();
    throw error;
  }
}

function breaksLdk(why: string): Error {
  return lngateError("store-damaged", `LDK breaks at the state that is stored of it (${why})`);
}

function closingOf(device: DeviceGateway): Closing {
  const { closeTxid, held } = device;
  return {
    channel: device.state() as DeviceStatus["channel"],
    ...(closeTxid ? { closeTxid } : {}),
    ...(held ? { held } : {}),
  };
}

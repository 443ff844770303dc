/**
 * The gateway: broker, chain, one Lightning node per device, threshold server. This file joins the parts; each of
 * them is in a file of its own.
 */
import type { Database } from "lmdb";
import { fromHex } from "../src/bytes/bytes.ts";
import { codeOf } from "../src/errors.ts";
import { createChain } from "./chain/chain.ts";
import { Deposits } from "./channel/deposits.ts";
import { type GatewayConfig, LEAST_CHANNEL_SAT } from "./config.ts";
import { Devices } from "./device/devices.ts";
import { createFaults, FEE_NODE } from "./faults.ts";
import { FeeNodeRunner } from "./fees/fee-node-runner.ts";
import { type LightningRuntime, startRuntime } from "./lightning/runtime.ts";
import { openNodeStore } from "./lightning/store.ts";
import { GatewayLinks } from "./link/links.ts";
import { type Counted, counted, type Log, lastingTrouble, logOf } from "./log.ts";
import { createOwnerApi } from "./owner/api.ts";
import { openCeremonies } from "./owner/ceremonies.ts";
import { OwnerService } from "./owner/service.ts";
import { claimDataFolder } from "./store/folder-lock.ts";
import { openRegistry, openStore, type Registry } from "./store/registry.ts";
import { closeToOthers } from "./store/store-file.ts";

/** A gateway that serves. */
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

/** What a process or thread that runs a gateway has to do with it. */
export interface GatewayOptions {
  /** Nodes (a device's id, or `FEE_NODE`) that are not to be started, and why: LDK broke at them before. */
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
  log: Log = logOf(config),
  options: GatewayOptions = {},
): Promise<RunningGateway> {
  const release = claimDataFolder(config.dataDir);
  const store = openClaimed(config.dataDir, release, log);
  const table = (name: string): Database<Uint8Array, string> => store.openDB({ name, encoding: "binary" });
  const registry = openRegistry(store);
  const bridge = {
    nodeId: fromHex(config.bridge.nodeId),
    host: config.bridge.host,
    port: config.bridge.port,
  };
  const refusals = counted((text, fields) => log.warn(text, fields));
  const ceremonies = openCeremonies();
  const leftOut = options.leftOut ?? new Map<string, string>();
  const titleOf = (culprit: string) => nameOf(culprit, registry);
  const faults = createFaults({ log, titleOf, broken: options.onBroken ?? endProcess });
  let closing = false;
  const isClosing = () => closing;

  const chain = createChain({
    rpc: config.bitcoind,
    network: config.network,
    log: log.part("chain"),
    onTip: () => {
      devices.newBlock();
      feeNode.newBlock();
    },
  });
  let runtime: LightningRuntime | undefined;
  let deposits: Deposits;
  const payoutScript = config.serviceFee?.payoutScript;
  const feeNode = new FeeNodeRunner({
    store,
    bridge,
    ...(payoutScript ? { payoutScript } : {}),
    faults,
    log,
    isClosing,
  });
  const devices = new Devices({
    dataDir: config.dataDir,
    network: config.network,
    bridge,
    leastChannelSat: config.leastChannelSat ?? LEAST_CHANNEL_SAT,
    registry,
    table,
    feeReceiver: feeNode.feeReceiver,
    leftOut,
    faults,
    log,
    titleOf,
    send: (deviceId, message) => links.send(deviceId, message),
    served: deviceId => links.greet(deviceId),
    isClosing,
  });
  const owners = new OwnerService({
    registry,
    ceremonies,
    api: createOwnerApi({
      network: config.network,
      registry,
      deviceOf: deviceId => devices.needed(deviceId),
      deposits: () => deposits,
      isConnected: deviceId => links.isConnected(deviceId),
      blockTime: () => chain.follower.tipTime,
      graph: () => runtime?.knowledge(),
    }),
    log: log.part("owner"),
    network: config.network,
    ...(config.serviceFee ? { serviceFee: config.serviceFee.terms } : {}),
    blockHeight: async () => (await chain.follower.currentTip()).height,
    records: deviceId => devices.recordsOf(deviceId),
    send: (identity, message) => links.send(identity, message),
    paired: deviceId => {
      for (const identity of [deviceId, `${deviceId}.owner`]) links.forget(identity);
      devices.paired(deviceId);
    },
    locked: deviceId => devices.locked(deviceId),
  });

  const links = await GatewayLinks.open({
    mqtt:
      config.mqtt.kind === "external" ? { ...config.mqtt, maxMessageBytes: LONGEST_MESSAGE } : config.mqtt,
    // A device is let in when its node runs: what it said before would be lost.
    account: identity =>
      OwnerService.serves(identity) || devices.get(identity) ? registry.account(identity) : undefined,
    identities: () => registry.identities(),
    onMessage: (identity, message) => {
      if (OwnerService.serves(identity)) owners.onMessage(identity, message);
      else faults.guarded(identity, () => devices.get(identity)?.received(message));
    },
    onSession: (identity, state) => {
      log.debug("session", { identity, state });
      if (OwnerService.serves(identity)) owners.onSession(identity, state);
      else faults.guarded(identity, () => devices.get(identity)?.session(state));
    },
    onRefused: (code, subject, count) => noteRefused(log, refusals, code, subject, count),
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

  async function close(): Promise<void> {
    if (closing) return;
    closing = true;
    // First of all: what waits for an answer of bitcoind's would be waited for below.
    const chainEnd = chain.stop();
    await devices.stop();
    await feeNode.stop();
    await runtime?.stop();
    await links.close();
    await chainEnd;
    await devices.arrived();
    await ceremonies.close();
    refusals.flush();
    devices.closeRecords();
    await store.close();
    release();
  }

  try {
    await chain.start();
    const nodeStore = (name: string) => openNodeStore(table("lightning"), name);
    runtime = await startRuntime(chain, log.part("ldk"), nodeStore("shared"));
    deposits = await Deposits.open(table("deposits"), chain);
    // Also for a service that is free by now: somebody may owe it something.
    const owing = registry.devices().some(({ pairing }) => pairing?.serviceFee);
    if (config.serviceFee || owing) await feeNode.start(runtime, nodeStore(FEE_NODE), leftOut.get(FEE_NODE));
    await devices.start(runtime, deposits);
    log.info("the gateway is running", { devices: devices.count, network: config.network });
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

/** A device, or the gateway's own node, as the log names it. */
function nameOf(culprit: string, registry: Registry): string {
  if (culprit === FEE_NODE) return "the gateway itself";
  const name = registry.devices().find(({ id }) => id === culprit)?.name ?? culprit;
  return `the device "${name}" (${culprit})`;
}

function endProcess(): void {
  process.exitCode = 1;
  setImmediate(() => process.exit(1));
}

/** What a link has refused. `count`: packets of a flood. */
function noteRefused(log: Log, refusals: Counted, code: string, subject: string, count?: number): void {
  if (code === "broker-flood")
    log.warn("one client floods the broker: it is not heard for some seconds", {
      identity: subject,
      packets: count,
    });
  else if (EVERYDAY.has(code)) log.debug("refused", { code, subject });
  else refusals.note("refused", { code, subject });
}

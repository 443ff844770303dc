/** `lngate gateway check`: the configuration against reality. What is in place is tried, and not only reached. */

import { accessSync, constants, existsSync, mkdirSync, statfsSync, statSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { BITCOIND_CHAINS } from "../../src/bitcoin/network.ts";
import { shownHash } from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import { graphTrouble } from "../../src/lightning/graph-knowledge.ts";
import { UP_TOPICS } from "../../src/link/topics.ts";
import { type BitcoinRpc, connectRpc } from "../../src/node/bitcoind-rpc.ts";
import type { Command } from "../../src/node/command.ts";
import { loginFails } from "../../src/node/mqtt-login.ts";
import type { BlockPoint } from "../chain/chain-client.ts";
import { Deposits } from "../channel/deposits.ts";
import { bridgeText, type GatewayConfig, loadConfig } from "../config.ts";
import { readKnowledge } from "../lightning/knowledge.ts";
import type { Peer } from "../lightning/peers/contacts.ts";
import { openNodeStore } from "../lightning/store.ts";
import { bridgeOf, readChannelRow } from "../store/channel-row.ts";
import { gatewayRuns } from "../store/folder-lock.ts";
import { brokerAddress, CONFIG, configFile, withStore } from "./gateway-target.ts";

/** What was found, in a sentence, and what is worth a look although it does not stand in the way. */
interface Found {
  readonly detail: string;
  readonly notes?: readonly string[];
}

export const check: Command = {
  name: "gateway check",
  summary: "check the configuration against reality",
  help: `Reads the configuration as strictly as the gateway does, and then tries what it says: may others read the file or the data folder, is there room on the disk; does bitcoind answer every question that the gateway asks, is it on the right network and in step with the chain, does it keep enough blocks; is the broker's port free, or does the broker let the gateway in; is the bridge the node that it should be, and does it open anchors channels.

Run it as the user that runs the gateway. It ends with 1 unless everything is in place.`,
  options: CONFIG,
  async run(given, terminal) {
    const config = loadConfig(configFile(given));
    const checks: { what: string; ok: boolean; detail: string; notes?: readonly string[] }[] = [];
    for await (const [what, work] of checksOf(config)) {
      terminal.progress(`${what} …`);
      try {
        checks.push({ what, ok: true, ...(await work(config)) });
      } catch (error) {
        checks.push({ what, ok: false, detail: (error as Error).message });
      }
      const { ok, detail, notes = [] } = checks[checks.length - 1]!;
      terminal.say(`${ok ? "ok     " : "FAILED "} ${what}: ${detail}`);
      for (const note of notes) terminal.say(`note    ${what}: ${note}`);
    }
    terminal.result({ config: config.file, checks });
    const failed = checks.filter(({ ok }) => !ok).length;
    if (failed > 0)
      throw lngateError(
        "check-failed",
        `${failed} of ${checks.length} checks failed; ${config.file} is where to look`,
      );
    const notes = checks.reduce((sum, check) => sum + (check.notes?.length ?? 0), 0);
    terminal.say(
      notes === 0
        ? "Everything is in place: lngate gateway run"
        : `Nothing stands in the way, but look at ${notes === 1 ? "the note" : `the ${notes} notes`}: lngate gateway run`,
    );
  },
};

async function* checksOf(
  config: GatewayConfig,
): AsyncGenerator<[string, (config: GatewayConfig) => Promise<Found>]> {
  yield ["configuration", checkFile];
  yield ["data folder", checkFolder];
  yield ["bitcoind", checkBitcoind];
  yield ["MQTT broker", checkBroker];
  yield ["bridge", checkBridge];
  const devices = await pairedDevices(config);
  if (devices.length > 0) yield ["spending limits", async () => checkLimits(devices)];
  for (const [name, bridge] of await formerBridges(config))
    yield [`bridge of "${name}"`, () => checkFormerBridge(bridge)];
}

function failed(sentence: string): Error {
  return lngateError("check-failed", sentence);
}

// ── files ─────────────────────────────────────────────────────────────────────────────────────────────────

const MEGABYTE = 1e6;
/** Less than this is used up by the log of one bad day. */
const LEAST_FREE_BYTES = 200 * MEGABYTE;
/** Charging 1,000 payments takes some 170 MB. */
const AMPLE_FREE_BYTES = 1_000 * MEGABYTE;

const isOpenToOthers = (path: string) => (statSync(path).mode & 0o007) !== 0;

async function checkFile({ file, mqtt, bitcoind }: GatewayConfig): Promise<Found> {
  const hasSecrets = mqtt.kind === "external" ? mqtt.password !== undefined : false;
  if ((hasSecrets || bitcoind.password !== undefined) && isOpenToOthers(file))
    throw failed(
      `everybody on this machine may read ${file}, and there are passwords in it: chmod 600 ${file}`,
    );
  const { cookieFile } = bitcoind;
  const openCookie =
    cookieFile !== undefined && statSync(cookieFile, { throwIfNoEntry: false }) && isOpenToOthers(cookieFile);
  return {
    detail: file,
    ...(openCookie
      ? { notes: [`everybody on this machine may read ${cookieFile}, and so use your bitcoind`] }
      : {}),
  };
}

async function checkFolder({ dataDir }: GatewayConfig): Promise<Found> {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const { uid, mode } = statSync(dataDir);
  const self = process.getuid?.();
  if (self !== undefined && uid !== self)
    throw failed(
      `${dataDir} belongs to the user with number ${uid}, and this is ${self}: run the check, and the gateway, as its owner`,
    );
  accessSync(dataDir, constants.W_OK);
  if ((mode & 0o077) !== 0)
    throw failed(
      `others on this machine may look into ${dataDir}, where the gateway's keys are: chmod 700 ${dataDir} (with systemd's StateDirectory: StateDirectoryMode=0700)`,
    );
  const { bavail, bsize } = statfsSync(dataDir);
  const free = bavail * bsize;
  const room = `${(free / MEGABYTE).toFixed(0)} MB are free`;
  if (free < LEAST_FREE_BYTES)
    throw failed(`${dataDir}: ${room} on its disk; the gateway needs 200 MB at least`);
  return {
    detail: `${dataDir}, ${room}`,
    ...(free < AMPLE_FREE_BYTES
      ? { notes: [`${room}; charging 1,000 payments of a device takes 170 MB`] }
      : {}),
  };
}

// ── bitcoind ──────────────────────────────────────────────────────────────────────────────────────────────

interface ChainInfo {
  readonly chain: string;
  readonly blocks: number;
  readonly headers: number;
  readonly initialblockdownload: boolean;
  readonly time?: number;
  readonly pruned: boolean;
  /** The lowest block that is kept whole. */
  readonly pruneheight?: number;
}

/** Blocks that bitcoind may be behind the headers it has, for the moment that it takes to read one. */
const FEW_BLOCKS = 2;
const OLD_BLOCK_SECONDS = 3 * 3600;
const BLOCKS_A_DAY = 144;
/** A gateway may be off for a week, and go on. */
const AMPLE_BLOCKS = 7 * BLOCKS_A_DAY;

async function checkBitcoind(config: GatewayConfig): Promise<Found> {
  const { network, bitcoind } = config;
  const rpc = connectRpc({ ...bitcoind, timeoutMs: 5000 });
  try {
    const info = await rpc.call<ChainInfo>("getblockchaininfo");
    const { chain, blocks, headers } = info;
    if (!BITCOIND_CHAINS[network].includes(chain))
      throw failed(`it is on "${chain}", but "network" in the configuration is "${network}"`);
    if ((info.initialblockdownload && network !== "regtest") || headers - blocks > FEW_BLOCKS)
      throw failed(
        `it is still downloading the chain (block ${blocks} of ${headers}); wait until it is done`,
      );
    const notes: string[] = [];
    const ageSeconds = Date.now() / 1000 - (info.time ?? Number.POSITIVE_INFINITY);
    if (network !== "regtest" && ageSeconds > OLD_BLOCK_SECONDS)
      notes.push(`its newest block is ${Math.round(ageSeconds / 3600)} hours old: has it peers?`);
    const seen = await withStore(config, (_registry, store) =>
      Deposits.lastBlock(store.openDB({ name: "deposits", encoding: "binary" })),
    );
    const kept = checkPruning(seen, info, notes);
    if (seen) await checkKnown(rpc, seen);
    await checkMethods(rpc, notes);
    return { detail: `${bitcoind.url}, block ${blocks} of ${network}, ${kept}`, notes };
  } finally {
    rpc.close();
  }
}

/** A bitcoind that has lost blocks, or is another one, may not know the place that the gateway was at. */
async function checkKnown(rpc: BitcoinRpc, { hash, height }: BlockPoint): Promise<void> {
  const shown = shownHash(hash);
  try {
    await rpc.call("getblockheader", [shown]);
  } catch (error) {
    if ((error as { code?: unknown }).code !== "bitcoind-refused") throw error;
    throw failed(
      `it does not know block ${height} (${shown}), up to which this gateway has followed the chain: wait until it has caught up, or is it another bitcoind?`,
    );
  }
}

/** Blocks that the gateway has not read yet must still be there, also after it was off for a while. */
function checkPruning(seen: BlockPoint | undefined, info: ChainInfo, notes: string[]): string {
  const { blocks, pruned, pruneheight = 0 } = info;
  if (!pruned) return "all blocks kept";
  if (seen && seen.height + 1 < pruneheight)
    throw failed(
      `it has pruned its blocks below ${pruneheight}, and this gateway has read up to ${seen.height}: fetch those between again (bitcoin-cli getblockfrompeer), or use a bitcoind that has them`,
    );
  const kept = blocks - pruneheight + 1;
  const days = (kept / BLOCKS_A_DAY).toFixed(1);
  if (kept < AMPLE_BLOCKS && pruneheight > 0)
    notes.push(
      `it keeps the last ${kept} blocks, ${days} days: a gateway that is off for longer can't go on by itself. A larger "prune=" in bitcoin.conf keeps more (4000 is some two weeks)`,
    );
  return `pruned, ${kept} blocks kept`;
}

/** Everything that the gateway asks, in a way that changes nothing: what is refused for its content is allowed. */
const METHODS: readonly (readonly [string, ...unknown[]])[] = [
  ["getblockhash", 0],
  ["getblockheader", "00"],
  ["getblock", "00"],
  ["gettxout", "00".repeat(32), 0],
  ["getmempoolinfo"],
  ["estimatesmartfee", 12],
  ["sendrawtransaction", "00"],
  ["submitpackage", []],
];

async function checkMethods(rpc: BitcoinRpc, notes: string[]): Promise<void> {
  const ask = async ([method, ...params]: readonly [string, ...unknown[]]) => {
    try {
      await rpc.call(method, params);
    } catch (error) {
      if ((error as { code?: unknown }).code !== "bitcoind-refused") throw error;
    }
  };
  for (const method of METHODS) await ask(method);
  try {
    await ask(["waitfornewblock", 1]);
  } catch (error) {
    notes.push(`${(error as Error).message}. Without it the gateway asks every second`);
  }
}

// ── devices ───────────────────────────────────────────────────────────────────────────────────────────────

interface PairedDevice {
  readonly id: string;
  readonly name: string;
  readonly hasLimits: boolean;
}

async function pairedDevices(config: GatewayConfig): Promise<PairedDevice[]> {
  if (!existsSync(join(config.dataDir, "store"))) return [];
  return withStore(config, registry =>
    registry
      .devices()
      .filter(({ state }) => state === "paired")
      .map(({ id, name }) => ({ id, name, hasLimits: registry.limits(id) !== undefined })),
  );
}

/** A device that was paired before gateways kept limits is held to none until its owner says some. */
function checkLimits(devices: readonly PairedDevice[]): Found {
  const without = devices.filter(({ hasLimits }) => !hasLimits);
  return {
    detail: `${devices.length - without.length} of ${devices.length} devices are held to their owners'`,
    notes: without.map(
      ({ id, name }) =>
        `"${name}" (${id}) has none here: whoever steals it can spend all of its money. Its owner can say some: lngate device limits`,
    ),
  };
}

// ── broker and bridge ─────────────────────────────────────────────────────────────────────────────────────

async function checkBroker(config: GatewayConfig): Promise<Found> {
  const { mqtt } = config;
  const isRunning = gatewayRuns(config.dataDir);
  if (mqtt.kind === "external") {
    const { hostname, port } = new URL(mqtt.url);
    await reach(hostname.replace(/^\[|\]$/g, ""), Number(port || 1883));
    // A second login under the same name would throw the gateway out.
    if (isRunning)
      return {
        detail: `${mqtt.url} is reached; the gateway that runs says in its log whether it is let in`,
      };
    const why = await loginFails({
      url: mqtt.url,
      username: mqtt.user,
      password: mqtt.password,
      topics: UP_TOPICS,
    });
    if (why !== undefined)
      throw failed(
        `${mqtt.url} does not let the gateway in (${why}): see to "mqtt.user" and "mqtt.password", and to the broker's rules (it must be allowed to read ${UP_TOPICS.join(", ")})`,
      );
    return { detail: `${mqtt.url} lets the gateway in` };
  }
  const address = brokerAddress(config);
  const where = `devices connect to ${address.host}:${address.port}`;
  if (isRunning) {
    await reach(mqtt.host === "0.0.0.0" || mqtt.host === "::" ? "localhost" : mqtt.host, mqtt.port);
    return { detail: `port ${mqtt.port} belongs to the gateway that runs; ${where}` };
  }
  await new Promise<void>((resolve, reject) => {
    const server = createServer();
    server.once("error", error =>
      reject(
        failed(
          (error as NodeJS.ErrnoException).code === "EADDRINUSE"
            ? `port ${mqtt.port} is taken by another program (mosquitto?); stop that one or change "mqtt.port"`
            : `it can't listen on ${mqtt.host}:${mqtt.port}: ${error.message}`,
        ),
      ),
    );
    server.listen(mqtt.port, mqtt.host, () => server.close(() => resolve()));
  });
  return { detail: `port ${mqtt.port} is free; ${where}` };
}

function reach(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: 5000 });
    const fail = (why: string) => {
      socket.destroy();
      reject(failed(`${host}:${port} can't be reached (${why})`));
    };
    socket.once("connect", () => {
      socket.destroy();
      resolve();
    });
    socket.once("timeout", () => fail("no answer within 5 s"));
    socket.once("error", error => fail((error as NodeJS.ErrnoException).code ?? error.message));
  });
}

/** By the names of devices, the nodes that their channels are with, where that is not the bridge in the configuration. */
async function formerBridges(config: GatewayConfig): Promise<[name: string, bridge: Peer][]> {
  if (!existsSync(join(config.dataDir, "store"))) return [];
  const configured = { ...config.bridge, nodeId: fromHex(config.bridge.nodeId) };
  return withStore(config, (registry, store) => {
    const channels = store.openDB<Uint8Array, string>({ name: "channels", encoding: "binary" });
    return registry.devices().flatMap(({ id, name }): [string, Peer][] => {
      const row = readChannelRow(channels, id);
      if (!row || row.stage === "closed") return [];
      const bridge = bridgeOf(row, configured);
      return bridge === configured ? [] : [[name, bridge]];
    });
  });
}

async function checkFormerBridge(bridge: Peer): Promise<Found> {
  const { nodeId, host, port } = bridge;
  await reach(host, port);
  const { probePeer } = await import("../lightning/peers/probe.ts");
  await probePeer(bridge);
  return { detail: `its channel stays with ${toHex(nodeId)}@${host}:${port}, which is that node` };
}

async function checkBridge(config: GatewayConfig): Promise<Found> {
  const { nodeId, host, port } = config.bridge;
  await reach(host, port);
  // Loaded here alone: Lightning takes its time to start.
  const { probePeer } = await import("../lightning/peers/probe.ts");
  const { hasAnchors } = await probePeer({ nodeId: fromHex(nodeId), host, port });
  if (!hasAnchors)
    throw failed(
      `${bridgeText(config)} opens no anchors channels, and the gateway opens no others: update it, or choose another`,
    );
  const ignorance = await ignoranceOf(config);
  return {
    detail: `${bridgeText(config)} is that node, and opens anchors channels`,
    ...(ignorance ? { notes: [ignorance] } : {}),
  };
}

/** What is wrong with what a gateway that has run before knows of the network. */
async function ignoranceOf(config: GatewayConfig): Promise<string | undefined> {
  if (!existsSync(join(config.dataDir, "store"))) return undefined;
  return withStore(config, (_registry, store) => {
    const table = store.openDB<Uint8Array, string>({ name: "lightning", encoding: "binary" });
    const knowledge = readKnowledge(openNodeStore(table, "shared"));
    return knowledge && graphTrouble(knowledge, Math.floor(Date.now() / 1000));
  });
}

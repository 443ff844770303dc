/**
 * The whole path on one machine: regtest bitcoind, a bridge and a toll company on plain LDK with its stock keys, the
 * gateway with its broker, the owner's computer, and cars with real flash files, all over TCP. Gateway and cars run
 * in this process, or as processes of their own that can be killed.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type * as ldk from "lightningdevkit";
import type { Device } from "../../device/api.ts";
import { type NodeBoard, openNodeBoard } from "../../device/boards/node/board.ts";
import { openDevice } from "../../device/device.ts";
import type { SpendingPolicy } from "../../device/identity.ts";
import { createChain } from "../../gateway/chain/chain.ts";
import type { GatewayConfig } from "../../gateway/config.ts";
import { type RunningGateway, runGateway } from "../../gateway/gateway.ts";
import { claimOrFail } from "../../gateway/lightning/payments/invoices.ts";
import { startRuntime } from "../../gateway/lightning/runtime.ts";
import { createLog, type Log } from "../../gateway/log.ts";
import { openRegistry, openStore } from "../../gateway/store/registry.ts";
import { askDeposit } from "../../owner/client/channel.ts";
import { chargeDevice } from "../../owner/client/charge.ts";
import { pairDevice } from "../../owner/client/pair.ts";
import { readDeviceInfo } from "../../owner/folder/device-files.ts";
import { createOwner, deviceFolder } from "../../owner/folder/folder.ts";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import type { PlainPeerOptions } from "../../scripts/peer/api.ts";
import { PlainPeer } from "../../scripts/peer/plain-peer.ts";
import { reservePort } from "../../scripts/ports.ts";
import { Program } from "../../scripts/program.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import type { RpcOptions } from "../../src/node/bitcoind-rpc.ts";
import { encodePairingCode } from "../../src/pairing/code.ts";
import { quiet } from "../lightning-node/quiet.ts";
import { copyDevice, MADE_FOR_PAYMENTS, OWNER_WORDS } from "./made-devices.ts";
import { Wire } from "./wire.ts";

/** Polls until the test holds. `ms`: when to give up, and nothing of how long it may take. */
export async function waitFor(what: string, test: () => unknown, ms = 300_000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await test())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

/** A message on a device's link, as the gateway logs it. */
export interface LinkMessage {
  readonly device: string;
  readonly way: "up" | "down";
  readonly type: string;
}

function linkMessageIn(line: string): LinkMessage | undefined {
  const found = / debug (.*): link way=(up|down) type=(\S+) /.exec(line);
  if (!found) return undefined;
  const [, device = "", way, type = ""] = found;
  return { device: device.trim(), way: way as LinkMessage["way"], type };
}

export interface DeviceOptions {
  /** How many payments it is charged for. */
  readonly payments?: number;
  readonly policy?: Partial<SpendingPolicy>;
  /** Size of its flash, in pages of 4 KiB. */
  readonly flashPages?: number;
}

/** What there is before the peers are. */
export interface Ground {
  readonly folder: string;
  readonly bitcoind: Regtest;
  readonly log: Log;
}

/** Bridge and toll company, with a channel between them. */
export interface Peers<Bridge, Destination> {
  readonly bridge: Bridge;
  readonly toll: Destination;
  /** Where the gateway finds bitcoind, if not where everybody does. */
  readonly gatewayRpc?: RpcOptions;
  stop(): Promise<void>;
}

/** Where the bridge is to be found. */
export interface BridgeAddress {
  readonly nodeId: string;
  readonly port: number;
}

export interface WorldOptions {
  /** Of a broker that the gateway is to use instead of its own. */
  readonly brokerPort?: number;
  readonly serviceFee?: GatewayConfig["serviceFee"];
  readonly bitcoindArgs?: readonly string[];
}

/** A world whose peers are of no matter. */
export type AnyWorld = World<BridgeAddress, unknown>;

interface Parts<Bridge, Destination> {
  readonly folder: string;
  readonly bitcoind: Regtest;
  readonly peers: Peers<Bridge, Destination>;
  /** Between the devices (and the owner's computer) and the broker. */
  readonly wire: Wire;
  /** Between the gateway and the bridge. */
  readonly bridgeWire: Wire;
  readonly config: GatewayConfig;
  readonly lines: Lines;
}

/** The log of everything that runs in this process, and of the programs. */
class Lines {
  readonly all: string[] = [];
  readonly listeners = new Set<(line: string) => void>();
  readonly log: Log = createLog("debug", line => this.add(line.trimEnd()));

  add(line: string): void {
    this.all.push(line);
    if (process.env["LNGATE_TEST_LOG"]) process.stderr.write(`${line}\n`);
    for (const listener of [...this.listeners]) listener(line);
  }
}

/** The toll company: takes what comes, or keeps it for a while. */
export class Toll {
  readonly peer: PlainPeer;
  /** Each payment that it has claimed, in order; a hash twice would be a payment made twice. */
  readonly claimed: { readonly hash: string; readonly amountMsat: number }[];
  private readonly gate: { held: ldk.Event_PaymentClaimable[] | null; onHeld: () => void };

  private constructor(peer: PlainPeer, claimed: Toll["claimed"], gate: Toll["gate"]) {
    this.peer = peer;
    this.claimed = claimed;
    this.gate = gate;
  }

  static async start(options: Omit<Parameters<typeof PlainPeer.start>[0], "onEvent">): Promise<Toll> {
    const claimed: { hash: string; amountMsat: number }[] = [];
    const gate: Toll["gate"] = { held: null, onHeld: () => {} };
    const peer = await PlainPeer.start({
      ...options,
      onEvent: event => {
        if (event.event === "claimed") claimed.push({ hash: event.hash, amountMsat: event.amountMsat });
      },
      holdsPayment: event => {
        if (!gate.held) return false;
        gate.held.push(event);
        gate.onHeld();
        return true;
      },
    });
    return new Toll(peer, claimed, gate);
  }

  invoice(amountMsat: number | null, expirySeconds = 3600): string {
    return this.peer.invoice(amountMsat, "toll", expirySeconds);
  }

  /** From now on payments are kept. Resolves when the next one is there. */
  hold(): Promise<void> {
    this.gate.held ??= [];
    return new Promise(resolve => {
      this.gate.onHeld = resolve;
    });
  }

  claimHeld(): void {
    for (const event of this.takeHeld()) claimOrFail(this.peer.node.manager, event);
    this.peer.node.wake();
  }

  failHeld(): void {
    for (const event of this.takeHeld()) this.peer.node.manager.fail_htlc_backwards(event.payment_hash);
    this.peer.node.wake();
  }

  private takeHeld(): ldk.Event_PaymentClaimable[] {
    const held = this.gate.held ?? [];
    this.gate.held = null;
    return held;
  }

  /** How often the payment of this hash has arrived. */
  timesPaid(hash: string): number {
    return this.claimed.filter(each => each.hash === hash).length;
  }
}

interface BridgeOptions {
  /** Confirmations before the bridge uses a channel. */
  readonly bridgeDepth?: number;
  /** How much of a channel it lets be in flight. */
  readonly bridgeInFlightPercent?: number;
  /** It tells of the network only what it is asked for. */
  readonly quietBridge?: boolean;
  /** How it behaves otherwise than a plain peer. */
  readonly bridgeBehaviour?: PlainPeerOptions["behaviour"];
}

export class World<Bridge extends BridgeAddress = PlainPeer, Destination = Toll> {
  readonly folder: string;
  readonly bitcoind: Regtest;
  readonly bridge: Bridge;
  readonly toll: Destination;
  readonly wire: Wire;
  readonly bridgeWire: Wire;
  readonly config: GatewayConfig;
  private readonly lines: Lines;
  private readonly peers: Peers<Bridge, Destination>;
  private gateway: RunningGateway | undefined;
  private readonly programs = new Set<Program>();
  private gatewayPrograms = 0;
  /** Devices that were copied so far. */
  private copies = 0;

  private constructor(parts: Parts<Bridge, Destination>) {
    this.folder = parts.folder;
    this.bitcoind = parts.bitcoind;
    this.bridge = parts.peers.bridge;
    this.toll = parts.peers.toll;
    this.peers = parts.peers;
    this.wire = parts.wire;
    this.bridgeWire = parts.bridgeWire;
    this.config = parts.config;
    this.lines = parts.lines;
  }

  /**
   * bitcoind, bridge, toll company, a channel between the two, and an owner. No gateway yet.
   */
  static start({
    bridgeDepth = 1,
    bridgeInFlightPercent = 100,
    quietBridge = false,
    bridgeBehaviour,
    ...options
  }: WorldOptions & BridgeOptions = {}): Promise<World> {
    const bridge = (graph: ldk.NetworkGraph) => ({
      minimumDepth: bridgeDepth,
      behaviour: {
        inFlightPercent: bridgeInFlightPercent,
        ...(quietBridge ? quiet(graph) : {}),
        ...bridgeBehaviour,
      },
    });
    return World.startWith(ground => plainPeers(ground, bridge), options);
  }

  /** The same, with other peers than those in this process. */
  static async startWith<Bridge extends BridgeAddress, Destination>(
    startPeers: (ground: Ground) => Promise<Peers<Bridge, Destination>>,
    { brokerPort, serviceFee, bitcoindArgs = [] }: WorldOptions = {},
  ): Promise<World<Bridge, Destination>> {
    const folder = mkdtempSync(join(tmpdir(), "lngate-e2e-"));
    const lines = new Lines();
    const bitcoind = await startRegtest({ extraArgs: bitcoindArgs });
    const peers = await startPeers({ folder, bitcoind, log: lines.log });
    const { bridge, gatewayRpc: rpc = bitcoind.rpcOptions } = peers;
    const mqttPort = brokerPort ?? (await reservePort());
    const wire = await Wire.to(mqttPort);
    const bridgeWire = await Wire.to(bridge.port);
    const config: GatewayConfig = {
      file: join(folder, "gateway.conf"),
      dataDir: join(folder, "gateway"),
      network: "regtest",
      bitcoind: rpc as GatewayConfig["bitcoind"],
      mqtt:
        brokerPort === undefined
          ? { kind: "embedded", host: "127.0.0.1", port: mqttPort }
          : { kind: "external", url: `mqtt://127.0.0.1:${brokerPort}` },
      bridge: { nodeId: bridge.nodeId, host: "127.0.0.1", port: bridgeWire.port },
      logLevel: "debug",
      logFormat: "text",
      ...(serviceFee ? { serviceFee } : {}),
    };
    const { nodeId, host, port } = config.bridge;
    writeFileSync(
      config.file,
      JSON.stringify({
        network: config.network,
        dataDir: config.dataDir,
        bitcoind: { url: rpc.url, cookieFile: rpc.cookieFile },
        mqtt: { host: "127.0.0.1", port: mqttPort },
        lightning: { bridge: `${nodeId}@${host}:${port}` },
        logLevel: "debug",
        logFormat: "text",
      }),
    );
    createOwner(join(folder, "owner"), "regtest", OWNER_WORDS);
    return new World({ folder, bitcoind, peers, wire, bridgeWire, config, lines });
  }

  /** The log so far: everything of this process and of the programs. */
  get log(): readonly string[] {
    return this.lines.all;
  }

  get ownerFolder(): string {
    return join(this.folder, "owner");
  }

  folderOf(deviceId: string): string {
    return deviceFolder(this.ownerFolder, deviceId);
  }

  // ── the gateway ───────────────────────────────────────────────────────────────────────────────────────

  async startGateway(): Promise<RunningGateway> {
    this.gateway = await runGateway(this.config, this.lines.log, {
      // As a process it would end, and its log would say why. Here that would end the tests without a word.
      onBroken(culprit, why) {
        setImmediate(() => {
          throw new Error(`the gateway is broken at ${culprit ?? "its store"}: ${why}`);
        });
      },
    });
    return this.gateway;
  }

  async stopGateway(): Promise<void> {
    await this.gateway?.close();
    this.gateway = undefined;
  }

  /** The gateway as a process of its own. */
  async runGatewayProgram(): Promise<Program> {
    const args = ["dist/lngate.mjs", "gateway", "run", "--config", this.config.file, "--json"];
    this.gatewayPrograms++;
    const program = this.run("gateway", args);
    await program.line(line => line["running"] === true);
    return program;
  }

  /** A car as a process of its own. */
  runCarProgram(deviceId: string): Program {
    return this.run(deviceId, [
      "dist/lngate.mjs",
      "device",
      "run",
      "--data",
      this.ownerFolder,
      "--device",
      deviceId,
    ]);
  }

  private run(name: string, args: readonly string[]): Program {
    const program = new Program(name, args, line => this.lines.add(line));
    this.programs.add(program);
    return program;
  }

  // ── what is said on the links ─────────────────────────────────────────────────────────────────────────

  /** Calls back at every message of a device's link, as it leaves the gateway or arrives there. Returns the end. */
  onLink(listener: (message: LinkMessage) => void): () => void {
    const each = (line: string) => {
      const message = linkMessageIn(line);
      if (message) listener(message);
    };
    this.lines.listeners.add(each);
    return () => this.lines.listeners.delete(each);
  }

  /** Resolves at the next line of the log that matches. */
  nextLine(pattern: RegExp): Promise<string> {
    return new Promise(resolve => {
      const each = (line: string) => {
        if (!pattern.test(line)) return;
        this.lines.listeners.delete(each);
        resolve(line);
      };
      this.lines.listeners.add(each);
    });
  }

  // ── owner and devices ─────────────────────────────────────────────────────────────────────────────────

  /**
   * A paired and charged device; its id. It is a copy of one that was made before, and a gateway that runs in this
   * process is stopped for it and started again.
   */
  async makeDevice(name: string, options: DeviceOptions = {}): Promise<string> {
    const { payments = 10, policy = {}, flashPages } = options;
    // A gateway that is a process of its own belongs to the test.
    if (this.gatewayPrograms > 0 || payments > MADE_FOR_PAYMENTS) return this.pairDevice(name, options);
    const isRunning = this.gateway !== undefined;
    await this.stopGateway();
    const deviceId = await copyDevice(this.copies++, {
      ownerFolder: this.ownerFolder,
      dataDir: this.config.dataDir,
      name,
      brokerUrl: `mqtt://127.0.0.1:${this.wire.port}`,
      blockHeight: await this.bitcoind.rpc<number>("getblockcount"),
      payments,
      policy,
      flashPages,
      serviceFee: this.config.serviceFee?.terms,
    });
    if (isRunning) await this.startGateway();
    return deviceId;
  }

  /** Invites, pairs and charges a device (the gateway has to run); its id. */
  async pairDevice(
    name: string,
    { payments = 10, policy = {}, flashPages }: DeviceOptions = {},
  ): Promise<string> {
    const store = openStore(this.config.dataDir);
    const invited = openRegistry(store).invite(name, 3600, length => new Uint8Array(randomBytes(length)));
    await store.close();
    const { deviceId, secret } = invited;
    const code = encodePairingCode({ deviceId, secret, host: "127.0.0.1", port: this.wire.port });
    await pairDevice({
      folder: this.ownerFolder,
      code,
      policy,
      ...(flashPages === undefined ? {} : { flashPages }),
    });
    if (payments > 0) await this.charge(deviceId, payments);
    return deviceId;
  }

  async charge(deviceId: string, payments: number): Promise<void> {
    await chargeDevice({ folder: this.ownerFolder, deviceId, payments });
  }

  /** Pays a deposit, unconfirmed. */
  async deposit(deviceId: string, sat: number): Promise<string> {
    const { address } = await askDeposit({ folder: this.ownerFolder, deviceId });
    return this.bitcoind.fund(address, sat);
  }

  /** The scriptPubKey to which this device's channels close, hex. */
  closeScript(deviceId: string): string {
    return toHex(readDeviceInfo(this.folderOf(deviceId)).keys.shutdownScript);
  }

  /** A device with a deposit and an open channel, and its car. */
  async makeCar(name: string, sat: number, options: DeviceOptions = {}): Promise<Car> {
    const deviceId = await this.makeDevice(name, options);
    await this.deposit(deviceId, sat);
    const car = await this.startCar(deviceId);
    await this.mineUntil(car.device.openChannel());
    return car;
  }

  /** A car, connected. */
  async startCar(deviceId: string): Promise<Car> {
    const car = this.openCar(deviceId);
    await car.device.connect();
    return car;
  }

  /** A car that does not connect by itself. */
  openCar(deviceId: string): Car {
    const board = openNodeBoard(this.folderOf(deviceId));
    const device = openDevice(board);
    let stopped = false;
    return {
      deviceId,
      board,
      device,
      stop() {
        if (stopped) return;
        stopped = true;
        // As when the power is cut: the second one does not wait.
        void device.disconnect();
        void device.disconnect();
        board.close();
      },
    };
  }

  // ── the chain ─────────────────────────────────────────────────────────────────────────────────────────

  /** Mines what waits to be mined until it happens. */
  mineUntil<T>(event: Promise<T>): Promise<T> {
    return mineUntil(this.bitcoind, event);
  }

  /** What a mined transaction pays, and its fee. Throws if it is in none of the last blocks. */
  async minedTransaction(
    txid: string,
  ): Promise<{ outputs: { script: string; sat: number }[]; feeSat: number }> {
    const sat = (bitcoin: number) => Math.round(bitcoin * 1e8);
    let hash = await this.bitcoind.rpc<string>("getbestblockhash");
    for (let i = 0; i < 100; i++) {
      const block = await this.bitcoind.rpc<{
        tx: { txid: string; fee: number; vout: { value: number; scriptPubKey: { hex: string } }[] }[];
        previousblockhash: string;
      }>("getblock", [hash, 2]);
      const found = block.tx.find(each => each.txid === txid);
      if (found) {
        const outputs = found.vout.map(({ value, scriptPubKey }) => ({
          script: scriptPubKey.hex,
          sat: sat(value),
        }));
        return { outputs, feeSat: sat(found.fee) };
      }
      hash = block.previousblockhash;
    }
    throw new Error(`the transaction ${txid} is in no block`);
  }

  async stop(): Promise<void> {
    for (const program of this.programs) await program.kill();
    await this.stopGateway();
    await this.wire.remove();
    await this.bridgeWire.remove();
    await this.peers.stop();
    await this.bitcoind.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Bridge and toll company in this process, on plain LDK. */
async function plainPeers(
  { folder, bitcoind, log }: Ground,
  bridgeOf: (graph: ldk.NetworkGraph) => Pick<PlainPeerOptions, "minimumDepth" | "behaviour">,
): Promise<Peers<PlainPeer, Toll>> {
  const rpc = bitcoind.rpcOptions;
  const chain = createChain({ rpc, network: "regtest", log: log.part("peers") });
  await chain.start();
  const shared = { chain, runtime: await startRuntime(chain, log.part("peers")) };
  const peer = (name: string) => ({
    dataDir: join(folder, name),
    network: "regtest" as const,
    rpc,
    wallet: "regtest",
    port: 0,
    log: log.part(name),
    shared,
  });
  const bridge = await PlainPeer.start({ ...peer("bridge"), ...bridgeOf(shared.runtime.graph) });
  const toll = await Toll.start(peer("toll"));
  const opened = bridge.open(toll.peer.address, 10_000_000, { pushSat: 1_000_000, announced: true });
  await mineUntil(bitcoind, opened);
  return {
    bridge,
    toll,
    async stop() {
      await bridge.stop();
      await toll.peer.stop();
      await chain.stop();
    },
  };
}

export async function mineUntil<T>(bitcoind: Regtest, event: Promise<T>): Promise<T> {
  let done = false;
  const watched = event.finally(() => {
    done = true;
  });
  watched.catch(() => {});
  while (!done) {
    if ((await bitcoind.rpc<string[]>("getrawmempool")).length > 0) await bitcoind.mine(6);
    await Promise.race([watched.catch(() => {}), new Promise(resolve => setTimeout(resolve, 30))]);
  }
  return watched;
}

export interface Car {
  readonly deviceId: string;
  readonly board: NodeBoard;
  readonly device: Device;
  stop(): void;
}

/** Resolves when no payment is in flight any more and both commitments say so. */
export function untilAtRest({ device }: Car): Promise<void> {
  return waitFor("the device to be at rest", () => device.isAtRest());
}

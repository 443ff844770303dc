/**
 * A gateway whose power fails: the real one for one device (LDK, signer, payments, records), with a bridge and a toll
 * company on plain LDK, a real bitcoind and a device, all in one process. What the gateway finds when it starts again
 * is what was durable; what must hold is checked at every failure.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ldk from "lightningdevkit";
import { type Database, open, type RootDatabase } from "lmdb";
import type { MqttConnection, MqttOptions } from "../../device/board.ts";
import { createBroadcaster } from "../../gateway/chain/broadcaster.ts";
import { type Chain, createChain } from "../../gateway/chain/chain.ts";
import { Deposits } from "../../gateway/channel/deposits.ts";
import { createOpenings } from "../../gateway/channel/openings.ts";
import { DeviceGateway } from "../../gateway/device/device.ts";
import type { LightningNode } from "../../gateway/lightning/node.ts";
import { claimOrFail } from "../../gateway/lightning/payments/invoices.ts";
import { type LightningRuntime, startRuntime } from "../../gateway/lightning/runtime.ts";
import { openNodeStore } from "../../gateway/lightning/store.ts";
import { createLog, type Log } from "../../gateway/log.ts";
import { type DiskRecordStore, openRecordStore } from "../../gateway/store/presignature-journal.ts";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import { PlainPeer } from "../../scripts/peer/plain-peer.ts";
import { p2wsh } from "../../src/bitcoin/script.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { depositScriptOf } from "../../src/channel/device-keys.ts";
import { fundingOf } from "../../src/channel/transactions.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { LinkServer } from "../../src/link/session.ts";
import { MAX_MESSAGE_BYTES, toDevice, toGateway } from "../../src/messages/device.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { LinkRunner } from "../../src/node/link.ts";
import { Auditor, Violation } from "../device/audit.ts";
import { messageOf } from "../device/dealer.ts";
import { Car, type DeviceCut } from "./car.ts";
import { type Cut, MemoryDisk, Power, PoweredStore, poweredTable } from "./power.ts";

/** `ms`: when to give up, and nothing of how long it may take. */
async function waitFor(what: string, test: () => unknown, ms = 300_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await test())) {
    if (performance.now() > end) throw new Violation(`stuck: waited in vain for ${what}`);
    await pause(5);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}

/** What all cars have in common: the chain, the bridge, the toll company. */
export class Street {
  readonly bitcoind: Regtest;
  readonly chain: Chain;
  readonly runtime: LightningRuntime;
  readonly bridge: PlainPeer;
  readonly toll: PlainPeer;
  readonly folder: string;
  readonly log: Log;
  readonly lines: string[];
  /** Payment hashes that the toll company has claimed, in order, and those that it refuses. */
  readonly claimed: string[];
  readonly refused: Set<string>;
  /** Channels that the bridge has closed, with the reason. */
  readonly closes: { readonly channelId: string; readonly reason: string }[];
  /** Told of every block. */
  readonly onTip: Set<() => void>;

  private constructor(parts: Omit<Street, "stop" | "mineUntil">) {
    this.bitcoind = parts.bitcoind;
    this.chain = parts.chain;
    this.runtime = parts.runtime;
    this.bridge = parts.bridge;
    this.toll = parts.toll;
    this.folder = parts.folder;
    this.log = parts.log;
    this.lines = parts.lines;
    this.claimed = parts.claimed;
    this.refused = parts.refused;
    this.closes = parts.closes;
    this.onTip = parts.onTip;
  }

  static async start(): Promise<Street> {
    const folder = mkdtempSync(join(tmpdir(), "lngate-cuts-"));
    const lines: string[] = [];
    const log = createLog("debug", line => {
      lines.push(line.trimEnd());
      if (process.env["LNGATE_TEST_LOG"]) process.stderr.write(line);
    });
    const onTip = new Set<() => void>();
    const bitcoind = await startRegtest();
    const rpc = bitcoind.rpcOptions;
    const chain = createChain({
      rpc,
      network: "regtest",
      log: log.part("chain"),
      onTip: () => {
        for (const listener of onTip) listener();
      },
    });
    await chain.start();
    const runtime = await startRuntime(chain, log.part("ldk"));
    const claimed: string[] = [];
    const refused = new Set<string>();
    const closes: Street["closes"] = [];
    const peer = (name: string) => ({
      dataDir: join(folder, name),
      network: "regtest" as const,
      rpc,
      wallet: "regtest",
      port: 0,
      log: log.part(name),
      shared: { chain, runtime },
    });
    const bridge = await PlainPeer.start({
      ...peer("bridge"),
      onEvent: event => {
        if (event.event === "channel-closed") closes.push(event);
      },
    });
    const toll: PlainPeer = await PlainPeer.start({
      ...peer("toll"),
      onEvent: event => {
        if (event.event === "claimed") claimed.push(event.hash);
      },
      holdsPayment: event => {
        if (!refused.has(toHex(event.payment_hash))) claimOrFail(toll.node.manager, event);
        else toll.node.manager.fail_htlc_backwards(event.payment_hash);
        toll.node.wake();
        return true;
      },
    });
    const street = new Street({
      bitcoind,
      chain,
      runtime,
      bridge,
      toll,
      folder,
      log,
      lines,
      claimed,
      refused,
      closes,
      onTip,
    });
    await street.mineUntil(bridge.open(toll.address, 16_000_000, { pushSat: 1_000_000, announced: true }));
    return street;
  }

  /** Mines what waits to be mined until it happens. */
  async mineUntil<T>(event: Promise<T>): Promise<T> {
    let done = false;
    const watched = event.finally(() => {
      done = true;
    });
    watched.catch(() => {});
    while (!done) {
      if ((await this.bitcoind.rpc<string[]>("getrawmempool")).length > 0) await this.bitcoind.mine(6);
      await Promise.race([watched.catch(() => {}), pause(30)]);
    }
    return watched;
  }

  async stop(): Promise<void> {
    await this.bridge.stop();
    await this.toll.stop();
    await this.chain.stop();
    await this.bitcoind.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** One life of the gateway, from its start to the failure of its power. */
interface Life {
  readonly power: Power;
  readonly runner: LinkRunner;
  readonly store: PoweredStore;
  readonly leaveChain: Set<() => void>;
  readonly gateway: DeviceGateway;
  /** Held weakly by LDK. */
  readonly kept: readonly unknown[];
  records: DiskRecordStore;
  started: boolean;
  broadcaster: { resend(): Promise<void> };
}

const PATIENCE_MS = 300_000;

/** Codes that say nothing of how it ends. */
const ASK_AGAIN = ["power-cut", "vault-stopped", "gateway-unreachable", "payment-pending"];

/** One failure of somebody's power. */
export type Plan =
  | { readonly of: "gateway"; readonly cut: Cut }
  | { readonly of: "car"; readonly cut: DeviceCut };

export interface WorldOptions {
  readonly name: string;
  /** Decides what is lost and what comes first where that is open. */
  readonly random: () => number;
  readonly depositSat?: number;
}

/** A car, its gateway, and the wires between them and the bridge. */
export class World {
  readonly street: Street;
  readonly car: Car;
  readonly random: () => number;
  private readonly name: string;
  private readonly environment: RootDatabase<unknown, string>;
  private readonly disk = new MemoryDisk();
  private readonly seed: Uint8Array;
  private readonly auditor = new Auditor();
  private readonly bridgeWire: Server;
  private readonly sockets = new Set<Socket>();
  private device: MqttOptions | undefined;
  private life: Life | undefined;
  private commitmentFeerate = 1000;
  private readonly bound = new Map<string, string>();
  private nodeId: Uint8Array | undefined;
  private plans: readonly Plan[] = [];
  private recovering: Promise<void> = Promise.resolve();
  gatewayStarts = 0;
  exitsChecked = 0;
  private tipListener = () => {};
  private charging = false;
  private readonly failures: string[] = [];
  private ended = false;
  /** What was wrong somewhere that could not throw. */
  readonly violations: string[] = [];

  private constructor(street: Street, options: WorldOptions, bridgeWire: Server, height: number) {
    this.street = street;
    this.name = options.name;
    this.random = options.random;
    this.environment = open({
      path: join(street.folder, options.name),
      overlappingSync: false,
      noSync: true,
    });
    this.seed = Uint8Array.from({ length: 32 }, () => Math.floor(Math.random() * 256));
    this.bridgeWire = bridgeWire;
    this.bridgeWire.on("connection", socket => this.joinBridge(socket));
    const birth = { height, time: Math.floor(Date.now() / 1000) };
    this.car = new Car(options.name, birth, { join: mqtt => this.joinAir(mqtt) }, options.random);
    this.tipListener = () => {
      if (!this.life?.power.isOn) return;
      void this.life.broadcaster.resend();
      if (this.life.started) this.life.gateway.newBlock();
    };
    street.onTip.add(this.tipListener);
  }

  /** A paired and charged car with a deposit in the chain; gateway and car are running. */
  static async start(street: Street, options: WorldOptions): Promise<World> {
    const bridgeWire = createServer();
    await new Promise<void>(resolve => bridgeWire.listen(0, "127.0.0.1", resolve));
    const { height } = await street.chain.follower.currentTip();
    const world = new World(street, options, bridgeWire, height);
    world.startGateway();
    world.charge(80);
    world.startCar();
    await world.until("the first session", () => world.car.device.isConnected() && world.life?.started);
    const script = toHex(p2wsh(depositScriptOf(world.car.identity)));
    await street.bitcoind.fund(script, options.depositSat ?? 2_000_000);
    await street.bitcoind.mine(1);
    return world;
  }

  /** So many records of each kind for device and gateway. The device must be off. */
  private charge(count: number): void {
    for (const batch of this.car.charge({ A: count, B: count, H: count })) this.alive.records.activate(batch);
  }

  /** Charges the car when little is left; it is switched off for that. */
  async chargeIfNeeded(): Promise<void> {
    const { A, B, H } = this.car.device.balance().recordsLeft;
    if (Math.min(A, B, H) > 30) return;
    this.charging = true;
    this.car.off();
    this.charge(60);
    await pause(0);
    this.charging = false;
    this.startCar();
    await this.untilConnected();
  }

  private get alive(): Life {
    if (!this.life) throw new Violation("the gateway is off");
    return this.life;
  }

  get gateway(): DeviceGateway {
    return this.alive.gateway;
  }

  /** What LDK has, once the gateway is up. */
  get node(): LightningNode | undefined {
    if (!this.life?.started) return undefined;
    return Reflect.get(this.alive.gateway, "node") as LightningNode | undefined;
  }

  get power(): Power {
    return this.alive.power;
  }

  // ── the gateway's lives ───────────────────────────────────────────────────────────────────────────────

  /** Starts the gateway with what is durable. It gets there by itself. */
  startGateway(): void {
    const { street, environment, car, random } = this;
    this.gatewayStarts++;
    const power = new Power();
    const table = (name: string): Database<Uint8Array, string> =>
      environment.openDB({ name, encoding: "binary" });
    const powered = (name: string) => poweredTable(table(name), name, power);
    const disk = this.disk.poweredBy(power, random);
    const store = new PoweredStore(
      openNodeStore(table("lightning"), "cutcut22"),
      power,
      () => random() < 0.5,
      () => Math.floor(random() * 4),
    );
    const broadcaster = createBroadcaster({ rpc: street.chain.rpc });
    const leaveChain = new Set<() => void>();
    const follower: Chain["follower"] = Object.assign(Object.create(street.chain.follower), {
      join: (client: Parameters<Chain["follower"]["join"]>[0]) => {
        const watching = street.chain.follower.join(client);
        if (power.isOn) leaveChain.add(() => watching.leave());
        else watching.leave();
        return watching;
      },
    });
    const broadcast = (transactions: readonly Uint8Array[]) =>
      power.effect("broadcast", () => broadcaster.broadcast(transactions));
    const { fees } = street.chain;
    const chain: Chain = {
      ...street.chain,
      follower,
      broadcaster: { ...broadcaster, broadcast },
      fees: {
        ...fees,
        feerate: purpose => (purpose === "commitment" ? this.commitmentFeerate : fees.feerate(purpose)),
      },
    };
    const ldkBroadcaster = ldk.BroadcasterInterface.new_impl({ broadcast_transactions: broadcast });
    const runtime: LightningRuntime = { ...street.runtime, chain, broadcaster: ldkBroadcaster };
    const { linkKey } = car.identity;
    const runner = new LinkRunner(
      new LinkServer({ crypto: nodeLinkCrypto, linkKey, maxMessageBytes: MAX_MESSAGE_BYTES }),
      {
        publish: bytes =>
          power.effect("send to the device", () => void setImmediate(() => this.device?.onMessage(bytes))),
        onMessage: message =>
          this.inGateway(life, () => {
            this.auditDevice(message);
            gateway()?.received(message);
          }),
        onUp: () => this.inGateway(life, () => gateway()?.session("up")),
        onLost: () => this.inGateway(life, () => gateway()?.session("lost")),
        onRejected: () => {},
      },
    );
    const records = openRecordStore("records", new Uint8Array(32), 0, disk);
    const address = this.bridgeWire.address();
    const port = typeof address === "object" && address ? address.port : 0;
    const start = async () => {
      const deposits = await Deposits.open(powered("deposits"), chain);
      const device = new DeviceGateway(
        {
          deviceId: car.identity.deviceId,
          network: "regtest",
          keys: car.identity,
          records,
          deposits,
          channels: powered("channels"),
          payments: powered("payments"),
          rollbackGuard: powered("sightings"),
          limits: () => undefined,
          log: street.log.part(`${this.name}/gateway ${this.gatewayStarts}`),
          runtime,
          store,
          bridge: { nodeId: street.bridge.node.nodeId, host: "127.0.0.1", port },
          leastChannelSat: 20_000,
          openings: createOpenings(),
          wrongAnswer: error => {
            if (power.isOn) this.violations.push(`a half of a signature is wrong: ${error.message}`);
          },
          onFatal: error => {
            if (power.isOn) this.violations.push(`LDK is broken: ${(error as Error).stack}`);
          },
          send: message => {
            this.auditGateway(message, power);
            try {
              runner.send(message);
              return true;
            } catch (error) {
              if (codeOf(error) === undefined) throw error;
              return false;
            }
          },
        },
        this.seed,
      );
      deposits.follow();
      await device.start();
      life.gateway = device;
      if (!power.isOn) {
        device.stop();
        return;
      }
      life.started = true;
      this.nodeId = this.node?.nodeId;
      // As the broker does: a device is let in when its node runs.
      if (this.device) this.radio(() => this.letIn(life));
    };
    const life = {} as { -readonly [K in keyof Life]: Life[K] };
    const gateway = () => (life.started && power.isOn ? life.gateway : undefined);
    Object.assign(life, {
      power,
      runner,
      store,
      leaveChain,
      records,
      started: false,
      broadcaster,
      kept: [ldkBroadcaster],
    });
    power.onFailure(() => this.powerFailed(life));
    const plan = this.plans.find(each => each.of === "gateway");
    this.plans = this.plans.filter(each => each !== plan);
    if (plan?.of === "gateway") power.plan(plan.cut);
    this.life = life;
    void start().catch(error => {
      if (power.isOn) this.violations.push(`the gateway does not start: ${(error as Error).stack}`);
    });
  }

  private inGateway(life: Life, work: () => void): void {
    if (!life.power.isOn) return;
    try {
      work();
    } catch (error) {
      this.violations.push(`the gateway threw: ${(error as Error).stack}`);
    }
  }

  private powerFailed(life: Life): void {
    this.failures.push(life.power.trace[life.power.trace.length - 1] ?? "at rest");
    life.runner.stop();
    if (life.started) life.gateway.stop();
    for (const leave of life.leaveChain) leave();
    // What the kernel has taken arrives; nothing else does.
    for (const socket of this.sockets) socket.end();
    const { device } = this;
    if (device) this.radio(() => device.onClose("the broker is gone"));
    this.recover(() => this.restartGateway());
  }

  /** The effects at which the gateway's power has failed since this was asked last. */
  takeFailures(): string[] {
    return this.failures.splice(0);
  }

  /** Looks at what is left, and puts it right after a moment. */
  private recover(restart: () => void | Promise<void>): void {
    if (this.ended) return;
    const found = this.checkExit();
    this.recovering = this.recovering
      .then(() => found)
      .then(restart)
      .catch(error => void this.violations.push((error as Error).stack ?? `${error}`));
  }

  /**
   * The power fails as planned from now on: the first cut of the gateway and of the car at once, further ones after
   * the restart.
   */
  planCuts(plans: readonly Plan[]): void {
    const gateway = plans.find(each => each.of === "gateway");
    const car = plans.find(each => each.of === "car");
    this.plans = plans.filter(each => each !== gateway && each !== car);
    this.power.plan(gateway?.of === "gateway" ? gateway.cut : undefined);
    this.car.plan(car?.of === "car" ? car.cut : undefined);
  }

  /** What happens in the world before the gateway is back. */
  whileOff: () => Promise<unknown> = () => Promise.resolve();

  /** What the gateway has done since the last plan, by name. */
  get trace(): readonly string[] {
    return this.power.trace;
  }

  /** Waits until nothing of the last life is under way any more, and starts the next. */
  async restartGateway(): Promise<void> {
    const { life } = this;
    life?.power.fail();
    await life?.store.settled();
    const { nodeId } = this;
    if (nodeId) await this.until("the bridge to notice", () => !this.street.bridge.node.isConnected(nodeId));
    await this.whileOff();
    this.startGateway();
  }

  // ── wires ─────────────────────────────────────────────────────────────────────────────────────────────

  private radio(work: () => void): void {
    setImmediate(work);
  }

  private letIn(life: Life | undefined): void {
    if (!life?.started || !life.power.isOn || this.life !== life) return;
    this.device?.onOpen();
    life.runner.connected();
  }

  private joinAir(options: MqttOptions): MqttConnection {
    this.device = options;
    this.radio(() => this.letIn(this.life));
    return {
      publish: payload => {
        const { life } = this;
        this.radio(() => {
          if (life?.power.isOn && life.started && this.life === life) life.runner.received(payload);
        });
      },
      close: () => {
        if (this.device === options) this.device = undefined;
      },
    };
  }

  private joinBridge(near: Socket): void {
    const { life } = this;
    const far = connect(this.street.bridge.port, "127.0.0.1");
    for (const socket of [near, far]) {
      this.sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => {
        this.sockets.delete(socket);
        (socket === near ? far : near).destroy();
      });
    }
    near.on("data", data => life?.power.effect("send to the bridge", () => void far.write(data)));
    far.on("data", data => {
      if (life?.power.isOn) near.write(data);
    });
  }

  // ── the car ───────────────────────────────────────────────────────────────────────────────────────────

  private startCar(): void {
    this.car.start();
    const plan = this.plans.find(each => each.of === "car");
    this.plans = this.plans.filter(each => each !== plan);
    this.car.plan(plan?.of === "car" ? plan.cut : undefined);
    void this.car.death.then(() => {
      if (!this.charging && !this.ended) this.recover(() => this.startCar());
    });
  }

  /** Waits, unless something has gone wrong meanwhile. */
  async until(what: string, test: () => unknown, ms?: number): Promise<void> {
    await waitFor(what, () => this.violations.length > 0 || test(), ms);
    if (this.violations.length > 0) throw new Violation(this.violations.join("\n"));
  }

  async untilConnected(): Promise<void> {
    await this.until("a session", () => this.car.isOn && this.car.device.isConnected() && this.life?.started);
  }

  /** What an application does that wants something of its device: asks again until it is answered. */
  async insist<T>(what: string, ask: () => Promise<T>): Promise<{ value: T } | { failure: string }> {
    for (let tries = 0; tries < 20; tries++) {
      await this.untilConnected();
      const { death } = this.car;
      const tooLong = lngateError("stuck", `waited in vain for ${what}`);
      let timer: NodeJS.Timeout | undefined;
      const patience = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(tooLong), PATIENCE_MS);
      });
      try {
        const value = await Promise.race([ask(), death, patience]);
        if (value !== undefined) return { value };
      } catch (error) {
        const code = codeOf(error);
        if (code === undefined || error === tooLong) throw error;
        if (!ASK_AGAIN.includes(code)) return { failure: code };
      } finally {
        clearTimeout(timer);
      }
    }
    throw new Violation(`stuck: asked in vain for ${what}`);
  }

  /** Both have nothing more to do with each other, and nobody waits for a signature. */
  async untilQuiet(): Promise<void> {
    const isAtRest = () => {
      const channels = this.node?.channels() ?? [];
      return (
        this.life?.started &&
        this.life.power.isOn &&
        this.car.isOn &&
        this.car.device.isConnected() &&
        this.car.device.isAtRest() &&
        channels.every(
          channel => channel.get_is_usable() && channel.get_pending_outbound_htlcs().length === 0,
        )
      );
    };
    // The power may still fail while it is waited that nothing more happens.
    do {
      await this.until("everything to be at rest", isAtRest);
      await this.recovering;
      for (let before = -1; before !== this.power.trace.length; await pause(60))
        before = this.power.trace.length;
    } while (!isAtRest());
  }

  /** From now on LDK finds this feerate right for commitments, and acts on it. */
  changeFeerate(feeratePerKw: number): void {
    this.commitmentFeerate = feeratePerKw;
    this.node?.tick();
    this.node?.wake();
  }

  // ── what must hold ────────────────────────────────────────────────────────────────────────────────────

  private once(record: string, message: string): void {
    const before = this.bound.get(record);
    if (before !== undefined && before !== message)
      this.violations.push(`the record ${record} has served two messages`);
    this.bound.set(record, message);
  }

  /** A message leaves the gateway: its halves of kind B bind a record each. */
  private auditGateway(encoded: Uint8Array, power: Power): void {
    if (!power.isOn) return;
    const message = toDevice.decode(encoded);
    if (message.type !== "step") return;
    for (const partial of [message.holder?.partial, message.holder?.anchorPartial]) {
      if (!partial) continue;
      const { id, scalar } = partial;
      this.once(`B${id}`, `${messageOf(this.car.record("B", id), scalar)}`);
    }
  }

  private auditDevice(encoded: Uint8Array): void {
    const message = toGateway.decode(encoded);
    if (message.type !== "stepped") return;
    const { signed, secret, refused } = message;
    if (refused) this.violations.push(`the device refused: ${refused.code}: ${refused.sentence}`);
    for (const { id, scalar } of signed?.partials ?? [])
      this.once(`A${id}`, `${messageOf(this.car.record("A", id), scalar)}`);
    if (secret) this.auditor.sent({ type: "stepped", id: 0, secret }, new Uint8Array(0));
  }

  /** The exit that is in the car's flash at this instant, given to bitcoind as soon as it answers. */
  checkExit(): Promise<void> {
    const { state, exit } = this.car.readOut();
    this.auditor.state(state, this.car.identity);
    const { books, parameters } = state;
    const isFunded =
      parameters?.funding !== undefined && (books.phase === "open" || books.phase === "closing");
    if (!isFunded) return Promise.resolve();
    const { commitment, number } = exit();
    return this.accepts(parameters.proposal, commitment, number);
  }

  private async accepts(
    proposal: Parameters<typeof fundingOf>[1],
    commitment: Uint8Array,
    number: number,
  ): Promise<void> {
    const { rpc } = this.street.bitcoind;
    const funding = toHex(fundingOf(this.car.identity, proposal).txid.reverse());
    // Before the funding transaction is sent there is nothing to leave; after a close neither.
    const isUnspent = async () => (await rpc("gettxout", [funding, 0, true])) !== null;
    if (!(await isUnspent())) return;
    const [result] = await rpc<{ allowed: boolean; "reject-reason"?: string }[]>("testmempoolaccept", [
      [toHex(commitment)],
    ]);
    if (!result?.allowed && !(await isUnspent())) return;
    if (!result?.allowed)
      throw new Violation(`bitcoind does not take exit ${number}: ${result?.["reject-reason"]}`);
    this.exitsChecked++;
  }

  /** The funding output is there, LDK has the channel, and nobody closed anything. */
  async checkOpen(): Promise<void> {
    const { state } = this.car.readOut();
    const channels = this.node?.channels() ?? [];
    if (channels.length !== 1) throw new Violation(`LDK has ${channels.length} channels`);
    const funding = toHex(fundingOf(this.car.identity, state.parameters!.proposal).txid.reverse());
    if ((await this.street.bitcoind.rpc("gettxout", [funding, 0, true])) === null)
      throw new Violation("the channel's funding is spent");
    this.checkCloses();
    await this.checkExit();
    if (this.violations.length > 0) throw new Violation(this.violations.join("\n"));
  }

  /**
   * The bridge has closed this channel not at all or together with us. One that was never funded it may drop: the
   * power failed before we had stored anything of it. (LDK says CommitmentTxConfirmed also of a mutual close that is
   * in a block before the bridge has seen our last signature.)
   */
  checkCloses(): void {
    const { parameters } = this.car.readOut().state;
    if (!parameters) return;
    const id = toHex(fundingOf(this.car.identity, parameters.proposal).txid);
    for (const { channelId, reason } of this.street.closes) {
      if (channelId === id && !/CooperativeClosure|CommitmentTxConfirmed/.test(reason))
        throw new Violation(`closed by force: ${reason}`);
    }
  }

  /** After something went wrong: as `stop`, but nothing may hold it up. */
  async abandon(): Promise<void> {
    const patience = new Promise(resolve => setTimeout(resolve, 2000).unref());
    await Promise.race([this.stop(), patience]);
  }

  async stop(): Promise<void> {
    this.ended = true;
    this.street.onTip.delete(this.tipListener);
    this.car.off();
    const { life } = this;
    this.life = undefined;
    life?.power.fail();
    await this.recovering;
    await life?.store.settled();
    await new Promise(resolve => this.bridgeWire.close(resolve));
    await this.environment.close();
  }
}

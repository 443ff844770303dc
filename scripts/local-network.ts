/**
 * Everything that a payment needs, each a process of its own: bitcoind on regtest, a bridge and a toll company on
 * plain LDK (the bridge on LND, if that is wanted), the gateway, and devices. For the demo and the benchmarks.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Regtest, startRegtest } from "./bitcoind.ts";
import { LdkNode } from "./nodes/ldk.ts";
import { LndNode } from "./nodes/lnd.ts";
import type { RealNode } from "./nodes/node.ts";
import type { PeerEvent } from "./peer/api.ts";
import { PeerProcess } from "./peer/process.ts";
import { reservePort } from "./ports.ts";
import { type Line, Program } from "./program.ts";

/** Whose making the bridge is of. */
export type BridgeKind = "ldk" | "lnd";

/** Of the gateway on the stage. */
export interface StageOptions {
  /** Every line of the gateway's log. */
  onLog?(line: string): void;
  readonly logLevel?: "debug" | "info" | "warn";
}

/** Nothing is started before it is asked for; `stop` ends everything. */
export class Stage {
  readonly folder = mkdtempSync(join(tmpdir(), "lngate-stage-"));
  readonly owner = join(this.folder, "owner");
  readonly config = join(this.folder, "gateway.conf");
  private readonly running: { stop(): Promise<void> }[] = [];
  bitcoind!: Regtest;
  bridge!: RealNode;
  toll!: PeerProcess;
  gateway!: Program;
  /** Of the gateway's broker. */
  mqttPort!: number;

  async startChain(): Promise<void> {
    this.bitcoind = await startRegtest({ extraArgs: ["-txindex"] });
    this.running.push({ stop: () => this.bitcoind.stop() });
  }

  /** A bridge and a toll company, with an announced channel between them. */
  async startPeers(
    sat = 5_000_000,
    kind: BridgeKind = "ldk",
    onTollEvent?: (event: PeerEvent) => void,
  ): Promise<void> {
    const rpc = this.bitcoind.rpcOptions;
    const options = { name: "bridge", dataDir: join(this.folder, "bridge"), rpc };
    this.bridge = await (kind === "lnd" ? LndNode : LdkNode).start(options);
    this.running.push(this.bridge);
    this.toll = await this.startPeer("toll", onTollEvent);
    await this.bridge.fund(this.bitcoind, 2 * sat);
    const pushSat = Math.floor(sat / 10);
    await this.mineUntil(this.bridge.open({ peer: this.toll.address, sat, pushSat, announced: true }));
  }

  async startPeer(name: string, onEvent: (event: PeerEvent) => void = () => {}): Promise<PeerProcess> {
    const rpc = this.bitcoind.rpcOptions;
    const peer = await PeerProcess.start({
      name,
      dataDir: join(this.folder, name),
      rpc,
      // What peers warn of is LDK's talk: that the other one has not seen this block yet, say.
      args: ["--log", "error"],
      onEvent,
    });
    this.running.push(peer);
    return peer;
  }

  async startGateway(options: StageOptions = {}): Promise<void> {
    const { config, bridge, bitcoind } = this;
    await lngate("gateway", "init", "--config", config, "--network", "regtest", "--bridge", bridge.address);
    this.mqttPort = await reservePort();
    changeSettings(config, {
      dataDir: join(this.folder, "gateway"),
      bitcoind: { url: bitcoind.rpcOptions.url, cookieFile: bitcoind.rpcOptions.cookieFile },
      mqtt: { host: "127.0.0.1", port: this.mqttPort },
      logLevel: options.logLevel ?? "warn",
    });
    await this.runGateway(options);
    await lngate("owner", "init", "--data", this.owner, "--network", "regtest");
  }

  private async runGateway(options: StageOptions): Promise<void> {
    const args = ["dist/lngate.mjs", "gateway", "run", "--config", this.config, "--json"];
    this.gateway = new Program("gateway", args, line => options.onLog?.(line));
    this.running.push(this.gateway);
    await this.gateway.line(line => line["running"] === true);
  }

  /** Stops the gateway and starts it again, with everything from its store. */
  async restartGateway(options: StageOptions = {}): Promise<void> {
    this.running.splice(this.running.indexOf(this.gateway), 1);
    await this.gateway.stop();
    await this.runGateway(options);
  }

  /** Invites and pairs a device; its id. */
  async pair(name: string, ...limits: string[]): Promise<string> {
    const { code } = await lngate("gateway", "add-device", name, "--config", this.config);
    const { deviceId } = await lngate("device", "pair", String(code), "--data", this.owner, ...limits);
    return String(deviceId);
  }

  charge(deviceId: string, payments: number): Promise<Line> {
    return this.device(deviceId, "charge", "--payments", String(payments));
  }

  /** Sends a deposit and confirms it; the address. */
  async deposit(deviceId: string, sat: number): Promise<string> {
    const { address } = await this.device(deviceId, "fund");
    await this.bitcoind.fund(String(address), sat);
    await this.bitcoind.mine(1);
    return String(address);
  }

  /** Runs `lngate device …` for a device of this owner. */
  device(deviceId: string, command: string, ...args: string[]): Promise<Line> {
    return lngate("device", command, ...args, "--data", this.owner, "--device", deviceId);
  }

  /** The device as a process; resolves when its channel can be used. */
  async startDevice(deviceId: string): Promise<Program> {
    const device = new Program("device", [
      "dist/lngate.mjs",
      "device",
      "run",
      "--data",
      this.owner,
      "--device",
      deviceId,
    ]);
    this.running.push(device);
    await this.mineUntil(device.line(line => line["event"] === "ready"));
    return device;
  }

  /** Mines whatever waits, until it happens. */
  async mineUntil<T>(event: Promise<T>): Promise<T> {
    let done = false;
    const watched = event.finally(() => {
      done = true;
    });
    watched.catch(() => {});
    while (!done) {
      await Promise.race([watched.catch(() => {}), new Promise(resolve => setTimeout(resolve, 250))]);
      if (!done && (await this.bitcoind.rpc<string[]>("getrawmempool")).length > 0)
        await this.bitcoind.mine(6);
    }
    return watched;
  }

  async stop(): Promise<void> {
    for (const each of this.running.reverse()) await each.stop().catch(() => {});
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Waits until a device's last payment is settled in both commitments; its traffic so far. */
export async function atRest(device: Program): Promise<Line> {
  let quiet = 0;
  for (let before = ""; ; ) {
    const traffic = await device.ask("traffic");
    quiet = traffic["atRest"] === true && JSON.stringify(traffic) === before ? quiet + 1 : 0;
    // A payment too small for an output of its own leaves no trace in the commitments: silence tells.
    if (quiet === 6) return traffic;
    before = JSON.stringify(traffic);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

/** Runs one command of ours to its end; its result. */
async function lngate(...args: string[]): Promise<Line> {
  return new Program(args.slice(0, 2).join(" "), ["dist/lngate.mjs", ...args, "--json"]).result();
}

/** Changes settings of a configuration file. */
function changeSettings(file: string, settings: object): void {
  const lines = readFileSync(file, "utf8").split("\n");
  const config = JSON.parse(lines.filter(line => !line.trim().startsWith("//")).join("\n")) as object;
  writeFileSync(file, JSON.stringify({ ...config, ...settings }, null, 2));
}

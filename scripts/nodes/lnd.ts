/** LND as a process of its own, led by its REST interface. As it comes but for what a test on one machine needs. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { RpcOptions } from "../../src/node/bitcoind-rpc.ts";
import { type Regtest, WITH_WATCHER } from "../bitcoind.ts";
import { reservePort } from "../ports.ts";
import { ensureLnd } from "./lnd-program.ts";
import type { ForwardingPolicy, HeldInvoice, NodeChannel, NodeOptions, RealNode } from "./node.ts";

const POLL_MS = 100;
const PAY_SECONDS = 60;
/** Of its wallet on this disk. */
const PASSWORD = "password";
/** Addresses of a seed that are looked for when a wallet is put back. */
const RECOVERY_WINDOW = 100;

/** LND's static channel backup: who its channels are with, and where; no states. */
export type ChannelBackup = { readonly multi_chan_backup: string };

/** As RealNode says. */
export class LndNode implements RealNode {
  readonly name: string;
  readonly port: number;
  nodeId = "";
  private readonly options: NodeOptions;
  private readonly program: string;
  private readonly rpcPort: number;
  private readonly restPort: number;
  private seed: readonly string[] | undefined;
  private child: ChildProcess | undefined;
  private ended: Promise<void> = Promise.resolve();
  private lastLines: string[] = [];

  private constructor(options: NodeOptions, program: string, ports: readonly [number, number, number]) {
    this.name = options.name;
    this.options = options;
    this.program = program;
    [this.port, this.rpcPort, this.restPort] = ports;
  }

  /** Resolves when it is up with the chain. */
  static async start(options: NodeOptions): Promise<LndNode> {
    const program = await ensureLnd();
    const node = new LndNode(options, program, [
      await reservePort(),
      await reservePort(),
      await reservePort(),
    ]);
    await node.restart();
    return node;
  }

  get address(): string {
    return `${this.nodeId}@127.0.0.1:${this.port}`;
  }

  restart(): Promise<void> {
    return this.run();
  }

  channelBackup(): Promise<{ readonly multi_chan_backup: ChannelBackup }> {
    return this.get("/v1/channels/backup");
  }

  /** Starts it from an empty folder with the seed that it had, and what it was told to keep of its channels. */
  restore({ multi_chan_backup: backup }: { readonly multi_chan_backup: ChannelBackup }): Promise<void> {
    return this.run(backup);
  }

  private async run(backup?: ChannelBackup): Promise<void> {
    const { name, onLog, dataDir } = this.options;
    mkdirSync(dataDir, { recursive: true });
    writeFileSync(join(dataDir, "password"), PASSWORD);
    // The watcher ends it when this process is gone, however that happened.
    const child = spawn("/bin/sh", ["-c", WITH_WATCHER, "", this.program, ...this.args()], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.child = child;
    child.stdin.on("error", () => {});
    for (const output of [child.stdout, child.stderr]) {
      createInterface({ input: output }).on("line", line => {
        this.lastLines = [...this.lastLines.slice(-19), line];
        onLog?.(`${name}: ${line}`);
      });
    }
    let running = true;
    this.ended = new Promise(resolve => {
      child.on("error", error => this.lastLines.push(error.message));
      child.on("close", () => {
        running = false;
        resolve();
      });
    });
    while (!(await this.isUp())) {
      if (await this.hasNoWallet()) await this.createWallet(backup);
      if (!running) throw new Error(`${name} (LND) did not start: ${this.lastLines.join(" | ")}`);
      await soon();
    }
  }

  private args(): string[] {
    const { dataDir, rpc, name, args = [] } = this.options;
    return [
      `--lnddir=${dataDir}`,
      `--alias=${name}`,
      `--wallet-unlock-password-file=${join(dataDir, "password")}`,
      "--wallet-unlock-allow-create",
      "--nobootstrap",
      "--debuglevel=info",
      "--bitcoin.regtest",
      "--bitcoin.node=bitcoind",
      `--bitcoind.rpchost=${new URL(rpc.url).host}`,
      ...loginOf(rpc),
      // Without ZMQ: tests mine, and wait for what happens.
      "--bitcoind.rpcpolling",
      "--bitcoind.blockpollinginterval=250ms",
      "--bitcoind.txpollinginterval=250ms",
      `--listen=127.0.0.1:${this.port}`,
      `--rpclisten=127.0.0.1:${this.rpcPort}`,
      `--restlisten=127.0.0.1:${this.restPort}`,
      // On 127.0.0.1, with coins of regtest.
      "--no-rest-tls",
      "--no-macaroons",
      ...args,
    ];
  }

  private async isUp(): Promise<boolean> {
    try {
      const info = await this.get<{ identity_pubkey: string; synced_to_chain: boolean }>("/v1/getinfo");
      this.nodeId = info.identity_pubkey;
      return info.synced_to_chain;
    } catch {
      return false;
    }
  }

  private async hasNoWallet(): Promise<boolean> {
    try {
      return (await this.get<{ state: string }>("/v1/state")).state === "NON_EXISTING";
    } catch {
      return false;
    }
  }

  private async createWallet(backup?: ChannelBackup): Promise<void> {
    this.seed ??= (await this.get<{ cipher_seed_mnemonic: string[] }>("/v1/genseed")).cipher_seed_mnemonic;
    await this.post("/v1/initwallet", {
      wallet_password: Buffer.from(PASSWORD).toString("base64"),
      cipher_seed_mnemonic: this.seed,
      ...(backup ? { recovery_window: RECOVERY_WINDOW, channel_backups: { multi_chan_backup: backup } } : {}),
    });
  }

  async stop(): Promise<void> {
    this.child?.kill("SIGTERM");
    await this.ended;
  }

  async kill(): Promise<void> {
    this.child?.kill("SIGKILL");
    await this.ended;
  }

  // ── its interface ─────────────────────────────────────────────────────────────────────────────────────

  private get<Result>(path: string): Promise<Result> {
    return this.ask("GET", path);
  }

  private post<Result>(path: string, body: object): Promise<Result> {
    return this.ask("POST", path, body);
  }

  private async ask<Result>(method: string, path: string, body?: object): Promise<Result> {
    const answer = await this.request(method, path, body);
    return (await answer.json()) as Result;
  }

  private async request(method: string, path: string, body?: object): Promise<Response> {
    const answer = await fetch(`http://127.0.0.1:${this.restPort}${path}`, {
      method,
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    if (!answer.ok) throw this.refused(path, await answer.text());
    return answer;
  }

  private refused(path: string, said: string): Error {
    const { message = said } = asJson<{ message?: string }>(said) ?? {};
    return new Error(`${this.name} (LND) refuses ${path}: ${message}`);
  }

  /** Answers that come one after the other, each a line. */
  private async *stream<Result>(method: string, path: string, body?: object): AsyncGenerator<Result> {
    const answer = await this.request(method, path, body);
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of answer.body ?? []) {
      const lines = (rest + decoder.decode(chunk as Uint8Array, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const said = asJson<{ result?: Result }>(line);
        if (said?.result === undefined) throw this.refused(path, line);
        yield said.result;
      }
    }
  }

  // ── coins and channels ────────────────────────────────────────────────────────────────────────────────

  async fund(bitcoind: Regtest, sat: number): Promise<void> {
    const { address } = await this.get<{ address: string }>("/v1/newaddress?type=WITNESS_PUBKEY_HASH");
    await bitcoind.fund(address, sat);
    await bitcoind.mine(1);
    await until(async () => {
      const { confirmed_balance } = await this.get<{ confirmed_balance: string }>("/v1/balance/blockchain");
      return Number(confirmed_balance) >= sat && (await this.isUp());
    });
  }

  /** Those of its wallet, by txid. */
  async transactions(): Promise<string[]> {
    const { transactions } = await this.get<{ transactions: { tx_hash: string }[] }>("/v1/transactions");
    return transactions.map(each => each.tx_hash);
  }

  async connect(peer: string): Promise<void> {
    const [pubkey, host] = peer.split("@");
    try {
      await this.post("/v1/peers", { addr: { pubkey, host }, perm: true });
    } catch (error) {
      if (!/already connected/.test((error as Error).message)) throw error;
    }
    await until(async () => {
      const { peers } = await this.get<{ peers: { pub_key: string }[] }>("/v1/peers");
      return peers.some(each => each.pub_key === pubkey);
    });
  }

  async open({ peer, sat, pushSat = 0, announced = false }: Parameters<RealNode["open"]>[0]): Promise<void> {
    await this.connect(peer);
    const opened = await this.post<{ funding_txid_bytes: string; output_index: number }>("/v1/channels", {
      node_pubkey: Buffer.from(peer.split("@")[0]!, "hex").toString("base64"),
      local_funding_amount: String(sat),
      push_sat: String(pushSat),
      private: !announced,
      sat_per_vbyte: "2",
    });
    const txid = Buffer.from(opened.funding_txid_bytes, "base64").reverse().toString("hex");
    const funding = `${txid}:${opened.output_index}`;
    await until(async () => (await this.channels()).some(each => each.funding === funding && each.usable));
  }

  async channels(): Promise<NodeChannel[]> {
    const { channels } = await this.get<{
      channels: { channel_point: string; remote_pubkey: string; capacity: string; active: boolean }[];
    }>("/v1/channels");
    return channels.map(each => ({
      funding: each.channel_point,
      peer: each.remote_pubkey,
      sat: Number(each.capacity),
      usable: each.active,
    }));
  }

  async setPolicy({ baseMsat, ppm, cltvDelta }: ForwardingPolicy): Promise<void> {
    const { failed_updates: failed } = await this.post<{ failed_updates: { update_error: string }[] }>(
      "/v1/chanpolicy",
      { global: true, base_fee_msat: String(baseMsat), fee_rate_ppm: ppm, time_lock_delta: cltvDelta },
    );
    if (failed.length > 0) throw this.refused("/v1/chanpolicy", failed[0]!.update_error);
  }

  async close(funding: string, force = false): Promise<void> {
    const path = `/v1/channels/${funding.replace(":", "/")}${force ? "?force=true" : ""}`;
    // The first answer says that it has begun; the last one would come with its confirmation.
    for await (const _ of this.stream("DELETE", path)) return;
  }

  // ── payments ──────────────────────────────────────────────────────────────────────────────────────────

  async invoice(amountMsat: number, description: string): Promise<string> {
    const made = await this.post<{ payment_request: string }>("/v1/invoices", {
      value_msat: String(amountMsat),
      memo: description,
      // Hints, if all its channels are private.
      private: await this.isUnannounced(),
    });
    return made.payment_request;
  }

  private async isUnannounced(): Promise<boolean> {
    const { channels } = await this.get<{ channels: { private: boolean }[] }>("/v1/channels");
    return channels.every(each => each.private);
  }

  async heldInvoice(amountMsat: number): Promise<HeldInvoice> {
    const preimage = randomBytes(32);
    const hash = createHash("sha256").update(preimage).digest();
    const made = await this.post<{ payment_request: string }>("/v2/invoices/hodl", {
      hash: hash.toString("base64"),
      value_msat: String(amountMsat),
      private: await this.isUnannounced(),
    });
    return {
      invoice: made.payment_request,
      isHeld: async () => (await this.lookUp(hash.toString("hex"))).state === "ACCEPTED",
      settle: () => this.post("/v2/invoices/settle", { preimage: preimage.toString("base64") }),
      cancel: () => this.post("/v2/invoices/cancel", { payment_hash: hash.toString("base64") }),
    };
  }

  async receivedMsat(hash: string): Promise<number> {
    const { state, amt_paid_msat } = await this.lookUp(hash);
    return state === "SETTLED" ? Number(amt_paid_msat) : 0;
  }

  private lookUp(hash: string): Promise<{ state: string; amt_paid_msat: string }> {
    return this.get(`/v1/invoice/${hash}`);
  }

  async pay(invoice: string, maxFeeMsat = 100_000): Promise<{ ms: number }> {
    const begin = performance.now();
    const path = "/v2/router/send";
    const request = {
      payment_request: invoice,
      timeout_seconds: PAY_SECONDS,
      fee_limit_msat: String(maxFeeMsat),
      no_inflight_updates: true,
    };
    for await (const said of this.stream<{ status: string; failure_reason: string }>("POST", path, request)) {
      if (said.status === "SUCCEEDED") return { ms: performance.now() - begin };
      throw this.refused(path, said.failure_reason);
    }
    throw this.refused(path, "no answer");
  }
}

function loginOf({ cookieFile, user = "", password = "" }: RpcOptions): string[] {
  return cookieFile === undefined
    ? [`--bitcoind.rpcuser=${user}`, `--bitcoind.rpcpass=${password}`]
    : [`--bitcoind.rpccookie=${cookieFile}`];
}

function asJson<Result>(text: string): Result | undefined {
  try {
    return JSON.parse(text) as Result;
  } catch {
    return undefined;
  }
}

const soon = () => new Promise(resolve => setTimeout(resolve, POLL_MS));

async function until(test: () => Promise<boolean>): Promise<void> {
  while (!(await test())) await soon();
}

/** Plain peers (scripts/peer/main.ts) as processes, led from here: for demo, bench and tests. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { lngateError } from "../../src/errors.ts";
import type { RpcOptions } from "../../src/node/bitcoind-rpc.ts";
import type { Paid, PeerChannel, PeerEvent } from "./api.ts";

const PLAIN_PEER = [process.execPath, "dist/peer.mjs"] as const;

/** How a peer is started. */
export interface PeerProcessOptions {
  readonly name: string;
  readonly dataDir: string;
  readonly rpc: RpcOptions;
  /** What runs it: dist/peer.mjs unless told, or a program that can be led in the same way. */
  readonly command?: readonly [string, ...string[]];
  /** Further options of the program. */
  readonly args?: readonly string[];
  readonly onEvent?: (event: PeerEvent) => void;
}

/** A channel to be opened. */
export interface OpenRequest {
  /** `id@host:port` */
  readonly peer: string;
  readonly sat: number;
  readonly pushSat?: number;
  readonly announced?: boolean;
}

/** A running peer; each of its commands rejects with the code that the peer answers. */
export class PeerProcess {
  readonly name: string;
  readonly nodeId: string;
  readonly port: number;
  private readonly child: ChildProcessByStdio<Writable, Readable, null>;
  private readonly ended: Promise<void>;
  private readonly asked: Map<number, { resolve(result: unknown): void; reject(error: Error): void }>;
  private lastId = 0;

  private constructor(
    name: string,
    child: ChildProcessByStdio<Writable, Readable, null>,
    ended: Promise<void>,
    asked: Map<number, { resolve(result: unknown): void; reject(error: Error): void }>,
    ready: { nodeId: string; port: number },
  ) {
    this.name = name;
    this.child = child;
    this.ended = ended;
    this.asked = asked;
    this.nodeId = ready.nodeId;
    this.port = ready.port;
  }

  /** Resolves when it is listening. It ends with this process, whose end closes its input. */
  static start(options: PeerProcessOptions): Promise<PeerProcess> {
    const { name, dataDir, rpc, command = PLAIN_PEER, args = [], onEvent } = options;
    const [program, ...first] = command;
    const child = spawn(
      program,
      [
        ...first,
        "--name",
        name,
        "--data",
        dataDir,
        "--rpc",
        rpc.url,
        "--cookie",
        rpc.cookieFile ?? "",
        ...args,
      ],
      { stdio: ["pipe", "pipe", "inherit"] },
    );
    child.stdin.on("error", () => {});
    const asked: PeerProcess["asked"] = new Map();
    const ended = new Promise<void>(resolve => child.once("close", () => resolve()));
    void ended.then(() => {
      for (const { reject } of asked.values()) reject(lngateError("peer-ended", `${name} has ended`));
      asked.clear();
    });
    return new Promise((resolve, reject) => {
      void ended.then(() => reject(lngateError("peer-ended", `${name} did not start`)));
      createInterface({ input: child.stdout }).on("line", line => {
        const said = JSON.parse(line) as Said;
        if (said.event === "ready") resolve(new PeerProcess(name, child, ended, asked, said));
        else if (said.event !== undefined) onEvent?.(said as unknown as PeerEvent);
        else {
          const question = asked.get(said.id);
          asked.delete(said.id);
          if (said.error) question?.reject(lngateError(said.error.code, said.error.message));
          else question?.resolve(said.result);
        }
      });
    });
  }

  /** `id@host:port`, for others to connect to. */
  get address(): string {
    return `${this.nodeId}@127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  ask<Result>(command: string, fields: object = {}): Promise<Result> {
    if (this.child.exitCode !== null || this.child.signalCode !== null)
      return Promise.reject(lngateError("peer-ended", `${this.name} has ended`));
    const id = ++this.lastId;
    return new Promise<Result>((resolve, reject) => {
      this.asked.set(id, { resolve: result => resolve(result as Result), reject });
      this.child.stdin.write(`${JSON.stringify({ id, command, ...fields })}\n`);
    });
  }

  connect(peer: string): Promise<void> {
    return this.ask("connect", { peer });
  }

  /** Resolves when the channel can be used; somebody has to mine meanwhile. */
  open(request: OpenRequest): Promise<PeerChannel> {
    return this.ask("open", request);
  }

  channels(): Promise<PeerChannel[]> {
    return this.ask("channels");
  }

  async invoice(amountMsat: number | null, description: string, expirySeconds = 3600): Promise<string> {
    const { invoice } = await this.ask<{ invoice: string }>("invoice", {
      amountMsat,
      description,
      expirySeconds,
    });
    return invoice;
  }

  pay(invoice: string, maxFeeMsat = 100_000): Promise<Paid> {
    return this.ask("pay", { invoice, maxFeeMsat });
  }

  claimed(): Promise<{ [hash: string]: number }> {
    return this.ask("claimed");
  }

  close(channelId: string, force = false): Promise<void> {
    return this.ask("close", { channelId, force });
  }

  async stop(): Promise<void> {
    this.child.stdin.end();
    await this.ended;
  }

  /** As a power cut would. */
  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.ended;
  }
}

interface Said {
  readonly event?: string;
  readonly nodeId: string;
  readonly port: number;
  readonly id: number;
  readonly result?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
}

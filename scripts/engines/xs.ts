/**
 * A device in the real XS engine, as a process of its own: the worker's pipe is spoken to directly (netstrings on its
 * file descriptors 3 and 4), and what a board has natively is done here. scripts/engines/boards/xs.ts is the other end.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Duplex, Readable, Writable } from "node:stream";
import type { MqttConnection } from "../../device/board.ts";
import { nodeLinkCrypto } from "../../device/boards/node/crypto.ts";
import { nodeMqtt } from "../../device/boards/node/mqtt.ts";
import type { Balance, PayOptions, Receipt } from "../../device/device.ts";
import type { Flash } from "../../device/vault/flash.ts";
import { lngateError } from "../../src/errors.ts";
import { ASK, TELL } from "./boards/xs-host.ts";

/** Work of the engine and of what stands in for the board's native parts, since the engine was started. */
export interface EngineWork {
  /** XS's own measure of work, which no other load of the machine changes. */
  computrons: number;
  hashes: number;
  hashedBytes: number;
  ciphers: number;
  cipheredBytes: number;
  flashReads: number;
  flashWrites: number;
  flashBytes: number;
  flashErases: number;
  messages: number;
}

/** The device as its application on the board would call it. */
export interface EngineDevice {
  readonly work: EngineWork;
  start(withCurve: boolean): Promise<string>;
  connect(): Promise<void>;
  openChannel(): Promise<void>;
  pay(invoice: string, options?: PayOptions): Promise<Receipt>;
  balance(): Promise<Balance>;
  close(): Promise<{ txid: string }>;
  watchMemory(): Promise<void>;
  memorySeen(): Promise<{ slots: number; chunkBytes: number }>;
  /** Runs a script in the engine; the computrons it took. */
  evaluate(script: string): Promise<number>;
  /** Waits for the engine to have done all that it was told. */
  idle(): Promise<void>;
  /** As pulling the plug: what is under way is lost, the flash stays. */
  kill(): Promise<void>;
}

export interface EngineOptions {
  /** The worker's program. */
  readonly worker: string;
  /** Scripts that make the device, in order. */
  readonly scripts: readonly string[];
  readonly flash: Flash;
  /** Called before a question is answered. */
  onAsk?(what: number): void;
}

/** Starts the engine and loads the scripts. Throws what the scripts throw. */
export async function startXs(options: EngineOptions): Promise<EngineDevice> {
  const child = spawn(options.worker, [], { stdio: ["ignore", "inherit", "inherit", "pipe", "pipe"] });
  const engine = new XsEngine(child, options);
  for (const script of options.scripts) await engine.evaluate(readFileSync(script, "utf8"));
  return engine;
}

interface Waiter<T> {
  resolve(value: T): void;
  reject(error: Error): void;
}

class XsEngine implements EngineDevice {
  readonly work: EngineWork = {
    computrons: 0,
    hashes: 0,
    hashedBytes: 0,
    ciphers: 0,
    cipheredBytes: 0,
    flashReads: 0,
    flashWrites: 0,
    flashBytes: 0,
    flashErases: 0,
    messages: 0,
  };
  private readonly child: ChildProcess;
  private readonly toEngine: Writable;
  private readonly options: EngineOptions;
  private readonly timers = new Map<number, NodeJS.Timeout>();
  private readonly calls = new Map<number, Waiter<unknown>>();
  private readonly turns: { bytes: Buffer; waiter: Waiter<number> }[] = [];
  private busy: Waiter<number> | undefined;
  private mqtt: MqttConnection | undefined;
  private lastCall = 0;
  private stopped = false;

  constructor(child: ChildProcess, options: EngineOptions) {
    this.child = child;
    this.options = options;
    this.toEngine = child.stdio[3] as Writable;
    readNetstrings(child.stdio[4] as Readable, frame => this.heard(frame));
    child.on("exit", code => this.ended(code));
    // The engine may be gone before it has read everything.
    this.toEngine.on("error", () => {});
    (child.stdio[4] as Duplex).on("error", () => {});
  }

  evaluate(script: string): Promise<number> {
    return this.turn(Buffer.from(`e${script}`));
  }

  start(withCurve: boolean): Promise<string> {
    return this.call("start", withCurve);
  }
  connect(): Promise<void> {
    return this.call("connect");
  }
  openChannel(): Promise<void> {
    return this.call("openChannel");
  }
  pay(invoice: string, payOptions: PayOptions = {}): Promise<Receipt> {
    return this.call("pay", invoice, payOptions);
  }
  balance(): Promise<Balance> {
    return this.call("balance");
  }
  close(): Promise<{ txid: string }> {
    return this.call("close");
  }
  watchMemory(): Promise<void> {
    return this.call("watchMemory");
  }
  memorySeen(): Promise<{ slots: number; chunkBytes: number }> {
    return this.call("memorySeen");
  }

  async idle(): Promise<void> {
    while (this.busy !== undefined || this.turns.length > 0)
      await new Promise(resolve => setTimeout(resolve, 5));
  }

  async kill(): Promise<void> {
    if (this.stopped) return;
    this.stopped = true;
    this.mqtt?.close();
    for (const timer of this.timers.values()) clearTimeout(timer);
    const gone = new Promise(resolve => this.child.once("exit", resolve));
    this.child.kill("SIGKILL");
    await gone;
  }

  private ended(code: number | null): void {
    const error = lngateError("engine-ended", `the engine ended with ${code}`);
    this.busy?.reject(error);
    for (const { waiter } of this.turns.splice(0)) waiter.reject(error);
    for (const waiter of this.calls.values()) waiter.reject(error);
    this.calls.clear();
  }

  private call<T>(method: string, ...args: unknown[]): Promise<T> {
    const id = ++this.lastCall;
    const answered = new Promise<T>((resolve, reject) => {
      this.calls.set(id, { resolve: value => resolve(value as T), reject });
    });
    this.tell(TELL.call, Buffer.from(JSON.stringify({ id, method, args })));
    return answered;
  }

  /** The engine is told one thing after the other; each turn runs until nothing is left to do in it. */
  private tell(what: number, bytes: Uint8Array): void {
    this.turn(Buffer.concat([Buffer.from("?"), Buffer.from([what]), bytes])).catch(error => {
      if (this.stopped) return;
      // The device's code never throws out of a turn: what does is a fault of its own.
      for (const waiter of this.calls.values()) waiter.reject(error);
    });
  }

  private turn(bytes: Buffer): Promise<number> {
    return new Promise((resolve, reject) => {
      this.turns.push({ bytes, waiter: { resolve, reject } });
      this.next();
    });
  }

  private next(): void {
    if (this.busy !== undefined || this.stopped) return;
    const turn = this.turns.shift();
    if (turn === undefined) return;
    this.busy = turn.waiter;
    this.send(turn.bytes);
  }

  private send(bytes: Uint8Array): void {
    this.toEngine.write(Buffer.concat([Buffer.from(`${bytes.length}:`), bytes, Buffer.from(",")]));
  }

  private heard(frame: Buffer): void {
    if (this.stopped) return;
    const kind = String.fromCharCode(frame[0]!);
    if (kind === "?") {
      this.options.onAsk?.(frame[1]!);
      if (this.stopped) return;
      this.send(Buffer.concat([Buffer.from("/"), this.answer(frame[1]!, frame.subarray(2))]));
      return;
    }
    const waiter = this.busy;
    this.busy = undefined;
    if (kind === "!") waiter?.reject(lngateError("engine-threw", frame.toString("latin1", 1)));
    else {
      const { compute } = JSON.parse(frame.toString("latin1", 1, frame.indexOf(1))) as { compute: number };
      this.work.computrons += compute;
      waiter?.resolve(compute);
    }
    this.next();
  }

  private answer(what: number, bytes: Buffer): Uint8Array {
    const { flash } = this.options;
    const { work } = this;
    switch (what) {
      case ASK.flashRead:
        work.flashReads++;
        return flash.read(numberAt(bytes, 0), numberAt(bytes, 1));
      case ASK.flashProgram:
        work.flashWrites++;
        work.flashBytes += bytes.length - 8;
        flash.program(numberAt(bytes, 0), new Uint8Array(bytes.subarray(8)));
        return NOTHING;
      case ASK.flashErase:
        work.flashErases++;
        flash.erase(numberAt(bytes, 0));
        return NOTHING;
      case ASK.flashSize:
        return numbers(flash.pageBytes, flash.pageCount);
      case ASK.sha256:
        return this.hashed(bytes, createHash("sha256").update(bytes).digest());
      case ASK.ripemd160:
        return this.hashed(bytes, createHash("ripemd160").update(bytes).digest());
      case ASK.hmacSha256: {
        const end = 1 + bytes[0]!;
        const message = bytes.subarray(end);
        return this.hashed(message, createHmac("sha256", bytes.subarray(1, end)).update(message).digest());
      }
      case ASK.aes256Ctr: {
        const message = bytes.subarray(48);
        work.ciphers++;
        work.cipheredBytes += message.length;
        return nodeLinkCrypto.aes256Ctr(bytes.subarray(0, 32), bytes.subarray(32, 48), message);
      }
      case ASK.now:
        return numbers(Date.now());
      case ASK.ticks:
        return numbers(performance.now());
      case ASK.after: {
        const id = numberAt(bytes, 0);
        const ring = () => {
          this.timers.delete(id);
          this.tell(TELL.timer, numbers(id));
        };
        this.timers.set(id, setTimeout(ring, numberAt(bytes, 1)));
        return NOTHING;
      }
      case ASK.cancel:
        clearTimeout(this.timers.get(numberAt(bytes, 0)));
        this.timers.delete(numberAt(bytes, 0));
        return NOTHING;
      case ASK.connect:
        this.connectTo(bytes.toString("latin1").split("\n"));
        return NOTHING;
      case ASK.publish:
        work.messages++;
        this.mqtt?.publish(new Uint8Array(bytes));
        return NOTHING;
      case ASK.disconnect:
        this.mqtt?.close();
        return NOTHING;
      default:
        this.reported(bytes.toString("latin1"));
        return NOTHING;
    }
  }

  private hashed(message: Uint8Array, digest: Uint8Array): Uint8Array {
    this.work.hashes++;
    this.work.hashedBytes += message.length;
    return digest;
  }

  /** The thin bridge to the broker: the engine's own bytes, both ways. */
  private connectTo([url, username, password, publishTopic, subscribeTopic]: string[]): void {
    this.mqtt = nodeMqtt({
      url: url!,
      username: username!,
      password: password!,
      publishTopic: publishTopic!,
      subscribeTopic: subscribeTopic!,
      onOpen: () => this.tell(TELL.open, NOTHING),
      onMessage: payload => this.tell(TELL.message, payload),
      onClose: reason => this.tell(TELL.close, Buffer.from(reason, "latin1")),
    });
  }

  private reported(json: string): void {
    const { id, value, code, message, stack } = JSON.parse(json) as {
      id: number;
      value?: unknown;
      code?: string;
      message?: string;
      stack?: string;
    };
    const waiter = this.calls.get(id);
    this.calls.delete(id);
    if (code === undefined) waiter?.resolve(value);
    else if (code === "") waiter?.reject(new Error(`in the engine: ${message}\n${stack}`));
    else waiter?.reject(lngateError(code, message ?? code));
  }
}

const NOTHING = new Uint8Array(0);

function numbers(...values: readonly number[]): Uint8Array {
  return new Uint8Array(new Float64Array(values).buffer);
}

function numberAt(bytes: Buffer, index: number): number {
  return bytes.readDoubleLE(8 * index);
}

function readNetstrings(stream: Readable, take: (frame: Buffer) => void): void {
  let pending = Buffer.alloc(0);
  stream.on("data", (data: Buffer) => {
    pending = Buffer.concat([pending, data]);
    for (;;) {
      const colon = pending.indexOf(":");
      if (colon < 0) return;
      const end = colon + 1 + Number(pending.toString("latin1", 0, colon));
      if (pending.length <= end) return;
      const frame = pending.subarray(colon + 1, end);
      pending = pending.subarray(end + 1);
      take(frame);
    }
  });
}

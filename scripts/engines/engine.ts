/** What every engine's host has in common: it stands in for the board, and carries the device's messages to the broker. */
import { createHash, createHmac } from "node:crypto";
import type { Balance, PayOptions, Receipt } from "../../device/api.ts";
import type { MqttConnection } from "../../device/board.ts";
import { nodeMqtt } from "../../device/boards/node/mqtt.ts";
import type { Flash } from "../../device/vault/flash.ts";
import { lngateError } from "../../src/errors.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { ASK, TELL } from "./boards/questions.ts";

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

export interface EngineOptions {
  /** Scripts that make the device, in order. */
  readonly scripts: readonly string[];
  readonly flash: Flash;
  /** Called before a question of the device is answered. */
  onAsk?(what: number): void;
}

interface Waiter {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

const NOTHING = new Uint8Array(0);

/** The device in an engine, as its application on the board would call it. */
export abstract class EngineDevice {
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
  protected stopped = false;
  private readonly options: EngineOptions;
  private readonly timers = new Map<number, NodeJS.Timeout>();
  private readonly calls = new Map<number, Waiter>();
  private mqtt: MqttConnection | undefined;
  private lastCall = 0;

  constructor(options: EngineOptions) {
    this.options = options;
  }

  /** Opens the device that is in the flash; its id. */
  start(): Promise<string> {
    return this.call("start");
  }
  connect(): Promise<void> {
    return this.call("connect");
  }
  openChannel(): Promise<void> {
    return this.call("openChannel");
  }
  pay(invoice: string, options: PayOptions = {}): Promise<Receipt> {
    return this.call("pay", invoice, options);
  }
  balance(): Promise<Balance> {
    return this.call("balance");
  }
  isAtRest(): Promise<boolean> {
    return this.call("isAtRest");
  }
  close(): Promise<{ txid: string }> {
    return this.call("close");
  }

  call<T>(method: string, ...args: unknown[]): Promise<T> {
    const id = ++this.lastCall;
    return new Promise<T>((resolve, reject) => {
      this.calls.set(id, { resolve: value => resolve(value as T), reject });
      this.tell(TELL.call, Buffer.from(JSON.stringify({ id, method, args })));
    });
  }

  /** As pulling the plug: what is under way is lost, the flash stays. */
  async kill(): Promise<void> {
    if (this.stopped) return;
    this.stopped = true;
    this.mqtt?.close();
    for (const timer of this.timers.values()) clearTimeout(timer);
    await this.end();
  }

  /** Tells the engine something; it does so when it has finished what it was told before. */
  protected abstract tell(what: number, bytes: Uint8Array): void;
  protected abstract end(): Promise<void>;

  /** Something in the engine threw where the device's code never should, or the engine is gone. */
  protected failed(error: Error): void {
    if (this.stopped) return;
    for (const waiter of this.calls.values()) waiter.reject(error);
    this.calls.clear();
  }

  protected answer(what: number, bytes: Buffer): Uint8Array {
    this.options.onAsk?.(what);
    if (this.stopped) return NOTHING;
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
    // 0: nobody asked, something threw where the device's code never should.
    if (id === 0) {
      this.failed(new Error(`in the engine: ${message}\n${stack}`));
      return;
    }
    const waiter = this.calls.get(id);
    this.calls.delete(id);
    if (code === undefined) waiter?.resolve(value);
    else if (code === "") waiter?.reject(new Error(`in the engine: ${message}\n${stack}`));
    else waiter?.reject(lngateError(code, message ?? code));
  }
}

/** Numbers as the engine's side writes them: doubles, little-endian. */
function numbers(...values: readonly number[]): Uint8Array {
  return new Uint8Array(new Float64Array(values).buffer);
}

function numberAt(bytes: Buffer, index: number): number {
  return bytes.readDoubleLE(8 * index);
}

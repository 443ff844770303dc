/**
 * A TCP socket that closes as soon as an MQTT packet announces more bytes than are allowed. MQTT parsers
 * collect a packet until it is complete, up to 256 MB, before anybody can look at it.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { lngateError } from "../errors.ts";

/** What may be let in for the moment. */
export interface PacketBudget {
  take(packets: number, bytes: number): void;
  /** How long nothing more may be let in, ms. */
  readonly waitMs: number;
  /** Defined if it has been too much for too long: the connection is to end. */
  flood(): number | undefined;
}

export class LimitedSocket extends Duplex {
  /** Longest packet that is let in, without its fixed header. May be changed at any time. */
  maxPacketBytes: number;
  /** Above it nothing is read for a while, and in the end the socket closes. */
  budget: PacketBudget | undefined;
  /** Packets that are let in before `open` is called; what comes behind them waits in the network. */
  private beforeOpen: number;
  private readonly tcp: Socket;
  /** What has come and is not let in yet; nothing is read meanwhile. */
  private held: { readonly rest: Buffer; readonly timer?: NodeJS.Timeout } | undefined;
  /** Bytes of the present packet that are still to come; -1 while its length is being read. */
  private awaited = 0;
  private length = 0;
  private digits = 0;

  constructor(tcp: Socket, maxPacketBytes: number, beforeOpen = Number.POSITIVE_INFINITY) {
    super({ allowHalfOpen: false });
    this.tcp = tcp;
    this.beforeOpen = beforeOpen;
    this.maxPacketBytes = maxPacketBytes;
    tcp.setNoDelay(true);
    tcp.on("data", chunk => this.letIn(chunk));
    tcp.on("end", () => this.push(null));
    tcp.on("error", error => this.destroy(error));
    tcp.on("close", () => this.destroy());
  }

  get remoteAddress(): string {
    return this.tcp.remoteAddress ?? "";
  }

  /** Lets in all that comes. */
  open(): void {
    const isShut = this.beforeOpen === 0;
    this.beforeOpen = Number.POSITIVE_INFINITY;
    if (isShut && !this.destroyed) this.release();
  }

  /** Bytes that wait to be sent. */
  get backlog(): number {
    return this.writableLength + this.tcp.writableLength;
  }

  override _read(): void {
    if (!this.held) this.tcp.resume();
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.tcp.write(chunk, done);
  }

  /** A packet is written in pieces; together they make one segment. */
  override _writev(chunks: { chunk: Uint8Array }[], done: (error?: Error | null) => void): void {
    this.tcp.write(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  override _final(done: () => void): void {
    this.tcp.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.held?.timer);
    this.tcp.destroy();
    done(error);
  }

  private letIn(chunk: Buffer): void {
    const end = this.allowed(chunk);
    if (end === undefined) {
      this.destroy(lngateError("packet-too-large", `an MQTT packet exceeds ${this.maxPacketBytes} bytes`));
      return;
    }
    if (end > 0 && !this.push(chunk.subarray(0, end))) this.tcp.pause();
    if (end < chunk.length) this.hold(chunk.subarray(end));
  }

  private hold(rest: Buffer): void {
    if (this.beforeOpen === 0) {
      this.tcp.pause();
      this.held = { rest };
      return;
    }
    const flood = this.budget!.flood();
    if (flood !== undefined) {
      this.destroy(Object.assign(lngateError("packet-flood", "too many MQTT packets"), { packets: flood }));
      return;
    }
    this.tcp.pause();
    this.held = { rest, timer: setTimeout(() => this.release(), this.budget!.waitMs) };
  }

  private release(): void {
    const rest = this.held?.rest;
    this.held = undefined;
    if (rest) this.letIn(rest);
    if (!this.held) this.tcp.resume();
  }

  /**
   * How many bytes may be let in now; undefined if a packet is too large. Follows the packets' fixed headers: type and
   * flags, then the length in up to four groups of seven bits.
   */
  private allowed(chunk: Buffer): number | undefined {
    let at = 0;
    while (at < chunk.length) {
      if (this.awaited > 0) {
        const skipped = Math.min(this.awaited, chunk.length - at);
        this.awaited -= skipped;
        at += skipped;
      } else if (this.awaited === 0) {
        if (this.beforeOpen === 0 || (this.budget && this.budget.waitMs > 0)) return at;
        this.beforeOpen--;
        this.budget?.take(1, 0);
        this.awaited = -1;
        this.length = 0;
        this.digits = 0;
        at++;
      } else {
        const digit = chunk[at++]!;
        this.length += (digit & 127) * 128 ** this.digits++;
        if (this.length > this.maxPacketBytes || this.digits > 4) return undefined;
        if (digit < 128) {
          this.awaited = this.length;
          this.budget?.take(0, this.length);
        }
      }
    }
    return at;
  }
}

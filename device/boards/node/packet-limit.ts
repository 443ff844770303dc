/**
 * A TCP socket that closes as soon as an MQTT packet announces more bytes than are allowed. MQTT parsers
 * collect a packet until it is complete, up to 256 MB, before anybody can look at it.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { lngateError } from "../../../src/errors.ts";

export class LimitedSocket extends Duplex {
  /** Longest packet that is let in, without its fixed header. May be changed at any time. */
  maxPacketBytes: number;
  private readonly tcp: Socket;
  /** Bytes of the present packet that are still to come; -1 while its length is being read. */
  private awaited = 0;
  private length = 0;
  private digits = 0;

  constructor(tcp: Socket, maxPacketBytes: number) {
    super({ allowHalfOpen: false });
    this.tcp = tcp;
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

  /** Bytes that wait to be sent. */
  get backlog(): number {
    return this.writableLength + this.tcp.writableLength;
  }

  override _read(): void {
    this.tcp.resume();
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
    this.tcp.destroy();
    done(error);
  }

  private letIn(chunk: Buffer): void {
    if (!this.withinLimit(chunk)) {
      this.destroy(lngateError("packet-too-large", `an MQTT packet exceeds ${this.maxPacketBytes} bytes`));
    } else if (!this.push(chunk)) {
      this.tcp.pause();
    }
  }

  /** Follows the packets' fixed headers: type and flags, then the length in up to four groups of seven bits. */
  private withinLimit(chunk: Buffer): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.awaited > 0) {
        const skipped = Math.min(this.awaited, chunk.length - at);
        this.awaited -= skipped;
        at += skipped;
      } else if (this.awaited === 0) {
        this.awaited = -1;
        this.length = 0;
        this.digits = 0;
        at++;
      } else {
        const digit = chunk[at++]!;
        this.length += (digit & 127) * 128 ** this.digits++;
        if (this.length > this.maxPacketBytes || this.digits > 4) return false;
        if (digit < 128) this.awaited = this.length;
      }
    }
    return true;
  }
}

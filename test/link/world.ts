/**
 * Two ends of a link and a broker between them that does whatever a list of moves says, in virtual time.
 * Every delivery is compared with what the other side sent in that session.
 */
import { createHash } from "node:crypto";
import { equal } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import type { LinkCrypto } from "../../src/link/envelope.ts";
import {
  type LinkClient,
  type LinkEffect,
  LinkServer,
  linkClient,
  QUIET_MS,
} from "../../src/link/session.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";

export type Side = "client" | "server";
const otherSide = (side: Side): Side => (side === "client" ? "server" : "client");

/** One thing that happens; numbers select modulo what there is. */
export type Move =
  | { readonly kind: "send"; readonly side: Side; readonly length: number }
  /** The broker hands over a frame that travels to `side`: in order (`at` 0) or not. */
  | { readonly kind: "deliver" | "drop" | "repeat"; readonly side: Side; readonly at: number }
  | { readonly kind: "flip" | "cut"; readonly side: Side; readonly at: number; readonly bit: number }
  /** Hands over again any frame that ever travelled to this side, or (reflected) to the other one. */
  | { readonly kind: "replay" | "reflect"; readonly side: Side; readonly at: number }
  | { readonly kind: "invent"; readonly side: Side; readonly bytes: Uint8Array }
  | { readonly kind: "forge-hint" }
  | { readonly kind: "reboot"; readonly side: Side }
  | { readonly kind: "reconnect"; readonly side: Side }
  | { readonly kind: "wait"; readonly ms: number }
  /** So many frames arrive in order. */
  | { readonly kind: "flow"; readonly frames: number };

/** Bytes that never repeat, the same in every run. */
function countingCrypto(label: string): LinkCrypto {
  let drawn = 0;
  return {
    aes256Ctr: nodeLinkCrypto.aes256Ctr,
    random: length =>
      new Uint8Array(createHash("sha256").update(`${label} ${drawn++}`).digest().subarray(0, length)),
  };
}

const LINK_KEY = new Uint8Array(32).fill(7);

export class World {
  now = 1000;
  readonly maxMessageBytes: number;
  readonly ends: { client: LinkClient; server: LinkServer };
  /** Frames travelling to a side, oldest first. */
  readonly travelling: Record<Side, Uint8Array[]> = { client: [], server: [] };
  readonly recorded: Record<Side, Uint8Array[]> = { client: [], server: [] };
  readonly session: Record<Side, number | undefined> = { client: undefined, server: undefined };
  readonly rejected: Record<string, number> = {};
  /** Codes with which a side gave up a session. */
  readonly lost: string[] = [];
  framesSent = 0;
  deliveries = 0;
  private readonly sent: Record<Side, Map<number, Uint8Array[]>> = { client: new Map(), server: new Map() };
  private readonly taken: Record<Side, Map<number, number>> = { client: new Map(), server: new Map() };
  private readonly maxFrames: number | undefined;
  private readonly crypto = { client: countingCrypto("client"), server: countingCrypto("server") };
  private messages = 0;

  constructor(options: { maxMessageBytes?: number; maxFrames?: number } = {}) {
    this.maxMessageBytes = options.maxMessageBytes ?? 200;
    this.maxFrames = options.maxFrames;
    this.ends = { client: this.boot("client") as LinkClient, server: this.boot("server") as LinkServer };
    this.carryOut("client", this.ends.client.connected(this.now));
  }

  apply(move: Move): void {
    if (move.kind === "send") this.send(move.side, move.length);
    else if (move.kind === "wait") this.wait(move.ms);
    else if (move.kind === "flow") this.flow(move.frames);
    else if (move.kind === "invent") this.hand(move.side, move.bytes);
    else if (move.kind === "forge-hint") {
      const live = this.session.client ?? 0;
      this.hand("client", new Uint8Array([0x15, live >>> 24, live >>> 16, live >>> 8, live]));
    } else if (move.kind === "reconnect") {
      this.carryOut(move.side, this.ends[move.side].connected(this.now));
    } else if (move.kind === "reboot") {
      this.session[move.side] = undefined;
      if (move.side === "client") this.ends.client = this.boot("client") as LinkClient;
      else this.ends.server = this.boot("server") as LinkServer;
      this.carryOut(move.side, this.ends[move.side].connected(this.now));
    } else if (move.kind === "replay" || move.kind === "reflect") {
      const from = this.recorded[move.kind === "replay" ? move.side : otherSide(move.side)];
      if (from.length > 0) this.hand(move.side, from[move.at % from.length]!);
    } else {
      const queue = this.travelling[move.side];
      if (queue.length === 0) return;
      const at = move.at % queue.length;
      const frame = queue[at]!;
      if (move.kind === "deliver" || move.kind === "drop") queue.splice(at, 1);
      if (move.kind === "deliver" || move.kind === "repeat") this.hand(move.side, frame);
      if (move.kind === "flip") queue[at] = flipped(frame, move.bit);
      if (move.kind === "cut") queue[at] = frame.slice(0, move.bit % frame.length);
    }
  }

  /** Throws nothing when there is no session or no room: the application would try again. */
  send(side: Side, length: number): boolean {
    const message = new Uint8Array(Math.max(4, Math.min(length, this.maxMessageBytes)));
    new DataView(message.buffer).setUint32(0, ++this.messages);
    const session = this.session[side];
    let effects: LinkEffect[];
    try {
      effects = this.ends[side].send(message, this.now);
    } catch (error) {
      const code = codeOf(error);
      if (code === "link-busy" || (code === "link-down" && session === undefined)) return false;
      throw error;
    }
    this.sent[side].get(session!)!.push(message);
    this.carryOut(side, effects);
    return true;
  }

  wait(ms: number): void {
    this.now += ms;
    for (const side of ["client", "server"] as const) this.tickIfDue(side);
  }

  private flow(frames: number): void {
    for (let i = 0; i < frames; i++) {
      const side = this.travelling.client.length > this.travelling.server.length ? "client" : "server";
      this.apply({ kind: "deliver", side, at: 0 });
    }
  }

  /**
   * Honest transport: hands over everything in order and lets timers run until nothing is left to happen, but that the
   * server asks from time to time whether the client is there.
   */
  settle(): void {
    for (let steps = 0; steps < 2000; steps++) {
      const side = this.travelling.client.length > 0 ? "client" : "server";
      const frame = this.travelling[side].shift();
      if (frame) {
        this.hand(side, frame);
        continue;
      }
      const due = Math.min(this.ends.client.nextTick(), this.ends.server.nextTick());
      if (due > this.now + QUIET_MS / 2) return;
      this.now = Math.max(this.now, due);
      for (const each of ["client", "server"] as const) this.tickIfDue(each);
    }
    throw new Error("the link does not come to rest");
  }

  /** How many messages sent in the current session have not arrived. */
  missing(from: Side): number {
    const session = this.session[from]!;
    return this.sent[from].get(session)!.length - (this.taken[otherSide(from)].get(session) ?? 0);
  }

  /** A frame reaches a side. */
  hand(side: Side, frame: Uint8Array): void {
    this.carryOut(side, this.ends[side].receive(frame, this.now));
  }

  private boot(side: Side): LinkClient | LinkServer {
    const options = {
      crypto: this.crypto[side],
      linkKey: LINK_KEY,
      maxMessageBytes: this.maxMessageBytes,
      ...(this.maxFrames === undefined ? {} : { maxFrames: this.maxFrames }),
    };
    return side === "client" ? linkClient(options) : new LinkServer(options);
  }

  private tickIfDue(side: Side): void {
    if (this.ends[side].nextTick() <= this.now) this.carryOut(side, this.ends[side].tick(this.now));
  }

  private carryOut(side: Side, effects: readonly LinkEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === "send") {
        this.framesSent++;
        this.travelling[otherSide(side)].push(effect.bytes);
        this.recorded[otherSide(side)].push(effect.bytes);
      } else if (effect.kind === "up") {
        this.session[side] = effect.session;
        if (this.sent[side].has(effect.session)) throw new Error("a session came up twice");
        this.sent[side].set(effect.session, []);
      } else if (effect.kind === "lost") {
        this.session[side] = undefined;
        this.lost.push(effect.code);
      } else if (effect.kind === "rejected") {
        this.rejected[effect.code] = (this.rejected[effect.code] ?? 0) + 1;
      } else {
        this.take(side, effect.message);
      }
    }
  }

  /** Exactly once, in order, unchanged, and only from the session that this side is in. */
  private take(side: Side, message: Uint8Array): void {
    const session = this.session[side];
    if (session === undefined) throw new Error("a message was delivered without a session");
    const number = this.taken[side].get(session) ?? 0;
    const expected = this.sent[otherSide(side)].get(session)?.[number];
    if (!expected || !equal(expected, message))
      throw new Error("a message is forged, repeated or out of order");
    this.taken[side].set(session, number + 1);
    this.deliveries++;
  }
}

function flipped(frame: Uint8Array, bit: number): Uint8Array {
  const changed = frame.slice();
  const at = bit % (8 * frame.length);
  changed[at >> 3]! ^= 1 << (at & 7);
  return changed;
}

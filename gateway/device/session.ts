/**
 * The session with one device: messages in and out, and what the device has said of itself in it. Nothing is asked of a
 * device whose flash is older than one that was here before.
 */
import type { Database } from "lmdb";
import { lngateError } from "../../src/errors.ts";
import { paymentHashIn } from "../../src/lightning/bolt11.ts";
import { type ToDevice, type ToGateway, toDevice, toGateway } from "../../src/messages/device.ts";
import { clockBehind } from "../channel/bounds.ts";
import type { Log } from "../log.ts";
import { aboutDown, aboutUp } from "./log-words.ts";
import { lastSeen, noteSeen, type Sighting } from "./rollback-guard.ts";

/** What the device says first in a session. */
export type Hello = Extract<ToGateway, { type: "hello" }>;

/** What a refusal is about: a payment, or a channel. */
export type Subject =
  | { readonly paymentHash: Uint8Array }
  | { readonly paymentHash?: never; readonly index: number };

/** What `DeviceSession` depends on. */
export interface DeviceSessionOptions {
  readonly deviceId: string;
  readonly rollbackGuard: Database<Uint8Array, string>;
  readonly log: Log;
  /** Bytes to the device; false if there is no session. */
  send(message: Uint8Array): boolean;
}

const ROLLED_BACK = "this device's flash is older than one that was here: an old image, or a copy";

/** See the head of this file. */
export class DeviceSession {
  private readonly options: DeviceSessionOptions;
  private up = false;
  private hasGreeted = false;
  private rolledBack = false;
  /** Records of kind H that the device has left. */
  noncesLeft = 0;

  constructor(options: DeviceSessionOptions) {
    this.options = options;
  }

  /** Messages can be sent and are heard. */
  get isUp(): boolean {
    return this.up;
  }

  /** The device is there and has said where it stands: it can be asked for signatures. */
  get isThere(): boolean {
    return this.up && this.hasGreeted;
  }

  /** The device in this session has an older flash than one that was here before. */
  get isRolledBack(): boolean {
    return this.rolledBack;
  }

  /** What the device said last of itself, in this session or before. */
  get seen(): Sighting | undefined {
    return lastSeen(this.options.rollbackGuard, this.options.deviceId);
  }

  /** A session began (`isUp`), or was given up. */
  changed(isUp: boolean): void {
    if (!isUp && this.isThere) this.options.log.info("the device is gone: it does not answer");
    this.up = isUp;
    this.hasGreeted = false;
  }

  /** A message of the device. Throws `message-…` for what is none. */
  read(encoded: Uint8Array): ToGateway {
    const message = toGateway.decode(encoded);
    const about = aboutUp(message);
    this.options.log.debug("link", { way: "up", type: message.type, bytes: encoded.length, about });
    return message;
  }

  /** False if the device is not there. */
  send(message: ToDevice): boolean {
    if (!this.up) return false;
    const encoded = toDevice.encode(message);
    const about = aboutDown(message);
    this.options.log.debug("link", { way: "down", type: message.type, bytes: encoded.length, about });
    return this.options.send(encoded);
  }

  /** Tells the device that nothing comes of what it has asked for, and why. */
  refuse(subject: Subject, code: string, sentence: string): void {
    this.send({ type: "failed", ...subject, code, sentence });
  }

  /**
   * The device says where it stands. `isBehind`: its channel shows that it has forgotten something. Returns what it had said
   * the time before. Throws `vault-rolled-back`.
   */
  greeted(hello: Hello, isBehind: boolean): Sighting | undefined {
    const { log, rollbackGuard, deviceId } = this.options;
    const { generation, clock, bounds } = hello;
    const at = Math.floor(Date.now() / 1000);
    const before = this.seen;
    this.rolledBack =
      isBehind ||
      !noteSeen(rollbackGuard, deviceId, {
        at,
        generation,
        ...(clock ? { clock } : {}),
        ...(bounds ? { bounds } : {}),
      });
    if (this.rolledBack) {
      log.error(`${ROLLED_BACK}; nothing is signed with it`, { generation });
      this.ensureNewest();
    }
    const [a = 0, b = 0, h = 0] = hello.recordsLeft;
    this.noncesLeft = h;
    const behind = clockBehind(clock, at);
    if (behind) log.warn(`the device's clock is ${behind} behind`, { code: "device-clock-behind" });
    log.info("the device is here", {
      phase: hello.phase,
      channel: hello.index,
      recordsA: a,
      recordsB: b,
      recordsH: h,
    });
    this.hasGreeted = true;
    return before;
  }

  /** Throws `vault-rolled-back` if the device in this session is not the newest one. */
  ensureNewest(): void {
    if (this.rolledBack) throw lngateError("vault-rolled-back", ROLLED_BACK);
  }
}

/** What a request is about; undefined for one that nobody waits for. `present`: the number of the present channel. */
export function subjectOf(request: ToGateway, present: number): Subject | undefined {
  switch (request.type) {
    case "pay": {
      const paymentHash = paymentHashIn(request.invoice);
      return paymentHash ? { paymentHash } : undefined;
    }
    case "settling":
      return { paymentHash: request.paymentHash };
    case "hello":
    case "open":
      return { index: request.index };
    case "close":
      return { index: present };
    case "stepped":
      return undefined;
  }
}

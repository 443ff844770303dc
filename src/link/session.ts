/**
 * The two ends of a link: keyed sessions, and inside a session delivery exactly once and in order over a
 * broker that may lose, repeat, reorder, delay, change or invent frames. Pure machines: every input (bytes
 * received, a message to send, a tick of the caller's clock, a transport that came up) returns the effects to
 * carry out, in order.
 *
 * Sessions. The client (device or owner's computer) sends hello{nonceD}, the server (gateway) answers
 * welcome{nonceG}, whose tag covers nonceD: the client knows that the answer is fresh. The server learns that
 * the client is fresh from the first frame under the new keys, if need be an empty message, that every session begins
 * with. Only then does the new session replace the old one, so a recorded hello disturbs nothing.
 * A server that does not know a frame's session says so in a hint; the client treats it as no more than a
 * reason to send a fresh hello, and keeps its session until the answer has been authenticated.
 *
 * Reliability. The counter of a data frame is its sequence number, every frame carries how many frames of the
 * other direction were taken in order, unacknowledged frames are sent again, byte for byte, after a time that
 * doubles. An acknowledgement travels alone only when no message went the same way within `ACK_DELAY_MS`.
 * Between sessions nothing is guaranteed: after `up` the application repeats what matters to it, and its
 * messages can bear being repeated.
 *
 * Times are milliseconds of any clock that never runs backwards.
 */
import { equal } from "../bytes/bytes.ts";
import { codeOf, lngateError } from "../errors.ts";
import {
  ACK,
  DATA,
  type DirectionKeys,
  decrypt,
  frameCodec,
  frameSession,
  HELLO,
  handshakeKey,
  type LinkCrypto,
  NO_SESSION,
  noSession,
  openFrame,
  openHello,
  openWelcome,
  sealAck,
  sealData,
  sealHello,
  sealWelcome,
  sessionKeys,
  WELCOME,
} from "./envelope.ts";

/** Frames on the way without an acknowledgement, at most. */
export const WINDOW = 8;
/** Messages that wait for room in the window, at most. */
export const QUEUE = 32;
/** How long an acknowledgement waits for a message to ride on. */
export const ACK_DELAY_MS = 500;
/** Frames taken that are acknowledged at once, so that a sender with much to send never waits. */
const ACK_AT_ONCE = WINDOW / 2;
/** First waiting time before a frame is sent again, longer than a slow radio's round trip; it doubles up to the longest. */
export const RESEND_MS = 4000;
const LONGEST_WAIT_MS = 30000;
/** Bytes that one more millisecond of waiting is granted for, so that slow radios are not sent everything twice. */
const BYTES_PER_MS = 64;
/** A session is given up when this many repetitions in a row were not acknowledged (after about two minutes). */
const MAX_RESENDS = 5;
/**
 * After so long without a frame of the client's the server sends an empty message, which has to be acknowledged like any
 * other: so a session with somebody who is gone ends, and one that is used costs nothing for it.
 */
export const QUIET_MS = 120000;
/** First waiting time before a hello is sent again; a hint brings about no new one earlier than this after the last. */
export const HELLO_MS = 3000;

/** What the caller carries out, in order. */
export type LinkEffect =
  /** Publish these bytes. */
  | { readonly kind: "send"; readonly bytes: Uint8Array }
  /** A message of the other side, authentic, once and in order. */
  | { readonly kind: "deliver"; readonly message: Uint8Array }
  /** A new session; whatever an earlier one had not acknowledged is forgotten. */
  | { readonly kind: "up"; readonly session: number }
  /** The session was given up: `link-unanswered` or `link-exhausted`. Messages on the way are forgotten. */
  | { readonly kind: "lost"; readonly code: string }
  /** A frame was refused; for logs and counts. */
  | { readonly kind: "rejected"; readonly code: string };

export interface LinkOptions {
  readonly crypto: LinkCrypto;
  /** 32 bytes from pairing. */
  readonly linkKey: Uint8Array;
  /** Longest message in either direction. */
  readonly maxMessageBytes: number;
  /** Of a client: whoever carries its effects out sends a message with each `up`, so that the session need not begin with an empty one. */
  readonly speaksAtOnce?: boolean;
  /** Frames per direction before a session ends; the counter's width allows 2^24-1. */
  readonly maxFrames?: number;
}

const NEVER = Number.POSITIVE_INFINITY;

/** One session's two directions, once its keys are known. */
interface Channel {
  readonly session: number;
  /** When `tick` is due; Infinity when nothing is awaited. */
  nextTick(): number;
  /** Nothing is on the way to the other side. */
  isIdle(): boolean;
  /** Throws `link-busy` when window and queue are full. */
  send(message: Uint8Array, nowMs: number, effects: LinkEffect[]): void;
  /** Judges a data or ack frame of this session. Throws the reason when its message is not taken. */
  receive(frame: Uint8Array, nowMs: number, effects: LinkEffect[]): void;
  /** Returns why the session must be given up, if it must. */
  tick(nowMs: number, effects: LinkEffect[]): string | undefined;
  /** The transport is back: sends everything unacknowledged again, or at least a sign of life. */
  wake(nowMs: number, effects: LinkEffect[]): void;
}

function openChannel(
  options: LinkOptions,
  session: number,
  outgoing: DirectionKeys,
  incoming: DirectionKeys,
): Channel {
  const { crypto, maxMessageBytes } = options;
  const lastFrame = options.maxFrames ?? 0xffffff;
  const queue: Uint8Array[] = [];
  /** Frames sent and not acknowledged; the last one has the counter `sent - 1`. */
  const flight: Uint8Array[] = [];
  let sent = 0;
  let taken = 0;
  let takenSinceAck = 0;
  let ackAt = NEVER;
  let resends = 0;
  let resendAt = NEVER;

  /** A counter has reached the end of its width. */
  function exhausted(): boolean {
    return sent >= lastFrame || taken >= lastFrame;
  }

  function restartClock(nowMs: number): void {
    let bytes = 0;
    for (const frame of flight) bytes += frame.length;
    const wait = Math.min(RESEND_MS * (1 << resends), LONGEST_WAIT_MS) + bytes / BYTES_PER_MS;
    resendAt = flight.length > 0 ? nowMs + wait : NEVER;
  }

  function acknowledged(ack: number, nowMs: number): void {
    const news = ack - (sent - flight.length);
    if (news <= 0) return;
    flight.splice(0, news);
    resends = 0;
    restartClock(nowMs);
  }

  /** The frame that is being sent tells how many were taken. */
  function ackCarried(): void {
    takenSinceAck = 0;
    ackAt = NEVER;
  }

  function sendAck(effects: LinkEffect[]): void {
    ackCarried();
    effects.push({ kind: "send", bytes: sealAck(outgoing, session, taken) });
  }

  function fillWindow(nowMs: number, effects: LinkEffect[]): void {
    while (flight.length < WINDOW && queue.length > 0 && !exhausted()) {
      const frame = sealData(crypto, outgoing, session, sent, taken, queue.shift()!);
      sent++;
      flight.push(frame);
      if (flight.length === 1) restartClock(nowMs);
      ackCarried();
      effects.push({ kind: "send", bytes: frame });
    }
  }

  function resend(nowMs: number, effects: LinkEffect[]): void {
    for (const frame of flight) effects.push({ kind: "send", bytes: frame });
    restartClock(nowMs);
  }

  return {
    session,

    nextTick: () => (exhausted() ? 0 : Math.min(ackAt, resendAt)),

    isIdle: () => flight.length === 0,

    send(message, nowMs, effects) {
      if (queue.length >= QUEUE) {
        throw lngateError("link-busy", `${QUEUE} messages already wait for the other side`);
      }
      queue.push(message);
      fillWindow(nowMs, effects);
    },

    receive(frame, nowMs, effects) {
      const { ack, counter, message } = openFrame(incoming, frame, maxMessageBytes);
      if (ack > sent) throw lngateError("link-malformed", "a frame acknowledges what was never sent");
      const next = message !== undefined && counter === taken && !exhausted();
      if (next) {
        taken++;
        takenSinceAck++;
        if (ackAt === NEVER) ackAt = nowMs + ACK_DELAY_MS;
      }
      acknowledged(ack, nowMs);
      fillWindow(nowMs, effects);
      if (takenSinceAck >= ACK_AT_ONCE) sendAck(effects);
      if (next) {
        // An empty message is one that a session begins with, or asks whether somebody is still there.
        if (message.length === 0) return;
        effects.push({ kind: "deliver", message: decrypt(crypto, incoming, counter, message) });
      } else if (message !== undefined) {
        if (counter >= taken) throw lngateError("link-out-of-order", "a frame came before its predecessor");
        // The other side has not seen the acknowledgement.
        sendAck(effects);
        throw lngateError("link-repeated", "a frame came again");
      }
    },

    tick(nowMs, effects) {
      if (exhausted()) return "link-exhausted";
      if (nowMs >= ackAt) sendAck(effects);
      if (nowMs >= resendAt) {
        if (resends >= MAX_RESENDS) return "link-unanswered";
        resends++;
        resend(nowMs, effects);
      }
      return undefined;
    },

    wake(nowMs, effects) {
      if (flight.length === 0) sendAck(effects);
      resends = 0;
      resend(nowMs, effects);
    },
  };
}

/** The end that opens sessions: a device, or its owner's computer. */
export interface LinkClient {
  /** Whether messages can be sent. */
  isUp(): boolean;
  /** When `tick` is due; Infinity when nothing is awaited. */
  nextTick(): number;
  /** The transport came up, for the first time or again. */
  connected(nowMs: number): LinkEffect[];
  /** Throws `link-down`, `link-busy`, `message-too-large`, `message-malformed` (empty). */
  send(message: Uint8Array, nowMs: number): LinkEffect[];
  receive(frame: Uint8Array, nowMs: number): LinkEffect[];
  tick(nowMs: number): LinkEffect[];
}

export function linkClient(options: LinkOptions): LinkClient {
  const key = handshakeKey(options.linkKey);
  let channel: Channel | undefined;
  /** The hello that awaits its answer. */
  let hello: { readonly nonce: Uint8Array; readonly frame: Uint8Array; tries: number } | undefined;
  let helloAt = -NEVER;
  /** When a hello is due: again, or because of a hint. */
  let helloAgainAt = NEVER;

  function isUp(): boolean {
    return channel !== undefined;
  }

  function nextTick(): number {
    return Math.min(helloAgainAt, channel ? channel.nextTick() : NEVER);
  }

  function connected(nowMs: number): LinkEffect[] {
    const effects: LinkEffect[] = [];
    if (channel) channel.wake(nowMs, effects);
    if (hello) hello.tries = 0;
    if (hello || !channel) sendHello(nowMs, effects);
    return effects;
  }

  function send(message: Uint8Array, nowMs: number): LinkEffect[] {
    return sendOn(channel, options, message, nowMs);
  }

  function receive(frame: Uint8Array, nowMs: number): LinkEffect[] {
    return judge(effects => {
      const kind = frameCodec(frame);
      if (kind === WELCOME) {
        receiveWelcome(frame, nowMs, effects);
      } else if (kind === NO_SESSION) {
        receiveHint(frame, nowMs, effects);
      } else if (kind === DATA || kind === ACK) {
        if (!channel || frameSession(frame) !== channel.session) throw unknownSession();
        channel.receive(frame, nowMs, effects);
      } else {
        throw unexpected();
      }
    });
  }

  function tick(nowMs: number): LinkEffect[] {
    const effects: LinkEffect[] = [];
    const reason = channel ? channel.tick(nowMs, effects) : undefined;
    if (reason !== undefined) {
      channel = undefined;
      effects.push({ kind: "lost", code: reason });
    }
    if (reason !== undefined || nowMs >= helloAgainAt) sendHello(nowMs, effects);
    return effects;
  }

  function receiveWelcome(frame: Uint8Array, nowMs: number, effects: LinkEffect[]): void {
    if (!hello) throw unexpected();
    const nonceG = openWelcome(key, hello.nonce, frame);
    const keys = sessionKeys(options.linkKey, hello.nonce, nonceG);
    hello = undefined;
    helloAgainAt = NEVER;
    channel = openChannel(options, keys.session, keys.up, keys.down);
    // Proves to the gateway that this side is fresh, too.
    if (!options.speaksAtOnce) channel.send(new Uint8Array(0), nowMs, effects);
    effects.push({ kind: "up", session: keys.session });
  }

  function receiveHint(frame: Uint8Array, nowMs: number, effects: LinkEffect[]): void {
    const session = frameSession(frame);
    const concerned = channel !== undefined && (session === 0 || session === channel.session);
    if (!concerned || helloAgainAt !== NEVER) throw unexpected();
    if (nowMs - helloAt >= HELLO_MS) sendHello(nowMs, effects);
    else helloAgainAt = helloAt + HELLO_MS;
  }

  /** A fresh hello, or the one under way again. */
  function sendHello(nowMs: number, effects: LinkEffect[]): void {
    if (!hello) {
      const nonce = options.crypto.random(16);
      hello = { nonce, frame: sealHello(key, nonce), tries: 0 };
      helloAt = nowMs;
    }
    effects.push({ kind: "send", bytes: hello.frame });
    helloAgainAt = nowMs + Math.min(HELLO_MS * (1 << hello.tries), LONGEST_WAIT_MS);
    if (hello.tries < MAX_RESENDS) hello.tries++;
  }

  return { isUp, nextTick, connected, send, receive, tick };
}

/** The end that answers: the gateway's, one for each device and one for each owner's computer. */
export class LinkServer {
  private readonly options: LinkOptions;
  private readonly handshakeKey: Uint8Array;
  private channel: Channel | undefined = undefined;
  /** When a frame of the session last came. */
  private heardAt = 0;
  /** Answered, but the client has not shown yet that its hello was fresh. */
  private pending:
    | { readonly nonceD: Uint8Array; readonly welcome: Uint8Array; readonly channel: Channel }
    | undefined = undefined;
  /** When a hello was last answered. */
  private answeredAt = -NEVER;

  constructor(options: LinkOptions) {
    this.options = options;
    this.handshakeKey = handshakeKey(options.linkKey);
  }

  /** Whether messages can be sent. */
  isUp(): boolean {
    return this.channel !== undefined;
  }

  /** When `tick` is due; Infinity while there is no session. */
  nextTick(): number {
    if (!this.channel) return NEVER;
    return Math.min(this.channel.nextTick(), this.channel.isIdle() ? this.heardAt + QUIET_MS : NEVER);
  }

  /** The client's transport came up, or this gateway started. */
  connected(nowMs: number): LinkEffect[] {
    const effects: LinkEffect[] = [];
    // Who has just said hello has the answer, and begins again.
    if (nowMs - this.answeredAt < HELLO_MS) return effects;
    if (this.channel) this.channel.wake(nowMs, effects);
    else effects.push({ kind: "send", bytes: noSession(0) });
    return effects;
  }

  /** Throws `link-down`, `link-busy`, `message-too-large`, `message-malformed` (empty). */
  send(message: Uint8Array, nowMs: number): LinkEffect[] {
    return sendOn(this.channel, this.options, message, nowMs);
  }

  receive(frame: Uint8Array, nowMs: number): LinkEffect[] {
    return judge(effects => {
      const kind = frameCodec(frame);
      if (kind === HELLO) {
        this.receiveHello(frame, nowMs, effects);
      } else if (kind === DATA || kind === ACK) {
        this.receiveFrame(frame, nowMs, effects);
      } else {
        throw unexpected();
      }
    });
  }

  tick(nowMs: number): LinkEffect[] {
    const effects: LinkEffect[] = [];
    const reason = this.channel ? this.channel.tick(nowMs, effects) : undefined;
    if (reason !== undefined) {
      effects.push({ kind: "send", bytes: noSession(this.channel!.session) }, { kind: "lost", code: reason });
      this.channel = undefined;
    } else if (this.channel?.isIdle() && nowMs >= this.heardAt + QUIET_MS) {
      this.channel.send(new Uint8Array(0), nowMs, effects);
    }
    return effects;
  }

  private receiveHello(frame: Uint8Array, nowMs: number, effects: LinkEffect[]): void {
    const nonceD = openHello(this.handshakeKey, frame);
    if (!this.pending || !equal(this.pending.nonceD, nonceD)) {
      const nonceG = this.options.crypto.random(16);
      const keys = sessionKeys(this.options.linkKey, nonceD, nonceG);
      this.pending = {
        nonceD,
        welcome: sealWelcome(this.handshakeKey, nonceD, nonceG),
        channel: openChannel(this.options, keys.session, keys.down, keys.up),
      };
    }
    this.answeredAt = nowMs;
    effects.push({ kind: "send", bytes: this.pending.welcome });
  }

  private receiveFrame(frame: Uint8Array, nowMs: number, effects: LinkEffect[]): void {
    const session = frameSession(frame);
    if (this.channel && session === this.channel.session) {
      this.channel.receive(frame, nowMs, effects);
      this.heardAt = nowMs;
    } else if (this.pending && session === this.pending.channel.session) {
      const consequences: LinkEffect[] = [];
      this.pending.channel.receive(frame, nowMs, consequences);
      // Nobody could have made this frame before: the client is there.
      this.channel = this.pending.channel;
      this.heardAt = nowMs;
      this.pending = undefined;
      effects.push({ kind: "up", session });
      for (const effect of consequences) effects.push(effect);
    } else {
      effects.push({ kind: "send", bytes: noSession(session) });
      throw unknownSession();
    }
  }
}

function sendOn(
  channel: Channel | undefined,
  options: LinkOptions,
  message: Uint8Array,
  nowMs: number,
): LinkEffect[] {
  if (message.length === 0) throw lngateError("message-malformed", "a message is empty");
  if (message.length > options.maxMessageBytes) {
    throw lngateError(
      "message-too-large",
      `a message has ${message.length} bytes, at most ${options.maxMessageBytes} are allowed`,
    );
  }
  if (!channel) throw lngateError("link-down", "there is no session with the other side");
  const effects: LinkEffect[] = [];
  channel.send(message, nowMs, effects);
  return effects;
}

/** Collects effects; an error with a code becomes the effect `rejected`. */
function judge(step: (effects: LinkEffect[]) => void): LinkEffect[] {
  const effects: LinkEffect[] = [];
  try {
    step(effects);
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    effects.push({ kind: "rejected", code });
  }
  return effects;
}

function unknownSession(): Error {
  return lngateError("link-unknown-session", "a frame belongs to no session of ours");
}

function unexpected(): Error {
  return lngateError("link-unexpected", "a frame was not asked for");
}

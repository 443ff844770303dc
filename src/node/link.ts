/**
 * A link that runs on Node: the session's effects carried out, its timers kept. `openLink` is the whole client
 * side for a program that has no channel of its own, such as the owner's.
 */

import { lngateError } from "../errors.ts";
import { type LinkClient, type LinkEffect, type LinkServer, linkClient } from "../link/session.ts";
import { linkTopic, publishBytes } from "../link/topics.ts";
import { nodeLinkCrypto } from "./crypto.ts";
import { dialMqtt } from "./mqtt.ts";

export interface LinkRunnerEvents {
  publish(bytes: Uint8Array): void;
  onMessage(message: Uint8Array): void;
  /** A new session: repeat what matters. */
  onUp(): void;
  onLost(code: string): void;
  onRejected(code: string): void;
}

/** Joins one end of a link with Node's clock and timers. */
export class LinkRunner {
  private readonly end: LinkClient | LinkServer;
  private readonly events: LinkRunnerEvents;
  private timer: NodeJS.Timeout | undefined;
  private stopped = false;

  constructor(end: LinkClient | LinkServer, events: LinkRunnerEvents) {
    this.end = end;
    this.events = events;
  }

  isUp(): boolean {
    return this.end.isUp();
  }

  connected(): void {
    this.carryOut(this.end.connected(performance.now()));
  }

  received(frame: Uint8Array): void {
    this.carryOut(this.end.receive(frame, performance.now()));
  }

  /** Throws `link-down`, `link-busy`, `message-too-large`, `message-malformed`. */
  send(message: Uint8Array): void {
    if (this.stopped) throw lngateError("link-down", "the link is closed");
    this.carryOut(this.end.send(message, performance.now()));
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  private carryOut(effects: readonly LinkEffect[]): void {
    if (this.stopped) return;
    this.schedule();
    for (const effect of effects) {
      if (this.stopped) return;
      if (effect.kind === "send") this.events.publish(effect.bytes);
      else if (effect.kind === "deliver") this.events.onMessage(effect.message);
      else if (effect.kind === "up") this.events.onUp();
      else if (effect.kind === "lost") this.events.onLost(effect.code);
      else this.events.onRejected(effect.code);
    }
  }

  private schedule(): void {
    clearTimeout(this.timer);
    const due = this.end.nextTick();
    if (due === Number.POSITIVE_INFINITY) return;
    const wait = Math.max(0, Math.ceil(due - performance.now()));
    this.timer = setTimeout(() => this.carryOut(this.end.tick(performance.now())), wait);
    this.timer.unref();
  }
}

export interface OpenLinkOptions {
  readonly url: string;
  /** User name at the broker: `<device>`, `<device>.owner` or `<device>.pair`; it decides the topics. */
  readonly identity: string;
  readonly password: string;
  readonly linkKey: Uint8Array;
  readonly maxMessageBytes: number;
  onMessage(message: Uint8Array): void;
  /** `up`: a new session; `down`: no connection to the broker, or the session was given up. */
  onState(state: "up" | "down", reason: string): void;
}

/** MQTT packets and their bytes, headers included, both ways. */
export interface Traffic {
  messagesUp: number;
  bytesUp: number;
  messagesDown: number;
  bytesDown: number;
}

export interface OpenLink {
  isUp(): boolean;
  /** Throws `link-down`, `link-busy`, `message-too-large`, `message-malformed`. */
  send(message: Uint8Array): void;
  readonly traffic: Readonly<Traffic>;
  close(): void;
}

/** Connects to the gateway and stays connected until closed. Throws `mqtt-bad-url`. */
export function openLink(options: OpenLinkOptions): OpenLink {
  const up = linkTopic(options.identity, "up");
  const down = linkTopic(options.identity, "down");
  const traffic: Traffic = { messagesUp: 0, bytesUp: 0, messagesDown: 0, bytesDown: 0 };
  const client = linkClient({
    crypto: nodeLinkCrypto,
    linkKey: options.linkKey,
    maxMessageBytes: options.maxMessageBytes,
  });
  const runner = new LinkRunner(client, {
    publish(bytes) {
      if (!dial.publish(up, bytes)) return;
      traffic.messagesUp++;
      traffic.bytesUp += publishBytes(up, bytes.length);
    },
    onMessage: message => options.onMessage(message),
    onUp: () => options.onState("up", "a session with the gateway began"),
    onLost: code => options.onState("down", code),
    onRejected: () => {},
  });
  const dial = dialMqtt({
    url: options.url,
    username: options.identity,
    password: options.password,
    topics: [down],
    maxPacketBytes: options.maxMessageBytes + 256,
    onOpen: () => runner.connected(),
    onMessage(_topic, payload) {
      traffic.messagesDown++;
      traffic.bytesDown += publishBytes(down, payload.length);
      runner.received(payload);
    },
    onClose: reason => options.onState("down", reason),
  });
  return {
    isUp: () => runner.isUp(),
    send: message => runner.send(message),
    traffic,
    close() {
      runner.stop();
      dial.close();
    },
  };
}

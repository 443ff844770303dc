/**
 * The gateway's ends of all links: one session for each identity (a device, its owner's computer), over the
 * broker inside the gateway or one elsewhere.
 */

import { codeOf, lngateError } from "../../src/errors.ts";
import { LinkServer } from "../../src/link/session.ts";
import { linkTopic, publishBytes } from "../../src/link/topics.ts";
import { nodeLinkCrypto } from "../../src/node/crypto.ts";
import { LinkRunner, type Traffic } from "../../src/node/link.ts";
import { type BrokerAccount, startBroker, type Transport, type TransportEvents } from "./broker.ts";
import { connectBroker } from "./broker-external.ts";
import { Budget } from "./budget.ts";

/** What the gateway knows of an identity. */
export interface LinkAccount extends BrokerAccount {
  /** 32 bytes from pairing. */
  readonly linkKey: Uint8Array;
}

export interface GatewayLinksOptions {
  readonly mqtt:
    | { readonly kind: "embedded"; readonly host: string; readonly port: number }
    | {
        readonly kind: "external";
        readonly url: string;
        readonly user?: string;
        readonly password?: string;
        /** Longest message of any account. */
        readonly maxMessageBytes: number;
      };
  /** Looked up at every login and when a link is first used; undefined for strangers. */
  account(identity: string): LinkAccount | undefined;
  /** All identities that have an account. */
  identities(): Iterable<string>;
  /** A message of this identity: authentic, once and in order within a session. */
  onMessage(identity: string, message: Uint8Array): void;
  /** `up`: a new session, repeat what matters. `lost`: the session was given up. */
  onSession(identity: string, state: "up" | "lost"): void;
  /** Something was refused, with its stable code: for the log. `subject`: an identity or an address. */
  onRefused(code: string, subject: string, count?: number): void;
  /** `broker-unreachable`: a broker elsewhere can't be used; null: it can again. */
  onTrouble?(error: Error | null): void;
  /** A fault of this program's, met while it handled a message of this identity. */
  onFault?(identity: string, error: Error): void;
}

interface Link {
  readonly runner: LinkRunner;
  readonly traffic: Traffic;
  /** Over a broker elsewhere; the one inside the gateway keeps it itself. */
  readonly budget?: Budget;
}

export class GatewayLinks {
  private readonly options: GatewayLinksOptions;
  private readonly links = new Map<string, Link>();
  private transport: (Transport & { readonly port?: number }) | undefined;

  private constructor(options: GatewayLinksOptions) {
    this.options = options;
  }

  /** Starts or connects the broker. Throws `broker-address`, `mqtt-bad-url`. */
  static async open(options: GatewayLinksOptions): Promise<GatewayLinks> {
    const links = new GatewayLinks(options);
    const { mqtt } = options;
    const events: TransportEvents = {
      received: (identity, bytes) => links.received(identity, bytes),
      connected: identity => links.linkOf(identity)?.runner.connected(),
      refused: (code, subject, count) => options.onRefused(code, subject, count),
      trouble: reason => {
        const broker = mqtt.kind === "external" ? mqtt.url : "";
        const sentence = `the MQTT broker at ${broker} can't be used: ${reason}`;
        options.onTrouble?.(reason === null ? null : lngateError("broker-unreachable", sentence));
      },
    };
    links.transport =
      mqtt.kind === "embedded"
        ? await startBroker({ ...mqtt, account: identity => options.account(identity) }, events)
        : connectBroker({ ...mqtt, identities: () => options.identities() }, events);
    return links;
  }

  /** Port of the embedded broker. */
  get port(): number | undefined {
    return this.transport?.port;
  }

  /** Whether messages can be sent to this identity: there is a session, which outlives a lost connection for a while. */
  isUp(identity: string): boolean {
    return this.links.get(identity)?.runner.isUp() ?? false;
  }

  /** Whether it is there: it has a session, and as far as is known a connection. */
  isConnected(identity: string): boolean {
    return this.isUp(identity) && (this.transport?.reaches(identity) ?? false);
  }

  /** Lets this identity know that the gateway is there (again), if it is connected. */
  greet(identity: string): void {
    this.linkOf(identity)?.runner.connected();
  }

  /** Throws `link-down`, `link-busy`, `message-too-large`, `message-malformed`. */
  send(identity: string, message: Uint8Array): void {
    const link = this.linkOf(identity);
    if (!link) throw lngateError("link-down", `nobody called "${identity}" has an account`);
    link.runner.send(message);
  }

  /** MQTT packets and bytes of this identity so far, headers included. */
  traffic(identity: string): Readonly<Traffic> {
    return { ...(this.links.get(identity)?.traffic ?? noTraffic()) };
  }

  /** After an account has changed or gone: ends its connection and its session, so that both begin again. */
  forget(identity: string): void {
    this.links.get(identity)?.runner.stop();
    this.links.delete(identity);
    this.transport?.drop(identity);
  }

  async close(): Promise<void> {
    for (const { runner } of this.links.values()) runner.stop();
    await this.transport?.close();
  }

  private received(identity: string, bytes: Uint8Array): void {
    const link = this.linkOf(identity);
    if (!link) {
      this.options.onRefused("link-unknown-identity", identity);
      return;
    }
    if (!this.mayBeHeard(identity, link.budget, bytes.length)) return;
    link.traffic.messagesUp++;
    link.traffic.bytesUp += publishBytes(linkTopic(identity, "up"), bytes.length);
    link.runner.received(bytes);
  }

  /** Another broker can't be told to read less of one client: what is too much of it is not heard. */
  private mayBeHeard(identity: string, budget: Budget | undefined, bytes: number): boolean {
    if (!budget) return true;
    if (budget.waitMs === 0) {
      budget.take(1, bytes);
      return true;
    }
    const flood = budget.flood();
    if (flood !== undefined) this.options.onRefused("broker-flood", identity, flood);
    return false;
  }

  private linkOf(identity: string): Link | undefined {
    const known = this.links.get(identity);
    if (known) return known;
    const account = this.options.account(identity);
    if (!account) return undefined;
    const { linkKey, maxMessageBytes } = account;
    const traffic = noTraffic();
    const runner = new LinkRunner(new LinkServer({ crypto: nodeLinkCrypto, linkKey, maxMessageBytes }), {
      publish: bytes => {
        if (!this.transport?.send(identity, bytes)) return;
        traffic.messagesDown++;
        traffic.bytesDown += publishBytes(linkTopic(identity, "down"), bytes.length);
      },
      onMessage: message => this.handle(identity, () => this.options.onMessage(identity, message)),
      onUp: () => this.handle(identity, () => this.options.onSession(identity, "up")),
      onLost: () => this.handle(identity, () => this.options.onSession(identity, "lost")),
      onRejected: code => this.options.onRefused(code, identity),
    });
    const isExternal = this.options.mqtt.kind === "external";
    const link = { runner, traffic, ...(isExternal ? { budget: new Budget(maxMessageBytes) } : {}) };
    this.links.set(identity, link);
    return link;
  }

  /** One identity's trouble is not to become another's: what the application throws is reported and ends here. */
  private handle(identity: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      const code = codeOf(error);
      if (code !== undefined) this.options.onRefused(code, identity);
      else {
        this.options.onRefused("link-handler-failed", identity);
        this.options.onFault?.(identity, error as Error);
      }
    }
  }
}

function noTraffic(): Traffic {
  return { messagesUp: 0, bytesUp: 0, messagesDown: 0, bytesDown: 0 };
}

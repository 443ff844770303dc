/**
 * The peers that a node stays connected to. One that can't be reached is called more and more rarely, and so is one that
 * breaks the connection off again and again.
 */
import type { Socket } from "node:net";
import { toHex } from "../../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../../src/errors.ts";
import { type Log, lastingTrouble } from "../../log.ts";
import type { Turns } from "../turns.ts";

/** Where a Lightning node is found. */
export interface Peer {
  readonly nodeId: Uint8Array;
  readonly host: string;
  readonly port: number;
}

/** How the peers are called. */
export interface ContactsOptions {
  readonly log: Log;
  readonly turns: Turns;
  /** Resolves when TCP is up and LDK has begun its handshake. Throws `peer-unreachable`. */
  dial(address: Peer): Promise<Socket>;
  /** The handshake is through. */
  isConnected(nodeId: Uint8Array): boolean;
  /** What some peer has warned of last. */
  lastWarning(): string | undefined;
}

/** A peer to stay connected to. */
interface Contact {
  readonly address: Peer;
  /** The pause after a call that comes to nothing: longer each time, until a Lightning handshake succeeds. */
  delay: number;
  /** By performance.now(). */
  nextAt: number;
  connecting: boolean;
  /** By performance.now(): since when it is connected, as far as was noticed. */
  upSince: number | undefined;
  /** How often in a row the peer has broken the connection off soon. */
  breaks: number;
  readonly trouble: (error: unknown) => void;
}

const RECONNECT_MS = 1_000;
const LONGEST_RECONNECT_MS = 60_000;
/** A peer that breaks off so often, each time so soon, does it because of what it is told: it is called ever more rarely. */
const MANY_BREAKS = 5;
const SOON_MS = 30_000;

/** Nobody is called before `start`, but for who is just added. */
export class Contacts {
  private readonly options: ContactsOptions;
  private readonly contacts = new Map<string, Contact>();
  private timer: NodeJS.Timeout | undefined;

  constructor(options: ContactsOptions) {
    this.options = options;
  }

  /** Looks after them from now on. */
  start(): void {
    this.timer = setInterval(() => this.options.turns.guarded(() => this.reconnect()), RECONNECT_MS);
    this.timer.unref();
  }

  /** Calls nobody any more. */
  stop(): void {
    clearInterval(this.timer);
  }

  /** Stays connected to this peer from now on, under this address. */
  keep(address: Peer): void {
    const { log } = this.options;
    const known = this.contacts.get(toHex(address.nodeId))?.address;
    if (known?.host === address.host && known.port === address.port) return;
    const trouble = lastingTrouble(error => {
      if (error) log.warn(error.message, { code: codeOf(error) });
      else log.info("connected to the bridge again");
    });
    const contact = {
      address,
      delay: RECONNECT_MS,
      nextAt: 0,
      connecting: false,
      upSince: undefined,
      breaks: 0,
      trouble,
    };
    this.contacts.set(toHex(address.nodeId), contact);
    this.reconnect();
  }

  /** Somebody waits for this peer: it is dialled at once, and from then on as if it had just gone. */
  callSoon(nodeId: Uint8Array): void {
    const contact = this.contacts.get(toHex(nodeId));
    if (!contact || this.options.isConnected(nodeId)) return;
    contact.delay = RECONNECT_MS;
    contact.nextAt = 0;
    this.reconnect();
  }

  /** We have broken the connection off: that says nothing of the peer. */
  hungUp(nodeId: Uint8Array): void {
    const contact = this.contacts.get(toHex(nodeId));
    if (contact) contact.upSince = undefined;
  }

  private reconnect(): void {
    for (const contact of this.contacts.values()) {
      this.noteBreak(contact);
      const due = !contact.connecting && performance.now() >= contact.nextAt;
      if (due && !this.options.isConnected(contact.address.nodeId)) void this.call(contact);
    }
  }

  private noteBreak(contact: Contact): void {
    const now = performance.now();
    const lasted = contact.upSince === undefined ? undefined : now - contact.upSince;
    if (this.options.isConnected(contact.address.nodeId)) {
      contact.upSince ??= now;
      if (contact.breaks > 0 && lasted !== undefined && lasted > SOON_MS) {
        contact.breaks = 0;
        contact.trouble(null);
      }
      return;
    }
    contact.upSince = undefined;
    if (lasted === undefined || lasted > SOON_MS) return;
    contact.breaks++;
    if (contact.breaks < MANY_BREAKS) return;
    const pause = RECONNECT_MS * 2 ** (contact.breaks - MANY_BREAKS + 1);
    contact.nextAt = now + Math.min(pause, LONGEST_RECONNECT_MS);
    const { host, port } = contact.address;
    const warning = this.options.lastWarning();
    const said = warning === undefined ? "" : `; it says: ${warning}`;
    contact.trouble(
      lngateError("peer-breaks-off", `the node at ${host}:${port} breaks off again and again${said}`),
    );
  }

  private async call(contact: Contact): Promise<void> {
    const { turns, dial, isConnected } = this.options;
    const { nodeId, host, port } = contact.address;
    contact.connecting = true;
    try {
      contact.delay = Math.min(2 * contact.delay, LONGEST_RECONNECT_MS);
      const socket = await dial(contact.address);
      await turns.until("peer-unreachable", () => isConnected(nodeId) || socket.destroyed);
      if (!isConnected(nodeId))
        throw lngateError(
          "peer-unreachable",
          `the node at ${host}:${port} breaks off the handshake: is its public key ${toHex(nodeId)}?`,
        );
      contact.delay = RECONNECT_MS;
      contact.upSince = performance.now();
      if (contact.breaks < MANY_BREAKS) contact.trouble(null);
    } catch (error) {
      if (turns.stopped) return;
      contact.trouble(error);
    } finally {
      contact.connecting = false;
      contact.nextAt = performance.now() + contact.delay;
    }
    turns.wake();
  }
}

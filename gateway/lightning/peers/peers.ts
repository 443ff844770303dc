/** A node's connections: LDK's PeerManager over TCP, those it takes and those it makes and keeps. */
import { randomBytes } from "node:crypto";
import * as ldk from "lightningdevkit";
import { equal } from "../../../src/bytes/bytes.ts";
import type { NodeOptions } from "../node-options.ts";
import type { Turns } from "../turns.ts";
import { Contacts, type Peer } from "./contacts.ts";
import { PeerSockets } from "./sockets.ts";

/** What a node's connections are made of. */
export interface NodePeersOptions extends Pick<NodeOptions, "runtime" | "keys" | "log" | "onWarning"> {
  readonly turns: Turns;
  readonly messages: ldk.ChannelMessageHandler;
  readonly gossip: ldk.RoutingMessageHandler;
  /** For the kinds of messages that a node makes nothing of. */
  readonly ignoring: ldk.IgnoringMessageHandler;
}

/** Longest words of a peer's that are passed on. */
const MAX_WORDS = 150;

/** All of one node's connections. */
export class NodePeers {
  readonly manager: ldk.PeerManager;
  private readonly options: NodePeersOptions;
  private readonly sockets: PeerSockets;
  private readonly contacts: Contacts;
  /** LDK holds what is passed to it weakly. */
  private readonly kept: unknown[] = [];
  private lastWarning: string | undefined;

  constructor(options: NodePeersOptions) {
    this.options = options;
    const { turns, messages, gossip, ignoring, keys, log } = options;
    const logger = this.warningLogger();
    this.kept.push(messages, gossip, ignoring, logger);
    this.manager = ldk.PeerManager.constructor_new(
      messages,
      gossip,
      ignoring.as_OnionMessageHandler(),
      ignoring.as_CustomMessageHandler(),
      Math.floor(Date.now() / 1000),
      new Uint8Array(randomBytes(32)),
      logger,
      keys.nodeSigner,
    );
    this.sockets = new PeerSockets(this.manager, work => {
      turns.guarded(work);
      turns.wake();
    });
    this.contacts = new Contacts({
      log,
      turns,
      dial: ({ nodeId, host, port }) => this.sockets.connect(nodeId, host, port),
      isConnected: nodeId => this.isConnected(nodeId),
      lastWarning: () => this.lastWarning,
    });
  }

  /** Looks after the peers that are to be kept, from now on. */
  start(): void {
    this.contacts.start();
  }

  /** Listens for peers; the port. Throws `peer-address`. */
  listen(host: string, port: number): Promise<number> {
    return this.sockets.listen(host, port);
  }

  /** Stays connected to this peer from now on. */
  keepConnected(address: Peer): void {
    this.contacts.keep(address);
  }

  /** Somebody waits for this peer: it is dialled at once, and from then on as if it had just gone. */
  connectSoon(nodeId: Uint8Array): void {
    this.contacts.callSoon(nodeId);
  }

  /** Connects once; resolves when the handshake is through. Throws `peer-unreachable`. */
  async connect({ nodeId, host, port }: Peer): Promise<void> {
    if (this.isConnected(nodeId)) return;
    await this.sockets.connect(nodeId, host, port);
    await this.options.turns.until("peer-unreachable", () => this.isConnected(nodeId));
  }

  /** Breaks the connection off, once what is to be said is said. One that is to be kept begins again within a second. */
  hangUp(nodeId: Uint8Array): void {
    const { turns } = this.options;
    setImmediate(() =>
      turns.guarded(() => {
        this.manager.process_events();
        this.manager.disconnect_by_node_id(nodeId);
        this.contacts.hungUp(nodeId);
        turns.wake();
      }),
    );
  }

  /** How many are connected. */
  get count(): number {
    return this.manager.list_peers().length;
  }

  /** The handshake is through. */
  isConnected(nodeId: Uint8Array): boolean {
    return this.manager.list_peers().some(peer => equal(peer.get_counterparty_node_id(), nodeId));
  }

  /** Ends all connections, without a word. */
  stop(): void {
    this.contacts.stop();
    this.sockets.close();
  }

  /** LDK hands a peer's warnings to nobody but its log. */
  private warningLogger(): ldk.Logger {
    const { runtime, onWarning } = this.options;
    return ldk.Logger.new_impl({
      log: record => {
        if (record.get_level() !== ldk.Level.LDKLevel_Debug) runtime.logRecord(record);
        else {
          const words = /^Got warning message from [0-9a-f]+: (.*)$/s.exec(record.get_args())?.[1];
          if (words === undefined) return;
          this.lastWarning = words.slice(0, MAX_WORDS);
          onWarning?.(words);
        }
      },
    });
  }
}

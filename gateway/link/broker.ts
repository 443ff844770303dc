/**
 * The MQTT broker inside the gateway: aedes over TCP. Every client is confined to its own two topics (see
 * src/link/topics.ts): it publishes to `up` and subscribes to `down`; no wildcards, retained messages, wills,
 * QoS above 0 or $SYS. One connection for each identity: a new one takes over from the old one.
 *
 * The gateway itself takes messages where a client's right to publish is checked, and publishes straight to
 * the client's connection: no client can hold up the messages of another.
 */
import { createServer, type Socket } from "node:net";
import { Aedes, type AuthenticateError, type Client } from "aedes";
import { equal } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import { isIdentity, linkTopic } from "../../src/link/topics.ts";
import { LimitedSocket } from "../../src/node/packet-limit.ts";
import { Budget } from "./budget.ts";

/** What a transport tells the gateway's links. */
export interface TransportEvents {
  /** Bytes that this identity published to its `up` topic. */
  received(identity: string, bytes: Uint8Array): void;
  /** The identity can be reached now (it may have been reachable before). */
  connected(identity: string): void;
  /** Something was refused; `subject` is an identity or a network address, `count` of how many packets, where it says so. */
  refused(code: string, subject: string, count?: number): void;
  /** A broker elsewhere can't be used, for this reason, or can be (null). */
  trouble?(reason: string | null): void;
}

/** How bytes get to an identity's `down` topic. */
export interface Transport {
  /** False when nothing was sent, as far as is known. */
  send(identity: string, bytes: Uint8Array): boolean;
  /** False when it is known that nothing would get there. */
  reaches(identity: string): boolean;
  /** Ends the identity's connection, if it can. */
  drop(identity: string): void;
  close(): Promise<void>;
}

/** A client's right to log in. */
export interface BrokerAccount {
  /** SHA-256 of the password. */
  readonly passwordHash: Uint8Array;
  /** Longest message of its link. */
  readonly maxMessageBytes: number;
}

export interface BrokerOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  account(identity: string): BrokerAccount | undefined;
  /** Connections at a time, logged in or not. */
  readonly maxConnections?: number;
}

export interface Broker extends Transport {
  readonly port: number;
}

/** Packets of a client that has not logged in: a CONNECT with user name and password fits easily. */
const MAX_PACKET_BEFORE_LOGIN = 1024;
/** What a packet may have besides the link's message: envelope, topic, packet header. */
const PACKET_OVERHEAD = 256;
const LOGIN_TIMEOUT_MS = 10_000;
/** Connections of one address that have not logged in. */
const MAX_LOGINS_PER_ADDRESS = 32;
/** A client that does not take what it is sent is dropped at this many messages of full length, or after this time. */
const MAX_BACKLOG_MESSAGES = 16;
const DRAIN_TIMEOUT_MS = 20_000;

/** Starts the broker. Throws `broker-address` when it cannot listen there. */
export async function startBroker(options: BrokerOptions, events: TransportEvents): Promise<Broker> {
  /** Clients that have logged in, by identity. */
  const clients = new Map<string, Client>();
  /** Clients that may subscribe to their topic, and have asked for it: what is sent reaches them. */
  const listening = new WeakSet<Client>();
  const sockets = new Set<LimitedSocket>();
  /** Those that have not logged in, by address, the oldest first. */
  const silent = new Map<string, Set<LimitedSocket>>();
  /** What an identity has left to say, whichever its connection. */
  const budgets = new Map<string, Budget>();

  const aedes = await Aedes.createBroker({
    connectTimeout: LOGIN_TIMEOUT_MS,
    drainTimeout: DRAIN_TIMEOUT_MS,
    queueLimit: 16,

    preConnect(_client, packet, done) {
      // The user name is the identity; what a client calls itself or would like to have kept is not asked.
      packet.clientId = packet.username ?? "";
      packet.clean = true;
      if (packet.will) return done(refuse("broker-will", packet.clientId), false);
      done(null, true);
    },

    authenticate(client, _username, password, done) {
      const identity = client.id;
      const account = isIdentity(identity) ? options.account(identity) : undefined;
      // An unknown name takes as long as a wrong password.
      const matches = equal(
        sha256(password ?? new Uint8Array(0)),
        account?.passwordHash ?? new Uint8Array(32),
      );
      if (!account || !matches) {
        const error = refuse("broker-login", isIdentity(identity) ? identity : addressOf(client));
        return done(Object.assign(error, { returnCode: 5 }) as AuthenticateError, false);
      }
      const socket = limitedSocket(client);
      socket.maxPacketBytes = account.maxMessageBytes + PACKET_OVERHEAD;
      const budget = budgets.get(identity) ?? new Budget(socket.maxPacketBytes);
      budgets.set(identity, budget);
      socket.budget = budget;
      done(null, true);
    },

    authorizePublish(client, packet, done) {
      if (!client || packet.topic !== linkTopic(client.id, "up") || packet.retain || packet.qos !== 0) {
        return done(refuse("broker-publish", client?.id ?? ""));
      }
      const payload = packet.payload as Buffer;
      events.received(client.id, new Uint8Array(payload.buffer, payload.byteOffset, payload.length));
      done(null);
    },

    authorizeSubscribe(client, subscription, done) {
      if (subscription.topic !== linkTopic(client.id, "down") || subscription.qos > 2) {
        refuse("broker-subscribe", client.id);
        return done(null, null);
      }
      // What comes in the same flight is handled before the subscription is done, and answered to this client directly.
      listening.add(client);
      done(null, subscription);
    },
  });

  function refuse(code: string, subject: string): Error {
    events.refused(code, subject);
    return lngateError(code, "the broker does not allow this");
  }

  aedes.on("client", client => {
    const previous = clients.get(client.id);
    if (previous && previous !== client) previous.close();
    clients.set(client.id, client);
  });
  aedes.on("clientDisconnect", client => {
    if (clients.get(client.id) === client) clients.delete(client.id);
    for (const [identity, budget] of budgets)
      if (!clients.has(identity) && budget.isWhole) budgets.delete(identity);
  });
  aedes.on("subscribe", (subscriptions, client) => {
    if (!subscriptions.some(({ topic, qos }) => qos <= 2 && topic === linkTopic(client.id, "down"))) return;
    events.connected(client.id);
  });
  aedes.on("clientError", (client, error) => {
    if (!("code" in error)) return;
    if (error.code === "packet-too-large") refuse("broker-packet-too-large", client.id);
    if (error.code === "packet-flood")
      events.refused("broker-flood", client.id, (error as { packets?: number }).packets);
  });
  aedes.on("connectionError", (client, error) => {
    if ("code" in error && error.code === "packet-too-large") {
      refuse("broker-packet-too-large", addressOf(client));
    }
  });

  /** Whoever has been silent for the longest goes first: an address that is full of them must not be locked out. */
  function makeRoom(address: string): void {
    const [oldest] = silent.get(address)!;
    refuse("broker-too-many-connections", address);
    silent.get(address)!.delete(oldest!);
    sockets.delete(oldest!);
    oldest!.destroy();
  }

  function accept(tcp: Socket): void {
    const address = tcp.remoteAddress ?? "";
    const neighbours = silent.get(address) ?? new Set<LimitedSocket>();
    if (neighbours.size >= MAX_LOGINS_PER_ADDRESS) makeRoom(address);
    else if (sockets.size >= (options.maxConnections ?? 2048)) {
      const [crowded, { size }] = [...silent].sort(([, a], [, b]) => b.size - a.size)[0] ?? ["", new Set()];
      if (size === 0) {
        refuse("broker-too-many-connections", address);
        tcp.destroy();
        return;
      }
      makeRoom(crowded);
    }
    tcp.setKeepAlive(true, 60_000);
    // One packet, the login: what a client sends with it waits until it is in.
    const socket = new LimitedSocket(tcp, MAX_PACKET_BEFORE_LOGIN, 1);
    sockets.add(socket);
    neighbours.add(socket);
    silent.set(address, neighbours);
    function loginIsOver(): void {
      neighbours.delete(socket);
      if (neighbours.size === 0 && silent.get(address) === neighbours) silent.delete(address);
    }
    socket.on("close", () => {
      sockets.delete(socket);
      loginIsOver();
    });
    aedes.handle(socket).on("connected", () => {
      loginIsOver();
      socket.open();
    });
  }

  const server = createServer({ noDelay: true }, accept);
  await new Promise<void>((resolve, reject) => {
    server.once("error", error => {
      aedes.close();
      reject(
        lngateError(
          "broker-address",
          `the broker cannot listen on ${options.host}:${options.port}: ${error.message}`,
        ),
      );
    });
    server.listen(options.port, options.host, resolve);
  });

  /** The connection of this identity, once it has subscribed. */
  function listener(identity: string): Client | undefined {
    const client = clients.get(identity);
    return client && listening.has(client) ? client : undefined;
  }

  return {
    port: (server.address() as { port: number }).port,

    send(identity, bytes) {
      const client = listener(identity);
      if (!client) return false;
      const socket = limitedSocket(client);
      if (socket.backlog > MAX_BACKLOG_MESSAGES * socket.maxPacketBytes) {
        refuse("broker-slow-client", identity);
        client.close();
        return false;
      }
      const payload = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      const topic = linkTopic(identity, "down");
      client.publish({ cmd: "publish", topic, payload, qos: 0, retain: false, dup: false }, () => {});
      return true;
    },

    reaches: identity => listener(identity) !== undefined,

    drop(identity) {
      clients.get(identity)?.close();
    },

    close() {
      return new Promise(resolve => {
        server.close(() => aedes.close(() => resolve()));
        for (const socket of sockets) socket.destroy();
      });
    },
  };
}

function limitedSocket(client: Client): LimitedSocket {
  return client.conn as LimitedSocket;
}

function addressOf(client: Client): string {
  return limitedSocket(client).remoteAddress;
}

/** LDK's PeerManager over TCP: one descriptor per connection, with backpressure both ways. */
import { connect, createServer, type Server, type Socket } from "node:net";
import * as ldk from "lightningdevkit";
import { lngateError } from "../../../src/errors.ts";

/** Bytes that may wait in a socket before LDK is told to stop. */
const HIGH_WATER = 128 * 1024;
const CONNECT_TIMEOUT_MS = 10_000;

/** The connections of one PeerManager, whoever began them. */
export class PeerSockets {
  private readonly peers: ldk.PeerManager;
  /** Does something with LDK, safely, and lets it send what it wants to send afterwards. */
  private readonly run: (work: () => void) => void;
  private readonly sockets = new Set<Socket>();
  /** LDK holds descriptors weakly. */
  private readonly descriptors = new Map<bigint, ldk.SocketDescriptor>();
  private nextId = 1n;
  private server: Server | undefined;
  private closed = false;

  constructor(peers: ldk.PeerManager, run: (work: () => void) => void) {
    this.peers = peers;
    this.run = run;
  }

  /** Listens for peers; the port. Throws `peer-address`. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const server = createServer(socket => {
        const descriptor = this.adopt(socket);
        this.run(() => {
          const accepted = this.peers.new_inbound_connection(
            descriptor,
            ldk.Option_SocketAddressZ.constructor_none(),
          );
          if (!accepted.is_ok()) socket.destroy();
        });
      });
      server.once("error", error =>
        reject(lngateError("peer-address", `can't listen on ${host}:${port}: ${error.message}`)),
      );
      server.listen(port, host, () => {
        this.server = server;
        const address = server.address();
        resolve(typeof address === "object" && address ? address.port : port);
      });
    });
  }

  /** Connects to a peer; resolves when TCP is up and LDK has begun its handshake. Throws `peer-unreachable`. */
  connect(nodeId: Uint8Array, host: string, port: number): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port });
      const fail = (why: string) => {
        socket.destroy();
        reject(lngateError("peer-unreachable", `the peer at ${host}:${port} can't be reached: ${why}`));
      };
      socket.setTimeout(CONNECT_TIMEOUT_MS, () => fail("no answer"));
      socket.once("error", error => fail(error.message));
      socket.once("connect", () => {
        socket.setTimeout(0);
        if (this.closed) return fail("the node has stopped");
        const descriptor = this.adopt(socket);
        this.run(() => {
          const begun = this.peers.new_outbound_connection(
            nodeId,
            descriptor,
            ldk.Option_SocketAddressZ.constructor_none(),
          );
          if (!(begun instanceof ldk.Result_CVec_u8ZPeerHandleErrorZ_OK))
            return fail("LDK refuses the connection");
          socket.write(begun.res);
          resolve(socket);
        });
      });
    });
  }

  close(): void {
    this.closed = true;
    this.server?.close();
    for (const socket of this.sockets) socket.destroy();
    this.sockets.clear();
    this.descriptors.clear();
  }

  private adopt(socket: Socket): ldk.SocketDescriptor {
    const id = this.nextId++;
    /** LDK has asked for the end: it must not be told of it. */
    let ended = false;
    let paused = false;
    const descriptor = ldk.SocketDescriptor.new_impl({
      send_data: (data, resumeRead) => {
        if (resumeRead && paused) {
          paused = false;
          socket.resume();
        }
        if (ended || socket.destroyed || socket.writableLength > HIGH_WATER) return 0;
        if (data.length > 0) socket.write(data.slice());
        return data.length;
      },
      disconnect_socket: () => {
        ended = true;
        socket.destroy();
      },
      eq: other => other.hash() === id,
      hash: () => id,
    });
    this.descriptors.set(id, descriptor);
    this.sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("data", data => {
      if (this.closed || ended) return;
      this.run(() => {
        const read = this.peers.read_event(descriptor, new Uint8Array(data));
        if (!(read instanceof ldk.Result_boolPeerHandleErrorZ_OK)) {
          ended = true;
          socket.destroy();
        } else if (read.res) {
          paused = true;
          socket.pause();
        }
      });
    });
    socket.on("drain", () => {
      if (this.closed || ended) return;
      this.run(() => {
        if (this.peers.write_buffer_space_avail(descriptor).is_ok()) return;
        ended = true;
        socket.destroy();
      });
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.sockets.delete(socket);
      this.descriptors.delete(id);
      if (this.closed || ended) return;
      ended = true;
      this.run(() => this.peers.socket_disconnected(descriptor));
    });
    return descriptor;
  }
}

/** A TCP proxy between a device and its broker that is as slow as a radio: bytes arrive all, in order, and late. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { type Interval, unixMs } from "./chip-time.ts";
import { type LinkShape, UNSHAPED } from "./links.ts";

/** Bytes that go together. */
interface Flight {
  readonly since: number;
  readonly departs: number;
  readonly chunks: Buffer[];
}

/** One direction of one connection. */
class Direction {
  private readonly shape: LinkShape;
  private readonly deliver: (bytes: Buffer) => void;
  private readonly onTravel: (travel: Interval) => void;
  private readonly chance: () => number;
  private waiting: Flight | undefined;
  private freeAt: number;
  private lastArrival = 0;

  constructor(
    shape: LinkShape,
    freeAt: number,
    deliver: (bytes: Buffer) => void,
    onTravel: (travel: Interval) => void,
    chance: () => number,
  ) {
    this.shape = shape;
    this.chance = chance;
    this.freeAt = freeAt;
    this.deliver = deliver;
    this.onTravel = onTravel;
  }

  write(chunk: Buffer): void {
    if (this.waiting) {
      this.waiting.chunks.push(chunk);
      return;
    }
    const now = unixMs();
    const departs = this.departure(now);
    const flight = { since: now, departs, chunks: [chunk] };
    this.waiting = flight;
    setTimeout(() => this.depart(flight), departs - now);
  }

  private departure(now: number): number {
    const { intervalMs } = this.shape;
    const free = Math.max(now, this.freeAt);
    // The next event of the connection; what is written until then goes with it.
    return intervalMs === undefined ? free : Math.ceil(free / intervalMs) * intervalMs;
  }

  private depart({ since, departs, chunks }: Flight): void {
    this.waiting = undefined;
    const { radioMs, intervalMs, packetBytes, cloudMs, lost, againMs } = this.shape;
    const bytes = Buffer.concat(chunks);
    const packets = packetBytes === undefined ? 1 : Math.ceil(bytes.length / packetBytes);
    const last = departs + (packets - 1) * (intervalMs ?? 0);
    let through = last + radioMs;
    if (lost !== undefined && this.chance() < lost) through += againMs!;
    if (intervalMs !== undefined) this.freeAt = last + 1;
    // TCP keeps the order.
    const arrival = Math.max(through + cloudMs, this.lastArrival);
    this.lastArrival = arrival;
    setTimeout(
      () => {
        this.onTravel([since, unixMs()]);
        this.deliver(bytes);
      },
      Math.max(0, arrival - unixMs()),
    );
  }
}

/** Numbers from 0 to 1 that are the same in every run (Marsaglia's xorshift). */
function repeatable(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** The link of one device. */
export class Shaper {
  readonly port: number;
  /** For the connections from now on. */
  shape: LinkShape = UNSHAPED;
  /** When something was on its way. */
  travels: Interval[] = [];
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private readonly chance = repeatable(1);

  private constructor(server: Server, brokerPort: number) {
    this.server = server;
    this.port = (server.address() as { port: number }).port;
    server.on("connection", device => this.join(device, brokerPort));
  }

  static async to(brokerPort: number): Promise<Shaper> {
    const server = createServer({ noDelay: true });
    await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
    return new Shaper(server, brokerPort);
  }

  private join(device: Socket, brokerPort: number): void {
    const broker = connect({ port: brokerPort, host: "127.0.0.1", noDelay: true });
    const { shape } = this;
    const { radioMs, cloudMs, tcpOverRadio } = shape;
    // SYN and SYN-ACK; the device's first bytes go with the ACK.
    const handshakeMs = 2 * (cloudMs + (tcpOverRadio ? radioMs : 0));
    const { chance } = this;
    const onTravel = (travel: Interval) => this.travels.push(travel);
    const up = new Direction(shape, unixMs() + handshakeMs, bytes => broker.write(bytes), onTravel, chance);
    const down = new Direction(shape, 0, bytes => device.write(bytes), onTravel, chance);
    for (const [from, to, direction] of [
      [device, broker, up],
      [broker, device, down],
    ] as const) {
      this.sockets.add(from);
      from.on("data", chunk => direction.write(chunk));
      from.on("error", () => {});
      from.on("close", () => {
        this.sockets.delete(from);
        to.destroy();
      });
    }
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise(resolve => this.server.close(resolve));
  }
}

/** A piece of cable between two parts of the world, that can be cut and mended, and kept from bringing anything back. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { Transform } from "node:stream";

export class Wire {
  readonly port: number;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private whole = true;
  /** Connections that came to nothing. */
  refused = 0;
  private held: { readonly way: Transform; readonly chunk: Buffer }[] | null = null;

  private constructor(server: Server, port: number) {
    this.server = server;
    this.port = port;
  }

  /** Listens on a port of its own; what connects there reaches `to`. */
  static async to(to: number): Promise<Wire> {
    const server = createServer();
    await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const wire = new Wire(server, typeof address === "object" && address ? address.port : 0);
    server.on("connection", near => wire.join(near, connect(to, "127.0.0.1")));
    return wire;
  }

  private join(near: Socket, far: Socket): void {
    if (!this.whole) {
      this.refused++;
      far.destroy();
    }
    const wire = this;
    const back = new Transform({
      transform(chunk: Buffer, _, done) {
        if (!wire.held) return done(null, chunk);
        wire.held.push({ way: this, chunk });
        done();
      },
    });
    for (const [from, into, way] of [
      [near, far, far],
      [far, near, back],
    ] as const) {
      this.sockets.add(from);
      from.setNoDelay(true);
      from.on("error", () => {});
      from.on("close", () => {
        this.sockets.delete(from);
        into.destroy();
      });
      from.pipe(way);
    }
    back.pipe(near);
  }

  /** From now on what the far end says is kept. */
  hold(): void {
    this.held = [];
  }

  get heldBytes(): number {
    return (this.held ?? []).reduce((sum, { chunk }) => sum + chunk.length, 0);
  }

  /** What was kept comes in one piece. */
  release(): void {
    const held = this.held ?? [];
    this.held = null;
    for (const way of new Set(held.map(each => each.way)))
      way.push(Buffer.concat(held.filter(each => each.way === way).map(({ chunk }) => chunk)));
  }

  /** Everything on the way is lost; nothing gets through until it is mended. */
  cut(): void {
    this.whole = false;
    for (const socket of this.sockets) socket.destroy();
  }

  mend(): void {
    this.whole = true;
  }

  async remove(): Promise<void> {
    this.cut();
    await new Promise(resolve => this.server.close(resolve));
  }
}

/** A piece of cable between two parts of the world, that can be cut and mended. */
import { connect, createServer, type Server, type Socket } from "node:net";

export class Wire {
  readonly port: number;
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private whole = true;

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
    if (!this.whole) far.destroy();
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      this.sockets.add(from);
      from.setNoDelay(true);
      from.on("error", () => {});
      from.on("close", () => {
        this.sockets.delete(from);
        into.destroy();
      });
      from.pipe(into);
    }
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

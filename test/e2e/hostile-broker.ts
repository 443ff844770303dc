/** A broker of somebody else's that does with the messages what it likes. */
import { createServer } from "node:net";
import { Aedes } from "aedes";

export interface Frame {
  readonly topic: string;
  readonly payload: Uint8Array;
}

/** What is delivered in the place of a frame. */
export type Mischief = (frame: Frame) => readonly Frame[];

const honest: Mischief = frame => [frame];

export class HostileBroker {
  readonly port: number;
  /** All that was ever sent. */
  readonly recorded: Frame[] = [];
  mischief: Mischief = honest;
  private readonly closing: () => Promise<void>;
  private readonly inject: (frame: Frame) => void;

  private constructor(port: number, inject: (frame: Frame) => void, closing: () => Promise<void>) {
    this.port = port;
    this.inject = inject;
    this.closing = closing;
  }

  static async start(): Promise<HostileBroker> {
    let broker: HostileBroker | undefined;
    const aedes = await Aedes.createBroker({
      authorizePublish(client, packet, done) {
        const payload = packet.payload as Buffer;
        const frame = { topic: packet.topic, payload: new Uint8Array(payload) };
        // What was sent goes nowhere; what is to arrive is published by the broker itself.
        packet.topic = "nowhere";
        done(null);
        if (client) broker?.take(frame);
      },
    });
    const server = createServer({ noDelay: true }, socket => void aedes.handle(socket));
    await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    broker = new HostileBroker(
      typeof address === "object" && address ? address.port : 0,
      ({ topic, payload }) =>
        aedes.publish(
          { cmd: "publish", topic, payload: Buffer.from(payload), qos: 0, retain: false, dup: false },
          () => {},
        ),
      async () => {
        await new Promise<void>(resolve => aedes.close(resolve));
        await new Promise(resolve => server.close(resolve));
      },
    );
    return broker;
  }

  private take(frame: Frame): void {
    this.recorded.push(frame);
    for (const each of this.mischief(frame)) this.inject(each);
  }

  /** Delivers what nobody sent. */
  send(frame: Frame): void {
    this.inject(frame);
  }

  behave(): void {
    this.mischief = honest;
  }

  close(): Promise<void> {
    return this.closing();
  }
}

/**
 * Ports for programs that must be told theirs before they listen, or that come back to the one they had. A port that
 * was only looked at is anybody's until then: other tests', or that of any connection that goes out.
 */
import { randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { createServer } from "node:net";

/** Below those that systems give to outgoing connections: Linux from 32768 on, others from 49152. */
const FIRST = 20_000;
const COUNT = 10_000;

/** A TCP port of 127.0.0.1 that nobody listens on, and that nobody else who asks here gets until this process ends. */
export async function reservePort(): Promise<number> {
  for (;;) {
    const port = FIRST + randomInt(COUNT);
    if ((await reserve(port)) && (await canListen(port))) return port;
  }
}

/** The UDP port of the same number, which nobody uses, says who has it; the system gives it back whatever happens. */
function reserve(port: number): Promise<boolean> {
  const socket = createSocket("udp4").unref();
  return new Promise(resolve => {
    socket.once("error", () => socket.close(() => resolve(false)));
    socket.bind({ port, address: "127.0.0.1", exclusive: true }, () => resolve(true));
  });
}

function canListen(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise(resolve => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

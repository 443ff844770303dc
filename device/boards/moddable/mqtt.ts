/** The broker's host over the SDK's sockets. */
import { Socket } from "moddable:socket";
import { lngateError } from "../../../src/errors.ts";
import type { Board, MqttConnection, MqttOptions } from "../../board.ts";
import { brokerAddress } from "../shared/broker-address.ts";
import { LONGEST_PACKET, mqttClient, type Stream, type StreamEvents } from "../shared/mqtt-client.ts";
import { bufferOf } from "./buffer.ts";

/** What a socket tells: that it is connected, that something came; that it is gone is below zero. */
const CONNECTED = 1;
const READABLE = 2;

const LOST = "the connection to the broker is lost";
/** Short, as the broker is near: a car should not wait in front of the gate. */
const LONGEST_RETRY_MS = 4000;
const KEEPALIVE_SECONDS = 10;

/** Throws `mqtt-bad-url`. */
export function connect(options: MqttOptions, board: Pick<Board, "after" | "ticks">): MqttConnection {
  const address = brokerAddress(options.url);
  if (address === null) throw lngateError("mqtt-bad-url", "the broker's address is not mqtt://host:port");

  /** A message is worked on from a timer: the device needs the engine's small stack from its ground. */
  const came: Uint8Array[] = [];
  function onMessage(payload: Uint8Array): void {
    if (came.push(payload) === 1) board.after(0, deliver);
  }
  function deliver(): void {
    for (const payload of came.splice(0)) options.onMessage(payload);
  }

  function dial(events: StreamEvents): Stream {
    let socket: Socket | null = null;
    const close = () => {
      const last = socket;
      socket = null;
      try {
        if (last !== null) last.close();
      } catch (_gone) {
        // Closed already.
      }
    };
    try {
      const dialled = new Socket({ host: address!.host, port: address!.port, noDelay: true });
      socket = dialled;
      dialled.callback = message => {
        if (message === CONNECTED) events.onOpen();
        else if (message === READABLE) events.onData(new Uint8Array(dialled.read(ArrayBuffer)));
        else if (message < 0) {
          close();
          events.onClose(LOST);
        }
      };
    } catch (_unreachable) {
      board.after(0, () => events.onClose(LOST));
    }
    return {
      write(bytes) {
        try {
          if (socket !== null) socket.write(bufferOf(bytes));
        } catch (_lost) {
          // A connection that is just breaking, or full: the link sends again.
        }
      },
      close,
    };
  }

  const shallow = { ...options, onMessage };
  return mqttClient(shallow, {
    dial,
    after: board.after,
    ticks: board.ticks,
    maxPacketBytes: LONGEST_PACKET,
    keepaliveSeconds: KEEPALIVE_SECONDS,
    longestRetryMs: LONGEST_RETRY_MS,
  });
}

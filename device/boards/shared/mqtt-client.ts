/**
 * MQTT 3.1.1 over a stream of bytes, as a device needs it: one topic each way, QoS 0. It dials again, waiting longer each
 * time, until it is closed.
 *
 * A car that comes into range pays for every round trip: CONNECT, SUBSCRIBE and what the device has to say first go out in
 * one flight, as the standard allows (section 3.1.4), and no acknowledgement is waited for. A refusal ends the connection.
 */
import { concat } from "../../../src/bytes/bytes.ts";
import { MAX_MESSAGE_BYTES } from "../../../src/messages/device.ts";
import type { MqttConnection, MqttOptions } from "../../board.ts";
import {
  CONNACK,
  connectPacket,
  PING,
  PUBLISH,
  packetReader,
  payloadOf,
  publishPacket,
  SUBACK,
  subscribePacket,
} from "./mqtt-packets.ts";

/** A connection to the broker's host. */
export interface Stream {
  write(bytes: Uint8Array): void;
  /** Nothing of it is heard afterwards, whatever comes. */
  close(): void;
}

/** Who hears of a connection. */
export interface StreamEvents {
  onOpen(): void;
  onData(bytes: Uint8Array): void;
  onClose(reason: string): void;
}

/** What the client needs of its board. */
export interface MqttBoard {
  dial(events: StreamEvents): Stream;
  after(ms: number, callback: () => void): () => void;
  /** Milliseconds of a clock that never runs backwards. */
  ticks(): number;
  /** Longest packet that there is memory for: of the messages of the link none is longer than `LONGEST_PACKET`. */
  readonly maxPacketBytes: number;
  readonly keepaliveSeconds: number;
  readonly longestRetryMs: number;
}

export const LONGEST_PACKET = MAX_MESSAGE_BYTES + 256;

const FIRST_RETRY_MS = 500;
/** How long a broker may take to answer. */
const ANSWER_MS = 10000;

export function mqttClient(options: MqttOptions, board: MqttBoard): MqttConnection {
  /** The connection that is made or being made; null while waiting, and after `close`. */
  let stream: Stream | null = null;
  /** Which dial is the last: what an earlier one still says is not heard. */
  let dials = 0;
  let isOpen = false;
  let delay = FIRST_RETRY_MS;
  let heardAt = 0;
  let cancel: () => void = () => {};
  /** What goes out together; null when each packet goes by itself. */
  let flight: Uint8Array[] | null = null;

  function send(packet: Uint8Array): void {
    if (flight !== null) flight.push(packet);
    else if (stream !== null) stream.write(packet);
  }

  function dial(): void {
    const current = ++dials;
    const isLast = () => current === dials;
    const read = packetReader(board.maxPacketBytes, (type, body) => {
      if (isLast()) receive(type, body);
    });
    cancel = board.after(ANSWER_MS, () => lost("the broker does not answer"));
    stream = board.dial({
      onOpen() {
        if (isLast()) opened();
      },
      onData(bytes) {
        if (!isLast()) return;
        heardAt = board.ticks();
        if (!read(bytes) && isLast()) lost("the broker does not speak MQTT");
      },
      onClose(reason) {
        if (!isLast()) return;
        stream = null;
        lost(reason);
      },
    });
  }

  function opened(): void {
    isOpen = true;
    const { username, password, subscribeTopic } = options;
    flight = [connectPacket(username, password, board.keepaliveSeconds), subscribePacket(subscribeTopic)];
    options.onOpen();
    const together = concat(flight);
    flight = null;
    send(together);
  }

  function receive(type: number, body: Uint8Array): void {
    if (type === PUBLISH) {
      const payload = payloadOf(body);
      if (payload !== null) options.onMessage(payload);
    } else if (type === CONNACK) {
      if (body[1] !== 0) lost("the broker refused the login");
    } else if (type === SUBACK) {
      if (body[2] !== 0) lost("the broker refused the subscription");
      else {
        delay = FIRST_RETRY_MS;
        keepAlive();
      }
    }
  }

  function keepAlive(): void {
    cancel();
    cancel = board.after(500 * board.keepaliveSeconds, () => {
      if (board.ticks() - heardAt > 1500 * board.keepaliveSeconds) {
        lost("the broker is silent");
        return;
      }
      send(PING);
      keepAlive();
    });
  }

  /** Nothing is heard of the last connection any more. */
  function drop(): void {
    dials++;
    cancel();
    isOpen = false;
    const last = stream;
    stream = null;
    if (last !== null) last.close();
  }

  function lost(reason: string): void {
    drop();
    cancel = board.after(delay, dial);
    delay = Math.min(2 * delay, board.longestRetryMs);
    options.onClose(reason);
  }

  dial();
  return {
    publish(payload) {
      if (isOpen) send(publishPacket(options.publishTopic, payload));
    },
    close: drop,
  };
}

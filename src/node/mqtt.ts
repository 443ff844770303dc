/** A connection to an MQTT broker that is kept, over the package mqtt. */
import { connect } from "node:net";
import mqtt from "mqtt";
import { lngateError } from "../errors.ts";
import { LimitedSocket } from "./packet-limit.ts";

/** Largest packet accepted from a broker when no other limit is given. */
const MAX_PACKET_BYTES = 2 ** 16;
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 30_000;
/** A connection that lasted this long was a good one: the next retry is quick again. */
const GOOD_CONNECTION_MS = 10_000;
const CONNECT_TIMEOUT_MS = 10_000;
const KEEPALIVE_S = 30;

export interface MqttDialOptions {
  /** `mqtt://host:port`; the port is 1883 unless given. */
  readonly url: string;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly topics: readonly string[];
  readonly maxPacketBytes?: number | undefined;
  /** Connected and subscribed, for the first time or again. */
  onOpen(): void;
  onMessage(topic: string, payload: Uint8Array): void;
  onClose(reason: string): void;
}

/** A connection to a broker that reconnects, waiting longer each time, until it is closed. */
export interface MqttDial {
  /** False, and nothing sent, while there is no connection. */
  publish(topic: string, payload: Uint8Array): boolean;
  close(): void;
}

/** QoS 0, TCP_NODELAY, clean sessions. Throws `mqtt-bad-url`. */
export function dialMqtt(options: MqttDialOptions): MqttDial {
  const address = brokerAt(options.url);
  let client: mqtt.MqttClient | undefined;
  let open = false;
  let closed = false;
  let delay = FIRST_RETRY_MS;
  let timer: NodeJS.Timeout | undefined;

  function dial(): void {
    let reason = "the broker closed the connection";
    let openedAt = Number.POSITIVE_INFINITY;
    const current = new mqtt.MqttClient(
      () => new LimitedSocket(connect(address), options.maxPacketBytes ?? MAX_PACKET_BYTES),
      {
        protocolVersion: 4,
        clean: true,
        keepalive: KEEPALIVE_S,
        connectTimeout: CONNECT_TIMEOUT_MS,
        // Every attempt is a new client: nothing of the last connection can linger.
        reconnectPeriod: 0,
        queueQoSZero: false,
        ...(options.username === undefined ? {} : { clientId: options.username, username: options.username }),
        ...(options.password === undefined ? {} : { password: options.password }),
      },
    );
    client = current;
    current.on("connect", () => {
      current.subscribe([...options.topics], { qos: 0 }, (error, granted) => {
        if (error || granted?.some(({ qos }) => qos > 2)) {
          reason = "the broker refused the subscription";
          current.end(true);
          return;
        }
        openedAt = performance.now();
        open = true;
        options.onOpen();
      });
    });
    current.on("message", (topic, payload) => {
      options.onMessage(topic, new Uint8Array(payload.buffer, payload.byteOffset, payload.length));
    });
    current.on("error", error => {
      reason = error.message;
      current.end(true);
    });
    current.on("close", () => {
      if (client !== current) return;
      client = undefined;
      open = false;
      if (closed) return;
      if (performance.now() - openedAt >= GOOD_CONNECTION_MS) delay = FIRST_RETRY_MS;
      timer = setTimeout(dial, delay * (1 + Math.random() / 4));
      delay = Math.min(2 * delay, LONGEST_RETRY_MS);
      options.onClose(reason);
    });
  }

  dial();
  return {
    publish(topic, payload) {
      if (!open || !client?.connected) return false;
      client.publish(topic, Buffer.from(payload.buffer, payload.byteOffset, payload.length));
      return true;
    },
    close() {
      closed = true;
      clearTimeout(timer);
      client?.end(true);
    },
  };
}

/** Where a broker is. Throws `mqtt-bad-url`. */
export function brokerAt(url: string): { host: string; port: number } {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol !== "mqtt:" || parsed.hostname === "") {
    throw lngateError("mqtt-bad-url", `"${url}" does not look like mqtt://host:port`);
  }
  return { host: parsed.hostname.replace(/^\[|\]$/g, ""), port: Number(parsed.port || 1883) };
}

/** The node board's MQTT. */
import { connect } from "node:net";
import { brokerAt } from "../../../src/node/mqtt.ts";
import type { MqttConnection, MqttOptions } from "../../board.ts";
import { mqttClient } from "../shared/mqtt-client.ts";

/** Throws `mqtt-bad-url`. */
export function nodeMqtt(options: MqttOptions): MqttConnection {
  const address = brokerAt(options.url);
  return mqttClient(options, {
    dial(events) {
      const socket = connect({ ...address, noDelay: true });
      socket.on("connect", () => events.onOpen());
      socket.on("data", ({ buffer, byteOffset, length }) =>
        events.onData(new Uint8Array(buffer, byteOffset, length)),
      );
      socket.on("error", error => events.onClose(error.message));
      socket.on("close", () => events.onClose("the broker closed the connection"));
      return {
        write: bytes => void socket.write(bytes),
        close: () => socket.destroySoon(),
      };
    },
    after(ms, callback) {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
    ticks: () => performance.now(),
    maxPacketBytes: 2 ** 16,
    keepaliveSeconds: 30,
    longestRetryMs: 30_000,
  });
}

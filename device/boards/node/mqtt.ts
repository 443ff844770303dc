/** The node board's MQTT. */
import { dialMqtt } from "../../../src/node/mqtt.ts";
import type { MqttConnection, MqttOptions } from "../../board.ts";

/** The board's MQTT: one topic each way. */
export function nodeMqtt(options: MqttOptions): MqttConnection {
  const dial = dialMqtt({
    url: options.url,
    username: options.username,
    password: options.password,
    topics: [options.subscribeTopic],
    onOpen: () => options.onOpen(),
    onMessage: (_topic, payload) => options.onMessage(payload),
    onClose: reason => options.onClose(reason),
  });
  return {
    publish: payload => void dial.publish(options.publishTopic, payload),
    close: () => dial.close(),
  };
}

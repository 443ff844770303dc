/**
 * Any other MQTT broker as the transport of the gateway's links (mosquitto, EMQX, …). Its administrator confines
 * each device to its own topics; if that is done badly, devices can disturb, but neither read nor forge, each
 * other's messages.
 */

import { identityOfUpTopic, linkTopic, UP_TOPICS } from "../../src/link/topics.ts";
import { dialMqtt } from "../../src/node/mqtt.ts";
import type { Transport, TransportEvents } from "./broker.ts";

export interface ExternalBrokerOptions {
  /** `mqtt://host:port`. */
  readonly url: string;
  readonly user?: string;
  readonly password?: string;
  /** Everybody who may be connected: is told when this gateway comes (back) to the broker. */
  identities(): Iterable<string>;
  /** Longest message of any link. */
  readonly maxMessageBytes: number;
}

/** Connects and stays connected. Throws `mqtt-bad-url`. */
export function connectBroker(options: ExternalBrokerOptions, events: TransportEvents): Transport {
  let isOpen = false;
  const dial = dialMqtt({
    url: options.url,
    username: options.user,
    password: options.password,
    topics: UP_TOPICS,
    maxPacketBytes: options.maxMessageBytes + 256,
    onOpen() {
      isOpen = true;
      events.trouble?.(null);
      for (const identity of options.identities()) events.connected(identity);
    },
    onMessage(topic, payload) {
      const identity = identityOfUpTopic(topic);
      if (identity === undefined) events.refused("broker-topic", "");
      else events.received(identity, payload);
    },
    onClose(reason) {
      isOpen = false;
      events.trouble?.(reason);
    },
  });
  return {
    send: (identity, bytes) => dial.publish(linkTopic(identity, "down"), bytes),
    reaches: () => isOpen,
    drop: () => {},
    close: async () => dial.close(),
  };
}

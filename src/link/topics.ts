/**
 * Who speaks on the link, and under which MQTT topics. An identity is an MQTT user name:
 *
 *     abcdefgh        the device                        l/abcdefgh/up        …/down
 *     abcdefgh.owner  the owner's computer              l/abcdefgh/owner/up  …/owner/down
 *     abcdefgh.pair   the owner's computer, pairing     l/abcdefgh/pair/up   …/pair/down
 *
 * They are short because every message carries one; the version is in the envelope. `up` is towards the gateway. A
 * broker lets each identity publish to its own `up` and subscribe to its own `down`, and to nothing else.
 */

/** All the topics that a gateway listens to. */
export const UP_TOPICS: readonly string[] = ["l/+/up", "l/+/owner/up", "l/+/pair/up"];

export type Direction = "up" | "down";

const PREFIX = "l/";
const DEVICE_LETTERS = "abcdefghijklmnopqrstuvwxyz234567";

/** True for `<device>`, `<device>.owner` and `<device>.pair`. */
export function isIdentity(identity: string): boolean {
  for (let i = 0; i < 8; i++) {
    if (i >= identity.length || DEVICE_LETTERS.indexOf(identity.charAt(i)) < 0) return false;
  }
  const role = identity.slice(8);
  return role === "" || role === ".owner" || role === ".pair";
}

/** The topic of an identity. */
export function linkTopic(identity: string, direction: Direction): string {
  return `${PREFIX}${identity.split(".").join("/")}/${direction}`;
}

/** The identity that publishes to this topic; undefined for every topic that is nobody's `up`. */
export function identityOfUpTopic(topic: string): string | undefined {
  const end = topic.length - 3;
  const identity = topic.slice(PREFIX.length, Math.max(PREFIX.length, end)).split("/").join(".");
  return isIdentity(identity) && linkTopic(identity, "up") === topic ? identity : undefined;
}

/** Bytes of an MQTT PUBLISH packet of QoS 0: fixed header, topic and payload. */
export function publishBytes(topic: string, payloadBytes: number): number {
  const rest = 2 + topic.length + payloadBytes;
  return 1 + (rest < 128 ? 1 : rest < 16384 ? 2 : rest < 2097152 ? 3 : 4) + rest;
}

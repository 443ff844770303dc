/** MQTT 3.1.1 as a client of QoS 0 needs it (OASIS standard, sections 2 and 3): packets as bytes, and bytes as packets. */
import { ascii, concat } from "../../../src/bytes/bytes.ts";

const CONNECT = 0x10;
export const CONNACK = 0x20;
export const PUBLISH = 0x30;
const SUBSCRIBE = 0x82;
export const SUBACK = 0x90;

export const PING = new Uint8Array([0xc0, 0]);

function packet(type: number, body: Uint8Array): Uint8Array {
  const head = [type];
  let rest = body.length;
  do {
    const digit = rest & 127;
    rest >>= 7;
    head.push(rest > 0 ? digit | 128 : digit);
  } while (rest > 0);
  return concat([new Uint8Array(head), body]);
}

function text(value: string): Uint8Array {
  return concat([new Uint8Array([value.length >> 8, value.length & 255]), ascii(value)]);
}

/** A clean session with name and password. */
export function connectPacket(username: string, password: string, keepaliveSeconds: number): Uint8Array {
  const flags = new Uint8Array([4, 0xc2, keepaliveSeconds >> 8, keepaliveSeconds & 255]);
  return packet(CONNECT, concat([text("MQTT"), flags, text(username), text(username), text(password)]));
}

/** Subscribes to one topic, QoS 0. */
export function subscribePacket(topic: string): Uint8Array {
  return packet(SUBSCRIBE, concat([new Uint8Array([0, 1]), text(topic), new Uint8Array([0])]));
}

/** Publishes, QoS 0. */
export function publishPacket(topic: string, payload: Uint8Array): Uint8Array {
  return packet(PUBLISH, concat([text(topic), payload]));
}

/** Collects what arrives in pieces. `onPacket` gets the type (high four bits) and the body. False: not MQTT, or too long. */
export function packetReader(
  maxBytes: number,
  onPacket: (type: number, body: Uint8Array) => void,
): (data: Uint8Array) => boolean {
  let pending = new Uint8Array(0) as Uint8Array;
  return data => {
    pending = concat([pending, data]);
    for (;;) {
      let length = 0;
      let at = 1;
      let scale = 1;
      for (;;) {
        if (at > 4) return false;
        if (at >= pending.length) return true;
        const digit = pending[at++]!;
        length += (digit & 127) * scale;
        scale *= 128;
        if (digit < 128) break;
      }
      if (length > maxBytes) return false;
      if (pending.length < at + length) return true;
      const type = pending[0]! & 0xf0;
      const body = pending.slice(at, at + length);
      pending = pending.slice(at + length);
      onPacket(type, body);
    }
  };
}

/** What a publication carries, or null where it is malformed or of another quality than 0. */
export function payloadOf(body: Uint8Array): Uint8Array | null {
  if (body.length < 2) return null;
  const start = 2 + body[0]! * 256 + body[1]!;
  return start > body.length ? null : body.slice(start);
}

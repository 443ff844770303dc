/** The board `espruino`: a device without a curve, in the ES5 that its engine runs. */

import { erasePage, getFree, getPage, read, write } from "espruino:Flash";
import { readArrayBuffer } from "espruino:Storage";
import { connect as dialSocket, type Socket } from "espruino:net";
import { lngateError } from "../../../src/errors.ts";
import { MAX_MESSAGE_BYTES } from "../../../src/messages/device.ts";
import type { Device } from "../../api.ts";
import type { Board, MqttConnection, MqttOptions } from "../../board.ts";
import { openDevice } from "../../device.ts";
import { preparedKeys } from "../../keys/prepared.ts";
import type { Flash } from "../../vault/flash.ts";
import { openVault } from "../../vault/vault.ts";
import { brokerAddress } from "../shared/broker-address.ts";
import { aes256Ctr } from "./cipher.ts";
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

/** The vault's pages; the chip's own may be smaller. */
const PAGE_BYTES = 4096;
/** Flash that Espruino leaves free on an ESP32, which is all there is for the vault. */
const VAULT_BYTES = 65536;
/** The table of prepared keys, a file in Storage. */
const KEYS_FILE = "lngate.keys";

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 30000;
const KEEPALIVE_SECONDS = 30;

/** The engine has no clock that nobody can set: one is made of a timer, and can be hurried to twice its pace. */
const LOOK_MS = 1000;
const LONGEST_LOOK_MS = 2000;

/** Opens the device whose image is in the board's flash. Throws `vault-empty` where there is none. */
export function openBoard(): Device {
  let looked = Date.now();
  let ticks = 0;
  /** Time that has passed, by a clock that somebody may set: no more between two looks than the timer below can explain. */
  const pass = () => {
    const now = Date.now();
    ticks += Math.max(0, Math.min(now - looked, LONGEST_LOOK_MS));
    looked = now;
    return Math.floor(ticks);
  };
  setInterval(pass, LOOK_MS);
  const board: Board = {
    vault: openVault(flash()),
    curve: null,
    preparedKeys: preparedKeys(readKeys),
    aes256Ctr,
    // Espruino counts in fractions of a millisecond.
    now: () => Math.floor(Date.now()),
    ticks: pass,
    after(ms, callback) {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
    mqtt: connect,
  };
  return openDevice(board);
}

function readKeys(offset: number, length: number): Uint8Array | null {
  const file = readArrayBuffer(KEYS_FILE);
  if (file === undefined || offset + length > file.byteLength) return null;
  return new Uint8Array(new Uint8Array(file, offset, length));
}

/** The end of the smallest free area that has room: no other use of the flash comes near it. */
function vaultAddress(): number {
  let best: { addr: number; length: number } | null = null;
  for (const area of getFree()) {
    if (area.length >= VAULT_BYTES && (best === null || area.length < best.length)) best = area;
  }
  if (best === null) throw lngateError("vault-too-small", "there is no free flash for the vault");
  return best.addr + best.length - VAULT_BYTES;
}

function flash(): Flash {
  const start = vaultAddress();
  const chipPage = getPage(start).length;
  return {
    pageBytes: PAGE_BYTES,
    pageCount: VAULT_BYTES / PAGE_BYTES,
    read: (offset, length) =>
      length === 0 ? new Uint8Array(0) : new Uint8Array(read(length, start + offset)),
    program: (offset, bytes) => writeAligned(start + offset, bytes),
    erase: page => {
      // A quotient counts as a fraction there, whatever its value, and an address must not.
      const first = (start + page * PAGE_BYTES) | 0;
      for (let at = 0; at < PAGE_BYTES; at += chipPage) erasePage(first + at);
    },
  };
}

/** The chip is written in words of four bytes: what is around stays, as ones change nothing. */
function writeAligned(address: number, bytes: Uint8Array): void {
  const before = address % 4;
  const words = new Uint8Array(Math.ceil((before + bytes.length) / 4) * 4);
  for (let i = 0; i < words.length; i++) words[i] = 255;
  words.set(bytes, before);
  write(words, address - before);
}

function binary(bytes: Uint8Array): string {
  let out = "";
  for (let i = 0; i < bytes.length; i++) out += String.fromCharCode(bytes[i]!);
  return out;
}

function bytesOf(data: string): Uint8Array {
  const out = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i++) out[i] = data.charCodeAt(i);
  return out;
}

/** MQTT that dials again, waiting longer each time, until it is closed. */
function connect(options: MqttOptions): MqttConnection {
  const address = brokerAddress(options.url);
  if (address === null) throw lngateError("mqtt-bad-url", "the broker's address is not mqtt://host:port");
  let socket: Socket | null = null;
  let isOpen = false;
  let closed = false;
  let delay = FIRST_RETRY_MS;
  let heardAt = 0;

  function send(packet: Uint8Array): void {
    if (socket !== null) socket.write(binary(packet));
  }

  function lost(dialled: Socket): void {
    if (socket !== dialled) return;
    socket = null;
    isOpen = false;
    options.onClose("the connection to the broker is lost");
    if (closed) return;
    setTimeout(dial, delay);
    delay = Math.min(2 * delay, LONGEST_RETRY_MS);
  }

  function take(type: number, body: Uint8Array): void {
    heardAt = Date.now();
    if (type === CONNACK && body[1] === 0) send(subscribePacket(options.subscribeTopic));
    else if (type === SUBACK) {
      isOpen = true;
      delay = FIRST_RETRY_MS;
      options.onOpen();
    } else if (type === PUBLISH) {
      const payload = payloadOf(body);
      if (payload !== null) options.onMessage(payload);
    }
  }

  function dial(): void {
    const read = packetReader(MAX_MESSAGE_BYTES + 256, take);
    heardAt = Date.now();
    const dialled = dialSocket({ host: address!.host, port: address!.port }, () =>
      send(connectPacket(options.username, options.password, KEEPALIVE_SECONDS)),
    );
    socket = dialled;
    dialled.on("data", data => {
      if (!read(bytesOf(data))) dialled.end();
    });
    dialled.on("error", () => lost(dialled));
    dialled.on("close", () => lost(dialled));
  }

  const keepalive = setInterval(() => {
    if (socket === null) return;
    if (Date.now() - heardAt > 2000 * KEEPALIVE_SECONDS) {
      const silent = socket;
      silent.end();
      lost(silent);
    } else send(PING);
  }, 500 * KEEPALIVE_SECONDS);

  dial();
  return {
    publish(payload) {
      if (isOpen) send(publishPacket(options.publishTopic, payload));
    },
    close() {
      closed = true;
      clearInterval(keepalive);
      if (socket !== null) socket.end();
    },
  };
}

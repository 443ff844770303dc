/** The board `espruino`: a device without a curve, in the ES5 that its engine runs. */

import { erasePage, getFree, getPage, read, write } from "espruino:Flash";
import { readArrayBuffer } from "espruino:Storage";
import { connect as dialSocket } from "espruino:net";
import { lngateError } from "../../../src/errors.ts";
import type { Device } from "../../api.ts";
import type { Board, MqttConnection, MqttOptions } from "../../board.ts";
import { openDevice } from "../../device.ts";
import { preparedKeys } from "../../keys/prepared.ts";
import type { Flash } from "../../vault/flash.ts";
import { openVault } from "../../vault/vault.ts";
import { brokerAddress } from "../shared/broker-address.ts";
import { LONGEST_PACKET, mqttClient } from "../shared/mqtt-client.ts";
import { aes256Ctr } from "./cipher.ts";

/** The vault's pages; the chip's own may be smaller. */
const PAGE_BYTES = 4096;
/** Flash that Espruino leaves free on an ESP32, which is all there is for the vault. */
const VAULT_BYTES = 65536;
/** The table of prepared keys, a file in Storage. */
const KEYS_FILE = "lngate.keys";

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
    mqtt: options => connect(options, board),
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

/** The broker's host over Espruino's sockets, which take and give text. */
function connect(options: MqttOptions, board: Pick<Board, "after" | "ticks">): MqttConnection {
  const address = brokerAddress(options.url);
  if (address === null) throw lngateError("mqtt-bad-url", "the broker's address is not mqtt://host:port");
  return mqttClient(options, {
    dial(events) {
      const socket = dialSocket(address, () => events.onOpen());
      const lost = () => events.onClose("the connection to the broker is lost");
      socket.on("data", data => events.onData(bytesOf(data)));
      socket.on("error", lost);
      socket.on("close", lost);
      return {
        write: bytes => {
          socket.write(binary(bytes));
        },
        close: () => socket.end(),
      };
    },
    after: board.after,
    ticks: board.ticks,
    maxPacketBytes: LONGEST_PACKET,
    keepaliveSeconds: KEEPALIVE_SECONDS,
    longestRetryMs: LONGEST_RETRY_MS,
  });
}

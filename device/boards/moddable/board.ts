/** The board `moddable`: a device on XS, with what the Moddable SDK has natively. */
import { BlockCipher, Mode } from "moddable:crypt";
import native from "moddable:lngate/curve";
import openStorage from "moddable:lngate/flash";
import Client from "moddable:mqtt";
import Time from "moddable:time";
import Timer from "moddable:timer";
import { ascii } from "../../../src/bytes/bytes.ts";
import { bigintCurve } from "../../../src/crypto/curve-bigint.ts";
import { lngateError } from "../../../src/errors.ts";
import type { Device } from "../../api.ts";
import type { Board, MqttConnection, MqttOptions } from "../../board.ts";
import { openDevice } from "../../device.ts";
import type { Flash } from "../../vault/flash.ts";
import { openVault } from "../../vault/vault.ts";
import { brokerAddress } from "../shared/broker-address.ts";
import { bufferOf } from "./buffer.ts";
import { nativeCurve } from "./native-curve.ts";

const FIRST_RETRY_MS = 500;
/** Short, as the broker is near: a car should not wait in front of the gate. */
const LONGEST_RETRY_MS = 4000;
const KEEPALIVE_MS = 10000;

/** Opens the device whose image is in the board's storage. Throws `vault-empty` where there is none. */
export function openBoard(): Device {
  const board: Board = {
    vault: openVault(flash()),
    curve: native === null ? bigintCurve : nativeCurve(native),
    aes256Ctr(key, iv, bytes) {
      if (bytes.length === 0) return bytes;
      const mode = new Mode("CTR", new BlockCipher("AES", bufferOf(key)), bufferOf(iv));
      return new Uint8Array(mode.encrypt(bufferOf(bytes)));
    },
    now: () => Date.now(),
    ticks: clock(),
    after(ms, callback) {
      const timer = Timer.set(() => {
        pending = false;
        callback();
      }, ms);
      let pending = true;
      return () => {
        // A timer that rang is gone: clearing it would be an error.
        if (pending) Timer.clear(timer);
        pending = false;
      };
    },
    mqtt: connect,
  };
  return openDevice(board);
}

function flash(): Flash {
  const storage = openStorage();
  return {
    pageBytes: storage.blockSize,
    pageCount: Math.floor(storage.byteLength / storage.blockSize),
    read: (offset, length) =>
      length === 0 ? new Uint8Array(0) : new Uint8Array(storage.read(offset, length)),
    program: (offset, bytes) => storage.write(offset, bytes.length, bufferOf(bytes)),
    erase: page => storage.erase(page),
  };
}

/** The SDK's ticks start again after a while; this clock never does. */
function clock(): () => number {
  let last = Time.ticks;
  let sum = 0;
  return () => {
    const now = Time.ticks;
    sum += Math.max(0, Time.delta(last, now));
    last = now;
    return sum;
  };
}

/** MQTT that dials again, waiting longer each time, until it is closed. */
function connect(options: MqttOptions): MqttConnection {
  const address = brokerAddress(options.url);
  if (address === null) throw lngateError("mqtt-bad-url", "the broker's address is not mqtt://host:port");
  /** The connection that is made or being made; null while waiting, and after `close`. */
  let client: Client | null = null;
  let isReady = false;
  let delay = FIRST_RETRY_MS;
  let retry: Timer | null = null;

  function dial(): void {
    const dialled = new Client({
      ...address!,
      id: options.username,
      user: options.username,
      password: bufferOf(ascii(options.password)),
      timeout: KEEPALIVE_MS,
    });
    client = dialled;
    dialled.onReady = () =>
      unswallowed(() => {
        try {
          dialled.subscribe(options.subscribeTopic);
        } catch (_lost) {
          // Broken already: `onClose` follows.
          return;
        }
        isReady = true;
        delay = FIRST_RETRY_MS;
        options.onOpen();
      });
    dialled.onMessage = (_topic, data) => unswallowed(() => options.onMessage(new Uint8Array(data)));
    dialled.onClose = () => {
      if (client !== dialled) return;
      client = null;
      isReady = false;
      retry = Timer.set(dial, delay);
      delay = Math.min(2 * delay, LONGEST_RETRY_MS);
      options.onClose("the connection to the broker is lost");
    };
  }

  dial();
  return {
    publish(payload) {
      if (client === null || !isReady) return;
      try {
        client.publish(options.publishTopic, bufferOf(payload));
      } catch (_lost) {
        // A connection that is just breaking: the link sends again.
      }
    },
    close() {
      if (client === null && retry !== null) Timer.clear(retry);
      const last = client;
      client = null;
      isReady = false;
      if (last !== null) last.close();
    },
  };
}

/**
 * The SDK's MQTT client drops whatever its callbacks throw. A device that cannot write its flash must not go on with what
 * it has in memory: thrown from a timer, the error ends the program, and the chip starts again from its flash.
 */
function unswallowed(act: () => void): void {
  try {
    act();
  } catch (error) {
    Timer.set(() => {
      throw error;
    }, 0);
  }
}

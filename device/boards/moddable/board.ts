/** The board `moddable`: a device on XS, with what the Moddable SDK has natively. */
import { BlockCipher, Mode } from "moddable:crypt";
import native from "moddable:lngate/curve";
import openStorage from "moddable:lngate/flash";
import Time from "moddable:time";
import Timer from "moddable:timer";
import { bigintCurve } from "../../../src/crypto/curve-bigint.ts";
import type { Device } from "../../api.ts";
import type { Board } from "../../board.ts";
import { openDevice } from "../../device.ts";
import type { Flash } from "../../vault/flash.ts";
import { openVault } from "../../vault/vault.ts";
import { bufferOf } from "./buffer.ts";
import { connect } from "./mqtt.ts";
import { nativeCurve } from "./native-curve.ts";

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
    mqtt: options => connect(options, board),
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

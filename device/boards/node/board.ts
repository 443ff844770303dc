/** The node board: a device as a process, with a file for a flash. For owners of small computers, demo and tests. */
import { nobleCurve } from "../../../src/bytes/curve.ts";
import type { Board } from "../../board.ts";
import { openVault } from "../../vault/vault.ts";
import { nodeLinkCrypto } from "./crypto.ts";
import { openFileFlash } from "./flash.ts";
import { nodeMqtt } from "./mqtt.ts";

export interface NodeBoard extends Board {
  /** Lets go of the flash. */
  close(): void;
}

/** Opens the device in this folder. Throws `device-in-use`, and what `openVault` throws. */
export function openNodeBoard(folder: string): NodeBoard {
  const flash = openFileFlash(folder);
  try {
    return {
      vault: openVault(flash, nodeLinkCrypto.random(32)),
      curve: nobleCurve,
      aes256Ctr: nodeLinkCrypto.aes256Ctr,
      now: () => Date.now(),
      ticks: () => performance.now(),
      after(ms, callback) {
        const timer = ms > 0 ? setTimeout(callback, ms) : setImmediate(callback);
        return () => {
          clearTimeout(timer as NodeJS.Timeout);
          clearImmediate(timer as NodeJS.Immediate);
        };
      },
      mqtt: nodeMqtt,
      close: () => flash.close(),
    };
  } catch (error) {
    flash.close();
    throw error;
  }
}

/** The node board: a device as a process, with a file for a flash. For owners of small computers, demo and tests. */
import { nobleCurve } from "../../../src/crypto/curve.ts";
import { publishBytes } from "../../../src/link/topics.ts";
import { nodeLinkCrypto } from "../../../src/node/crypto.ts";
import type { Traffic } from "../../../src/node/link.ts";
import type { Board, MqttConnection } from "../../board.ts";
import { openVault } from "../../vault/vault.ts";
import { openFileFlash } from "./flash.ts";
import { nodeMqtt } from "./mqtt.ts";

/** A board that is a folder on a computer. */
export interface NodeBoard extends Board {
  /** MQTT packets and their bytes so far, headers included. */
  readonly traffic: Readonly<Traffic>;
  /** As when the power is cut: nothing is heard or done any more, and the flash is let go of. */
  close(): void;
}

/** Opens the device in this folder. Throws `device-in-use`, and what `openVault` throws. */
export function openNodeBoard(folder: string): NodeBoard {
  const flash = openFileFlash(folder);
  const traffic: Traffic = { messagesUp: 0, bytesUp: 0, messagesDown: 0, bytesDown: 0 };
  let isOn = true;
  let connection: MqttConnection | undefined;
  try {
    return {
      traffic,
      vault: openVault(flash, nodeLinkCrypto.random(32)),
      curve: nobleCurve,
      aes256Ctr: nodeLinkCrypto.aes256Ctr,
      now: () => Date.now(),
      ticks: () => performance.now(),
      after(ms, callback) {
        const ring = () => {
          if (isOn) callback();
        };
        const timer = ms > 0 ? setTimeout(ring, ms) : setImmediate(ring);
        return () => {
          clearTimeout(timer as NodeJS.Timeout);
          clearImmediate(timer as NodeJS.Immediate);
        };
      },
      mqtt(options) {
        const opened = nodeMqtt({
          ...options,
          onMessage(payload) {
            traffic.messagesDown++;
            traffic.bytesDown += publishBytes(options.subscribeTopic, payload.length);
            options.onMessage(payload);
          },
        });
        connection = opened;
        return {
          publish(payload) {
            traffic.messagesUp++;
            traffic.bytesUp += publishBytes(options.publishTopic, payload.length);
            opened.publish(payload);
          },
          close: () => opened.close(),
        };
      },
      close() {
        isOn = false;
        connection?.close();
        flash.close();
      },
    };
  } catch (error) {
    flash.close();
    throw error;
  }
}

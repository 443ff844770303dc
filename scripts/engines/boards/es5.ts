/**
 * A whole device as one ES5 script inside Duktape, without a curve, as on Espruino. The engine cannot ask its host and
 * wait: so the flash is here in memory, and whatever is done to it is told in the same order as what is sent.
 */

import type { Device, PayOptions } from "../../../device/api.ts";
import type { MqttOptions } from "../../../device/board.ts";
import { openDevice } from "../../../device/device.ts";
import { preparedKeys } from "../../../device/keys/prepared.ts";
import type { Flash } from "../../../device/vault/flash.ts";
import { openVault } from "../../../device/vault/vault.ts";
import { ascii, concat, fromHex, toHex } from "../../../src/bytes/bytes.ts";
import { aes256Ctr } from "./es5-crypto.ts";
import { ASK, TELL } from "./questions.ts";

declare function print(line: string): void;
declare function runJobs(): void;
/** Set by scripts that the host wrote: the flash's content and the table of keys, hex. */
declare const LNGATE_IMAGE: string;
declare const LNGATE_KEYS: string;

const PAGE_BYTES = 4096;

const timers: { [id: string]: () => void } = {};
let lastTimer = 0;
let mqtt: MqttOptions | null = null;
let device: Device | null = null;

function say(what: number, bytes: Uint8Array): void {
  print(`@${what} ${toHex(bytes)}`);
}

function numbers(values: readonly number[]): Uint8Array {
  return new Uint8Array(new Float64Array(values).buffer);
}

function numberOf(bytes: Uint8Array): number {
  const view = new Uint8Array(8);
  view.set(bytes);
  return new Float64Array(view.buffer)[0]!;
}

function flash(cells: Uint8Array): Flash {
  return {
    pageBytes: PAGE_BYTES,
    pageCount: cells.length / PAGE_BYTES,
    read: (offset, length) => new Uint8Array(cells.subarray(offset, offset + length)),
    program(offset, bytes) {
      for (let i = 0; i < bytes.length; i++) cells[offset + i] = cells[offset + i]! & bytes[i]!;
      say(ASK.flashProgram, concat([numbers([offset]), bytes]));
    },
    erase(page) {
      for (let i = 0; i < PAGE_BYTES; i++) cells[page * PAGE_BYTES + i] = 255;
      say(ASK.flashErase, numbers([page]));
    },
  };
}

function start(): Device {
  const table = fromHex(LNGATE_KEYS);
  return openDevice({
    vault: openVault(flash(fromHex(LNGATE_IMAGE))),
    curve: null,
    preparedKeys: preparedKeys((offset, length) =>
      offset + length > table.length ? null : table.subarray(offset, offset + length),
    ),
    aes256Ctr,
    now: () => Date.now(),
    ticks: () => Date.now(),
    after(ms, callback) {
      const id = `${++lastTimer}`;
      timers[id] = callback;
      say(ASK.after, numbers([lastTimer, ms]));
      return () => {
        delete timers[id];
      };
    },
    mqtt(options) {
      mqtt = options;
      const { url, username, password, publishTopic, subscribeTopic } = options;
      say(ASK.connect, ascii([url, username, password, publishTopic, subscribeTopic].join("\n")));
      return {
        publish: payload => say(ASK.publish, payload),
        close: () => say(ASK.disconnect, new Uint8Array(0)),
      };
    },
  });
}

function text(bytes: Uint8Array): string {
  let out = "";
  for (const byte of bytes) out += String.fromCharCode(byte);
  return out;
}

function call(method: string, args: readonly unknown[]): unknown {
  if (method === "start") {
    device = start();
    return device.id;
  }
  const running = device!;
  if (method === "connect") return running.connect();
  if (method === "openChannel") return running.openChannel();
  if (method === "pay") return running.pay(args[0] as string, args[1] as PayOptions);
  if (method === "balance") return running.balance();
  if (method === "isAtRest") return running.isAtRest();
  if (method === "close") return running.close();
  throw new Error(`there is no ${method}`);
}

function report(id: number, outcome: object): void {
  say(ASK.report, ascii(JSON.stringify({ id, ...outcome })));
}

function told(what: number, bytes: Uint8Array): void {
  if (what === TELL.open) mqtt!.onOpen();
  else if (what === TELL.message) mqtt!.onMessage(bytes);
  else if (what === TELL.close) mqtt!.onClose(text(bytes));
  else if (what === TELL.timer) {
    const id = `${numberOf(bytes)}`;
    const callback = timers[id];
    delete timers[id];
    if (callback) callback();
  } else {
    const { id, method, args } = JSON.parse(text(bytes)) as { id: number; method: string; args: unknown[] };
    Promise.resolve(null)
      .then(() => call(method, args))
      .then(
        value => report(id, { value: value === undefined ? null : value }),
        (error: Error & { code?: string }) =>
          report(id, { code: error.code || "", message: `${error.message}`, stack: `${error.stack}` }),
      );
  }
}

(globalThis as unknown as { tell(what: number, hex: string): void }).tell = (what, hex) => {
  try {
    told(what, fromHex(hex));
    runJobs();
  } catch (error) {
    const { message, stack } = error as Error;
    report(0, { code: "", message: `${message}`, stack: `${stack}` });
  }
};

/**
 * A whole device inside XS. What Moddable has natively (hashes, cipher, flash, clock, timers, MQTT) the host does;
 * all else is the device's own code.
 */

import type { Balance, Device, PayOptions } from "../../../device/api.ts";
import type { MqttOptions } from "../../../device/board.ts";
import { openDevice } from "../../../device/device.ts";
import type { Flash } from "../../../device/vault/flash.ts";
import { openVault } from "../../../device/vault/vault.ts";
import { ascii } from "../../../src/bytes/bytes.ts";
import { curveOutcome } from "./curve-outcome.ts";
import { ASK, TELL } from "./questions.ts";
import { countedCurve, workSoFar } from "./xs-curve.ts";
import { ask, memorySeen, numberOf, numbers, watchMemory } from "./xs-host.ts";

declare const emptyMachine: readonly [number, number];

/** What the worker calls when its host tells it something. */
const worker = globalThis as unknown as { handleCommand(message: ArrayBuffer): void };

const timers = new Map<number, () => void>();
let lastTimer = 0;
let mqtt: MqttOptions | undefined;
let device: Device | undefined;
let workAtReceipt: number[] = [];

function flash(): Flash {
  const size = ask(ASK.flashSize);
  return {
    pageBytes: numberOf(size),
    pageCount: numberOf(size, 1),
    read: (offset, length) => ask(ASK.flashRead, numbers(offset, length)),
    program: (offset, bytes) => void ask(ASK.flashProgram, numbers(offset), bytes),
    erase: page => void ask(ASK.flashErase, numbers(page)),
  };
}

function start(): Device {
  return openDevice({
    vault: openVault(flash()),
    curve: countedCurve,
    aes256Ctr: (key, iv, bytes) => ask(ASK.aes256Ctr, key, iv, bytes),
    now: () => numberOf(ask(ASK.now)),
    ticks: () => numberOf(ask(ASK.ticks)),
    after(ms, callback) {
      const id = ++lastTimer;
      timers.set(id, callback);
      ask(ASK.after, numbers(id, ms));
      return () => {
        if (timers.delete(id)) ask(ASK.cancel, numbers(id));
      };
    },
    mqtt(options) {
      mqtt = options;
      const { url, username, password, publishTopic, subscribeTopic } = options;
      ask(ASK.connect, ascii([url, username, password, publishTopic, subscribeTopic].join("\n")));
      return {
        publish: payload => void ask(ASK.publish, payload),
        close: () => void ask(ASK.disconnect),
      };
    },
  });
}

function text(bytes: Uint8Array): string {
  let out = "";
  for (const byte of bytes) out += String.fromCharCode(byte);
  return out;
}

/** What the test may ask for. The answer comes as a report, in whatever turn it is known. */
const calls: Record<string, (...args: never[]) => unknown> = {
  start: () => {
    device = start();
    return device.id;
  },
  connect: () => device!.connect(),
  openChannel: () => device!.openChannel(),
  pay: (invoice: string, options: PayOptions) =>
    device!.pay(invoice, options).then(receipt => {
      workAtReceipt = workSoFar();
      return receipt;
    }),
  isAtRest: () => device!.isAtRest(),
  balance: (): Balance => device!.balance(),
  close: () => device!.close(),
  curveCase: (line: string) => curveOutcome(countedCurve, line),
  curveWork: () => workSoFar(),
  workAtReceipt: () => workAtReceipt,
  emptyMachine: () => ({ slots: emptyMachine[0], chunkBytes: emptyMachine[1] }),
  watchMemory: () => watchMemory(),
  memorySeen: () => memorySeen(),
};

function report(id: number, outcome: Record<string, unknown>): void {
  ask(ASK.report, ascii(JSON.stringify({ id, ...outcome })));
}

worker.handleCommand = message => {
  const bytes = new Uint8Array(message);
  const rest = bytes.slice(1);
  if (bytes[0] === TELL.open) mqtt?.onOpen();
  else if (bytes[0] === TELL.message) mqtt?.onMessage(rest);
  else if (bytes[0] === TELL.close) mqtt?.onClose(text(rest));
  else if (bytes[0] === TELL.timer) {
    const id = numberOf(rest);
    const callback = timers.get(id);
    timers.delete(id);
    callback?.();
  } else {
    const { id, method, args } = JSON.parse(text(rest)) as { id: number; method: string; args: never[] };
    Promise.resolve()
      .then(() => calls[method]!(...args))
      .then(
        value => report(id, { value: value ?? null }),
        (error: Error & { code?: string }) =>
          report(id, { code: error.code ?? "", message: error.message, stack: error.stack }),
      );
  }
};

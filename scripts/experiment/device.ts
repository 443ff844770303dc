/**
 * The experiment's device as a process: the board `node` with a chip's time, on a broker behind a shaped link.
 *
 *   node dist/experiment-device.mjs --folder DIR --broker mqtt://127.0.0.1:PORT --curve native|javascript
 *
 * A line is a command, and answered by a line of JSON:
 *
 *     open                opens its channel; from then on it has the chip's time
 *     warm <invoice>      pays in a session that is up
 *     contact <invoice>   connects first, and leaves when all is settled
 *     leave, join         ends its session; begins one
 */
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import type { Device } from "../../device/api.ts";
import { openNodeBoard } from "../../device/boards/node/board.ts";
import { openDevice } from "../../device/device.ts";
import { codeOf } from "../../src/errors.ts";
import {
  ChipTime,
  type CurveKind,
  type Interval,
  noOperations,
  type Operations,
  unixMs,
} from "./chip-time.ts";

/** What a payment was like on the device. */
export interface Measured {
  readonly from: number;
  readonly to: number;
  /** When the chip computed, until all that follows the receipt was done. */
  readonly busy: readonly Interval[];
  readonly untilReceipt: Operations;
  readonly afterReceipt: Operations;
  readonly feeMsat: number;
  readonly serviceFeeMsat: number;
}

/** Nothing was computed for so long: what is done in idle time is done. */
const IDLE_MS = 600;
const MAX_FEE_MSAT = 5_000;

const { values } = parseArgs({
  options: { folder: { type: "string" }, broker: { type: "string" }, curve: { type: "string" } },
});
const chip = new ChipTime(values.curve as CurveKind);
const board = openNodeBoard(values.folder!);
const device: Device = openDevice({
  ...board,
  curve: chip.curve(board.curve!),
  mqtt(options) {
    const connection = board.mqtt({
      ...options,
      url: values.broker!,
      onMessage(payload) {
        chip.frame(payload);
        options.onMessage(payload);
      },
    });
    return {
      publish(payload) {
        chip.frame(payload);
        connection.publish(payload);
      },
      close: () => connection.close(),
    };
  },
});

const sleep = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));

async function idle(): Promise<void> {
  await device.settled();
  while (unixMs() - (chip.busy.at(-1)?.[1] ?? 0) < IDLE_MS) await sleep(IDLE_MS / 6);
}

async function measure(pay: () => Promise<{ feeMsat: number; serviceFeeMsat: number }>): Promise<Measured> {
  chip.busy = [];
  chip.operations = noOperations();
  const from = unixMs();
  const { feeMsat, serviceFeeMsat } = await pay();
  const to = unixMs();
  const untilReceipt = chip.operations;
  chip.operations = noOperations();
  await idle();
  return { from, to, busy: chip.busy, untilReceipt, afterReceipt: chip.operations, feeMsat, serviceFeeMsat };
}

async function run(command: string, invoice: string): Promise<object> {
  const pay = () => device.pay(invoice, { maxFeeMsat: MAX_FEE_MSAT });
  switch (command) {
    case "open":
      await device.connect();
      await device.openChannel();
      chip.isOn = true;
      return {};
    case "join":
      await device.connect();
      await idle();
      return {};
    case "leave":
      await device.disconnect();
      return {};
    case "warm":
      return measure(pay);
    case "contact":
      try {
        return await measure(() => device.connect().then(pay));
      } finally {
        await device.disconnect();
      }
    default:
      throw new Error(`there is no command ${command}`);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const [command = "", invoice = ""] = line.split(" ");
  const answer = await run(command, invoice).catch((error: Error) => ({
    error: { code: codeOf(error) ?? "internal", sentence: error.message },
  }));
  process.stdout.write(`${JSON.stringify({ command, ...answer })}\n`);
}
await device.disconnect();
board.close();

/**
 * Runs the device of the node board: connects, opens its channel when there is a deposit, and takes commands a line
 * each. Every answer is a line of JSON, so that a program can drive it as well as a person:
 *
 *     pay <invoice> [maxFeeMsat]    the receipt
 *     quote <invoice> [maxFeeMsat]  what it would cost at most
 *     balance                       what there is
 *     traffic                       messages and bytes over the air so far, the messages when the last receipt came, and whether
 *                                   all is at rest
 *     settled                       answered when what was paid is settled: then the power may be cut
 *     close                         a mutual close to the owner
 *     forget <channel>              the exits up to this channel, which the owner has seen closed on the chain
 *     exit                          ends the channel, for the owner to leave alone (`lngate device exit --from`)
 */
import { createInterface } from "node:readline";
import { codeOf } from "../../../src/errors.ts";
import type { Device } from "../../api.ts";
import { openDevice } from "../../device.ts";
import { type NodeBoard, openNodeBoard } from "./board.ts";

/** The device to run, and where its commands come from and its answers go. */
export interface RunOptions {
  readonly folder: string;
  readonly input: NodeJS.ReadableStream;
  print(line: string): void;
}

/** Resolves when the input ends, or on SIGINT and SIGTERM (the second one ends at once). Throws what `openNodeBoard` throws. */
export async function runDevice(options: RunOptions): Promise<void> {
  const board = openNodeBoard(options.folder);
  const seen: Seen = { messagesAtReceipt: 0 };
  const device = openDevice(board);
  const say = (answer: object) => options.print(JSON.stringify(answer));
  const tell = (event: string, more: object = {}) => say({ event, device: device.id, ...more });

  device.connect().then(
    () => tell("connected", device.balance()),
    error => tell("error", described(error)),
  );
  const { phase } = device.balance();
  if (phase === "none" || phase === "opening" || phase === "open") {
    device.openChannel().then(
      () => tell("ready", device.balance()),
      error => tell("error", described(error)),
    );
  }
  const lines = createInterface({ input: options.input });
  const end = () => lines.close();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, end);
  for await (const line of lines) {
    const [command, ...args] = line.trim().split(/\s+/);
    if (!command) continue;
    // Commands run side by side: a payment does not wait for the one before.
    run(device, board, seen, command, args).then(
      answer => say({ command, ...answer }),
      error => say({ command, error: described(error) }),
    );
  }
  await device.disconnect();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, end);
  board.close();
}

/** What is noted beside the answers. */
interface Seen {
  messagesAtReceipt: number;
}

async function run(
  device: Device,
  board: NodeBoard,
  seen: Seen,
  command: string,
  args: string[],
): Promise<object> {
  switch (command) {
    case "pay":
    case "quote": {
      const [invoice = "", maxFeeMsat] = args;
      const options = maxFeeMsat === undefined ? {} : { maxFeeMsat: Number(maxFeeMsat) };
      if (command === "quote") return device.quote(invoice, options);
      const receipt = await device.pay(invoice, options);
      seen.messagesAtReceipt = board.traffic.messagesUp + board.traffic.messagesDown;
      return receipt;
    }
    case "balance":
      return device.balance();
    case "traffic":
      return { ...board.traffic, ...seen, atRest: device.isAtRest() };
    case "settled":
      await device.settled();
      return { settled: true };
    case "close":
      return device.close();
    case "forget":
      device.forget(Number(args[0] ?? Number.NaN));
      return device.balance();
    case "exit":
      return { exit: device.exit() };
    default:
      return {
        error: {
          code: "unknown-command",
          sentence: "the commands are: pay, quote, balance, traffic, settled, close, exit, forget",
        },
      };
  }
}

function described(error: unknown): { code: string; sentence: string } {
  return { code: codeOf(error) ?? "internal", sentence: (error as Error).message };
}

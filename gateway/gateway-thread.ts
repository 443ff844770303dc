/** The thread in which the gateway runs: a program of its own in dist/, which gateway/supervisor.ts starts and ends. */
import { parentPort, workerData } from "node:worker_threads";
import { codeOf } from "../src/errors.ts";
import type { GatewayConfig } from "./config.ts";
import { type RunningGateway, runGateway } from "./gateway.ts";
import { logOf } from "./log.ts";

export interface ThreadData {
  readonly config: GatewayConfig;
  /** See `GatewayOptions`. */
  readonly leftOut: ReadonlyMap<string, string>;
}

export type ToThread = "stop";

export type FromThread =
  | { readonly event: "running" }
  /** LDK broke at this node: the thread ends. */
  | { readonly event: "broken"; readonly culprit: string; readonly why: string }
  /** It could not start: the thread ends. */
  | { readonly event: "failed"; readonly code: string | undefined; readonly message: string };

const say = (what: FromThread) => parentPort!.postMessage(what);
const { config, leftOut } = workerData as ThreadData;
let gateway: RunningGateway | undefined;
let isStopping = false;

parentPort!.on("message", (_: ToThread) => {
  isStopping = true;
  // One that is still starting has nothing that an orderly end would save: what LDK has done so far is in the store, or undone.
  if (!gateway) process.exit(0);
  void gateway.close().then(() => process.exit(0));
});

try {
  gateway = await runGateway(config, logOf(config), {
    leftOut,
    onBroken(culprit, why) {
      if (culprit !== undefined) say({ event: "broken", culprit, why });
      process.exit(1);
    },
  });
  if (!isStopping) say({ event: "running" });
} catch (error) {
  const isOurs = codeOf(error) !== undefined;
  const { message, stack = message } = error as Error;
  say({ event: "failed", code: codeOf(error), message: isOurs ? message : stack });
  process.exit(1);
}

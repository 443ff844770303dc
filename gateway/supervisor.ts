/**
 * The gateway in a thread of its own, and what has to outlive it. LDK is WebAssembly, one for all devices: where the
 * state of one breaks it, it is broken for all, and cannot be loaded again beside what it has left. Then the thread is
 * ended, and a new one starts without that device. The next start of the program tries that device again.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { lngateError } from "../src/errors.ts";
import type { GatewayConfig } from "./config.ts";
import type { FromThread, ThreadData, ToThread } from "./gateway-thread.ts";
import { logOf } from "./log.ts";
import { ensureReadableStore } from "./store/store-file.ts";

/** How long an orderly end may take. What is stored is consistent without it. */
const STOP_MS = 10_000;

export interface SupervisedGateway {
  /** Resolves when it has ended because it was to; rejects with what `runGateway` throws, or the fault that ended it. */
  readonly ended: Promise<void>;
  /** Ends it, in good order if that is possible in some seconds; also while it is still starting. */
  stop(): void;
}

/** Runs the gateway until it is stopped. `onRunning` is called once, when it serves. */
export function superviseGateway(config: GatewayConfig, onRunning: () => void): SupervisedGateway {
  const log = logOf(config);
  /** Nodes that broke LDK, and how. */
  const leftOut = new Map<string, string>();
  let thread: Worker | undefined;
  let endCheck: () => void = () => {};
  let isStopping = false;
  let wasRunning = false;

  /** Resolves at the end of one thread; true if another one is to begin. */
  function run(): Promise<boolean> {
    return new Promise((resolve, reject) => {
      let brokenBy: string | undefined;
      thread = new Worker(threadFile(), { workerData: { config, leftOut } satisfies ThreadData });
      thread.on("message", (said: FromThread) => {
        if (said.event === "running") {
          if (!wasRunning) onRunning();
          wasRunning = true;
        } else if (said.event === "broken") {
          brokenBy = said.culprit;
          leftOut.set(said.culprit, said.why);
        } else
          reject(said.code === undefined ? new Error(said.message) : lngateError(said.code, said.message));
      });
      thread.on("error", reject);
      thread.on("exit", code => {
        if (isStopping) resolve(false);
        else if (brokenBy !== undefined) resolve(true);
        else
          reject(lngateError("gateway-ended", `the gateway has ended by itself (${code}); its log says why`));
      });
    });
  }

  async function runOn(): Promise<void> {
    try {
      await ensureReadableStore(config.dataDir, end => {
        endCheck = end;
      });
    } catch (error) {
      if (!isStopping) throw error;
    }
    if (isStopping) return;
    while (await run())
      log.error("the gateway starts again without what has broken LDK", { without: leftOut.size });
  }

  return {
    ended: runOn(),
    stop() {
      isStopping = true;
      endCheck();
      thread?.postMessage("stop" satisfies ToThread);
      const late = () => {
        log.warn("the gateway did not end in time: it is ended now; what is stored stays consistent");
        void thread?.terminate();
      };
      setTimeout(late, STOP_MS).unref();
    },
  };
}

/** Beside the program that runs, or, from the sources (tests), in dist/. */
function threadFile(): string {
  const here = fileURLToPath(import.meta.url);
  const file = fileURLToPath(
    new URL(here.endsWith(".ts") ? "../dist/gateway-thread.mjs" : "./gateway-thread.mjs", import.meta.url),
  );
  if (!existsSync(file)) throw lngateError("gateway-ended", `${file} is missing: run \`npm run build\``);
  return file;
}

/** The thread in which the gateway computes its half of the threshold ceremonies, as seen from the others. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { lngateError } from "../../src/errors.ts";
import type { Beginning, Reply, Request, StepResult } from "./threshold-worker.ts";

/** One run of a ceremony. Every step ends it unless more is expected; an error always does. */
export interface Ceremony {
  /** The other side's next message. Rejects with the ceremony's code. */
  receive(message: Uint8Array): Promise<StepResult>;
  /** Erases what is left of it. */
  forget(): void;
}

export interface Ceremonies {
  /** The ceremony, and the message it begins with where the gateway begins. */
  begin(beginning: Beginning): Promise<{ readonly ceremony: Ceremony; readonly send?: Uint8Array }>;
  close(): Promise<void>;
}

/** An unused thread is ended after this time: it takes as much memory as several devices. */
const IDLE_MS = 120_000;

/** Starts the thread when it is first needed; a thread that dies is replaced, and its ceremonies fail. */
export function openCeremonies(): Ceremonies {
  let worker: Worker | undefined;
  let requests = 0;
  let ceremonies = 0;
  let closed = false;
  let idle: NodeJS.Timeout | undefined;
  const waiting = new Map<number, { resolve(result: StepResult): void; reject(error: Error): void }>();

  function fail(gone: Worker, why: string): void {
    if (worker !== gone) return;
    worker = undefined;
    for (const { reject } of waiting.values()) reject(lngateError("threshold-worker-failed", why));
    waiting.clear();
  }

  function start(): Worker {
    if (closed) throw lngateError("threshold-worker-failed", "the gateway is stopping");
    const started = new Worker(workerFile());
    started.on("message", ({ request, result, error }: Reply) => {
      const waiter = waiting.get(request);
      waiting.delete(request);
      if (waiting.size === 0) rest(started);
      if (error) waiter?.reject(lngateError(error.code ?? "threshold-worker-failed", error.message));
      else waiter?.resolve(result!);
    });
    started.on("error", error =>
      fail(started, `the thread for threshold arithmetic failed: ${error.message}`),
    );
    started.on("exit", () => fail(started, "the thread for threshold arithmetic ended"));
    return started;
  }

  function rest(resting: Worker): void {
    resting.unref();
    idle = setTimeout(() => {
      fail(resting, "the thread for threshold arithmetic was idle");
      void resting.terminate();
    }, IDLE_MS).unref();
  }

  function ask(ceremony: number, work: Request["do"]): Promise<StepResult> {
    return new Promise((resolve, reject) => {
      clearTimeout(idle);
      worker ??= start();
      worker.ref();
      requests++;
      waiting.set(requests, { resolve, reject });
      worker.postMessage({ request: requests, ceremony, do: work } satisfies Request);
    });
  }

  return {
    async begin(beginning) {
      const number = ++ceremonies;
      const { send } = await ask(number, { begin: beginning });
      const ceremony: Ceremony = {
        receive: message => ask(number, { receive: message }),
        forget: () => {
          if (worker) ask(number, { forget: true }).catch(() => {});
        },
      };
      return send ? { ceremony, send } : { ceremony };
    },
    async close() {
      closed = true;
      clearTimeout(idle);
      const ending = worker;
      if (ending) fail(ending, "the gateway is stopping");
      await ending?.terminate();
    },
  };
}

/** Beside the program that runs, or, from the sources (tests), in dist/. */
function workerFile(): string {
  const here = fileURLToPath(import.meta.url);
  const file = fileURLToPath(
    new URL(
      here.endsWith(".ts") ? "../../dist/threshold-worker.mjs" : "./threshold-worker.mjs",
      import.meta.url,
    ),
  );
  if (!existsSync(file))
    throw lngateError("threshold-worker-failed", `${file} is missing: run \`npm run build\``);
  return file;
}

/**
 * The turns of one Lightning node. LDK's callbacks only take notes; everything they lead to happens in a turn, later,
 * outside of LDK. A throw inside LDK, or a call into it from a callback, would leave its locks held for ever: so whatever
 * else calls LDK does it through `guarded`, and an error that comes out of LDK ends the node.
 */
import { codeOf, lngateError } from "../../src/errors.ts";
import type { Log } from "../log.ts";

/** What is done in a turn, and who hears that there will be no more. */
export interface TurnsOptions {
  readonly log: Log;
  /** Everything that there is to do for LDK, and what LDK has to say. */
  turn(): void;
  /** LDK is broken beyond repair. Called once at most. */
  onFatal(error: unknown): void;
}

/** When a node does something, until it is stopped or has failed. */
export class Turns {
  private readonly options: TurnsOptions;
  private isDue = false;
  private isStopped = false;
  private readonly timers: NodeJS.Timeout[] = [];
  /** Looked at after each turn. */
  private readonly waiting: { readonly test: () => boolean; readonly resolve: () => void }[] = [];

  constructor(options: TurnsOptions) {
    this.options = options;
  }

  /** Nothing is done any more. */
  get stopped(): boolean {
    return this.isStopped;
  }

  /** LDK may have something to say, to store or to handle: a turn is taken soon. */
  wake(): void {
    if (this.isDue || this.isStopped) return;
    this.isDue = true;
    setImmediate(() => this.guarded(() => this.take()));
  }

  /** Takes a turn now; only from `guarded`. */
  take(): void {
    this.isDue = false;
    if (this.isStopped) return;
    this.options.turn();
    for (const entry of [...this.waiting]) {
      if (!entry.test()) continue;
      this.waiting.splice(this.waiting.indexOf(entry), 1);
      entry.resolve();
    }
  }

  /** Does something with LDK, unless it is over. Our own refusals are logged; any other error is LDK's and the end. */
  guarded(work: () => void): void {
    if (this.isStopped) return;
    try {
      work();
    } catch (error) {
      // Our own refusals have a code; anything else has come out of LDK and leaves its locks held.
      if (codeOf(error) === undefined || codeOf(error) === "store-damaged") this.fail(error);
      else this.options.log.error((error as Error).message, { code: codeOf(error) });
    }
  }

  /** Ends the node for this error, unless it is over already. */
  fail(error: unknown): void {
    if (this.isStopped) return;
    this.isStopped = true;
    this.options.onFatal(error);
  }

  /** Does this again and again, and takes a turn after it. */
  every(ms: number, work: () => void): void {
    const timer = setInterval(() => {
      this.guarded(work);
      this.wake();
    }, ms);
    timer.unref();
    this.timers.push(timer);
  }

  /** Resolves when the test holds after some turn (whatever changes it has to lead to one). Throws `code` if it takes too long. */
  async until(code: string, test: () => boolean, ms = 15_000): Promise<void> {
    if (test()) return;
    await new Promise<void>((resolve, reject) => {
      const entry = {
        test,
        resolve: () => {
          clearTimeout(timer);
          resolve();
        },
      };
      const timer = setTimeout(() => {
        this.waiting.splice(this.waiting.indexOf(entry), 1);
        reject(lngateError(code, "the Lightning peer did not answer in time"));
      }, ms);
      timer.unref();
      this.waiting.push(entry);
    });
  }

  /** Ends it at once, without a word. */
  stop(): void {
    this.isStopped = true;
    for (const timer of this.timers) clearInterval(timer);
  }
}

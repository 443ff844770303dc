/**
 * Perseverance with a chain server: money that is to come home does not stop at a server that has too much to do. A server
 * that says so, or that answered a moment ago, is asked again, at its own pace or at longer and longer intervals, and
 * whoever waits is told. One that never answered is given up at once: its address may be wrong.
 */
import { codeOf, lngateError } from "../../src/errors.ts";

/** Who hears of waiting, and how it is waited. */
export interface PatienceOptions {
  /** Told before each wait. */
  onWait?(sentence: string): void;
  wait?(ms: number): Promise<void>;
}

/** Does this until it works. Throws what it threw: what does not pass at once, the rest after {@link MAX_TRIES}. */
export type Patience = <T>(attempt: () => Promise<T>) => Promise<T>;

/** The server says that it is there and can't answer now. */
const BUSY: ReadonlySet<string> = new Set(["chain-busy", "bitcoind-busy", "bitcoind-starting"]);
const AWAY: ReadonlySet<string> = new Set(["chain-unreachable", "bitcoind-unreachable"]);
/** Together some five minutes. */
const MAX_TRIES = 11;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 60_000;
/** Who asks for more than this has locked us out. */
const LONGEST_RETRY_AFTER_MS = 600_000;

/** Patience with one server: questions that go side by side wait together. */
export function createPatience(options: PatienceOptions = {}): Patience {
  const wait = options.wait ?? (ms => new Promise<void>(resolve => setTimeout(resolve, ms)));
  let hasAnswered = false;
  /** Questions that go side by side wait together. */
  let quiet: Promise<unknown> = Promise.resolve();

  return async attempt => {
    for (let tries = 1, ms = FIRST_WAIT_MS; ; tries++, ms = Math.min(2 * ms, LONGEST_WAIT_MS)) {
      await quiet;
      try {
        const answer = await attempt();
        hasAnswered = true;
        return answer;
      } catch (error) {
        const code = codeOf(error) ?? "";
        const { message } = error as Error;
        const isBusy = BUSY.has(code);
        if (tries >= MAX_TRIES || !(isBusy || (hasAnswered && AWAY.has(code)))) throw error;
        const asked = retryAfterOf(error);
        if (asked > LONGEST_RETRY_AFTER_MS)
          throw lngateError(
            code,
            `${message}; it asks to be left alone for ${Math.ceil(asked / 60_000)} minutes: come back then, or use another server`,
          );
        const pauseMs = Math.max(ms, asked);
        options.onWait?.(
          `${message}; again in ${Math.ceil(pauseMs / 1000)} s (${tries} of ${MAX_TRIES - 1})`,
        );
        quiet = Promise.all([quiet, wait(pauseMs)]);
      }
    }
  };
}

/** `error`, with the time after which the server wants to be asked again: HTTP's Retry-After, seconds or a date. */
export function withRetryAfter<E extends Error>(error: E, header: string | null): E {
  const seconds = header !== null && /^\d+$/.test(header.trim()) ? Number(header) : undefined;
  const ms = seconds === undefined ? Date.parse(header ?? "") - Date.now() : seconds * 1000;
  return Number.isFinite(ms) ? Object.assign(error, { retryAfterMs: Math.max(0, ms) }) : error;
}

function retryAfterOf(error: unknown): number {
  const ms = (error as { retryAfterMs?: unknown } | null)?.retryAfterMs;
  return typeof ms === "number" ? ms : 0;
}

/**
 * The gateway's log: one line per event on standard error (standard output belongs to a command's result), for a person and
 * for `grep`, or as JSON where a machine reads it. Never a secret, an invoice or a preimage in it.
 */

import { type Logger, pino } from "pino";
import { writeText } from "../src/node/streams.ts";

export const LOG_FORMATS = ["text", "json"] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Values that may follow the text, printed as `name=value`. */
export type LogFields = { readonly [name: string]: string | number | boolean | undefined };

export interface Log {
  debug(text: string, fields?: LogFields): void;
  info(text: string, fields?: LogFields): void;
  warn(text: string, fields?: LogFields): void;
  error(text: string, fields?: LogFields): void;
  /** The same log for one part of the gateway or one device, whose name starts every line. */
  part(name: string): Log;
}

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error"];

/** What repeats itself is told again after this time at the earliest. */
const AGAIN_MS = 60_000;

/** Prints what is at least `level`; `write` takes whole lines (standard error unless given). */
export function createLog(
  level: LogLevel,
  write: (line: string) => void = writeToStandardError,
  name = "gateway",
): Log {
  const lowest = LEVELS.indexOf(level);
  const at =
    (rank: number) =>
    (text: string, fields: LogFields = {}) => {
      if (rank < lowest) return;
      const time = new Date().toISOString().replace("T", " ").replace("Z", "");
      const extra = Object.entries(fields)
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => ` ${key}=${quoted(value!)}`)
        .join("");
      write(`${time} ${LEVELS[rank]!.padEnd(5)} ${name}: ${oneLine(text)}${extra}\n`);
    };
  return {
    debug: at(0),
    info: at(1),
    warn: at(2),
    error: at(3),
    part: part => createLog(level, write, name === "gateway" ? part : `${name}/${part}`),
  };
}

/** The same with a line of JSON per event: `level`, `time` (ISO 8601), `part`, `msg`, and the fields beside them. */
export function createJsonLog(level: LogLevel, write: (line: string) => void = writeToStandardError): Log {
  const root = pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: label => ({ level: label }) },
    },
    { write },
  );
  return jsonPart(root, "gateway");
}

function jsonPart(root: Logger, name: string): Log {
  const logger = root.child({ part: name });
  const at =
    (level: LogLevel) =>
    (text: string, fields: LogFields = {}) =>
      logger[level](fields, text);
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    part: part => jsonPart(root, name === "gateway" ? part : `${name}/${part}`),
  };
}

/** The log that a configuration asks for. */
export function logOf({ logLevel, logFormat }: { logLevel: LogLevel; logFormat: LogFormat }): Log {
  return logFormat === "json" ? createJsonLog(logLevel) : createLog(logLevel);
}

let lost = 0;

/** A line that can't be written is lost and counted; the first that can says so. */
function writeToStandardError(line: string): void {
  const before = lost === 0 ? "" : `(${lost} lines of the log could not be written)\n`;
  if (writeText(2, before + line)) lost = 0;
  else lost++;
}

/** What comes from outside can't forge a line of its own or command the terminal. */
function oneLine(text: string): string {
  return text.replace(/\p{Cc}/gu, " ");
}

function quoted(value: string | number | boolean): string {
  return typeof value === "string" && /[\s"=]|^$/.test(value) ? JSON.stringify(oneLine(value)) : `${value}`;
}

/** Lines that somebody else can cause as often as they like. */
export interface Counted {
  /** The first of its kind (same text, same fields) is told at once, the others are counted. */
  note(text: string, fields?: LogFields): void;
  /** Tells what was counted so far. */
  flush(): void;
}

/** Kinds that are counted at a time; what comes beside them is one more kind, since its words are somebody else's. */
const MAX_KINDS = 100;
const OTHERS = "and many others";

/** Each kind is told when it begins, and then at most once a minute, with the field `times`: how often it came since. */
export function counted(
  tell: (text: string, fields: LogFields) => void,
  later: (work: () => void) => void = work => void setTimeout(work, AGAIN_MS).unref(),
): Counted {
  const kinds = new Map<string, { readonly text: string; readonly fields: LogFields; times: number }>();
  let isDue = false;

  function flush(): void {
    for (const [key, kind] of kinds) {
      const { text, fields, times } = kind;
      kind.times = 0;
      if (times === 0) kinds.delete(key);
      else tell(text, { ...fields, times });
    }
  }

  function flushLater(): void {
    if (isDue || kinds.size === 0) return;
    isDue = true;
    later(() => {
      isDue = false;
      flush();
      flushLater();
    });
  }

  return {
    flush,
    note(text, fields = {}) {
      const own = text + JSON.stringify(fields);
      const isOneMore = !kinds.has(own) && kinds.size >= MAX_KINDS;
      const kind = isOneMore ? { text: OTHERS, fields: {}, times: 0 } : { text, fields, times: 0 };
      const key = isOneMore ? OTHERS : own;
      const known = kinds.get(key);
      if (known) known.times++;
      else {
        kinds.set(key, kind);
        tell(kind.text, kind.fields);
      }
      flushLater();
    },
  };
}

/**
 * Trouble that lasts is told when it begins, when its cause changes, and (null) when it is over; what is returned takes
 * every failure, and null for every success. Causes that take turns are told once a minute at most.
 */
export function lastingTrouble(
  tell: (error: Error | null) => void,
  now: () => number = Date.now,
): (error: unknown) => void {
  /** When each cause of the present trouble was told; the last one is the newest. */
  const told = new Map<string, number>();
  let present: string | undefined;
  return error => {
    if (error === null) {
      if (present !== undefined) tell(null);
      present = undefined;
      told.clear();
      return;
    }
    const cause = error instanceof Error ? error : new Error(String(error));
    const { message } = cause;
    if (message === present || now() - (told.get(message) ?? Number.NEGATIVE_INFINITY) < AGAIN_MS) return;
    present = message;
    told.set(message, now());
    tell(cause);
  };
}

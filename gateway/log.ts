/**
 * The gateway's log: one line per event on standard error, for a person and for `grep` (standard output belongs
 * to a command's result). Never a secret, an invoice or a preimage in it.
 */

import { writeText } from "./streams.ts";

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

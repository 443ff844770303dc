/** What a command of `lngate` is, how its arguments are read, and how help and errors look. */
import { parseArgs } from "node:util";
import { isNetwork, NETWORKS, type Network } from "../bitcoin/network.ts";
import { codeOf, lngateError } from "../errors.ts";

/** Where a command's words go. Standard output carries the result, standard error everything else. */
export interface Terminal {
  /** A line of the result for a person; nothing with --json. */
  say(line?: string): void;
  /** The result as one line of JSON; nothing without --json. */
  result(value: object): void;
  /** What is going on, overwritten by the next on a terminal; nothing when nobody watches. */
  progress(line: string): void;
  /** A remark on standard error, in both modes. */
  note(line: string): void;
  /** True if a person is there to answer a question. */
  readonly interactive: boolean;
}

export interface Option {
  /** Placeholder of the value; absent: a switch. */
  readonly value?: string;
  readonly help: string;
}

/** What was given: positionals by name, options by name (true for a switch). */
export interface Given {
  text(name: string): string | undefined;
  flag(name: string): boolean;
  /** A whole number in the range; throws `usage` otherwise. */
  number(name: string, min: number, max: number): number | undefined;
}

export interface Command {
  /** e.g. `gateway add-device`. */
  readonly name: string;
  readonly summary: string;
  /** Paragraphs of the help. */
  readonly help: string;
  /** Required arguments, in order; one with `rest` takes all words that are left. */
  readonly positionals?: readonly { readonly name: string; readonly help: string; readonly rest?: true }[];
  readonly options?: { readonly [name: string]: Option };
  run(given: Given, terminal: Terminal): Promise<void>;
}

const COMMON: { readonly [name: string]: Option } = {
  json: { help: "print the result as one line of JSON" },
  help: { help: "show this help" },
};

/**
 * Finds and runs the command. Returns the exit code: 0 done, 1 refused or failed (`code: sentence` on standard
 * error), 2 not understood.
 */
export async function runCommandLine(
  commands: readonly Command[],
  intro: string,
  argv: readonly string[],
  io: { out(text: string): void; err(text: string): void; readonly interactive: boolean },
): Promise<number> {
  const words = argv.filter(word => !word.startsWith("-"));
  const command = commands
    .filter(({ name }) => name.split(" ").every((part, i) => argv[i] === part))
    .sort((a, b) => b.name.length - a.name.length)[0];
  if (!command) {
    const group = commands.some(({ name }) => name.startsWith(`${words[0]} `)) ? words[0] : undefined;
    const asked = argv.length === 0 || argv.includes("--help") || argv.includes("-h") || argv[0] === "help";
    const missing = group !== undefined ? words.length === 1 : words.length === 0;
    if (asked && (missing || argv[0] === "help")) {
      io.out(overview(commands, intro, argv[0] === "help" ? argv[1] : group));
      return 0;
    }
    io.err(
      missing
        ? overview(commands, intro, group)
        : `usage: there is no command "${words.slice(0, 2).join(" ")}"; see \`lngate ${group ?? ""}${group ? " " : ""}--help\`\n`,
    );
    return 2;
  }
  const rest = argv.slice(command.name.split(" ").length);
  if (rest.includes("--help") || rest.includes("-h")) {
    io.out(helpOf(command));
    return 0;
  }
  let progressShown = false;
  const endProgress = () => {
    if (progressShown) io.err("\r\u001b[K");
    progressShown = false;
  };
  try {
    const given = readArguments(command, rest);
    const json = given.flag("json");
    await command.run(given, {
      say(line = "") {
        endProgress();
        if (!json) io.out(`${printable(line)}\n`);
      },
      result(value) {
        endProgress();
        if (json) io.out(`${escaped(JSON.stringify(value))}\n`);
      },
      progress(line) {
        if (!io.interactive) return;
        progressShown = true;
        io.err(`\r\u001b[K${printable(line)}`);
      },
      note(line) {
        endProgress();
        io.err(`${printable(inOneLine(line))}\n`);
      },
      interactive: io.interactive,
    });
    return 0;
  } catch (error) {
    endProgress();
    io.err(`${described(error)}\n`);
    if (codeOf(error) !== "usage") return 1;
    io.err(`usage: ${usageOf(command)}\n`);
    return 2;
  }
}

/**
 * An error for a person: its code and its sentence, in one line. What the operating system refuses says so itself; all else
 * that has no code of ours is a fault in this program, and where it is follows for those who ask (`LNGATE_TRACE`).
 */
export function described(error: unknown): string {
  const code = codeOf(error);
  const sentence = printable(inOneLine(error instanceof Error ? error.message : String(error)));
  if (code !== undefined && /^[a-z0-9-]+$/.test(code)) return `${code}: ${sentence}`;
  const isSystem = typeof (error as { syscall?: unknown } | null)?.syscall === "string";
  const shown = lngateError(isSystem ? "system-refused" : "internal-error", sentence);
  const trace = process.env["LNGATE_TRACE"] && error instanceof Error ? `\n${error.stack}` : "";
  return `${shown.code}: ${sentence}${trace}`;
}

/** What would move the cursor, colour the terminal or turn the text around. */
const UNPRINTABLE = /[^\P{Cc}\n\t]|\p{Bidi_Control}/gu;

/** What servers answer goes into sentences of ours. */
function inOneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, " ");
}

/** What others have written, without that. */
function printable(text: string): string {
  return text.replace(UNPRINTABLE, "?");
}

/** The same text of JSON, with what would do that as its escapes. */
function escaped(json: string): string {
  return json.replace(UNPRINTABLE, each => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function readArguments(command: Command, args: readonly string[]): Given {
  const options = { ...command.options, ...COMMON };
  const positionals = command.positionals ?? [];
  let parsed: { values: { [name: string]: unknown }; positionals: string[] };
  try {
    parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      strict: true,
      options: Object.fromEntries(
        Object.entries(options).map(([name, { value }]) => [
          name,
          { type: value === undefined ? ("boolean" as const) : ("string" as const) },
        ]),
      ),
    });
  } catch (error) {
    // Node's sentences go on about "--": only the first part helps.
    throw usage((error as Error).message.split(". To specify")[0]!);
  }
  const last = positionals[positionals.length - 1];
  const given = [...parsed.positionals];
  if (last?.rest && given.length > positionals.length)
    given.push(given.splice(positionals.length - 1).join(" "));
  if (given.length > positionals.length)
    throw usage(`"${given[positionals.length]}" is one argument too many`);
  const missing = positionals[given.length];
  if (missing) throw usage(`${missing.name} is missing: ${missing.help}`);
  const values: { [name: string]: unknown } = { ...parsed.values };
  positionals.forEach(({ name }, i) => {
    values[name] = given[i];
  });

  return {
    text: name => values[name] as string | undefined,
    flag: name => values[name] === true,
    number(name, min, max) {
      const text = values[name];
      if (text === undefined) return undefined;
      const value = Number(text);
      if (!/^\d+$/.test(text as string) || value < min || value > max)
        throw usage(`--${name} must be a whole number from ${min} to ${max}`);
      return value;
    },
  };
}

/** Thrown by a command for arguments that make no sense together; ends with exit code 2. */
export function usage(sentence: string): Error {
  return lngateError("usage", sentence);
}

function usageOf(command: Command): string {
  const positionals = (command.positionals ?? []).map(({ name }) => ` ${name}`).join("");
  return `lngate ${command.name}${positionals} [options]`;
}

function helpOf(command: Command): string {
  const options = Object.entries({ ...command.options, ...COMMON }).map(
    ([name, { value, help }]) => [`--${name}${value === undefined ? "" : ` ${value}`}`, help] as const,
  );
  const positionals = (command.positionals ?? []).map(({ name, help }) => [name, help] as const);
  return `${command.summary.charAt(0).toUpperCase()}${command.summary.slice(1)}.

Usage: ${usageOf(command)}

${wrap(command.help.trim(), 0, 88)}

${table([...positionals, ...options])}`;
}

function overview(commands: readonly Command[], intro: string, group: string | undefined): string {
  const shown = group === undefined ? commands : commands.filter(({ name }) => name.startsWith(`${group} `));
  return `${intro}

Usage: lngate ${group ?? "COMMAND"} … [options]      \`lngate COMMAND --help\` explains one command.

${table(shown.map(({ name, summary }) => [name, summary] as const))}`;
}

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length)) + 4;
  return rows
    .map(([left, right]) => `  ${left.padEnd(width - 2)}${wrap(right, width, 96).trimStart()}\n`)
    .join("");
}

/** Wraps paragraphs at `columns`, indented; lines that start with a space stay as they are. */
export function wrap(text: string, indent: number, columns: number): string {
  const margin = " ".repeat(indent);
  return text
    .split("\n")
    .map(line => {
      if (line.startsWith(" ")) return margin + line;
      const lines: string[] = [];
      let current = "";
      for (const word of line.split(/ +/)) {
        if (current !== "" && indent + current.length + 1 + word.length > columns) {
          lines.push(margin + current);
          current = word;
        } else {
          current += (current === "" ? "" : " ") + word;
        }
      }
      return [...lines, margin + current].join("\n");
    })
    .join("\n");
}

/** A network as it was typed (`--network`), or undefined. Throws `usage`. */
export function networkOf(given: Given): Network | undefined {
  const network = given.text("network");
  if (network !== undefined && !isNetwork(network))
    throw usage(`--network must be one of ${NETWORKS.join(", ")}`);
  return network;
}

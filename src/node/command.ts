/** What a command of `lngate` is, how its arguments are read, and how help and errors look. */
import completion from "@bomb.sh/tab/commander";
import { CommanderError, Help, Command as Program } from "commander";
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

/** What the program is, and what each group of its commands is for (by its word). */
export interface About {
  readonly intro: string;
  readonly version: string;
  readonly groups?: { readonly [word: string]: string };
}

/**
 * Runs what was asked for. Returns the exit code: 0 done, 1 refused or failed (`code: sentence` on standard error), 2 not
 * understood. What is common to all commands (`--json`, `--version`, help) may stand before or behind them.
 */
export async function runCommandLine(
  commands: readonly Command[],
  about: About,
  argv: readonly string[],
  io: { out(text: string): void; err(text: string): void; readonly interactive: boolean },
): Promise<number> {
  let work = async (): Promise<void> => {};
  const program = new Program("lngate")
    .description(about.intro)
    .version(about.version, "-V, --version", "show the version")
    .helpOption("-h, --help", "show this help")
    .helpCommand(false)
    .option("--json", "print the result as one line of JSON")
    .configureHelp({ helpWidth: HELP_COLUMNS, showGlobalOptions: true, formatHelp: helpText })
    // What is wrong comes back as an exception, and is told below like any other error.
    .configureOutput({ writeOut: io.out, writeErr: () => {} })
    .exitOverride();
  const added = commands.map(command => [command, add(program, command, about.groups)] as const);
  // To the shell a command is its summary.
  completion(program, { completionCommandName: "completion" });
  find(program, "completion")?.summary("print a script by which your shell completes these words");
  for (const [command, to] of added) {
    to.description(`${sentence(command.summary)}\n\n${command.help.trim()}`).action(() => {
      work = () => command.run(givenTo(to, command), terminal);
    });
  }

  let progressShown = false;
  const endProgress = () => {
    if (progressShown) io.err("\r\u001b[K");
    progressShown = false;
  };
  const isJson = () => program.opts()["json"] === true;
  const terminal: Terminal = {
    say(line = "") {
      endProgress();
      if (!isJson()) io.out(`${printable(line)}\n`);
    },
    result(value) {
      endProgress();
      if (isJson()) io.out(`${escaped(JSON.stringify(value))}\n`);
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
  };
  try {
    const words = argv[0] === "help" ? [...argv.slice(1), "--help"] : argv;
    await program.parseAsync(words, { from: "user" });
    await work();
    return 0;
  } catch (error) {
    endProgress();
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    if (error instanceof CommanderError && error.code === "commander.help") {
      io.err(meant(program, argv).helpInformation());
      return 2;
    }
    const told = error instanceof CommanderError ? usage(sentenceOf(error)) : error;
    io.err(`${described(told)}\n`);
    if (codeOf(told) !== "usage") return 1;
    io.err(`usage: ${usageOf(meant(program, argv))}\n`);
    return 2;
  }
}

const HELP_COLUMNS = 96;

/** Puts a command under its group, which is made with its first. */
function add(program: Program, command: Command, groups: About["groups"] = {}): Program {
  const { name, summary, positionals = [], options = {} } = command;
  const words = name.split(" ");
  let parent = program;
  for (const word of words.slice(0, -1)) {
    parent =
      find(parent, word) ??
      parent
        .command(word)
        .description(groups[word] ?? "")
        .helpCommand(false);
  }
  const added = parent.command(words.at(-1)!).description(summary).summary(summary);
  for (const { name: word, help: about, rest } of positionals)
    added.argument(`<${word}${rest ? "..." : ""}>`, about);
  for (const [option, { value, help: about }] of Object.entries(options))
    added.option(`--${option}${value === undefined ? "" : ` <${value}>`}`, about);
  return added;
}

function sentence(summary: string): string {
  return `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`;
}

function find(parent: Program, word: string): Program | undefined {
  return parent.commands.find(each => each.name() === word);
}

/** The command, or group of them, that the words of a command line begin with. */
function meant(program: Program, argv: readonly string[]): Program {
  let found = program;
  for (const word of argv.filter(each => !each.startsWith("-"))) {
    const next = find(found, word);
    if (!next) break;
    found = next;
  }
  return found;
}

/** The program's own help lists all commands, not their groups, and each is called by its whole name. */
function helpText(command: Program, help: Help): string {
  const visible = help.visibleCommands(command);
  const all = visible.flatMap(each => (each.commands.length > 0 ? each.commands : [each]));
  help.visibleCommands = () => [...all];
  help.subcommandTerm = pathOf;
  return Help.prototype.formatHelp.call(help, command, help);
}

/** e.g. `device charge`. */
function pathOf(command: Program): string {
  const { parent } = command;
  return parent?.parent ? `${pathOf(parent)} ${command.name()}` : command.name();
}

function usageOf(command: Program): string {
  return command.parent ? `lngate ${pathOf(command)} ${command.usage()}` : `lngate ${command.usage()}`;
}

/** What commander says, without its "error:", in one line. */
function sentenceOf({ message }: CommanderError): string {
  return message.replace(/^error: /, "");
}

/** What was typed, by name. */
function givenTo(program: Program, { positionals = [] }: Command): Given {
  const values: { [name: string]: unknown } = {};
  for (const option of program.options)
    values[option.long!.slice(2)] = program.opts()[option.attributeName()];
  positionals.forEach(({ name }, i) => {
    const given = program.processedArgs[i] as string | string[];
    values[name] = Array.isArray(given) ? given.join(" ") : given;
  });
  return {
    text: name => values[name] as string | undefined,
    flag: name => values[name] === true || program.optsWithGlobals()[name] === true,
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

/** Thrown by a command for arguments that make no sense together; ends with exit code 2. */
export function usage(sentence: string): Error {
  return lngateError("usage", sentence);
}

/** A network as it was typed (`--network`), or undefined. Throws `usage`. */
export function networkOf(given: Given): Network | undefined {
  const network = given.text("network");
  if (network !== undefined && !isNetwork(network))
    throw usage(`--network must be one of ${NETWORKS.join(", ")}`);
  return network;
}

/**
 * The board `moddable` in the SDK's own simulator: the application and the bundle that a chip gets, built by the SDK's
 * tools, on its MQTT, HTTP, timers, files and cryptography. `$MODDABLE` is where the SDK is, its tools built.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { lngateError } from "../../src/errors.ts";

/** Where the SDK is, or a sentence that says what is missing. */
export function findModdable(): { readonly sdk: string } | { readonly missing: string } {
  const sdk = process.env["MODDABLE"];
  if (!sdk) return { missing: "$MODDABLE is not set: no Moddable SDK to build with" };
  for (const tool of ["mcconfig", "mcsim"]) {
    if (!existsSync(toolOf(sdk, tool)))
      return { missing: `${toolOf(sdk, tool)} is not there: the SDK is not built` };
  }
  return { sdk };
}

function toolOf(sdk: string, name: string): string {
  return join(sdk, "build/bin/lin/release", name);
}

export interface SimulatorOptions {
  readonly sdk: string;
  /** With a manifest.json. */
  readonly project: string;
  /** Where the build goes. */
  readonly folder: string;
  /** `name=value` for mcconfig, which the application finds in `mc/config`. */
  readonly config: Readonly<Record<string, string>>;
}

/** Builds the project as mcconfig does for the simulator; the library that the simulator runs. */
export async function buildForSimulator({ sdk, project, folder, config }: SimulatorOptions): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const settings = Object.entries(config).map(([name, value]) => `${name}=${value}`);
  await promisify(execFile)(
    toolOf(sdk, "mcconfig"),
    ["-i", "-m", "-p", "lin", "-t", "build", "-o", folder, ...settings],
    {
      cwd: project,
      env: {
        ...process.env,
        MODDABLE: sdk,
        PATH: `${join(sdk, "build/bin/lin/release")}:${process.env["PATH"]}`,
      },
      maxBuffer: 1 << 26,
    },
  );
  return join(folder, "bin/lin/mc/instrument", basename(project), "mc.so");
}

/** A test that ends takes its programs along. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A screen that nobody sees, for the simulator's window. */
export async function startScreen(): Promise<{ readonly display: string; stop(): void }> {
  const child = spawn("Xvfb", ["-displayfd", "3", "-screen", "0", "640x480x24", "-nolisten", "tcp"], {
    stdio: ["ignore", "ignore", "ignore", "pipe"],
  });
  running.add(child);
  const display = await new Promise<string>((resolve, reject) => {
    child.on("error", () =>
      reject(lngateError("screen-missing", "Xvfb, for the simulator's window, is not there")),
    );
    child.on("exit", () => reject(lngateError("screen-missing", "Xvfb ended")));
    (child.stdio[3] as NodeJS.ReadableStream).on("data", number => resolve(`:${String(number).trim()}`));
  });
  return {
    display,
    stop() {
      child.kill();
      running.delete(child);
    },
  };
}

/** The application gives up, or the engine does. */
const STOPPED = /^(lngate: stopped|XS abort|the simulator ended)/;

/** The simulator, running the application from its start. */
export class Simulator {
  readonly log: string[] = [];
  private readonly child: ChildProcess;
  private waiting: { test: (line: string) => boolean; resolve: (line: string) => void }[] = [];

  constructor(sdk: string, library: string, display: string) {
    // Line by line, as the simulator prints to a pipe only now and then.
    this.child = spawn("stdbuf", ["-oL", toolOf(sdk, "mcsim"), join(sdk, "build/simulators"), library], {
      env: { ...process.env, DISPLAY: display },
      stdio: ["ignore", "pipe", "ignore"],
    });
    running.add(this.child);
    this.child.once("exit", () => running.delete(this.child));
    createInterface({ input: this.child.stdout! })
      .on("line", line => this.heard(line))
      .on("close", () => this.heard(`the simulator ended (${this.child.signalCode ?? this.child.exitCode})`));
  }

  private heard(line: string): void {
    // What the instrumented build says of itself every second.
    if (line.startsWith("instruments")) return;
    if (process.env["LNGATE_TEST_LOG"]) process.stderr.write(`simulator: ${line}\n`);
    this.log.push(line);
    for (const each of this.waiting.filter(({ test }) => test(line))) each.resolve(line);
    this.waiting = this.waiting.filter(({ test }) => !test(line));
  }

  /** Resolves with the next line of the log that matches; rejects where the application stops before. */
  nextLine(pattern: RegExp): Promise<string> {
    return new Promise((resolve, reject) =>
      this.waiting.push({
        test: line => pattern.test(line) || STOPPED.test(line),
        resolve: line =>
          pattern.test(line)
            ? resolve(line)
            : reject(lngateError("board-stopped", `the board stopped: ${this.log.slice(-8).join(" | ")}`)),
      }),
    );
  }

  /** As pulling the plug. */
  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise(resolve => this.child.once("exit", resolve));
    this.child.kill("SIGKILL");
    await gone;
  }
}

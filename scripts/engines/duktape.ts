/** A device in Duktape's command line, spoken to by lines. scripts/engines/boards/es5.ts is the other end. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { toHex } from "../../src/bytes/bytes.ts";
import { lngateError } from "../../src/errors.ts";
import type { Program } from "../debian.ts";
import { EngineDevice, type EngineOptions } from "./engine.ts";

export interface DuktapeOptions extends EngineOptions {
  /** The prepared keys (owner/board/key-table.ts). */
  readonly keyTable: Uint8Array;
}

/** Starts the engine and loads the scripts. */
export function startDuktape(duktape: Program, options: DuktapeOptions): DuktapeDevice {
  const { flash, keyTable, scripts } = options;
  const folder = mkdtempSync(join(tmpdir(), "lngate-duk-"));
  const image = join(folder, "image.js");
  const content = flash.read(0, flash.pageBytes * flash.pageCount);
  writeFileSync(image, `var LNGATE_IMAGE="${toHex(content)}", LNGATE_KEYS="${toHex(keyTable)}";\n`, {
    mode: 0o600,
  });
  const child = spawn(duktape.command, [...duktape.args, image, ...scripts, "-i"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  return new DuktapeDevice(child, options, folder);
}

export class DuktapeDevice extends EngineDevice {
  private readonly child: ChildProcess;
  private lastLines: string[] = [];

  constructor(child: ChildProcess, options: EngineOptions, folder: string) {
    super(options);
    this.child = child;
    createInterface({ input: child.stdout! }).on("line", line => this.heard(line));
    child.stdin!.on("error", () => {});
    child.on("exit", () => {
      rmSync(folder, { recursive: true, force: true });
      this.failed(lngateError("engine-ended", `the engine ended: ${this.lastLines.join(" | ")}`));
    });
  }

  protected tell(what: number, bytes: Uint8Array): void {
    this.child.stdin!.write(`tell(${what},"${toHex(bytes)}")\n`);
  }

  protected async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise(resolve => this.child.once("exit", resolve));
    this.child.kill("SIGKILL");
    await gone;
  }

  private heard(line: string): void {
    if (this.stopped) return;
    const said = /@(\d+) ([0-9a-f]*)$/.exec(line);
    if (said) this.answer(Number(said[1]), Buffer.from(said[2]!, "hex"));
    else this.lastLines = [...this.lastLines, line.slice(0, 200)].slice(-5);
  }
}

/**
 * A device in the real XS engine, as a process of its own: the worker's pipe is spoken to directly (netstrings on its
 * file descriptors 3 and 4), and what a board has natively is done here. scripts/engines/boards/xs.ts is the other end.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Duplex, Readable, Writable } from "node:stream";
import { lngateError } from "../../src/errors.ts";
import { EngineDevice, type EngineOptions } from "./engine.ts";

export interface Memory {
  readonly slots: number;
  readonly chunkBytes: number;
}

/** Starts the engine and loads the scripts. Throws what the scripts throw. */
export async function startXs(worker: string, options: EngineOptions): Promise<XsDevice> {
  const child = spawn(worker, [], { stdio: ["ignore", "inherit", "inherit", "pipe", "pipe"] });
  const engine = new XsDevice(child, options);
  for (const script of options.scripts) await engine.evaluate(readFileSync(script, "utf8"));
  return engine;
}

/** The curve's own computrons, and how often it was asked what. */
export interface CurveWork {
  readonly computrons: number;
  readonly publicKey: number;
  readonly isPoint: number;
  readonly add: number;
  readonly combine: number;
  readonly verify: number;
  readonly recover: number;
}

/** As scripts/engines/boards/xs-curve.ts counts. */
function curveWorkOf([, computrons, publicKey, isPoint, add, combine, verify, recover]: number[]): CurveWork {
  return {
    computrons: computrons!,
    publicKey: publicKey!,
    isPoint: isPoint!,
    add: add!,
    combine: combine!,
    verify: verify!,
    recover: recover!,
  };
}

interface Turn {
  readonly bytes: Buffer;
  resolve(computrons: number): void;
  reject(error: Error): void;
}

export class XsDevice extends EngineDevice {
  private readonly child: ChildProcess;
  private readonly toEngine: Writable;
  private readonly turns: Turn[] = [];
  private turn: Turn | undefined;

  constructor(child: ChildProcess, options: EngineOptions) {
    super(options);
    this.child = child;
    this.toEngine = child.stdio[3] as Writable;
    readNetstrings(child.stdio[4] as Readable, frame => this.heard(frame));
    child.on("exit", code => this.gone(code));
    // The engine may be gone before it has read everything.
    this.toEngine.on("error", () => {});
    (child.stdio[4] as Duplex).on("error", () => {});
  }

  /** Runs a script in the engine; the computrons it took. */
  evaluate(script: string): Promise<number> {
    return this.next(Buffer.from(`e${script}`));
  }

  /** What the device's curve makes of a case (scripts/engines/boards/curve-outcome.ts). */
  curveCase(line: string): Promise<string> {
    return this.call("curveCase", line);
  }
  /** What the curve has done, which is not in `work.computrons`. */
  async curveWork(): Promise<CurveWork> {
    return curveWorkOf(await this.call("curveWork"));
  }
  /** The same at the last payment's receipt, and the device's own computrons of that turn until then. */
  async workAtReceipt(): Promise<{ turnComputrons: number; curve: CurveWork }> {
    const seen = await this.call<number[]>("workAtReceipt");
    return { turnComputrons: seen[0]!, curve: curveWorkOf(seen) };
  }
  /** The memory of an engine without a device's code. */
  emptyMachine(): Promise<Memory> {
    return this.call("emptyMachine");
  }
  /** From here on every question of the device is an occasion to see how much memory is alive. */
  watchMemory(): Promise<Memory> {
    return this.call("watchMemory");
  }
  /** The most that was alive since then. */
  memorySeen(): Promise<Memory> {
    return this.call("memorySeen");
  }

  protected tell(what: number, bytes: Uint8Array): void {
    this.next(Buffer.concat([Buffer.from("?"), Buffer.from([what]), bytes])).catch(error =>
      this.failed(error),
    );
  }

  protected async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise(resolve => this.child.once("exit", resolve));
    this.child.kill("SIGKILL");
    await gone;
  }

  private gone(code: number | null): void {
    const error = lngateError("engine-ended", `the engine ended with ${code}`);
    for (const turn of [this.turn, ...this.turns.splice(0)]) turn?.reject(error);
    this.failed(error);
  }

  /** Each turn runs until nothing is left to do in it. */
  private next(bytes: Buffer): Promise<number> {
    return new Promise((resolve, reject) => {
      this.turns.push({ bytes, resolve, reject });
      this.begin();
    });
  }

  private begin(): void {
    if (this.turn !== undefined || this.stopped) return;
    this.turn = this.turns.shift();
    if (this.turn !== undefined) this.send(this.turn.bytes);
  }

  private send(bytes: Uint8Array): void {
    this.toEngine.write(Buffer.concat([Buffer.from(`${bytes.length}:`), bytes, Buffer.from(",")]));
  }

  private heard(frame: Buffer): void {
    if (this.stopped) return;
    const kind = String.fromCharCode(frame[0]!);
    if (kind === "?") {
      const answer = this.answer(frame[1]!, frame.subarray(2));
      if (!this.stopped) this.send(Buffer.concat([Buffer.from("/"), answer]));
      return;
    }
    const turn = this.turn;
    this.turn = undefined;
    if (kind === "!") {
      turn?.reject(lngateError("engine-threw", frame.toString("latin1", 1)));
    } else {
      const { compute } = JSON.parse(frame.toString("latin1", 1, frame.indexOf(1))) as { compute: number };
      this.work.computrons += compute;
      turn?.resolve(compute);
    }
    this.begin();
  }
}

function readNetstrings(stream: Readable, take: (frame: Buffer) => void): void {
  let pending = Buffer.alloc(0);
  stream.on("data", (data: Buffer) => {
    pending = Buffer.concat([pending, data]);
    for (;;) {
      const colon = pending.indexOf(":");
      if (colon < 0) return;
      const end = colon + 1 + Number(pending.toString("latin1", 0, colon));
      if (pending.length <= end) return;
      const frame = pending.subarray(colon + 1, end);
      pending = pending.subarray(end + 1);
      take(frame);
    }
  });
}

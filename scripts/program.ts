/** Programs of ours as processes that are driven by lines: one JSON object a line, in and out. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** One line, as it was said. */
export type Line = { readonly [name: string]: unknown };

/** A test or demo that ends takes its programs along. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A Node program with JSON lines on standard output; what it says on standard error goes to `onLog`. */
export class Program {
  private readonly name: string;
  private readonly child: ChildProcess;
  private readonly lines: Line[] = [];
  private readonly log: string[] = [];
  private waiting: {
    test: (line: Line) => boolean;
    resolve: (line: Line) => void;
    reject: (error: Error) => void;
  }[] = [];
  private ended: Promise<number | null>;
  private exitCode: number | null | undefined;

  constructor(name: string, args: readonly string[], onLog: (line: string) => void = () => {}) {
    this.name = name;
    this.child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "pipe"] });
    createInterface({ input: this.child.stdout! }).on("line", line => this.read(line));
    createInterface({ input: this.child.stderr! }).on("line", line => {
      this.log.push(line);
      if (this.log.length > 200) this.log.shift();
      onLog(line);
    });
    this.ended = new Promise(resolve => {
      this.child.once("close", code => {
        this.exitCode = code;
        for (const { reject } of this.waiting.splice(0)) reject(this.failure());
        resolve(code);
      });
    });
    running.add(this.child);
    this.child.once("close", () => running.delete(this.child));
  }

  get pid(): number {
    return this.child.pid!;
  }

  private read(text: string): void {
    let line: Line;
    try {
      line = JSON.parse(text) as Line;
    } catch {
      this.log.push(text);
      return;
    }
    const at = this.waiting.findIndex(({ test }) => test(line));
    if (at >= 0) this.waiting.splice(at, 1)[0]!.resolve(line);
    else this.lines.push(line);
  }

  /** The next line (or one that came before and nobody took) that passes the test. Rejects if the program ends. */
  line(test: (line: Line) => boolean): Promise<Line> {
    const at = this.lines.findIndex(test);
    if (at >= 0) return Promise.resolve(this.lines.splice(at, 1)[0]!);
    if (this.exitCode !== undefined) return Promise.reject(this.failure());
    return new Promise((resolve, reject) => this.waiting.push({ test, resolve, reject }));
  }

  /** Writes a command line; resolves with the answer to it. Rejects with its error. */
  async ask(command: string): Promise<Line> {
    const [name] = command.split(" ");
    this.write(command);
    const answer = await this.line(line => line["command"] === name);
    const error = answer["error"] as { code: string; sentence: string } | undefined;
    if (error) throw new Error(`${this.name}: ${error.code}: ${error.sentence}`);
    return answer;
  }

  write(line: string): void {
    this.child.stdin!.write(`${line}\n`);
  }

  /** Waits for the end; the last line. Throws what it said if it failed. */
  async result(): Promise<Line> {
    this.child.stdin!.end();
    if ((await this.ended) !== 0) throw this.failure();
    return this.lines[this.lines.length - 1] ?? {};
  }

  kill(signal: NodeJS.Signals = "SIGKILL"): Promise<number | null> {
    this.child.kill(signal);
    return this.ended;
  }

  async stop(): Promise<void> {
    this.child.stdin!.end();
    const timer = setTimeout(() => this.child.kill("SIGTERM"), 500);
    const harder = setTimeout(() => this.child.kill("SIGKILL"), 5_000);
    await this.ended;
    clearTimeout(timer);
    clearTimeout(harder);
  }

  private failure(): Error {
    const last = this.log.filter(line => line.trim() !== "").slice(-3);
    return new Error(`"${this.name}" ended (${this.exitCode ?? "by a signal"}): ${last.join(" | ")}`);
  }
}

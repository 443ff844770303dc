/**
 * A device in Espruino's own build for Linux: bundle and application are in its Storage, the vault in its flash, and it
 * speaks MQTT over its own sockets. What a test asks of it comes over one more socket; the console is only listened to:
 * that build takes its input in a thread of its own, and loses some of it under load.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Balance, PayOptions, Receipt } from "../../device/api.ts";
import { espruinoStorage } from "../../owner/board/espruino-storage.ts";
import { lngateError } from "../../src/errors.ts";

/** What the build for Linux takes for its flash. */
const FLASH_FILE = "espruino.flash";
const FLASH_BYTES = 256 * 1024;

/**
 * Goes behind the application: evaluates each line that comes, and answers with one. That build gets more memory for
 * small things only, never for the block that a hash needs: so it is given some at first.
 */
const HAND = (port: number) => `
if(process.memory().blocksize>16)(()=>{var much=[];for(var i=0;i<5000;i++)much.push({i:[i]})})();
E.on("init",()=>require("net").connect({host:"127.0.0.1",port:${port}},s=>{
  var text="";
  function ask(line){
    var tell=answer=>{answer.id=line.id;s.write(JSON.stringify(answer)+"\\n")};
    Promise.resolve().then(()=>eval(line.expression)).then(
      value=>tell({value:value===undefined?null:value}),
      e=>tell({code:e.code||"",message:(e.message||e)+"\\n"+e.stack}));
  }
  s.on("data",data=>{
    text+=data;
    for(var end=text.indexOf("\\n");end>=0;end=text.indexOf("\\n")){
      var line=text.substr(0,end);
      text=text.substr(end+1);
      ask(JSON.parse(line));
    }
  });
}));
`;

export interface EspruinoFiles {
  /** The bundle, the application, the table of keys and the application's settings, as Storage gets them. */
  readonly lngate: string;
  readonly app: string;
  readonly keyTable: Uint8Array;
  readonly settings?: object;
  /** The vault's image; it goes to the end of the flash. */
  readonly vault: Uint8Array;
}

export interface EspruinoMemory {
  /** Variables in use, and all there are. */
  readonly usage: number;
  readonly total: number;
}

interface Waiter {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** A board: its flash outlives its engine. */
export class EspruinoBoard {
  private readonly engine: string;
  private readonly folder = mkdtempSync(join(tmpdir(), "lngate-espruino-"));
  private child: ChildProcess | undefined;
  private server: Server | undefined;
  private hand: Promise<Socket> | undefined;
  private readonly calls = new Map<number, Waiter>();
  private readonly listeners = new Set<(line: string) => void>();
  private lastCall = 0;
  /** Everything that it printed. */
  readonly log: string[] = [];

  /** @param engine the program that upstream's `make BOARD=LINUX` gives */
  constructor(engine: string) {
    this.engine = engine;
  }

  /** Writes a new flash. */
  async flash({ lngate, app, keyTable, settings = {}, vault }: EspruinoFiles): Promise<void> {
    const hand = HAND(await this.listen());
    const storage = espruinoStorage(
      { lngate, "lngate.keys": keyTable, "lngate.json": JSON.stringify(settings), ".bootcde": app + hand },
      FLASH_BYTES - vault.length,
    );
    writeFileSync(join(this.folder, FLASH_FILE), Buffer.concat([storage, vault]), { mode: 0o600 });
  }

  /** Power on: the application in Storage starts by itself. */
  powerOn(): void {
    this.hand = new Promise(resolve => this.server!.once("connection", resolve));
    this.hand.then(socket =>
      createInterface({ input: socket.on("error", () => {}) }).on("line", line => this.answered(line)),
    );
    const child = spawn(this.engine, [], { cwd: this.folder, stdio: ["pipe", "pipe", "inherit"] });
    this.child = child;
    child.stdin!.on("error", () => {});
    createInterface({ input: child.stdout! }).on("line", line => this.heard(line));
    child.on("exit", () => {
      if (this.child !== child) return;
      this.child = undefined;
      const error = lngateError("engine-ended", `the engine ended: ${this.log.slice(-5).join(" | ")}`);
      for (const { reject } of this.calls.values()) reject(error);
      this.calls.clear();
    });
  }

  /** Pulls the plug. */
  async powerOff(): Promise<void> {
    const { child } = this;
    if (!child) return;
    this.child = undefined;
    this.calls.clear();
    const gone = new Promise(resolve => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  /** Resolves when the application prints a line that matches; rejects when an error reaches the console before. */
  prints(pattern: RegExp): Promise<string> {
    return new Promise((resolve, reject) => {
      const each = (line: string) => {
        const failed = line.includes("Uncaught");
        if (!failed && !pattern.test(line)) return;
        this.listeners.delete(each);
        if (failed) reject(new Error(`in the engine: ${line}`));
        else resolve(line);
      };
      this.listeners.add(each);
    });
  }

  /** The vault as it is now. */
  vault(bytes: number): Uint8Array {
    return new Uint8Array(readFileSync(join(this.folder, FLASH_FILE)).subarray(-bytes));
  }

  memory(): Promise<EspruinoMemory> {
    return this.evaluate("process.memory()");
  }
  connected(): Promise<void> {
    return this.evaluate("device.connect()");
  }
  pay(invoice: string, options: PayOptions = {}): Promise<Receipt> {
    return this.evaluate(`device.pay(${JSON.stringify(invoice)},${JSON.stringify(options)})`);
  }
  balance(): Promise<Balance> {
    return this.evaluate("device.balance()");
  }
  isAtRest(): Promise<boolean> {
    return this.evaluate("device.isAtRest()");
  }
  close(): Promise<{ txid: string }> {
    return this.evaluate("device.close()");
  }

  /** The value of an expression, awaited if it is a promise. */
  async evaluate<T>(expression: string): Promise<T> {
    const id = ++this.lastCall;
    const answer = new Promise<T>((resolve, reject) => {
      this.calls.set(id, { resolve: value => resolve(value as T), reject });
    });
    (await this.hand!).write(`${JSON.stringify({ id, expression })}\n`);
    return answer;
  }

  remove(): void {
    this.server?.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  private listen(): Promise<number> {
    const server = createServer();
    this.server = server;
    return new Promise(resolve =>
      server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port)),
    );
  }

  private heard(line: string): void {
    this.log.push(line);
    if (process.env["LNGATE_TEST_LOG"]) process.stderr.write(`espruino: ${line}\n`);
    for (const listener of [...this.listeners]) listener(line);
  }

  private answered(line: string): void {
    const { id, value, code, message } = JSON.parse(line) as {
      id: number;
      value?: unknown;
      code?: string;
      message?: string;
    };
    const waiter = this.calls.get(id);
    this.calls.delete(id);
    if (code === undefined) waiter?.resolve(value);
    else
      waiter?.reject(
        code === "" ? new Error(`in the engine: ${message}`) : lngateError(code, message ?? code),
      );
  }
}

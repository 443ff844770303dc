import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from "@jest/globals";
import { openRegistry, openStore } from "../../gateway/store/registry.ts";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import { reservePort } from "../../scripts/ports.ts";
import { waitFor } from "../e2e/world.ts";

jest.setTimeout(120_000);

const home = mkdtempSync(join(tmpdir(), "lngate-faults-"));
const NODE_ID = `02${"79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"}`;
/** The reward of a block that nobody has: an address of regtest. */
const ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

afterAll(() => rmSync(home, { recursive: true, force: true }));

const mutes = new Set<Mute>();

/** Takes connections and says nothing, until it is told what to connect them with. */
class Mute {
  readonly sockets = new Set<Socket>();
  private readonly server: Server;
  readonly port: number;
  private constructor(server: Server) {
    this.server = server;
    this.port = (server.address() as { port: number }).port;
  }
  /** `to`: where what comes is passed on to, until `silence`. */
  static async start(to?: number): Promise<Mute> {
    const server = createServer();
    await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
    const mute = new Mute(server);
    mutes.add(mute);
    server.on("connection", near => {
      mute.sockets.add(near);
      near.on("error", () => {});
      if (to === undefined || mute.isSilent) return void near.resume();
      const far = connect(to, "127.0.0.1");
      far.on("error", () => {});
      near.on("data", bytes => mute.isSilent || far.write(bytes));
      far.on("data", bytes => mute.isSilent || near.write(bytes));
      far.on("close", () => near.destroy());
      near.on("close", () => far.destroy());
    });
    return mute;
  }
  isSilent = false;
  async end(): Promise<void> {
    if (!mutes.delete(this)) return;
    for (const socket of this.sockets) socket.destroy();
    await new Promise(resolve => this.server.close(resolve));
  }
}

let folders = 0;
async function configured(
  rpc: object,
  more: object = {},
): Promise<{ dataDir: string; args: string[]; port: number }> {
  const folder = join(home, `${++folders}`);
  mkdirSync(folder);
  const file = join(folder, "gateway.conf");
  const port = await reservePort();
  writeFileSync(
    file,
    JSON.stringify({
      dataDir: "data",
      network: "regtest",
      bitcoind: rpc,
      mqtt: { host: "127.0.0.1", port },
      lightning: { bridge: `${NODE_ID}@127.0.0.1:1` },
      logLevel: "debug",
      ...more,
    }),
  );
  const args = ["dist/lngate.mjs", "gateway", "run", "--config", file, "--json"];
  return { dataDir: join(folder, "data"), args, port };
}

const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const mute of mutes) await mute.end();
});

class Run {
  readonly child: ChildProcess;
  out = "";
  err = "";
  readonly ended: Promise<[code: number | null, signal: NodeJS.Signals | null]>;
  constructor(args: readonly string[], stdio: ("pipe" | "ignore" | number)[] = ["ignore", "pipe", "pipe"]) {
    const [command, ...rest] = args[0] === "unshare" ? args : [process.execPath, ...args];
    this.child = spawn(command!, rest, { stdio });
    children.push(this.child);
    this.child.stdout?.on("data", (bytes: Buffer) => {
      this.out += bytes.toString();
    });
    this.child.stderr?.on("data", (bytes: Buffer) => {
      this.err += bytes.toString();
    });
    this.ended = once(this.child, this.child.stdout ? "close" : "exit") as Run["ended"];
  }
}

const silentRpc = (mute: Mute) => ({ url: `http://127.0.0.1:${mute.port}`, user: "u", password: "p" });
const listens = (port: number) =>
  new Promise<boolean>(resolve => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });

describe("A gateway whose bitcoind hangs", () => {
  test("ends in good order while it is starting", async () => {
    const mute = await Mute.start();
    const { args, port } = await configured(silentRpc(mute));
    const run = new Run(args);
    await waitFor("the broker", () => listens(port), 60_000);
    await waitFor("a question to bitcoind", () => mute.sockets.size > 0);
    run.child.kill("SIGTERM");
    expect(await run.ended).toEqual([0, null]);
    expect(run.err).not.toContain("did not end in time");
  });

  describe("after it has started", () => {
    let bitcoind: Regtest;
    beforeAll(async () => {
      bitcoind = await startRegtest();
    });
    afterAll(() => bitcoind?.stop());

    test("ends in good order, with a node of its own that asks for its outputs", async () => {
      const { url, cookieFile } = bitcoind.rpcOptions;
      const mute = await Mute.start(Number(new URL(url).port));
      const rpc = { cookieFile, url: `http://127.0.0.1:${mute.port}` };
      const { args } = await configured(rpc, {
        serviceFee: { ratePpm: 1000, baseMsat: 0, settleFromSat: 1000, creditSat: 2000, address: ADDRESS },
      });
      const run = new Run(args);
      await waitFor("the gateway", () => run.out.includes('"running":true'), 60_000);
      mute.isSilent = true;
      await bitcoind.mine(1);
      run.child.kill("SIGTERM");
      expect(await run.ended).toEqual([0, null]);
      expect(run.err).not.toContain("did not end in time");
    });
  });
});

describe("A gateway whose words nobody takes", () => {
  const busy = async (port: number) => {
    // Each of these is refused, which is a line of the log.
    for (let i = 0; i < 20; i++) {
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(Buffer.concat([Buffer.from([0x10, 0x81, 0x08]), Buffer.alloc(100)]));
      await new Promise(resolve => socket.once("close", resolve));
    }
  };

  test("runs on without the readers of its output", async () => {
    const mute = await Mute.start();
    const { args, port } = await configured(silentRpc(mute));
    const run = new Run(args);
    run.child.stdout!.destroy();
    run.child.stderr!.destroy();
    await waitFor("the broker", () => listens(port), 60_000);
    await busy(port);
    expect(await listens(port)).toBe(true);
    const ended = once(run.child, "exit");
    run.child.kill("SIGTERM");
    expect(await ended).toEqual([0, null]);
  });

  const withFullDisk = existsSync("/dev/full") ? test : test.skip;
  withFullDisk("runs on where the disk of its log is full", async () => {
    const mute = await Mute.start();
    const { args, port } = await configured(silentRpc(mute));
    const full = openSync("/dev/full", "w");
    const run = new Run(args, ["ignore", full, full]);
    closeSync(full);
    await waitFor("the broker", () => listens(port), 60_000);
    await busy(port);
    expect(await listens(port)).toBe(true);
    run.child.kill("SIGTERM");
    expect(await run.ended).toEqual([0, null]);
  });
});

describe("A gateway's folder", () => {
  /** A folder with some devices in it. */
  async function used() {
    const made = await configured(silentRpc(await Mute.start()));
    const store = openStore(made.dataDir);
    for (let i = 0; i < 100; i++)
      openRegistry(store).invite(`car ${i}`, 60, length =>
        Uint8Array.from({ length }, () => Math.random() * 256),
      );
    await store.close();
    return { ...made, file: join(made.dataDir, "store", "data.mdb") };
  }
  const refused = async (args: readonly string[]) => {
    const run = new Run(args);
    const ending = await run.ended;
    return { ending, err: run.err };
  };

  const own = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
  const containers = spawnSync(own[0]!, [...own.slice(1), "true"]).status === 0;
  (containers ? test : test.skip)("has one gateway, also where two containers have it", async () => {
    const { args, port } = await configured(silentRpc(await Mute.start()));
    new Run([...own, process.execPath, ...args]);
    await waitFor("the first", () => listens(port), 60_000);
    for (const through of [[], [...own, process.execPath]]) {
      const { ending, err } = await refused([...through, ...args]);
      expect([ending, err]).toEqual([
        [1, null],
        expect.stringMatching(/^gateway-in-use: another gateway runs on /),
      ]);
    }
  });

  test.each<[string, (file: string) => void]>([
    ["is cut in half", file => truncateSync(file, Math.floor(statSync(file).size / 8192) * 4096)],
    [
      "has a page of zeros where its devices are",
      file => {
        const bytes = readFileSync(file);
        // One of the pages with this name is in use, the others have been.
        for (let at = bytes.indexOf("car 7"); at >= 0; at = bytes.indexOf("car 7")) {
          const page = Math.floor(at / 4096);
          bytes.fill(0, page * 4096, (page + 1) * 4096);
        }
        writeFileSync(file, bytes);
      },
    ],
    ["has no meta pages", file => writeFileSync(file, readFileSync(file).fill(0x55, 0, 8192))],
    ["is empty", file => truncateSync(file, 0)],
    ["is missing", file => rmSync(file)],
  ])("is refused with a sentence, and left as it is, where the file of its store %s", async (_, damage) => {
    const { args, file, dataDir } = await used();
    damage(file);
    const before = existsSync(file) && readFileSync(file);
    for (const words of [args, ["dist/lngate.mjs", "gateway", "devices", ...args.slice(3)]]) {
      const { ending, err } = await refused(words);
      expect(ending).toEqual([1, null]);
      expect(err).toMatch(/^store-damaged: .*Never bring an old copy back.*lngate device exit/m);
      expect(err).toContain(file);
      expect(err).not.toMatch(/^\s+at /m);
    }
    expect(existsSync(file) && readFileSync(file)).toEqual(before);
    expect(readdirSync(dataDir)).toEqual(["store"]);
  });

  test("is nobody else's to read, and made so where it was", async () => {
    const { args, dataDir, file, port } = await used();
    const modes = () => [dataDir, join(dataDir, "store"), file].map(path => statSync(path).mode & 0o777);
    expect(modes().slice(1)).toEqual([0o700, 0o600]);
    mkdirSync(join(dataDir, "records"));
    chmodSync(dataDir, 0o755);
    chmodSync(join(dataDir, "store"), 0o755);
    chmodSync(file, 0o644);
    const run = new Run(args);
    await waitFor("the broker", () => listens(port), 60_000);
    expect(modes()).toEqual([0o700, 0o700, 0o600]);
    expect(statSync(join(dataDir, "records")).mode & 0o777).toBe(0o700);
    expect(run.err).toMatch(new RegExp(`warn {2}gateway: others could have read this.* path=${dataDir}\n`));
    expect(run.err).toContain(`path=${file}\n`);
  });
});

/**
 * A real bitcoind for tests, demo and bench: found, or fetched once into a cache without root, and started on regtest.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { lngateError } from "../src/errors.ts";
import { type BitcoinRpc, connectRpc, type RpcOptions } from "../src/node/bitcoind-rpc.ts";
import { debianProgram, type Program } from "./debian.ts";
import { reservePort } from "./ports.ts";

/** Packages that carry bitcoind, in order of preference. */
const PACKAGES = ["bitcoin-knots", "bitcoind"];

let found: Promise<Program> | undefined;

/**
 * A bitcoind that runs here: $BITCOIND, else the one on the PATH, else Debian's, fetched into
 * `$XDG_CACHE_HOME/lngate` (`~/.cache/lngate`). Throws `bitcoind-missing`, which says what to install.
 * @public
 */
export function ensureBitcoind(): Promise<Program> {
  found ??= findBitcoind();
  found.catch(() => {
    found = undefined;
  });
  return found;
}

async function findBitcoind(): Promise<Program> {
  const named = process.env["BITCOIND"];
  if (named) {
    if (!isExecutable(named)) throw missing(`BITCOIND names ${named}, which is not a program`);
    return { command: named, args: [] };
  }
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    const command = join(folder, "bitcoind");
    if (folder !== "" && isExecutable(command)) return { command, args: [] };
  }
  try {
    return await debianProgram("bitcoind", PACKAGES, ["-version"]);
  } catch (error) {
    throw missing((error as Error).message);
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function missing(why: string) {
  return lngateError(
    "bitcoind-missing",
    `no bitcoind here: ${why}. Install Bitcoin Core (or Knots) 27 or newer so that bitcoind is on the PATH, or name it in BITCOIND`,
  );
}

// ---- A bitcoind on regtest ----------------------------------------------------------------------------------------

/** A bitcoind of its own, with blocks at will. */
export interface Regtest {
  readonly dataDir: string;
  /** For whoever connects on their own: the same bitcoind, by its cookie. */
  readonly rpcOptions: RpcOptions;
  rpc<Result>(method: string, params?: readonly unknown[]): Promise<Result>;
  /** Mines blocks, the coins to `address` or to the node's own wallet; their hashes. */
  mine(blocks: number, address?: string): Promise<string[]>;
  /** Pays an address, or a scriptPubKey given in hex, from the wallet; the txid. Not mined yet. */
  fund(addressOrScript: string, sat: number): Promise<string>;
  /** Ends it properly and, unless `keep`, removes a data folder that was made for it. After `keep`, `restart` may follow. */
  stop(options?: { keep?: boolean }): Promise<void>;
  /** Ends it as a power cut would: with what it has not flushed, some blocks are lost. */
  kill(): Promise<void>;
  /** Brings it back on the same port, ending it properly first if it runs. */
  restart(): Promise<void>;
}

const BLOCKS_PER_CALL = 100;

/** How it is started. */
export interface RegtestOptions {
  /** A folder to keep; without it one is made and removed again. */
  readonly dataDir?: string;
  /** Blocks mined to the wallet at the first start, so that it has coins to spend: `FIRST_BLOCKS` by default. */
  readonly blocks?: number;
  readonly extraArgs?: readonly string[];
}

/**
 * After 101 the wallet has a coin. But now and then it locks a payment to any of the last 100 heights, and Knots does
 * not relay what is locked to height 21 (the mark of a protocol that it refuses): past 120 that can't happen.
 */
const FIRST_BLOCKS = 121;

/** Starts a bitcoind of one's own on regtest, on 127.0.0.1, without peers. It dies with this process. */
export async function startRegtest(options: RegtestOptions = {}): Promise<Regtest> {
  const program = await ensureBitcoind();
  const temporary = options.dataDir === undefined;
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), "lngate-regtest-"));
  mkdirSync(dataDir, { recursive: true });
  let { daemon, port } = await startOnFreePort(program, dataDir, temporary, options.extraArgs ?? []);
  const rpcOptions: RpcOptions = {
    url: `http://127.0.0.1:${port}`,
    cookieFile: join(dataDir, "regtest/.cookie"),
    timeoutMs: 60_000,
  };
  const rpc = connectRpc(rpcOptions);
  const wallet = connectRpc({ ...rpcOptions, url: `${rpcOptions.url}/wallet/regtest` });

  async function openWallet(): Promise<void> {
    const { wallets } = await rpc.call<{ wallets: { name: string }[] }>("listwalletdir");
    if (wallets.some(each => each.name === "regtest")) await rpc.call("loadwallet", ["regtest"]);
    else await rpc.call("createwallet", ["regtest"]);
  }

  async function mine(blocks: number, address?: string): Promise<string[]> {
    const to = address ?? (await wallet.call<string>("getnewaddress", ["", "bech32"]));
    const hashes: string[] = [];
    // A slow machine takes its time for many blocks: more than one call may take.
    while (hashes.length < blocks) {
      const some = Math.min(blocks - hashes.length, BLOCKS_PER_CALL);
      hashes.push(...(await rpc.call<string[]>("generatetoaddress", [some, to])));
    }
    return hashes;
  }

  async function addressOf(addressOrScript: string): Promise<string> {
    if (!/^([0-9a-f]{2})+$/.test(addressOrScript)) return addressOrScript;
    const decoded = await rpc.call<{ address?: string }>("decodescript", [addressOrScript]);
    if (!decoded.address) throw lngateError("no-address", `the script ${addressOrScript} has no address`);
    return decoded.address;
  }

  await openWallet();
  if ((await rpc.call<number>("getblockcount")) === 0) await mine(options.blocks ?? FIRST_BLOCKS);

  return {
    dataDir,
    rpcOptions,
    mine,
    rpc: (method, params) => (isWalletCall(method) ? wallet : rpc).call(method, params),
    async fund(addressOrScript, sat) {
      const address = await addressOf(addressOrScript);
      const txid = await wallet.call<string>("sendtoaddress", [address, (sat / 1e8).toFixed(8)]);
      // The wallet keeps a payment that the node refuses, and does not say so.
      await rpc.call("getmempoolentry", [txid]);
      return txid;
    },
    async stop({ keep = false } = {}) {
      rpc.close();
      wallet.close();
      await daemon.end("SIGTERM");
      if (temporary && !keep) rmSync(dataDir, { recursive: true, force: true });
    },
    kill: () => daemon.end("SIGKILL"),
    async restart() {
      await daemon.end("SIGTERM");
      daemon = launch(program, dataDir, port, temporary, options.extraArgs ?? []);
      await daemon.ready;
      await openWallet();
    },
  };
}

/** Calls of this kind need the wallet's own path once several wallets are loaded. */
function isWalletCall(method: string): boolean {
  return /wallet|unspent|sendtoaddress|getnewaddress|getrawchangeaddress|getbalance|signrawtransactionwithwallet/.test(
    method,
  );
}

interface Daemon {
  /** Resolves when it answers RPC, rejects when it ended before. */
  readonly ready: Promise<void>;
  end(signal: "SIGTERM" | "SIGKILL"): Promise<void>;
}

async function startOnFreePort(
  program: Program,
  dataDir: string,
  removeAfterwards: boolean,
  extraArgs: readonly string[],
): Promise<{ daemon: Daemon; port: number }> {
  for (;;) {
    const port = await reservePort();
    const daemon = launch(program, dataDir, port, removeAfterwards, extraArgs);
    try {
      await daemon.ready;
      return { daemon, port };
    } catch (error) {
      // Someone who does not ask us for a port may have taken this one between our look and bitcoind's.
      if (!ADDRESS_TAKEN.test((error as Error).message)) throw error;
    }
  }
}

/** What bitcoind says when it can't listen for RPC. */
const ADDRESS_TAKEN = /Unable to (start HTTP server|bind)/;

/**
 * A process of ours may be killed without a chance to tidy up. So bitcoind gets a watcher that waits for the
 * end of a pipe only we hold: when we are gone, however that happened, it ends bitcoind (and removes a temporary
 * data folder). A line on the pipe dismisses it. The shell itself becomes bitcoind, so the child's process id is
 * bitcoind's.
 */
export const WITH_WATCHER = `exec 3<&0
{ read _ <&3 || { kill -9 $$; while kill -0 $$; do sleep 0.1; done; [ -z "$0" ] || rm -rf "$0"; }; } >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null`;

function launch(
  program: Program,
  dataDir: string,
  port: number,
  removeAfterwards: boolean,
  extraArgs: readonly string[],
): Daemon {
  // A marker only this start knows, so that a foreign bitcoind on the same port is never taken for ours.
  const marker = randomBytes(8).toString("hex");
  const args = [
    ...program.args,
    "-regtest",
    `-datadir=${dataDir}`,
    `-rpcport=${port}`,
    "-rpcbind=127.0.0.1",
    "-rpcallowip=127.0.0.1",
    "-server=1",
    "-listen=0",
    "-connect=0",
    "-dnsseed=0",
    "-dbcache=16",
    "-maxmempool=16",
    "-par=1",
    "-fallbackfee=0.00002",
    "-addresstype=bech32",
    "-changetype=bech32",
    `-uacomment=${marker}`,
    "-nodebuglogfile",
    "-printtoconsole=0",
    ...extraArgs,
  ];
  const child = spawn(
    "/bin/sh",
    ["-c", WITH_WATCHER, removeAfterwards ? dataDir : "", program.command, ...args],
    {
      stdio: ["pipe", "ignore", "pipe"],
    },
  );
  let complaint = "";
  child.stderr.on("data", (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-2000);
  });
  child.stdin.on("error", () => {});
  let ended = false;
  const exit = new Promise<void>(resolve => {
    child.on("error", error => {
      complaint = error.message;
    });
    child.on("close", () => {
      ended = true;
      resolve();
    });
  });
  const ours = connectRpc({
    url: `http://127.0.0.1:${port}`,
    cookieFile: join(dataDir, "regtest/.cookie"),
    timeoutMs: 5_000,
  });
  const ready = untilItAnswers(ours, marker, () => ended).then(
    () => ours.close(),
    error => {
      ours.close();
      child.kill("SIGKILL");
      throw complaint === ""
        ? error
        : lngateError("bitcoind-failed", `bitcoind did not start: ${complaint.trim()}`);
    },
  );
  // The caller may be interested in `end` only.
  ready.catch(() => {});
  return {
    ready,
    async end(signal) {
      if (!ended) {
        child.stdin.end("dismissed\n");
        child.kill(signal);
      }
      await exit;
    },
  };
}

async function untilItAnswers(rpc: BitcoinRpc, marker: string, ended: () => boolean): Promise<void> {
  for (;;) {
    if (ended()) throw lngateError("bitcoind-failed", "bitcoind ended while starting");
    try {
      const info = await rpc.call<{ subversion: string }>("getnetworkinfo");
      if (info.subversion.includes(marker)) return;
    } catch {
      // Not yet: how long it takes is the machine's affair.
    }
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

/**
 * A real bitcoind for tests, demo and bench: found, or fetched once into a cache without root, and started on regtest.
 */
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { accessSync, constants, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { type BitcoinRpc, connectRpc, type RpcOptions } from "../gateway/chain/rpc.ts";
import { lngateError } from "../src/errors.ts";

/** How to start a program: `args` come before its own arguments. */
export interface Program {
  readonly command: string;
  readonly args: readonly string[];
}

const run = promisify(execFile);
let found: Promise<Program> | undefined;

/**
 * A bitcoind that runs here: $BITCOIND, else the one on the PATH, else Debian's, fetched into
 * `$XDG_CACHE_HOME/lngate` (`~/.cache/lngate`). Throws `bitcoind-missing`, which says what to install.
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
    if (!isExecutable(named)) throw missing(`BITCOIND names ${named}, which is no program`);
    return { command: named, args: [] };
  }
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    const command = join(folder, "bitcoind");
    if (folder !== "" && isExecutable(command)) return { command, args: [] };
  }
  const cached = join(cacheFolder(), `bitcoind-${process.platform}-${process.arch}`);
  return unpackedProgram(cached) ?? (await fetchFromDebian(cached));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function cacheFolder(): string {
  return join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "lngate");
}

function missing(why: string) {
  return lngateError(
    "bitcoind-missing",
    `no bitcoind here: ${why}. Install Bitcoin Core (or Knots) 27 or newer so that bitcoind is on the PATH, or name it in BITCOIND`,
  );
}

// ---- Debian's package, unpacked beside the system -----------------------------------------------------------------

/** Packages that carry bitcoind, and the suites that have them, in order of preference. */
const PACKAGES = ["bitcoin-knots", "bitcoind"];
const SUITES = ["testing", "unstable"];

/**
 * Its program was linked for a newer release than this one may be: so its own loader and libraries come with
 * it, and it is started through them.
 */
function unpackedProgram(root: string): Program | undefined {
  const bitcoind = join(root, "usr/bin/bitcoind");
  if (!existsSync(bitcoind)) return undefined;
  const libraries = readdirSync(join(root, "usr/lib"))
    .map(name => join(root, "usr/lib", name))
    .filter(path => readdirSync(path).some(file => file.startsWith("libc.so")));
  const folder = libraries[0];
  const loader = folder && readdirSync(folder).find(file => /^ld(-linux.*|64|)\.so\.\d$/.test(file));
  if (!folder || !loader) return undefined;
  return { command: join(folder, loader), args: ["--library-path", folder, bitcoind] };
}

async function fetchFromDebian(target: string): Promise<Program> {
  let mirrors: { site: string; keyring: string }[];
  try {
    mirrors = await aptMirrors();
    await run("dpkg-deb", ["--version"]);
  } catch {
    throw missing("this system has no apt and dpkg to fetch one with");
  }
  process.stderr.write(`No bitcoind found: fetching Debian's into ${target}, once.\n`);
  mkdirSync(cacheFolder(), { recursive: true });
  let lastFailure = "no Debian mirror among the system's apt sources";
  for (const { site, keyring } of mirrors) {
    for (const suite of SUITES) {
      // Everything happens in a folder of our own; the finished tree appears in one rename, so a second
      // process doing the same at this moment is no danger.
      const work = mkdtempSync(join(cacheFolder(), "fetch-"));
      try {
        await unpackPackage(work, site, keyring, suite);
        const tree = join(work, "tree");
        const program = unpackedProgram(tree);
        if (!program) throw new Error("the package has no bitcoind");
        await run(program.command, [...program.args, "-version"]);
        await rename(tree, target).catch(error => {
          if (!existsSync(target)) throw error;
        });
        return unpackedProgram(target)!;
      } catch (error) {
        lastFailure = `${suite} of ${site}: ${(error as Error).message.split("\n").slice(-3).join(" ").trim()}`;
      } finally {
        await rm(work, { recursive: true, force: true });
      }
    }
  }
  throw missing(`fetching it failed (${lastFailure})`);
}

/** The mirrors this system already trusts, from its own apt sources. */
async function aptMirrors(): Promise<{ site: string; keyring: string }[]> {
  const { stdout } = await run("apt-get", [
    "indextargets",
    "--format",
    "$(REPO_URI) $(SIGNED_BY)",
    "Created-By: Packages",
  ]);
  const debianKeys = "/usr/share/keyrings/debian-archive-keyring.gpg";
  const mirrors = new Map<string, string>();
  for (const line of stdout.split("\n")) {
    const [site, signedBy] = line.trim().split(" ");
    if (!site || site.includes("security")) continue;
    mirrors.set(site, signedBy?.startsWith("/") ? signedBy : existsSync(debianKeys) ? debianKeys : "");
  }
  return [...mirrors].map(([site, keyring]) => ({ site, keyring }));
}

/** Puts the package and the libraries it needs into `work`/tree, with apt's lists and caches in `work` too. */
async function unpackPackage(work: string, site: string, keyring: string, suite: string): Promise<void> {
  for (const folder of ["sources", "lists/partial", "cache/archives/partial", "debs", "tree"])
    await mkdir(join(work, folder), { recursive: true });
  const signed = keyring === "" ? "" : `Signed-By: ${keyring}\n`;
  await writeFile(
    join(work, "sources/debian.sources"),
    `Types: deb\nURIs: ${site}\nSuites: ${suite}\nComponents: main\n${signed}`,
  );
  const options = [
    "-oDir::Etc::sourcelist=/dev/null",
    `-oDir::Etc::sourceparts=${join(work, "sources")}`,
    `-oDir::State::lists=${join(work, "lists")}`,
    "-oDir::State::status=/dev/null",
    `-oDir::Cache=${join(work, "cache")}`,
    "-oAPT::Sandbox::User=",
    "-oAcquire::Languages=none",
    "-oAPT::Update::Error-Mode=any",
    "-qq",
  ];
  const cwd = join(work, "debs");
  await run("apt-get", [...options, "update"], { cwd });
  let failure: unknown;
  for (const name of PACKAGES) {
    try {
      const packages = await neededPackages(name, options);
      await run("apt-get", [...options, "download", ...packages], { cwd });
      for (const deb of readdirSync(cwd)) await run("dpkg-deb", ["-x", join(cwd, deb), join(work, "tree")]);
      await rm(join(work, "tree/usr/share"), { recursive: true, force: true });
      return;
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** The package and, transitively, the libraries it depends on (not the services Debian starts it with). */
async function neededPackages(name: string, options: readonly string[]): Promise<string[]> {
  const { stdout } = await run("apt-cache", [...options, "depends", "--recurse", "--important", name], {
    maxBuffer: 1 << 24,
  });
  const libraries = new Map<string, string[]>();
  let current: string[] = [];
  for (const line of stdout.split("\n")) {
    const dependency = /^[ |]+(?:Pre)?Depends: (lib\S+)$/.exec(line)?.[1];
    if (dependency) current.push(dependency);
    else if (/^\S/.test(line)) {
      current = [];
      libraries.set(line.trim(), current);
    }
  }
  const needed = new Set([name]);
  for (const known of needed) for (const library of libraries.get(known) ?? []) needed.add(library);
  return [...needed];
}

// ---- A bitcoind on regtest ----------------------------------------------------------------------------------------

export interface Regtest {
  readonly dataDir: string;
  /** For whoever connects on their own: the same bitcoind, by its cookie. */
  readonly rpcOptions: RpcOptions;
  rpc<Result>(method: string, params?: readonly unknown[]): Promise<Result>;
  /** Mines blocks, the coins to `address` or to the node's own wallet; their hashes. */
  mine(blocks: number, address?: string): Promise<string[]>;
  /** Pays an address, or a scriptPubKey given in hex, from the wallet; the txid. Not mined yet. */
  fund(addressOrScript: string, sat: number): Promise<string>;
  /** Ends it properly and, unless `keep`, removes a data folder that was made for it. */
  stop(options?: { keep?: boolean }): Promise<void>;
  /** Ends it as a power cut would; `restart` brings it back on the same port. */
  kill(): Promise<void>;
  restart(): Promise<void>;
}

export interface RegtestOptions {
  /** A folder to keep; without it one is made and removed again. */
  readonly dataDir?: string;
  /** Blocks mined to the wallet at the first start, so that it has coins to spend: 101 unless told. */
  readonly blocks?: number;
  readonly extraArgs?: readonly string[];
}

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
    return rpc.call("generatetoaddress", [blocks, to]);
  }

  async function addressOf(addressOrScript: string): Promise<string> {
    if (!/^([0-9a-f]{2})+$/.test(addressOrScript)) return addressOrScript;
    const decoded = await rpc.call<{ address?: string }>("decodescript", [addressOrScript]);
    if (!decoded.address) throw lngateError("no-address", `the script ${addressOrScript} has no address`);
    return decoded.address;
  }

  await openWallet();
  if ((await rpc.call<number>("getblockcount")) === 0) await mine(options.blocks ?? 101);

  return {
    dataDir,
    rpcOptions,
    mine,
    rpc: (method, params) => (isWalletCall(method) ? wallet : rpc).call(method, params),
    fund: async (addressOrScript, sat) =>
      wallet.call("sendtoaddress", [await addressOf(addressOrScript), (sat / 1e8).toFixed(8)]),
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
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const daemon = launch(program, dataDir, port, removeAfterwards, extraArgs);
    try {
      await daemon.ready;
      return { daemon, port };
    } catch (error) {
      // Someone else may have taken the port between our look and bitcoind's.
      if (attempt === 5) throw error;
    }
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

/**
 * A process of ours may be killed without a chance to tidy up. So bitcoind gets a watcher that waits for the
 * end of a pipe only we hold: when we are gone, however that happened, it ends bitcoind (and removes a temporary
 * data folder). A line on the pipe dismisses it. The shell itself becomes bitcoind, so the child's process id is
 * bitcoind's.
 */
const WITH_WATCHER = `exec 3<&0
{ read _ <&3 || { kill -9 $$; [ -z "$0" ] || { sleep 0.2; rm -rf "$0"; }; }; } >/dev/null 2>&1 &
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
  for (let waited = 0; ; waited++) {
    if (ended()) throw lngateError("bitcoind-failed", "bitcoind ended while starting");
    try {
      const info = await rpc.call<{ subversion: string }>("getnetworkinfo");
      if (info.subversion.includes(marker)) return;
    } catch (error) {
      if (waited > 600) throw error;
    }
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

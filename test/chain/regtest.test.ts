import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { build } from "esbuild";
import { startRegtest } from "../../scripts/bitcoind.ts";
import { connectRpc } from "../../src/node/bitcoind-rpc.ts";

/** Inside the project, so that the bundle finds its packages. */
const PROGRAM = join(process.cwd(), `node_modules/.cache/lngate/regtest-${process.pid}.mjs`);
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "lngate-bitcoind-"));
  mkdirSync(join(PROGRAM, ".."), { recursive: true });
  await build({
    stdin: {
      contents: `import { ensureBitcoind, startRegtest } from "./scripts/bitcoind.ts";
        if (process.argv[2] === "find") {
          const answer = await ensureBitcoind().then(program => ({ program }), ({ code, message }) => ({ code, message }));
          console.log(JSON.stringify(answer));
          process.exit(0);
        }
        const { dataDir, rpcOptions } = await startRegtest({ blocks: 0 });
        console.log(JSON.stringify({ dataDir, rpcOptions }));
        setInterval(() => {}, 1000);`,
      resolveDir: process.cwd(),
    },
    outfile: PROGRAM,
    bundle: true,
    platform: "node",
    format: "esm",
    packages: "external",
    logLevel: "error",
  });
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  rmSync(PROGRAM, { force: true });
});

/** What ensureBitcoind says in a process with this environment. */
async function found(environment: {
  [name: string]: string;
}): Promise<{ program?: unknown; code?: string; message?: string }> {
  const child = spawn(process.execPath, [PROGRAM, "find"], {
    stdio: ["ignore", "pipe", "ignore"],
    env: environment,
  });
  let said = "";
  for await (const chunk of child.stdout) said += String(chunk);
  return JSON.parse(said);
}

describe("finding bitcoind", () => {
  test("a BITCOIND that is no program is named, with what to install", async () => {
    const { code, message } = await found({ BITCOIND: join(folder, "none") });
    expect(code).toBe("bitcoind-missing");
    expect(message).toMatch(/none.*Install Bitcoin Core/);
  });

  test("without one, and without apt to fetch it, the message says what to install", async () => {
    const { code, message } = await found({ PATH: folder, XDG_CACHE_HOME: folder });
    expect(code).toBe("bitcoind-missing");
    expect(message).toContain("Install Bitcoin Core");
  });

  test("the one on the PATH is taken before anything is fetched", async () => {
    writeFileSync(join(folder, "bitcoind"), "#!/bin/sh\n", { mode: 0o755 });
    const { program } = await found({ PATH: folder, XDG_CACHE_HOME: folder });
    expect(program).toEqual({ command: join(folder, "bitcoind"), args: [] });
  });
});

describe("fetching bitcoind from Debian", () => {
  const MIRROR = "http://mirror.example/debian";

  /** A system with apt, whose mirror has one package: `tree`, or nothing at all. Its environment. */
  function system(name: string, tree?: string): { [name: string]: string } {
    const home = join(folder, name);
    mkdirSync(home);
    const program = (file: string, script: string) =>
      writeFileSync(join(home, file), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    program(
      "apt-get",
      `case "$*" in
         indextargets*) echo "${MIRROR} /usr/share/keyrings/mirror.gpg" ;;
         *update) ${tree ? ":" : 'echo "E: no release file" >&2; exit 100'} ;;
         *download*) : > bitcoin.deb ;;
       esac`,
    );
    program("apt-cache", `echo "$6"`);
    program("dpkg-deb", tree ? `[ "$1" = --version ] || cp -R ${tree}/. "$3"` : ":");
    return { PATH: `${home}:/usr/bin:/bin`, XDG_CACHE_HOME: join(home, "cache"), BITCOIND: "" };
  }

  /** An unpacked tree; the C library is where the loader is. Loaders here are scripts: this machine can't run others. */
  function unpacked(name: string, loader: string, libraries: readonly string[], link?: string): string {
    const root = join(folder, name);
    for (const path of [...libraries, dirname(loader), "usr/bin"])
      mkdirSync(join(root, path), { recursive: true });
    writeFileSync(join(root, "usr/bin/bitcoind"), "");
    writeFileSync(join(root, dirname(loader), "libc.so.6"), "");
    writeFileSync(join(root, loader), '#!/bin/sh\ntest -f "$3" && test "$4" = -version\n', { mode: 0o755 });
    if (link) symlinkSync(join(basename(dirname(loader)), basename(loader)), join(root, link));
    return root;
  }

  test.each([
    ["arm64", "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1", [], "usr/lib/ld-linux-aarch64.so.1"],
    ["armhf", "usr/lib/arm-linux-gnueabihf/ld-linux-armhf.so.3", [], "usr/lib/ld-linux-armhf.so.3"],
    ["amd64", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", ["usr/lib64"], undefined],
    [
      "arm64 before everything was below usr",
      "lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
      ["usr/lib/aarch64-linux-gnu", "usr/lib/systemd"],
      "lib/ld-linux-aarch64.so.1",
    ],
  ])("on %s it is started by the loader that comes with it", async (name, loader, libraries, link) => {
    const environment = system(
      `system of ${name}`,
      unpacked(name.replaceAll(" ", "-"), loader, libraries, link),
    );
    const { program } = await found(environment);
    const root = join(
      environment["XDG_CACHE_HOME"]!,
      "lngate",
      `bitcoind-${process.platform}-${process.arch}`,
    );
    const folders = [
      ...libraries.filter(path => basename(path) === basename(dirname(loader))),
      dirname(loader),
    ];
    expect(program).toEqual({
      command: join(root, loader),
      args: [
        "--library-path",
        folders.map(path => join(root, path)).join(":"),
        join(root, "usr/bin/bitcoind"),
      ],
    });
  });

  test("what can't be fetched is told with every release of Debian that was tried", async () => {
    const { code, message } = await found(system("empty"));
    expect(code).toBe("bitcoind-missing");
    expect(message).toContain(`testing of ${MIRROR}: E: no release file`);
    expect(message).toContain(`unstable of ${MIRROR}: E: no release file`);
  });
});

test("whatever height the wallet locks a payment to, it is taken", async () => {
  const chain = await startRegtest();
  try {
    const height = await chain.rpc<number>("getblockcount");
    const [coin] = await chain.rpc<{ txid: string; vout: number }[]>("listunspent");
    const address = await chain.rpc<string>("getnewaddress", ["", "bech32"]);
    for (let lockTime = height - 99; lockTime <= height; lockTime++) {
      const input = { txid: coin!.txid, vout: coin!.vout, sequence: 0xfffffffe };
      const raw = await chain.rpc<string>("createrawtransaction", [
        [input],
        [{ [address]: 49.999 }],
        lockTime,
      ]);
      const { hex } = await chain.rpc<{ hex: string }>("signrawtransactionwithwallet", [raw]);
      const [verdict] = await chain.rpc<object[]>("testmempoolaccept", [[hex], 0]);
      expect({ lockTime, ...verdict }).toMatchObject({ lockTime, allowed: true });
    }
  } finally {
    await chain.stop();
  }
});

test("bitcoind and its temporary folder go when the process that started it is killed", async () => {
  const child = spawn(process.execPath, [PROGRAM], { stdio: ["ignore", "pipe", "inherit"] });
  const line = await new Promise<string>((resolve, reject) => {
    let said = "";
    child.stdout.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes("\n")) resolve(said);
    });
    child.once("exit", () => reject(new Error("it ended early")));
  });
  const { dataDir, rpcOptions } = JSON.parse(line) as {
    dataDir: string;
    rpcOptions: { url: string; cookieFile: string };
  };
  const rpc = connectRpc(rpcOptions);
  expect(await rpc.call("getblockcount")).toBe(0);
  child.removeAllListeners("exit");
  child.kill("SIGKILL");
  for (let left = 400; existsSync(dataDir) && left > 0; left--)
    await new Promise(resolve => setTimeout(resolve, 25));
  expect(existsSync(dataDir)).toBe(false);
  await expect(rpc.call("getblockcount")).rejects.toMatchObject({ code: "bitcoind-unreachable" });
  rpc.close();
});

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { build } from "esbuild";
import { connectRpc } from "../../gateway/chain/rpc.ts";

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
    stdio: ["ignore", "pipe", "inherit"],
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

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { build } from "esbuild";
import { lngateError } from "../../src/errors.ts";
import { isLocked, lockPath } from "../../src/node/lock.ts";
import { codeThrownBy } from "../thrown.ts";

const home = mkdtempSync(join(tmpdir(), "lngate-lock-"));
const program = join(home, "holder.mjs");
const children: ChildProcess[] = [];

/** Locks a path, says "held" or the code, and lives until it is killed, with a child of its own that lives on. */
beforeAll(async () => {
  await build({
    stdin: {
      contents: `
        import { spawn } from "node:child_process";
        import { lockPath } from "./src/node/lock.ts";
        import { lngateError } from "./src/errors.ts";
        try {
          lockPath(process.argv[2], () => lngateError("busy", "taken"));
          const child = spawn(process.execPath, ["-e", "setTimeout(() => {}, 20_000)"], { detached: true, stdio: "ignore" });
          console.log("held " + child.pid);
        } catch (error) {
          console.log(error.code);
        }
        setInterval(() => {}, 1000);`,
      resolveDir: fileURLToPath(new URL("../..", import.meta.url)),
      loader: "ts",
    },
    bundle: true,
    platform: "node",
    format: "esm",
    outfile: program,
  });
});
const grandchildren: number[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const pid of grandchildren.splice(0)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It was in a namespace that has ended.
    }
  }
});
afterAll(() => rmSync(home, { recursive: true, force: true }));

let folders = 0;
function newFolder(): string {
  const folder = join(home, `folder-${++folders}`);
  mkdirSync(folder);
  return folder;
}

const busy = () => lngateError("busy", "taken");
const tryHere = (path: string) => {
  try {
    lockPath(path, busy)();
    return "free";
  } catch (error) {
    return (error as { code: string }).code;
  }
};

/** A process that tries to take the path; what it says. */
async function holder(
  path: string,
  { through = [], env = process.env }: { through?: readonly string[]; env?: NodeJS.ProcessEnv } = {},
): Promise<{ child: ChildProcess; said: string }> {
  const [command, ...args] = [...through, process.execPath, program, path];
  const child = spawn(command!, args, { stdio: ["ignore", "pipe", "inherit"], env });
  children.push(child);
  const [line] = (await once(child.stdout!, "data")) as [Buffer];
  const [said = "", pid] = line.toString().trim().split(" ");
  if (pid && through.length === 0) grandchildren.push(Number(pid));
  return { child, said };
}

async function killed(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

/** A folder with these programs alone, for PATH. */
function only(...names: string[]): string {
  const folder = newFolder();
  for (const name of names) {
    const found = process.env["PATH"]!.split(delimiter)
      .map(each => join(each, name))
      .find(each => spawnSync("test", ["-x", each]).status === 0);
    symlinkSync(realpathSync(found!), join(folder, name));
  }
  return folder;
}

describe("A lock on a folder", () => {
  test.each([
    ["a folder", () => newFolder()],
    ["a file", () => join(newFolder(), "some.lock")],
  ])("on %s keeps everybody else out, this process too, until it is given back", (_, make) => {
    const path = make();
    const release = lockPath(path, busy);
    expect([tryHere(path), isLocked(path)]).toEqual(["busy", true]);
    release();
    expect([isLocked(path), tryHere(path)]).toEqual([false, "free"]);
    const again = lockPath(path, busy);
    release();
    expect(tryHere(path)).toBe("busy");
    again();
  });

  test("is gone as soon as its process is killed, though a child of that process lives on", async () => {
    const folder = newFolder();
    const { child, said } = await holder(folder);
    expect([said, tryHere(folder), isLocked(folder)]).toEqual(["held", "busy", true]);
    await killed(child);
    expect([tryHere(folder), isLocked(folder)]).toEqual(["free", false]);
  });

  test("is had by one of many that want it at the same time", async () => {
    const folder = newFolder();
    const all = await Promise.all(Array.from({ length: 6 }, () => holder(folder)));
    expect(all.map(({ said }) => said).sort()).toEqual([...Array(5).fill("busy"), "held"]);
  });

  const own = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
  const inContainers = spawnSync(own[0]!, [...own.slice(1), "true"]).status === 0 ? test : test.skip;
  inContainers("keeps out a process of another container, where it has the same number", async () => {
    const folder = newFolder();
    const first = await holder(folder, { through: own });
    const second = await holder(folder, { through: own });
    expect([first.said, second.said, tryHere(folder)]).toEqual(["held", "busy", "busy"]);
  });

  test("is the same lock whether flock or perl was there to take it", async () => {
    const folder = newFolder();
    const env = (...names: string[]) => ({ ...process.env, PATH: only(...names) });
    const first = await holder(folder, { env: env("perl") });
    const second = await holder(folder, { env: env("flock") });
    expect([first.said, second.said]).toEqual(["held", "busy"]);
    await killed(first.child);
    const third = await holder(folder, { env: env("flock") });
    const fourth = await holder(folder, { env: env("perl") });
    expect([third.said, fourth.said]).toEqual(["held", "busy"]);
  });

  test("is refused, and not merely pretended, where nothing is there to take it with", async () => {
    const { said } = await holder(newFolder(), { env: { ...process.env, PATH: newFolder() } });
    expect(said).toBe("lock-unavailable");
    expect(codeThrownBy(() => lockPath(join(home, "missing", "file"), busy))).toBe("ENOENT");
  });
});

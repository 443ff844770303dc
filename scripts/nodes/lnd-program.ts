/** LND as it is released: built once from the Go module in test/bridges, into the cache. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { cacheFolder } from "../debian.ts";

const MODULE = join("test", "bridges");
/** The services that its releases have. */
const TAGS = ["autopilotrpc", "chainrpc", "invoicesrpc", "routerrpc", "signrpc", "walletrpc"];
const PACKAGES_PER_LINE = 100;

/** Whether an LND can be had here. */
export function hasLnd(): boolean {
  return goProgram() !== undefined || existsSync(join(builtFolder(), "lnd"));
}

/** The program lnd (lncli is beside it), from the cache or built into it. Throws a plain error. */
export async function ensureLnd(): Promise<string> {
  const folder = builtFolder();
  const program = join(folder, "lnd");
  if (existsSync(program)) return program;
  const go = goProgram();
  if (!go) throw new Error("there is no Go here to build LND with: put `go` on the PATH");
  process.stderr.write(`Building LND into ${folder}, once: five to ten minutes on two cores.\n`);
  mkdirSync(cacheFolder(), { recursive: true });
  // The finished folder appears in one rename, so a second process that does the same is not a danger.
  const work = mkdtempSync(join(cacheFolder(), "build-"));
  try {
    await build(go, work);
    await rename(work, folder).catch(error => {
      if (!existsSync(program)) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return program;
}

/** By what it is built from. */
function builtFolder(): string {
  const hash = createHash("sha256").update(TAGS.join());
  for (const file of ["go.mod", "go.sum"]) hash.update(readFileSync(join(MODULE, file)));
  const key = hash.digest("hex").slice(0, 16);
  return join(cacheFolder(), `lnd-${process.platform}-${process.arch}-${key}`);
}

/** `go` on the PATH, or where its own installer puts it. */
function goProgram(): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/local/go/bin"];
  return folders
    .filter(Boolean)
    .map(folder => join(folder, "go"))
    .find(existsSync);
}

/** Builds the module's tools into a folder, and tells how far it is. */
function build(go: string, folder: string): Promise<void> {
  const options = ["-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"];
  const args = ["-n", "10", go, "build", ...options, "-tags", TAGS.join(","), "-o", `${folder}/`, "tool"];
  const child = spawn("nice", args, {
    cwd: MODULE,
    env: { ...process.env, CGO_ENABLED: "0" },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let last = "";
  let packages = 0;
  createInterface({ input: child.stderr }).on("line", line => {
    last = line;
    // With -v, each package has a line once it is compiled.
    if (++packages % PACKAGES_PER_LINE === 0) process.stderr.write(`LND: ${packages} packages …\n`);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", code =>
      code === 0 ? resolve() : reject(new Error(`building LND failed (${code}): ${last}`)),
    );
  });
}

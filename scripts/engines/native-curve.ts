/**
 * The C of the board's native curve on this machine, by this system's compiler: with libsecp256k1 as the board's manifest names it,
 * of which a package of Rust's carries a copy, less a few functions that the board does not use.
 */
import { execFile, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import type { NativeCurve } from "../../device/boards/moddable/native-curve.ts";
import { lngateError } from "../../src/errors.ts";
import { cacheFolder } from "../debian.ts";

const run = promisify(execFile);

const BOARD = "device/boards/moddable";
/** What of it is C. */
const FILES = ["native-curve.c", "native-curve-core.c", "native-curve-core.h"].map(name => join(BOARD, name));

/** With libsecp256k1 0.8.0, whose commit the board's manifest names. */
const PACKAGE = {
  name: "secp256k1-sys",
  version: "0.14.1",
  checksum: "f6b2992d4a3cd244539a7d5d0966aadbe5ca7fb868a5d7e38c29499b9e709bbd",
};

/** The file that says of which commit the library is. */
const REVISION = "secp256k1-HEAD-revision.txt";

export interface CurveSources {
  /** Ours, by their paths. */
  readonly files: readonly string[];
  /** The library's folder `src`. */
  readonly library: string;
  /** Another one for other sources. */
  readonly digest: string;
}

/** Null where the curve can be compiled, or a sentence that says what is missing. */
export function missingForCurve(): string | null {
  for (const program of ["cc", "cargo"])
    if (spawnSync(program, ["--version"]).status !== 0) return `there is no ${program} on this machine`;
  return null;
}

/** Throws `engine-missing`. */
export async function curveSources(): Promise<CurveSources> {
  const { name, version } = PACKAGE;
  const target = join(cacheFolder(), `${name}-${version}`);
  try {
    if (!existsSync(target)) await fetchLibrary(target);
    const revision = readFileSync(join(target, REVISION), "utf8");
    const pinned = pinnedRevision();
    if (!revision.includes(pinned))
      throw new Error(`${name} has ${revision}, the board's manifest ${pinned}`);
  } catch (error) {
    throw lngateError("engine-missing", `libsecp256k1 is not here: ${(error as Error).message}`);
  }
  const hash = createHash("sha256").update(basename(target));
  for (const file of FILES) hash.update(readFileSync(file));
  return { files: FILES, library: join(target, "src"), digest: hash.digest("hex").slice(0, 16) };
}

/** The commit that mcconfig checks out for the board. */
function pinnedRevision(): string {
  const { include } = JSON.parse(readFileSync(join(BOARD, "manifest.json"), "utf8")) as {
    include: (string | { tag: string })[];
  };
  return include.flatMap(each => (typeof each === "string" ? [] : [each.tag])).join();
}

/** By Rust's own means, and then under its own names again: the package gives each function of it a prefix. */
async function fetchLibrary(target: string): Promise<void> {
  const { name, version, checksum } = PACKAGE;
  process.stderr.write(`Fetching libsecp256k1 from ${name} ${version} into ${target}, once.\n`);
  mkdirSync(cacheFolder(), { recursive: true });
  const work = mkdtempSync(join(cacheFolder(), "fetch-"));
  try {
    mkdirSync(join(work, "src"));
    writeFileSync(join(work, "src/lib.rs"), "");
    writeFileSync(
      join(work, "Cargo.toml"),
      `[package]\nname = "sources"\nversion = "0.0.0"\n[dependencies]\n${name} = "=${version}"\n`,
    );
    await run("cargo", ["vendor", "--quiet"], { cwd: work });
    const crate = join(work, "vendor", name);
    const known = JSON.parse(readFileSync(join(crate, ".cargo-checksum.json"), "utf8")) as {
      package: string;
    };
    if (known.package !== checksum) throw new Error("the package is not the one that was expected");
    const library = join(crate, "depend/secp256k1");
    renameSync(join(crate, "depend", REVISION), join(library, REVISION));
    for (const name of readdirSync(library, { recursive: true, encoding: "utf8" })) {
      if (!/\.[ch]$/.test(name)) continue;
      const text = readFileSync(join(library, name), "utf8");
      writeFileSync(join(library, name), text.replace(/\brustsecp256k1_v\d+_\d+_/g, "secp256k1_"));
    }
    try {
      renameSync(library, target);
    } catch (error) {
      if (!existsSync(target)) throw error;
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The native curve as a program of this machine, which runs once for each call. */
export async function compiledCurve(folder: string): Promise<NativeCurve> {
  const { library } = await curveSources();
  const program = join(folder, "curve");
  await run("cc", [
    ...[
      "-O2",
      "-DUSE_FORCE_WIDEMUL_INT64=1",
      "-Wall",
      "-Wextra",
      "-Wno-unused-function",
      "-Werror",
      "-I",
      library,
      "-I",
      BOARD,
    ],
    ...[join(BOARD, "native-curve-core.c"), "scripts/engines/boards/curve-program.c", "-o", program],
  ]);
  return (operation, ...args) => {
    const hex = args.map(bytes => Buffer.from(bytes).toString("hex"));
    const { status, stdout, stderr } = spawnSync(program, [String(operation), ...hex], { encoding: "utf8" });
    if (status !== 0) throw new Error(`the program ended with ${status}: ${stderr}`);
    const [answer, point] = stdout.trim().split(" ");
    return point === undefined ? Number(answer) : new Uint8Array(Buffer.from(point, "hex")).buffer;
  };
}

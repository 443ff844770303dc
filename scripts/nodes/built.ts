/** Programs that are built here from what their makers have released: once, into the cache. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { cacheFolder } from "../debian.ts";

/** What is built, and from what. */
export interface Source {
  /** As people call it. */
  readonly name: string;
  /** Its program's file. */
  readonly program: string;
  /** All that decides what comes out: with another of these it is built again. */
  parts(): readonly (string | Buffer)[];
  /** How long it takes. */
  readonly duration: string;
  /** What builds it; undefined where that is missing. */
  tool(): string | undefined;
  /** Puts the program, and what belongs to it, into the folder. */
  build(tool: string, folder: string): Promise<void>;
}

/** The program, if it has been built. */
export function builtProgram(source: Source): string | undefined {
  const program = join(folderOf(source), source.program);
  return existsSync(program) ? program : undefined;
}

/** The program, from the cache or built into it. Throws a plain error. */
export async function ensureBuilt(source: Source): Promise<string> {
  const { name, duration } = source;
  const built = builtProgram(source);
  if (built) return built;
  const tool = source.tool();
  if (!tool) throw new Error(`there is nothing here to build ${name} with`);
  const folder = folderOf(source);
  process.stderr.write(`Building ${name} into ${folder}, once: ${duration}.\n`);
  mkdirSync(cacheFolder(), { recursive: true });
  // The finished folder appears in one rename, so a second process that does the same is not a danger.
  const work = mkdtempSync(join(cacheFolder(), "build-"));
  try {
    await source.build(tool, work);
    await rename(work, folder).catch(error => {
      if (!builtProgram(source)) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return join(folder, source.program);
}

function folderOf(source: Source): string {
  const hash = createHash("sha256");
  for (const part of source.parts()) hash.update(part);
  const key = hash.digest("hex").slice(0, 16);
  return join(cacheFolder(), `${source.program}-${process.platform}-${process.arch}-${key}`);
}

/** A program on the PATH, or in one of the folders where its own installer puts it. */
export function findTool(name: string, folders: readonly string[]): string | undefined {
  return [...(process.env["PATH"] ?? "").split(delimiter), ...folders]
    .filter(Boolean)
    .map(folder => join(folder, name))
    .find(existsSync);
}

/** How a tool is run. */
export interface BuildRun {
  /** Of what is built. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Lines that tell of a step; now and then their number is told. */
  readonly step: RegExp;
}

const STEPS_A_LINE = 100;

/** Runs a tool that builds, out of everyone's way, and tells how far it is. */
export function runBuild({ name, command, args, cwd, env = {}, step }: BuildRun): Promise<void> {
  const child = spawn("nice", ["-n", "10", command, ...args], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let last = "";
  let steps = 0;
  createInterface({ input: child.stderr }).on("line", line => {
    last = line;
    if (step.test(line) && ++steps % STEPS_A_LINE === 0)
      process.stderr.write(`${name}: ${steps} packages …\n`);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", code =>
      code === 0 ? resolve() : reject(new Error(`building ${name} failed (${code}): ${last}`)),
    );
  });
}

/**
 * Programs that Debian has, fetched once into a cache beside the system: without root, and without changing what is
 * installed. For what the tests need real, and few machines have.
 */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

/** How to start a program: `args` come before its own arguments. */
export interface Program {
  readonly command: string;
  readonly args: readonly string[];
}

const run = promisify(execFile);

/** Newest first: what an older release lacks, they have. */
const SUITES = ["testing", "unstable"];

/** `$XDG_CACHE_HOME/lngate`, or `~/.cache/lngate`. */
export function cacheFolder(): string {
  return join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "lngate");
}

/**
 * The program `name` (in usr/bin) of the first of these packages that can be had, from the cache or from a mirror
 * among the system's own apt sources. `probe`: arguments with which it ends at once and well. Throws a plain error.
 */
export async function debianProgram(
  name: string,
  packages: readonly string[],
  probe: readonly string[],
): Promise<Program> {
  const cached = join(cacheFolder(), `${name}-${process.platform}-${process.arch}`);
  return unpackedProgram(cached, name) ?? (await fetchFromDebian(cached, name, packages, probe));
}

/**
 * Its program was linked for a newer release than this one may be: so its own loader and libraries come with
 * it, and it is started through them.
 */
function unpackedProgram(root: string, name: string): Program | undefined {
  const program = join(root, "usr/bin", name);
  if (!existsSync(program)) return undefined;
  const libraries = readdirSync(join(root, "usr/lib"))
    .map(name => join(root, "usr/lib", name))
    .filter(path => readdirSync(path).some(file => file.startsWith("libc.so")));
  const folder = libraries[0];
  const loader = folder && readdirSync(folder).find(file => /^ld(-linux.*|64|)\.so\.\d$/.test(file));
  if (!folder || !loader) return undefined;
  return { command: join(folder, loader), args: ["--library-path", folder, program] };
}

async function fetchFromDebian(
  target: string,
  name: string,
  packages: readonly string[],
  probe: readonly string[],
): Promise<Program> {
  let mirrors: { site: string; keyring: string }[];
  try {
    mirrors = await aptMirrors();
    await run("dpkg-deb", ["--version"]);
  } catch {
    throw new Error("this system has no apt and dpkg to fetch it with");
  }
  process.stderr.write(`No ${name} here: fetching Debian's into ${target}, once.\n`);
  mkdirSync(cacheFolder(), { recursive: true });
  let lastFailure = "no Debian mirror among the system's apt sources";
  for (const { site, keyring } of mirrors) {
    for (const suite of SUITES) {
      // Everything happens in a folder of our own; the finished tree appears in one rename, so a second
      // process doing the same at this moment is no danger.
      const work = mkdtempSync(join(cacheFolder(), "fetch-"));
      try {
        await unpackPackage(work, { site, keyring, suite }, packages);
        const tree = join(work, "tree");
        const program = unpackedProgram(tree, name);
        if (!program) throw new Error(`the package has no ${name}`);
        await run(program.command, [...program.args, ...probe]);
        await rename(tree, target).catch(error => {
          if (!existsSync(target)) throw error;
        });
        return unpackedProgram(target, name)!;
      } catch (error) {
        lastFailure = `${suite} of ${site}: ${(error as Error).message.split("\n").slice(-3).join(" ").trim()}`;
      } finally {
        await rm(work, { recursive: true, force: true });
      }
    }
  }
  throw new Error(`fetching it failed (${lastFailure})`);
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
async function unpackPackage(
  work: string,
  { site, keyring, suite }: { site: string; keyring: string; suite: string },
  packages: readonly string[],
): Promise<void> {
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
  for (const name of packages) {
    try {
      const needed = await neededPackages(name, options);
      await run("apt-get", [...options, "download", ...needed], { cwd });
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

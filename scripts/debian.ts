/**
 * Programs that Debian has, fetched once into a cache beside the system: without root, and without changing what is
 * installed. For what the tests need real, and few machines have.
 */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, statSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, join } from "node:path";
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
 * The program `name` of the first of these packages that can be had, from the cache or from a mirror among the system's
 * own apt sources. `probe`: arguments with which it ends at once and well. Throws a plain error.
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
 * How to start the program of an unpacked tree; undefined if it is not there, or nothing to start it with. It was
 * linked for a newer release than this one may be: so its own loader and libraries come with it, and it is started
 * through them.
 */
function unpackedProgram(root: string, name: string): Program | undefined {
  const program = ["usr/bin", "usr/sbin"].map(folder => join(root, folder, name)).find(existsSync);
  if (!program) return undefined;
  // Before Debian moved everything below /usr, the C library lay in /lib and most others in /usr/lib. Beside the
  // folders of each architecture there are links to loaders there, which not everyone can follow: they are relative
  // to a root that this tree is not.
  const folders = ["usr/lib", "lib"]
    .map(parent => join(root, parent))
    .filter(existsSync)
    .flatMap(parent => readdirSync(parent, { withFileTypes: true }).map(entry => ({ parent, entry })))
    .filter(({ entry }) => entry.isDirectory())
    .map(({ parent, entry }) => join(parent, entry.name));
  const withLibc = folders.find(folder => readdirSync(folder).some(file => file.startsWith("libc.so.")));
  if (!withLibc) return undefined;
  const loader = readdirSync(withLibc).find(file => /^ld(-linux.*|64|)\.so\.\d$/.test(file));
  if (!loader) return undefined;
  const architecture = basename(withLibc);
  const libraries = folders.filter(folder => basename(folder) === architecture);
  return { command: join(withLibc, loader), args: ["--library-path", libraries.join(":"), program] };
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
  const failures: string[] = [];
  for (const { site, keyring } of mirrors) {
    for (const suite of SUITES) {
      // Everything happens in a folder of our own; the finished tree appears in one rename, so a second
      // process doing the same at this moment is not a danger.
      const work = mkdtempSync(join(cacheFolder(), "fetch-"));
      try {
        await unpackPackage(work, { site, keyring, suite }, packages);
        const tree = join(work, "tree");
        const program = unpackedProgram(tree, name);
        if (!program) throw new Error(`the package has no ${name}`);
        await run(program.command, [...program.args, ...probe]);
        // What an earlier version of this file has left there may be of no use.
        if (!unpackedProgram(target, name)) await rm(target, { recursive: true, force: true });
        await rename(tree, target).catch(error => {
          if (!existsSync(target)) throw error;
        });
        return unpackedProgram(target, name)!;
      } catch (error) {
        failures.push(`${suite} of ${site}: ${whyOf(error)}`);
      } finally {
        await rm(work, { recursive: true, force: true });
      }
    }
  }
  if (failures.length === 0) failures.push("no Debian mirror among the system's apt sources");
  throw new Error(`fetching it failed (${failures.join("; ")})`);
}

/** What a program said last, rather than with which options it was started. */
function whyOf(error: unknown): string {
  const { stderr, message } = error as Error & { stderr?: string };
  return (stderr || message).trim().split("\n").slice(-2).join(" ");
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
      // The names that programs know libraries by: some packages leave them to their installation.
      const libraries = ["usr/lib", "lib"].map(folder => join(work, "tree", folder)).filter(existsSync);
      const folders = libraries.flatMap(parent => readdirSync(parent).map(name => join(parent, name)));
      await run("/sbin/ldconfig", ["-n", ...folders.filter(folder => statSync(folder).isDirectory())]);
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

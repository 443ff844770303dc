/**
 * npm run test:mutation [-- <group>|<file> …]: installs Stryker apart from the project, once, and runs it.
 * docs/mutation.md explains what survives.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { GROUPS } from "./groups.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = fileURLToPath(new URL("../..", import.meta.url));

function run(command, args, options) {
  const { status } = spawnSync(command, args, { stdio: "inherit", ...options });
  if (status !== 0) process.exit(status ?? 1);
}

const everything = Object.values(GROUPS).flatMap(({ mutated }) => mutated);
const wanted = process.argv.slice(2);
const unknown = wanted.filter(name => !(name in GROUPS) && !everything.includes(name));
if (unknown.length > 0) {
  const groups = Object.keys(GROUPS).join("|");
  console.error(`usage: npm run test:mutation [-- ${groups}|<file> …], not ${unknown.join(", ")}`);
  process.exit(2);
}
if (!existsSync(`${here}/node_modules/@stryker-mutator/core`)) {
  run("npm", ["ci", "--no-audit", "--no-fund"], { cwd: here });
}
for (const [group, { mutated }] of Object.entries(GROUPS)) {
  const files =
    wanted.length === 0 || wanted.includes(group) ? mutated : mutated.filter(file => wanted.includes(file));
  if (files.length === 0) continue;
  const stryker = `${here}/node_modules/@stryker-mutator/core/bin/stryker.js`;
  run(process.execPath, [stryker, "run", `${here}/stryker.config.mjs`], {
    cwd: root,
    env: { ...process.env, MUTANTS: group, MUTATE: files.join() },
  });
}

/**
 * npm run test:mutation [-- scalars|rules]: installs Stryker apart from the project, once, and runs it. docs/mutation.md
 * explains what survives.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = fileURLToPath(new URL("../..", import.meta.url));

function run(command, args, options) {
  const { status } = spawnSync(command, args, { stdio: "inherit", ...options });
  if (status !== 0) process.exit(status ?? 1);
}

if (!existsSync(`${here}/node_modules/@stryker-mutator/core`)) {
  run("npm", ["ci", "--no-audit", "--no-fund"], { cwd: here });
}
const groups = process.argv.length > 2 ? process.argv.slice(2) : ["scalars", "rules"];
for (const group of groups) {
  const stryker = `${here}/node_modules/@stryker-mutator/core/bin/stryker.js`;
  run(process.execPath, [stryker, "run", `${here}/stryker.config.mjs`], {
    cwd: root,
    env: { ...process.env, MUTANTS: group },
  });
}

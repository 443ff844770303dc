/**
 * Checks that what is bundled for Espruino stays in the subset of JavaScript that survives there: what the ES5 build
 * cannot compile away, or compiles to something that the engine has not, or has but does differently (docs/boards.md).
 * Part of `npm run check`; prints one line per finding. Arguments are further files to look at.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import babel from "@babel/core";
import { build } from "esbuild";

const { types: t } = babel;
const root = fileURLToPath(new URL("../../", import.meta.url));

const NO_GLOBALS = new Set(
  "Map Set WeakMap WeakSet WeakRef Symbol Proxy Reflect BigInt TextEncoder TextDecoder Buffer process console BigUint64Array".split(
    " ",
  ),
);
const NO_MEMBERS = new Set(
  "Math.pow Math.trunc Math.imul Math.log2 Math.clz32 Math.sign Number.isInteger Number.isSafeInteger Object.freeze Object.entries Object.values Object.fromEntries Promise.race Promise.allSettled Promise.any Array.from Uint8Array.from Uint8Array.of".split(
    " ",
  ),
);

function findings(file) {
  const found = [];
  const say = (node, what) => found.push(`${file}:${node.loc.start.line}: ${what}`);
  const visitor = {
    Function: ({ node }) => {
      if (node.async) say(node, "async function");
      if (node.generator) say(node, "generator");
    },
    LabeledStatement: ({ node }) => say(node, "label"),
    BigIntLiteral: ({ node }) => say(node, "BigInt"),
    PrivateName: ({ node }) => say(node, "#private name"),
    BinaryExpression: ({ node }) => node.operator === "**" && say(node, "**"),
    RegExpLiteral: ({ node }) =>
      (/[us]/.test(node.flags) || /\(\?[<=!]|[^\\]\{\d/.test(node.pattern)) &&
      say(node, "regular expression too new"),
    Class: ({ node }) => t.isIdentifier(node.superClass, { name: "Error" }) && say(node, "extends Error"),
    ReferencedIdentifier: ({ node, scope }) =>
      NO_GLOBALS.has(node.name) && !scope.hasBinding(node.name, true) && say(node, node.name),
    MemberExpression: ({ node }) => {
      if (!t.isIdentifier(node.object) || !t.isIdentifier(node.property) || node.computed) return;
      const name = `${node.object.name}.${node.property.name}`;
      if (NO_MEMBERS.has(name)) say(node, name);
    },
    CallExpression: ({ node }) =>
      t.isMemberExpression(node.callee) &&
      t.isIdentifier(node.callee.property, { name: "finally" }) &&
      say(node, "Promise.finally"),
  };
  babel.transformSync(readFileSync(`${root}${file}`, "utf8"), {
    configFile: false,
    babelrc: false,
    code: false,
    parserOpts: { plugins: ["typescript"], sourceType: "module" },
    plugins: [{ visitor }],
  });
  return found;
}

const { metafile } = await build({
  entryPoints: [`${root}device/boards/espruino/module.ts`],
  absWorkingDir: root,
  bundle: true,
  write: false,
  metafile: true,
  outfile: "subset.js",
  external: ["espruino:*", "@noble/*"],
  logLevel: "silent",
});
/** Modules that a port replaces on Espruino (esbuild.device.mjs). */
const REPLACED = [
  "src/crypto/hash.ts",
  "src/crypto/scalar.ts",
  "src/crypto/scalar-bigint.ts",
  "src/errors.ts",
];
const all = Object.keys(metafile.inputs)
  .filter(file => /\.ts$/.test(file) && !REPLACED.includes(file))
  .concat("src/crypto/scalar-limbs.ts", process.argv.slice(2))
  .flatMap(findings);
for (const line of all) process.stderr.write(`not for Espruino: ${line}\n`);
if (all.length > 0) process.exitCode = 1;

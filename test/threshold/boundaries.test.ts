import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "@jest/globals";
import { build } from "esbuild";
import { bundleOnline } from "../../scripts/bench/online-bundle.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const sources = readdirSync(`${root}/src/threshold`, { recursive: true, encoding: "utf8" })
  .filter(name => name.endsWith(".ts"))
  .map(name => ({ name, text: readFileSync(`${root}/src/threshold/${name}`, "utf8") }));

test("src/threshold imports its neighbours in src/ and @noble, and nothing else", () => {
  expect(sources.length).toBeGreaterThan(15);
  for (const { name, text } of sources) {
    const specifiers = [...text.matchAll(/\b(?:from|import)\s*\(?\s*"([^"]+)"/g)].map(match => match[1]!);
    const foreign = specifiers.filter(
      each =>
        !/^(\.\/|\.\.\/(\.\.\/)?(bytes|crypto|errors)\b|\.\.\/[a-z-]+(\.ts|\/[a-z0-9-]+\.ts)$|@noble\/(curves|hashes)\/)/.test(
          each,
        ),
    );
    expect({ name, foreign }).toEqual({ name, foreign: [] });
    expect({
      name,
      found: text.match(/\b(Buffer|process|console|Date|crypto)\.|\b(setTimeout|Math\.random)\(/),
    }).toEqual({ name, found: null });
  }
});

test("what a device loads to sign has no curve, no hash and no package in it", async () => {
  const { metafile } = await build({
    entryPoints: [`${root}/src/threshold/online.ts`],
    bundle: true,
    write: false,
    metafile: true,
    absWorkingDir: root,
    packages: "external",
  });
  expect(Object.keys(metafile.inputs).sort()).toEqual([
    "src/bytes/bytes.ts",
    "src/crypto/scalar-bigint.ts",
    "src/crypto/scalar.ts",
    "src/errors.ts",
    "src/threshold/online.ts",
  ]);
  expect(Object.values(metafile.outputs)[0]!.imports).toEqual([]);
});

test("with limbs it is small, and neither BigInt nor newer syntax is left in it", async () => {
  const script = await bundleOnline("limbs", root);
  expect(script.length).toBeLessThan(5_000);
  expect(script).not.toMatch(/BigInt|Symbol|=>|\bconst\b|\blet\b|\bclass\b|\.\.\.|`/);
});

/** The online half of the threshold signature as one script, for the engine named, to measure and to try. */
import { fileURLToPath } from "node:url";
import { transform as toEs5 } from "@swc/core";
import { build, type Plugin, transform } from "esbuild";

/** Scalars by native BigInt, as ES2022; or by 24-bit limbs, as ES5 for engines that know nothing newer. */
export type OnlineEngine = "bigint" | "limbs";

/** The port's module is replaced, as a board's build does it. */
const limbsInPlaceOfPort: Plugin = {
  name: "scalar-limbs",
  setup(builder) {
    builder.onResolve({ filter: /\/scalar\.ts$/ }, ({ resolveDir, path }) => ({
      path: fileURLToPath(new URL(path.replace("scalar.ts", "scalar-limbs.ts"), `file://${resolveDir}/`)),
    }));
  },
};

/**
 * Bundles src/threshold/online.ts into a script that defines the global `online`, minified.
 *
 * @param root the project's folder
 */
export async function bundleOnline(engine: OnlineEngine, root: string): Promise<string> {
  const names = "answer, answerWithMac, complete, isAuthentic, signWithNonce";
  const { outputFiles } = await build({
    // Assigned by name, so that the bundler's helpers for modules are not measured.
    stdin: {
      contents: `import { ${names} } from "./src/threshold/online.ts"; online = { ${names} };`,
      resolveDir: root,
    },
    banner: { js: "var online;" },
    bundle: true,
    write: false,
    minify: engine === "bigint",
    target: "es2022",
    format: "iife",
    plugins: engine === "limbs" ? [limbsInPlaceOfPort] : [],
  });
  const script = outputFiles[0]!.text;
  if (engine === "bigint") return script;
  const { code } = await toEs5(script, {
    jsc: { target: "es5", loose: true, parser: { syntax: "ecmascript" } },
    isModule: false,
  });
  return (await transform(code, { target: "es5", minify: true })).code;
}

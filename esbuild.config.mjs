/**
 * Builds what Node runs: one file per program in dist/, the packages of node_modules left outside.
 */
import { chmodSync, existsSync, readdirSync, rmSync } from "node:fs";
import { build } from "esbuild";

/** Program in dist/ -> its entry point. */
const programs = {
  lngate: "scripts/lngate.ts",
  "gateway-thread": "gateway/gateway-thread.ts",
  "store-check": "gateway/store/store-check.ts",
  "threshold-worker": "gateway/owner/threshold-worker.ts",
  demo: "scripts/demo.ts",
  bench: "scripts/bench.ts",
  experiment: "scripts/experiment.ts",
  "experiment-device": "scripts/experiment/device.ts",
  peer: "scripts/peer/main.ts",
};

const { metafile } = await build({
  entryPoints: Object.entries(programs)
    .filter(([, entry]) => existsSync(entry))
    .map(([out, entry]) => ({ in: entry, out })),
  outdir: "dist",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  // What is loaded late (Lightning, for `gateway run` alone) becomes a file of its own.
  splitting: true,
  metafile: true,
  platform: "node",
  target: "node20",
  format: "esm",
  packages: "external",
  sourcemap: true,
  logLevel: "warning",
});

// `npx lngate` in a clone starts the file itself (its first line says with what).
if (existsSync("dist/lngate.mjs")) chmodSync("dist/lngate.mjs", 0o755);

// Parts of an earlier build; dist/device is built by esbuild.device.mjs.
for (const name of readdirSync("dist")) {
  if (name !== "device" && !(`dist/${name}` in metafile.outputs)) rmSync(`dist/${name}`, { recursive: true });
}

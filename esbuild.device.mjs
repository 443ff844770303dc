/**
 * Builds what runs on a microcontroller into dist/device: for Moddable a module, for Espruino an ES5 script, and the
 * same core for the engines that the tests run. `node esbuild.device.mjs --sizes` tells what takes the room.
 *
 * Three things are done to the core, all by the compiler alone:
 * - ports: a board's own hashing, scalars and curve take the place of the modules for Node;
 * - shrinking (scripts/device-build/shrink.mjs): an error is its stable code; the sentence stays in the documentation;
 * - renaming: names of properties that nobody outside the bundle can see become short.
 */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";
import { toArrows } from "./scripts/device-build/arrows.mjs";
import { toEs5 } from "./scripts/device-build/es5.mjs";
import {
  namesDeclaredIn,
  namesLeftOut,
  namesOfferedBy,
  reservedNames,
} from "./scripts/device-build/names.mjs";
import { bytesBySource, withMap } from "./scripts/device-build/pass.mjs";
import { shorten } from "./scripts/device-build/shorten.mjs";
import { shrink } from "./scripts/device-build/shrink.mjs";

const root = fileURLToPath(new URL("./", import.meta.url));

/** Modules of the core, and what a board puts in their place. */
function ports(replacements) {
  const table = new Map(
    Object.entries({ "src/errors.ts": "device/boards/shared/errors.ts", ...replacements }).map(
      ([from, to]) => [root + from, root + to],
    ),
  );
  return {
    name: "ports",
    setup(builder) {
      builder.onResolve({ filter: /\.ts$/ }, ({ path, resolveDir, importer }) => {
        const to = table.get(fileURLToPath(new URL(path, `file://${resolveDir}/`)));
        // What replaces a module may import it.
        return to === undefined || to === importer ? undefined : { path: to };
      });
    },
  };
}

/** `moddable:crypt` in the sources is the SDK's `crypt`, which only the SDK's own build knows. */
const platformModules = {
  name: "platform-modules",
  setup(builder) {
    builder.onResolve({ filter: /^(moddable|espruino):/ }, ({ path }) => ({
      path: path.slice(path.indexOf(":") + 1),
      external: true,
    }));
  },
};

/**
 * @param {{entry: string, out: string, es5?: boolean, onlyEs5?: boolean, format: "esm" | "iife" | "cjs", ports: object,
 *   names?: string[], copies?: string[], budget?: number}} target
 */
async function bundle(target) {
  const { outputFiles } = await build({
    // Seen as what they are, they would make the minifier wrap everything in a module of Node's.
    define: { exports: "lngateExports" },
    entryPoints: [root + target.entry],
    bundle: true,
    write: false,
    outfile: `${root}dist/device/bundle.js`,
    absWorkingDir: root,
    sourcemap: "external",
    sourcesContent: false,
    format: "esm",
    platform: "neutral",
    target: "es2022",
    minifySyntax: true,
    plugins: [ports(target.ports), platformModules],
    logOverride: { "commonjs-variable-in-esm": "silent" },
    logLevel: "warning",
  });
  const [map, script] = outputFiles.map(file => file.text);
  const kept = [...APPLICATION, ...target.names];
  const shrunk = shorten(shrink({ code: script, map: JSON.parse(map) }, kept));
  const compiled = target.es5 ? toEs5(shrunk, target.onlyEs5) : shrunk;
  const format = {
    format: target.format,
    // Espruino's modules are had by a plain require.
    platform: target.es5 ? "node" : "neutral",
    target: target.es5 ? "es5" : "es2022",
  };
  // The gate for whatever slipped through: nothing newer than ES5 but for … of, and then arrows where the engine has them.
  const isNewer = target.onlyEs5 !== true;
  if (target.es5) await transform(compiled.code, { ...format, supported: { "for-of": isNewer } });
  const finished = await transform(
    // Espruino takes `of` for a keyword anywhere: named in dead code, the minifier makes no variable of it.
    (target.es5 ? "if (false) of; " : "") + withMap(isNewer ? toArrows(compiled) : compiled),
    {
      ...format,
      supported: { arrow: isNewer, "for-of": isNewer },
      minify: true,
      mangleProps: /./,
      reserveProps: new RegExp(`^(?:${reservedNames([...kept, ...namesLeftOut(compiled.code)]).join("|")})$`),
      legalComments: "none",
      sourcemap: "external",
      sourcesContent: false,
    },
  );
  mkdirSync(`${root}dist/device`, { recursive: true });
  const file = `${root}dist/device/${target.out}`;
  mkdirSync(file.slice(0, file.lastIndexOf("/")), { recursive: true });
  const named = finished.code.replaceAll("lngateExports", "exports");
  const code = target.isModule ? unwrapped(named) : named;
  writeFileSync(file, code);
  return { code, map: JSON.parse(finished.map) };
}

/**
 * The body of the function around a bundle. An Espruino module is a function by itself, and each function there holds a
 * list of the scopes that it is in: three variables less for each that is in one instead of two.
 */
function unwrapped(code) {
  const body = /^\(\(\)=>\{(.*)\}\)\(\);\n$/s.exec(code)?.[1];
  if (body === undefined) throw new Error("the bundle is not one function any more");
  return `${body}\n`;
}

/** What an application on the board sees of the device. */
const APPLICATION = namesOfferedBy(`${root}device/api.ts`);

/** What the tests' engines need to be asked for. */
const ENGINE_NAMES = [
  "start",
  "method",
  "args",
  "slots",
  "chunkBytes",
  "curveCase",
  "curveWork",
  "workAtReceipt",
  "emptyMachine",
  "watchMemory",
  "memorySeen",
  "resetMeter",
  "issueCommand",
  "handleCommand",
  "gc",
  "tell",
];

/** Where there is no curve and no BigInt. */
const CURVELESS = {
  "src/crypto/scalar.ts": "src/crypto/scalar-limbs.ts",
  "device/keys/derived.ts": "device/boards/shared/no-derived-keys.ts",
};
const MODDABLE_PORTS = {
  "src/crypto/hash.ts": "device/boards/moddable/hash.ts",
  "src/crypto/group-bigint.ts": "device/boards/moddable/group.ts",
};
const MODDABLE = {
  entry: "device/boards/moddable/board.ts",
  format: "esm",
  names: ["openBoard", ...namesDeclaredIn(`${root}device/boards/moddable/platform.d.ts`)],
};

const targets = [
  {
    entry: "device/boards/espruino/module.ts",
    out: "espruino/lngate.js",
    budget: 20000,
    format: "iife",
    isModule: true,
    es5: true,
    ports: { ...CURVELESS, "src/crypto/hash.ts": "device/boards/espruino/hash.ts" },
    names: ["openBoard", "exports", ...namesDeclaredIn(`${root}device/boards/espruino/platform.d.ts`)],
    copies: ["app.js"],
  },
  {
    ...MODDABLE,
    out: "moddable/lngate.js",
    budget: 40000,
    ports: MODDABLE_PORTS,
    copies: [
      "main.js",
      "manifest.json",
      "manifest-javascript.json",
      "common.json",
      "native-curve.js",
      "native-curve.c",
      "native-curve-core.c",
      "native-curve-core.h",
      "no-native-curve.js",
      "partitions.csv",
      "flash-partition.js",
      "flash-file.js",
      "network-wifi.js",
      "network-host.js",
    ],
  },
  {
    // Never flashed, only measured: such a board would need the table of prepared keys (device/keys/prepared.ts).
    ...MODDABLE,
    out: "measured/moddable-without-curve.js",
    budget: 24000,
    ports: { ...MODDABLE_PORTS, "src/crypto/curve-bigint.ts": "device/boards/shared/no-curve.ts" },
  },
  {
    entry: "scripts/engines/boards/xs.ts",
    out: "engines/xs.js",
    format: "iife",
    ports: { "src/crypto/hash.ts": "scripts/engines/boards/xs-hash.ts" },
    names: ENGINE_NAMES,
  },
  {
    entry: "scripts/engines/boards/moddable-curve.ts",
    out: "engines/moddable-curve/main.js",
    format: "esm",
    ports: MODDABLE_PORTS,
    names: [
      "trace",
      ...["device/boards/moddable/platform.d.ts", "scripts/engines/boards/moddable-host.d.ts"].flatMap(file =>
        namesDeclaredIn(root + file),
      ),
    ],
  },
  {
    entry: "scripts/engines/boards/es5.ts",
    out: "engines/es5.js",
    format: "iife",
    es5: true,
    onlyEs5: true,
    ports: {
      ...CURVELESS,
      "src/crypto/hash.ts": "scripts/engines/boards/es5-hash.ts",
    },
    names: ENGINE_NAMES,
  },
  ...[false, true].map(es5 => ({
    entry: "scripts/engines/boards/decoder.ts",
    out: `engines/decoder-${es5 ? "es5" : "xs"}.js`,
    format: "iife",
    es5,
    onlyEs5: es5,
    ports: {},
    names: ENGINE_NAMES,
  })),
];

for (const target of targets) {
  const finished = await bundle(target);
  for (const file of target.copies ?? []) {
    const folder = target.entry.slice(0, target.entry.lastIndexOf("/"));
    copyFileSync(`${root}${folder}/${file}`, `${root}dist/device/${target.out.replace(/[^/]+$/, file)}`);
  }
  const budget = target.budget === undefined ? "" : ` (planned: at most ${target.budget})`;
  process.stderr.write(`dist/device/${target.out}: ${finished.code.length} bytes${budget}\n`);
  if (!process.argv.includes("--sizes")) continue;
  const parts = [...bytesBySource(finished)].sort((a, b) => b[1] - a[1]);
  for (const [source, bytes] of parts) {
    process.stderr.write(`${String(bytes).padStart(8)} ${source.replace(/^(\.\.\/)+/, "") || "(none)"}\n`);
  }
}

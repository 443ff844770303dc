/** One pass of the compiler over a bundle. The source map is carried along, so that `--sizes` can tell whose bytes are whose. */
import { SourceMap } from "node:module";
import babel from "@babel/core";

/**
 * @typedef {{code: string, map: object}} Script
 * @param {Script} script
 * @param {import("@babel/core").PluginItem[]} plugins
 * @param {import("@babel/core").TransformOptions} [more]
 * @returns {Script}
 */
export function pass({ code, map }, plugins, more = {}) {
  const out = babel.transformSync(code, {
    configFile: false,
    babelrc: false,
    compact: false,
    sourceMaps: true,
    inputSourceMap: map,
    plugins,
    ...more,
  });
  return { code: out.code, map: out.map };
}

/** The map at the end of the code, where the next tool finds it. */
export function withMap({ code, map }) {
  const base64 = Buffer.from(JSON.stringify(map)).toString("base64");
  return `${code}\n//# sourceMappingURL=data:application/json;base64,${base64}\n`;
}

/** Bytes of a finished script by the source they come from; what no source accounts for under "". */
export function bytesBySource({ code, map }) {
  const sourceMap = new SourceMap(map);
  const bytes = new Map();
  let line = 0;
  let column = 0;
  for (const char of code) {
    const source = sourceMap.findEntry(line, column).originalSource ?? "";
    bytes.set(source, (bytes.get(source) ?? 0) + Buffer.byteLength(char));
    column++;
    if (char === "\n") {
      line++;
      column = 0;
    }
  }
  return bytes;
}

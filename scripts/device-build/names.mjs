/** Names of properties that a device's bundle must keep. */
import { readFileSync } from "node:fs";
import babel from "@babel/core";

/** All that JavaScript itself calls so. */
function builtIn() {
  const names = new Set();
  const add = object => {
    for (const name of Object.getOwnPropertyNames(object)) if (/^[\w$]+$/.test(name)) names.add(name);
  };
  for (const name of Object.getOwnPropertyNames(globalThis)) {
    // Node's own globals are none of a board's.
    if (!/^[A-Z]|^(eval|parse|is|globalThis)/.test(name)) continue;
    const value = globalThis[name];
    names.add(name);
    if (typeof value === "function") add(value);
    if (typeof value === "function" && value.prototype) add(value.prototype);
    if (typeof value === "object") add(value);
  }
  add(Object.getPrototypeOf(Uint8Array));
  add(Object.getPrototypeOf(Uint8Array.prototype));
  return [
    ...names,
    "prototype",
    "next",
    "done",
    "value",
    "get",
    "set",
    "__proto__",
    "configurable",
    "enumerable",
    "writable",
  ];
}

/**
 * The names in a bundle that stay: JavaScript's and the board's, the application's view, and single letters (which
 * would not get shorter). Nothing may be looked up by a computed name.
 *
 * @param {string[]} more names of this bundle's platform
 */
export function reservedNames(more) {
  const names = new Set([...builtIn(), "code", ...more]);
  return [...names].map(name => name.replaceAll("$", "\\$")).concat("[A-Za-z]");
}

function namesIn(file, options, isNamed) {
  const ast = babel.parseSync(readFileSync(file, "utf8"), {
    configFile: false,
    babelrc: false,
    parserOpts: { plugins: [["typescript", options]], sourceType: "module" },
  });
  const names = new Set();
  babel.traverse(ast, {
    enter(path) {
      if (!isNamed(path)) return;
      for (const named of [path.node.key, path.node.id]) if (named?.name) names.add(named.name);
    },
  });
  return [...names];
}

/** The names of a platform's modules and of what they have: its API must be called by its own names. */
export function namesDeclaredIn(file) {
  return namesIn(file, { dts: true }, () => true);
}

/** The names of what a module's exported interfaces have. */
export function namesOfferedBy(file) {
  return namesIn(file, {}, path =>
    path.findParent(parent => parent.isTSInterfaceDeclaration())?.parentPath.isExportNamedDeclaration(),
  );
}

/** The names that `const { name, ...rest }` leaves out: as ES5 they are texts, looked up in a list. */
export function namesLeftOut(code) {
  return [...code.matchAll(/_excluded\d* = \[([^\]]*)\]/g)].flatMap(([, list]) => JSON.parse(`[${list}]`));
}

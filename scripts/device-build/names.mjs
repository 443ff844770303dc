/** Names of properties that a device's bundle must keep. */
import { readFileSync } from "node:fs";
import babel from "@babel/core";

/** What an application on the board sees of the device. */
const PUBLIC = [
  // device/device.ts: Device, PayOptions, Receipt, Balance
  "id",
  "connect",
  "isConnected",
  "openChannel",
  "pay",
  "quote",
  "balance",
  "close",
  "exit",
  "forget",
  "disconnect",
  "maxFeeMsat",
  "timeoutMs",
  "hash",
  "preimage",
  "amountMsat",
  "feeMsat",
  "serviceFeeMsat",
  "ms",
  "txid",
  "balanceSat",
  "spendableMsat",
  "phase",
  "formerSat",
  "recordsLeft",
  "isAtRest",
  "code",
];

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

/** Names that are looked up by a computed text: the two sides of a channel. */
const COMPUTED = ["ours", "theirs"];

/**
 * The names in a bundle that stay: JavaScript's and the board's, the application's view, what is looked up by a computed
 * name, and single letters (which would not get shorter).
 *
 * @param {string[]} more names of this bundle's platform
 */
export function reservedNames(more) {
  const names = new Set([...builtIn(), ...PUBLIC, ...COMPUTED, ...more]);
  return [...names].map(name => name.replaceAll("$", "\\$")).concat("[A-Za-z]");
}

/** The names of a platform's modules and of what they have: its API must be called by its own names. */
export function namesDeclaredIn(file) {
  const ast = babel.parseSync(readFileSync(file, "utf8"), {
    configFile: false,
    babelrc: false,
    parserOpts: { plugins: [["typescript", { dts: true }]] },
  });
  const names = new Set();
  babel.traverse(ast, {
    enter({ node }) {
      for (const named of [node.key, node.id]) if (named?.name) names.add(named.name);
    },
  });
  return [...names];
}

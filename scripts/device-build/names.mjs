/** Names of properties that a device's bundle must keep. */
import { readFileSync } from "node:fs";

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

/**
 * The names in a bundle that stay: JavaScript's and the board's, the application's view, and whatever may be looked up
 * by a computed name: what is also the text of a string, and single letters (which would not get shorter).
 *
 * @param {string} code
 * @param {string[]} more names of this bundle's platform
 */
export function reservedNames(code, more) {
  const texts = [...code.matchAll(/"([A-Za-z_$][\w$]*)"/g)].map(([, text]) => text);
  const names = new Set([...builtIn(), ...PUBLIC, ...texts, ...more]);
  return [...names].map(name => name.replaceAll("$", "\\$")).concat("[A-Za-z]");
}

/** Every name that a declaration of a platform's modules has: its API must be called by its own names. */
export function namesDeclaredIn(file) {
  const text = readFileSync(file, "utf8").replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
  return [...new Set(text.match(/[A-Za-z_$][\w$]*/g))];
}

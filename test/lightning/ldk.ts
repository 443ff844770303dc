/** LDK as an independent judge of bytes. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import * as ldk from "lightningdevkit";

let started: Promise<void> | undefined;

/** Loads LDK's wasm once, quietly. */
export function startLdk(): Promise<void> {
  started ??= (async () => {
    const wasm = createRequire(import.meta.url).resolve("lightningdevkit/liblightningjs.wasm");
    const { log } = console;
    console.log = () => {};
    await ldk.initializeWasmFromBinary(readFileSync(wasm));
    console.log = log;
  })();
  return started;
}

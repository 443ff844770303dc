/** What commands read: files that are named, lines that are typed. And how they write a sum. */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Network } from "../../src/bitcoin/network.ts";
import { lngateError } from "../../src/errors.ts";
import type { Given, Terminal } from "../../src/node/command.ts";
import { type ExitFile, readExit } from "../recovery/exit-file.ts";

/** A sum, as people read it. */
export const sats = (sat: number) => `${sat.toLocaleString("en-US")} sat`;

/** The files that an option names, separated by commas. */
export function files(given: Given, option: string): string[] {
  return (given.text(option) ?? "").split(",").filter(file => file !== "");
}

/** Throws `file-unreadable`. */
export function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw lngateError("file-unreadable", `${file} can't be read: ${(error as Error).message}`);
  }
}

/**
 * An exit, of this network only: the keys of another would find it damaged. `commitmentMaster` is asked for the secret of the
 * device with this key. Throws `wrong-network`, `exit-damaged`.
 */
export function readExitOf(
  network: Network,
  name: string,
  content: string,
  commitmentMaster: (fundingKey: Uint8Array) => Uint8Array,
): ExitFile {
  return readExit(name, content, (fundingKey, of) => {
    if (of !== network) throw lngateError("wrong-network", `${name} is of ${of}, and this is ${network}`);
    return commitmentMaster(fundingKey);
  });
}

/** Standard input by lines: first the words, on one line or more, then answers. */
export function lineReader() {
  const reader = createInterface({ input: process.stdin });
  const lines = reader[Symbol.asyncIterator]();
  const line = async () => ((await lines.next()).value as string | undefined) ?? "";
  return {
    line,
    close: () => reader.close(),
    async words(): Promise<string> {
      let text = "";
      for (;;) {
        const { value, done } = await lines.next();
        text += ` ${value ?? ""}`;
        if (done || text.trim().split(/\s+/).length >= 24) return text;
      }
    },
  };
}

/** Whether the owner says yes. */
export async function isAgreed(terminal: Terminal, ask: () => Promise<string>): Promise<boolean> {
  terminal.note("Do it? Type yes, then Enter:");
  return /^y(es)?$/i.test((await ask()).trim());
}

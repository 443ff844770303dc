import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "@jest/globals";

const PROGRAM = "dist/lngate.mjs";

/** The home of the programs that one test file starts. */
export const home = mkdtempSync(join(tmpdir(), "lngate-cli-"));
afterAll(() => rmSync(home, { recursive: true }));

export interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the program as built, with a home of its own. */
function start(args: readonly string[]): { child: ChildProcess; ended: Promise<Outcome> } {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    env: { ...process.env, HOME: home, LNGATE_CONFIG: "", LNGATE_OWNER: "" },
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", chunk => (out += chunk));
  child.stderr.on("data", chunk => (err += chunk));
  const ended = new Promise<Outcome>(resolve => child.on("close", code => resolve({ code, out, err })));
  return { child, ended };
}
export function lngate(args: readonly string[], input = ""): Promise<Outcome> {
  const { child, ended } = start(args);
  child.stdin!.end(input);
  return ended;
}
export const jsonOf = ({ out }: Outcome) => JSON.parse(out) as Record<string, unknown>;

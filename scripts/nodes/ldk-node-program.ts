/** LDK Node as it is released: built once from the Rust program in test/bridges/ldk-node. */
import { readFileSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { builtProgram, ensureBuilt, findTool, runBuild, type Source } from "./built.ts";

const PACKAGE = join("test", "bridges", "ldk-node");
const PROGRAM = "ldk-node-process";

const LDK_NODE: Source = {
  name: "LDK Node",
  program: PROGRAM,
  parts: () => ["Cargo.toml", "src/main.rs"].map(file => readFileSync(join(PACKAGE, file))),
  duration: "seven to fifteen minutes on two cores",
  tool: () => findTool("cargo", [join(homedir(), ".cargo", "bin")]),
  async build(cargo, folder) {
    const target = join(folder, "target");
    const args = ["build", "--release", "--target-dir", target];
    await runBuild({ name: "LDK Node", command: cargo, args, cwd: PACKAGE, step: /^ *Compiling / });
    await rename(join(target, "release", PROGRAM), join(folder, PROGRAM));
    await rm(target, { recursive: true });
  },
};

/** Why the tests do without; undefined where they have it. It takes long to build: only who asks for it waits for that. */
export function whyNoLdkNode(): string | undefined {
  const asked = process.env["LNGATE_LDK_NODE"];
  if (asked === "0") return "LNGATE_LDK_NODE is 0";
  if (builtProgram(LDK_NODE)) return undefined;
  if (!LDK_NODE.tool()) return "there is no `cargo` on the PATH to build it with";
  if (asked !== "1") return `it has not been built; with LNGATE_LDK_NODE=1 it is (${LDK_NODE.duration})`;
  return undefined;
}

/** The program, from the cache or built into it. Throws a plain error. */
export function ensureLdkNode(): Promise<string> {
  return ensureBuilt(LDK_NODE);
}

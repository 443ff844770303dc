/** LND as it is released: built once from the Go module in test/bridges. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { builtProgram, ensureBuilt, findTool, runBuild, type Source } from "./built.ts";

const MODULE = join("test", "bridges");
/** The services that its releases have. */
const TAGS = ["autopilotrpc", "chainrpc", "invoicesrpc", "routerrpc", "signrpc", "walletrpc"];

const LND: Source = {
  name: "LND",
  program: "lnd",
  parts: () => [TAGS.join(), ...["go.mod", "go.sum"].map(file => readFileSync(join(MODULE, file)))],
  duration: "five to ten minutes on two cores",
  tool: () => findTool("go", ["/usr/local/go/bin"]),
  build(go, folder) {
    // With -v, each package has a line once it is compiled.
    const options = ["-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"];
    const args = ["build", ...options, "-tags", TAGS.join(","), "-o", `${folder}/`, "tool"];
    return runBuild({ name: "LND", command: go, args, cwd: MODULE, env: { CGO_ENABLED: "0" }, step: /./ });
  },
};

/** Whether an LND can be had here. */
export function hasLnd(): boolean {
  return builtProgram(LND) !== undefined || LND.tool() !== undefined;
}

/** The program lnd (lncli is beside it), from the cache or built into it. Throws a plain error. */
export function ensureLnd(): Promise<string> {
  return ensureBuilt(LND);
}

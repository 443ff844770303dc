/**
 * `npm run bench -- <name>` measures one part of the project and prints a table; with `--json` exactly one JSON
 * object on stdout. What a bench tells on its way goes to stderr. `--bridge lnd`: payments through an LND.
 */
import { parseArgs } from "node:util";
import type { Figures } from "./bench/figures.ts";
import type { BridgeKind } from "./local-network.ts";

/** Each bench is loaded only when it is asked for. */
const benches: Readonly<Record<string, (bridge: BridgeKind) => Promise<Figures>>> = {
  threshold: async () => (await import("./bench/threshold.ts")).benchThreshold(),
  device: async () => (await import("./bench/device.ts")).benchDevice(),
  pay: async bridge => (await import("./bench/pay.ts")).benchPay(bridge),
};

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean", default: false }, bridge: { type: "string" } },
});
const [name = "", ...more] = positionals;
const { bridge, json } = values;

const problem =
  name === "" || more.length > 0
    ? "name one bench"
    : !Object.hasOwn(benches, name)
      ? `there is no bench “${name}”`
      : bridge !== undefined && (name !== "pay" || !isBridgeKind(bridge))
        ? "--bridge is for pay, and one of ldk, lnd"
        : undefined;

if (problem) {
  process.stderr.write(`${problem}: ${Object.keys(benches).join(", ")} (and --json for one JSON object)\n`);
  process.exitCode = 2;
} else {
  const figures = await benches[name]!(isBridgeKind(bridge) ? bridge : "ldk");
  process.stdout.write(json ? `${JSON.stringify(figures)}\n` : table(figures));
}

function isBridgeKind(text: string | undefined): text is BridgeKind {
  return text === "ldk" || text === "lnd";
}

function table(figures: Figures): string {
  const rows = Object.entries(figures).flatMap(([name, value]) =>
    typeof value === "number"
      ? [[name, value] as const]
      : Object.entries(value).map(([part, figure]) => [`${name}.${part}`, figure] as const),
  );
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows
    .map(
      ([name, value]) =>
        `${name.padEnd(width)}  ${value.toLocaleString("en-US", { maximumFractionDigits: 4 }).padStart(12)}\n`,
    )
    .join("");
}

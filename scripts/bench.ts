/**
 * `npm run bench -- <name>` measures one part of the project and prints a table; with `--json` exactly one JSON
 * object on stdout. What a bench tells on its way goes to stderr.
 */

/** Figures by name; the names say the unit. */
export type Figures = Record<string, number>;

/** Each bench is loaded only when it is asked for. */
const benches: Readonly<Record<string, () => Promise<() => Promise<Figures>>>> = {
  threshold: async () => (await import("./bench/threshold.ts")).benchThreshold,
  device: async () => (await import("./bench/device.ts")).benchDevice,
  pay: async () => (await import("./bench/pay.ts")).benchPay,
};

const names = process.argv.slice(2).filter(argument => argument !== "--json");
const asJson = process.argv.includes("--json");
const name = names[0] ?? "";

if (names.length !== 1 || !Object.hasOwn(benches, name)) {
  const problem = names.length === 1 ? `there is no bench “${name}”` : "name one bench";
  process.stderr.write(`${problem}: ${Object.keys(benches).join(", ")} (and --json for one JSON object)\n`);
  process.exitCode = 2;
} else {
  const figures = await (await benches[name]!())();
  process.stdout.write(asJson ? `${JSON.stringify(figures)}\n` : table(figures));
}

function table(figures: Figures): string {
  const width = Math.max(...Object.keys(figures).map(key => key.length));
  return Object.entries(figures)
    .map(
      ([key, value]) =>
        `${key.padEnd(width)}  ${value.toLocaleString("en-US", { maximumFractionDigits: 4 }).padStart(12)}\n`,
    )
    .join("");
}

/**
 * `npm run experiment` plays the toll of the papers with the real programs (docs/experiment.md says what is real and what
 * is a delay), and writes the tables and pictures of that document.
 *
 *   --json         one JSON object on stdout: rows[] {link, path, start, curve, seconds, deviceSeconds, …}
 *   --runs N       payments a row (30); fewer leave the document as it is
 *   --row "WORDS"  only rows of whose name these are words, e.g. "wifi contact"; may be said again; leaves the document, too
 *   --from FILE    plays nothing, and writes the document from what --json has printed
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { play } from "./experiment/play.ts";
import { Progress } from "./experiment/progress.ts";
import { tableText, writeDocument } from "./experiment/report.ts";
import { chosenRows, type Experiment, ROWS } from "./experiment/rows.ts";

const RUNS = 30;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    runs: { type: "string", default: String(RUNS) },
    row: { type: "string", multiple: true, default: [] },
    from: { type: "string" },
  },
});
const runs = Number(values.runs);
const rows = chosenRows(values.row);

if (!(Number.isSafeInteger(runs) && runs > 0) || rows.length === 0) {
  process.stderr.write(
    `--runs is a whole number, and --row words of a row's name: ${[...new Set(ROWS.flatMap(row => Object.values(row)))].join(", ")}\n`,
  );
  process.exitCode = 2;
} else {
  const experiment = values.from
    ? (JSON.parse(readFileSync(values.from, "utf8")) as Experiment)
    : await play(rows, runs, new Progress());
  if (values.from || (rows === ROWS && runs >= RUNS)) writeDocument(experiment);
  process.stdout.write(values.json ? `${JSON.stringify(experiment)}\n` : tableText(experiment));
}

/** The experiment in words: a table for a terminal, and the tables and pictures of docs/experiment.md. */
import { readFileSync, writeFileSync } from "node:fs";
import { LINKS, type LinkName, PAPERS } from "./links.ts";
import { rowOf, speedByRange, timeByPart } from "./plots.ts";
import { type Experiment, nameOf, type RowResult } from "./rows.ts";

const DOCUMENT = "docs/experiment.md";
const TIME_PICTURE = "docs/experiment-time.svg";
const SPEED_PICTURE = "docs/experiment-speed.svg";

/** The article's car: two tolls of 0.75 USD a day; and a price of bitcoin that is easy to reckon with. */
const TOLL_USD = 0.75;
const TOLLS_A_MONTH = (2 * 365) / 12;
const SAT_PER_USD = 1000;

const fixed = (value: number, digits = 2) => value.toFixed(digits);

/** A line a row. */
export function tableText(experiment: Experiment): string {
  const { rows, lightning } = experiment;
  const width = Math.max(...rows.map(row => nameOf(row).length));
  const line = (name: string, cells: readonly string[]) =>
    `${name.padEnd(width)}${cells.map(cell => cell.padStart(10)).join("")}\n`;
  return [
    line("seconds", ["median", "10 %", "90 %", "chip", "link", "path", "programs", "failed"]),
    ...rows.map(row =>
      line(nameOf(row), [
        ...[row.seconds, ...row.spread].map(value => fixed(value)),
        ...[row.deviceSeconds, row.parts.link, row.parts.path, row.parts.programs].map(value => fixed(value)),
        String(row.failed),
      ]),
    ),
    line(
      "LDK's own payment",
      [lightning.seconds, ...lightning.spread].map(value => fixed(value)),
    ),
  ].join("");
}

/** Puts what was measured into the document, and draws its pictures. */
export function writeDocument(experiment: Experiment): void {
  let text = readFileSync(DOCUMENT, "utf8");
  for (const [name, table] of [
    ["run", runText(experiment)],
    ["papers", papersTable(experiment)],
    ["rows", rowsTable(experiment)],
    ["curve", curveTable(experiment)],
    ["cost", costTable(experiment)],
  ] as const) {
    const begin = `<!-- ${name} -->\n`;
    const from = text.indexOf(begin) + begin.length;
    const to = text.indexOf("<!-- end -->", from);
    if (from < begin.length || to < 0) throw new Error(`${DOCUMENT} has no place for ${name}`);
    text = text.slice(0, from) + table + text.slice(to);
  }
  writeFileSync(DOCUMENT, text);
  writeFileSync(TIME_PICTURE, timeByPart(experiment));
  writeFileSync(SPEED_PICTURE, speedByRange(experiment));
}

function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...lines].map(cells => `| ${cells.join(" | ")} |\n`).join("");
}

function runText({ day, runs, lightning, computer }: Experiment): string {
  const [low, high] = lightning.spread;
  const { load, cores } = computer;
  const busy =
    load > cores
      ? `**The computer was busy with other work** (a load of ${fixed(load, 0)} on ${cores} cores): what is called *gateway and Lightning* below is mostly waiting for a core, and so is much of the totals. `
      : "";
  return `Measured on ${day}, ${runs} payments a row. ${busy}An ordinary LDK node's payment through the same bridge took ${fixed(lightning.seconds)} s in the same run (one in ten less than ${fixed(low)} s, one in ten more than ${fixed(high)} s).\n`;
}

/** The seconds, and where nine of ten are. */
function secondsOf(row: RowResult | undefined): string {
  if (!row) return "–";
  return `${fixed(row.seconds)} (${fixed(row.spread[0])}–${fixed(row.spread[1])})`;
}

function papersTable(experiment: Experiment): string {
  return table(
    ["the papers, session is up", "theirs, s", "ours, s", "on which link"],
    PAPERS.map(({ name, seconds, ours }) => [
      name,
      fixed(seconds),
      secondsOf(rowOf(experiment, ours, 2.1, "warm")),
      `${LINKS[ours].about}; 2.1 s of Lightning besides its own`,
    ]),
  );
}

function rowsTable(experiment: Experiment): string {
  const lines = (Object.keys(LINKS) as LinkName[]).flatMap(link =>
    [0, 1, 2.1].map(path => [
      path === 0 ? LINKS[link].about : "",
      path === 0 ? "as here" : `+ ${path} s`,
      secondsOf(rowOf(experiment, link, path, "warm")),
      secondsOf(rowOf(experiment, link, path, "contact")),
    ]),
  );
  return table(["link", "Lightning path", "session is up, s", "from contact, s"], lines);
}

function curveTable({ rows }: Experiment): string {
  const pairs = rows.filter(row => row.curve === "javascript");
  return table(
    ["link, path as here", "native curve, s", "of it the chip", "curve in JavaScript, s", "of it the chip"],
    pairs.map(slow => {
      const { link, path, start } = slow;
      const quick = rows.find(row => nameOf(row) === nameOf({ link, path, start, curve: "native" }));
      const cells = [quick, slow].flatMap(row => [secondsOf(row), row ? fixed(row.deviceSeconds) : "–"]);
      return [`${link}, ${start === "warm" ? "session is up" : "from contact"}`, ...cells];
    }),
  );
}

function costTable({ serviceFeeRate, routingFeeMsat }: Experiment): string {
  const tolls = TOLLS_A_MONTH * TOLL_USD;
  const service = tolls * serviceFeeRate;
  const routing = (TOLLS_A_MONTH * routingFeeMsat) / 1000 / SAT_PER_USD;
  const line = (what: string, usd: number) => [
    what,
    fixed(usd),
    Math.round(usd * SAT_PER_USD).toLocaleString("en-US"),
  ];
  return table(
    ["a month", "USD", "sat"],
    [
      line(`${fixed(TOLLS_A_MONTH, 1)} tolls of ${TOLL_USD} USD`, tolls),
      line(`the gateway's service fee, ${fixed(serviceFeeRate * 100, 0)} %`, service),
      line(`the bridge's routing fee, ${routingFeeMsat / 1000} sat a payment`, routing),
      line("**what paying costs**", service + routing),
    ],
  );
}

/** The two pictures of docs/experiment.md: a payment's time by part, and the speed that it allows a car. */
import { LINKS, type LinkName, PAPERS } from "./links.ts";
import type { Experiment, Parts, RowResult, Start } from "./rows.ts";
import { type Ink, Picture } from "./svg.ts";

const WIDTH = 800;
const STARTS: readonly (readonly [Start, string])[] = [
  ["warm", "session is up"],
  ["contact", "from contact"],
];
const SHORT: Record<LinkName, string> = {
  wifi: "Wi-Fi, gateway at the gate",
  "wifi-losses": "Wi-Fi with losses",
  "wifi-cloud": "Wi-Fi, gateway in a cloud",
  ble: "BLE of the papers, at the gate",
  "ble-cloud": "BLE of the papers, cloud",
  "ble-today": "today's BLE, at the gate",
  "ble-today-cloud": "today's BLE, cloud",
};

export function rowOf(
  { rows }: Experiment,
  link: LinkName,
  path: number,
  start: Start,
): RowResult | undefined {
  return rows.find(
    row => row.link === link && row.path === path && row.start === start && row.curve === "native",
  );
}

const seconds = (value: number) => `${value.toFixed(value < 10 ? 2 : 1)} s`;

/** Bars of a payment's parts, one below the other. */
export function timeByPart(experiment: Experiment): string {
  const left = 320;
  const right = WIDTH - 70;
  const step = 21;
  const links = Object.keys(LINKS) as LinkName[];
  const height = 152 + links.length * (2 * step + 12) + 54 + PAPERS.length * (2 * step + 12) - 22;
  const picture = new Picture(WIDTH, height, "How long a toll payment takes, and what takes it");
  const longest = Math.max(...experiment.rows.map(row => row.seconds), ...PAPERS.map(paper => paper.seconds));
  const end = Math.ceil(longest / 2) * 2;
  const x = (value: number) => left + (value / end) * (right - left);
  let y = 34;

  picture.text(24, y, "From the invoice to the receipt: what a toll payment's time goes into", "title");
  y += 28;
  let legendX = 24;
  for (const [look, text, room] of [
    ["link", "the link to the gateway", 184],
    ["chip", "the ESP32's work", 146],
    ["programs", "gateway and Lightning here", 224],
    ["path", "a longer Lightning path", 0],
  ] as const) {
    picture.box(legendX, y - 11, 13, 13, look);
    picture.text(legendX + 19, y, text, "faint");
    legendX += room;
  }
  y += 34;

  const bar = (name: string, total: number, parts: readonly (readonly [Ink, number])[], look = "faint") => {
    picture.text(left - 12, y + 12, name, look, "end");
    let from = 0;
    for (const [ink, value] of parts) {
      picture.box(x(from), y, x(from + value) - x(from), 15, ink);
      from += value;
    }
    picture.text(x(from) + 7, y + 12, seconds(total), "strong");
    y += step;
  };
  /** Medians of parts do not add up to the median of the whole: their shares are shown. */
  const scaled = ({ parts, seconds: total }: RowResult) => {
    const sum = Object.values(parts).reduce((a, b) => a + b, 0);
    return (["link", "chip", "programs", "path"] as const).map(
      (name: keyof Parts) => [name, (parts[name] * total) / sum] as const,
    );
  };

  const grid = y + 8;
  const marks: number[] = [];
  for (let value = 0; value <= end; value += 2) marks.push(value);
  for (const value of marks) {
    picture.text(x(value), grid - 14, value === 0 ? "0" : `${value} s`, "faint", "middle");
    picture.line(x(value), grid - 8, x(value), height - 24, "axis");
  }
  y += 14;
  for (const link of links) {
    for (const [start, text] of STARTS) {
      const row = rowOf(experiment, link, 0, start);
      if (row) bar(start === "warm" ? `${SHORT[link]}: ${text}` : text, row.seconds, scaled(row), "text");
    }
    y += 12;
  }
  y += 8;
  picture.text(24, y + 12, "Beside the papers: session is up, 2.1 s of Lightning", "strong");
  y += 34;
  for (const { name, seconds: total, link, path, ours } of PAPERS) {
    const known = link + path;
    bar(
      name,
      total,
      known > 0
        ? [
            ["link", link],
            ["programs", total - known],
            ["path", path],
          ]
        : [["unknown", total]],
    );
    const row = rowOf(experiment, ours, 2.1, "warm");
    if (row) bar(`here, ${SHORT[ours]}`, row.seconds, scaled(row), "text");
    y += 12;
  }
  return picture.toString();
}

const RANGES = [5, 10, 20, 30, 50, 100];
const SPEEDS = [5, 10, 20, 30, 50, 80, 130, 200, 300, 500];

/** How fast a car may pass for a radio that reaches so far, if nine payments of ten are to be in time. */
export function speedByRange(experiment: Experiment): string {
  const [left, right, top, bottom] = [64, WIDTH - 322, 74, 452];
  const picture = new Picture(WIDTH, 500, "The speed a car may have for a given range of the radio");
  const [nearest, farthest] = [RANGES[0]!, RANGES.at(-1)!];
  const [slowest, fastest] = [SPEEDS[0]!, SPEEDS.at(-1)!];
  const scale = (value: number, from: number, to: number) => Math.log(value / from) / Math.log(to / from);
  const x = (range: number) => left + scale(range, nearest, farthest) * (right - left);
  const y = (speed: number) => bottom - scale(speed, slowest, fastest) * (bottom - top);

  picture.text(24, 34, "How fast a car may drive past, from contact to receipt", "title");
  picture.text(
    24,
    54,
    "km/h, in nine cases of ten. Dashed: the papers' seconds, without connecting",
    "faint",
  );
  for (const speed of SPEEDS) {
    picture.line(left, y(speed), right, y(speed), "axis");
    picture.text(left - 8, y(speed) + 4, String(speed), "faint", "end");
  }
  for (const range of RANGES) {
    picture.line(x(range), top, x(range), bottom, "axis");
    picture.text(x(range), bottom + 18, `${range} m`, "faint", "middle");
  }
  picture.text(
    (left + right) / 2,
    bottom + 38,
    "way through the radio's range (both axes logarithmic)",
    "faint",
    "middle",
  );

  const shown: readonly (readonly [LinkName, number])[] = [
    ["wifi", 0],
    ["ble-today", 0],
    ["wifi-cloud", 0],
    ["wifi-cloud", 2.1],
    ["ble", 0],
    ["ble-cloud", 2.1],
  ];
  const lines = shown.flatMap(([link, path], i) => {
    const row = rowOf(experiment, link, path, "contact");
    if (!row) return [];
    const name = SHORT[link] + (path > 0 ? `, path + ${path} s` : "");
    return [{ time: row.spread[1], text: name, look: `line line${i}` }];
  });
  for (const { name, seconds: time } of PAPERS) lines.push({ time, text: name, look: "paper dashed" });
  lines.sort((a, b) => a.time - b.time);

  let lastLabel = top - 30;
  for (const { time, text, look } of lines) {
    const speedAt = (range: number) => (range / time) * 3.6;
    const first = Math.max(nearest, (slowest * time) / 3.6);
    const last = Math.min(farthest, (fastest * time) / 3.6);
    picture.line(x(first), y(speedAt(first)), x(last), y(speedAt(last)), look);
    const labelY = Math.max(y(speedAt(last)) + 4, lastLabel + 17);
    lastLabel = labelY;
    picture.line(x(last) + 2, y(speedAt(last)), right + 12, labelY - 4, `${look.replace("dashed", "")} lead`);
    picture.text(
      right + 16,
      labelY,
      `${text} (${time.toFixed(1)} s)`,
      look.startsWith("paper") ? "faint" : "text",
    );
  }
  return picture.toString();
}

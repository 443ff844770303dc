/** What is played: rows of the experiment, each so many payments alike. */
import type { CurveKind, Operations } from "./chip-time.ts";
import { LINKS, type LinkName } from "./links.ts";

/** With what a payment begins: a session that is up, or a device that connects first. */
export type Start = "warm" | "contact";

export interface Row {
  readonly link: LinkName;
  /** How long the destination keeps the payment, seconds: a Lightning path that is longer than this computer's. */
  readonly path: number;
  readonly start: Start;
  readonly curve: CurveKind;
}

/** Seconds of a payment, split by what went on. Where two things did, the first of these counts. */
export interface Parts {
  readonly chip: number;
  readonly link: number;
  readonly path: number;
  /** Gateway, Lightning nodes and broker on this computer, and what the device's own process takes besides. */
  readonly programs: number;
}

/** Medians, in seconds. */
export interface RowResult extends Row {
  readonly seconds: number;
  /** What the chip computes until the receipt. */
  readonly deviceSeconds: number;
  /** And after it, with what is done in idle time. */
  readonly deviceSecondsAfter: number;
  /** One payment of ten is quicker, one of ten is slower. */
  readonly spread: readonly [number, number];
  readonly parts: Parts;
  /** Averages. */
  readonly untilReceipt: Operations;
  readonly afterReceipt: Operations;
  readonly runs: number;
  readonly failed: number;
}

/** What the experiment comes to. */
export interface Experiment {
  readonly runs: number;
  readonly day: string;
  /** Processes that wanted to run, as a median (the system's load average), and what there was for them. */
  readonly computer: { readonly load: number; readonly cores: number };
  /** An ordinary LDK node's payment through the same bridge in the same run. */
  readonly lightning: { readonly seconds: number; readonly spread: readonly [number, number] };
  /** Of each payment's amount, both fees of the run's payments: 0.05 is 5 %. */
  readonly serviceFeeRate: number;
  readonly routingFeeMsat: number;
  readonly rows: readonly RowResult[];
}

const PATHS = [0, 1, 2.1];
const STARTS: readonly Start[] = ["warm", "contact"];
/** Where the chip's curve in JavaScript is looked at as well. */
const WITHOUT_NATIVE: readonly LinkName[] = ["wifi", "ble-today"];

const native: Row[] = (Object.keys(LINKS) as LinkName[]).flatMap(link =>
  PATHS.flatMap(path => STARTS.map(start => ({ link, path, start, curve: "native" as const }))),
);
const javascript: Row[] = WITHOUT_NATIVE.flatMap(link =>
  STARTS.map(start => ({ link, path: 0, start, curve: "javascript" as const })),
);
export const ROWS: readonly Row[] = [...native, ...javascript];

/** `wifi 0 warm native`: how a row is called. */
export const nameOf = ({ link, path, start, curve }: Row): string => `${link} ${path} ${start} ${curve}`;

/** Those whose name has all words of one of these texts; all, if there is none. */
export function chosenRows(texts: readonly string[]): readonly Row[] {
  if (texts.length === 0) return ROWS;
  return ROWS.filter(row =>
    texts.some(text => text.split(" ").every(word => nameOf(row).split(" ").includes(word))),
  );
}

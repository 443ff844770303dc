/** Plays the rows with the real programs, side by side where they only wait. */
import { availableParallelism, loadavg } from "node:os";
import { Stage } from "../local-network.ts";
import { unixMs } from "./chip-time.ts";
import { AMOUNT_MSAT, type Ground, Lane, WARM_UP } from "./lane.ts";
import { average, median, spread } from "./parts.ts";
import type { Progress } from "./progress.ts";
import { type Experiment, nameOf, type Row, type RowResult } from "./rows.ts";

/** A payment begins no sooner after another: what they compute on this computer is not to meet. */
const PACE_MS = 800;
/** Devices that are made ready at a time. */
const AT_A_TIME = 3;

export async function play(rows: readonly Row[], runs: number, progress: Progress): Promise<Experiment> {
  const stage = new Stage();
  const lanes: Lane[] = [];
  try {
    const ground = await prepare(stage, runs, progress);
    const stock = await stage.startPeer("stock");
    await stage.mineUntil(stock.open({ peer: stage.bridge.address, sat: 1_000_000 }));

    // A device plays what differs in its start alone.
    const groups = lanesOf(rows);
    progress.begin("devices made ready", groups.length);
    await inTurns(groups, AT_A_TIME, async ([name, group], i) => {
      lanes[i] = await Lane.open(ground, name, group[0]!.curve, group.length * (runs + WARM_UP));
      progress.step();
    });

    progress.begin("payments", (rows.length + 1) * (runs + WARM_UP));
    const results = new Map<string, RowResult>();
    const lightning: number[] = [];
    const loads: number[] = [];
    await Promise.all([
      ...groups.map(async ([, group], i) => {
        for (const row of group) results.set(nameOf(row), await lanes[i]!.play(row));
      }),
      (async () => {
        for (let i = 0; i < runs + WARM_UP; i++) {
          await ground.turn();
          const { ms } = await stock.pay(await stage.toll.invoice(AMOUNT_MSAT, "toll"));
          if (i >= WARM_UP) lightning.push(ms / 1000);
          loads.push(loadavg()[0]!);
          ground.done();
        }
      })(),
    ]);
    const fees = lanes.flatMap(lane => lane.fees);
    return {
      runs,
      day: new Date().toISOString().slice(0, 10),
      computer: { load: median(loads), cores: availableParallelism() },
      lightning: { seconds: median(lightning), spread: spread(lightning) },
      serviceFeeRate: average(fees.map(each => each.serviceFeeMsat / AMOUNT_MSAT)),
      routingFeeMsat: median(fees.map(each => each.feeMsat)),
      rows: rows.map(row => results.get(nameOf(row))!),
    };
  } finally {
    await Promise.all(lanes.map(lane => lane.stop()));
    await stage.stop();
    progress.end();
  }
}

/** The rows of each device, by its name. */
function lanesOf(rows: readonly Row[]): (readonly [name: string, rows: readonly Row[]])[] {
  const nameOfLane = ({ link, path, curve }: Row) => `${link} ${path} ${curve}`;
  const names = new Set(rows.map(nameOfLane));
  return [...names].map(name => [name, rows.filter(row => nameOfLane(row) === name)]);
}

async function prepare(stage: Stage, runs: number, progress: Progress): Promise<Ground> {
  progress.say("starting bitcoind, bridge, destination and gateway …");
  const held: Ground["held"] = new Map();
  await stage.startChain();
  await stage.startPeers(16_000_000, "ldk", event => {
    if (event.event === "held") held.set(event.hash, [unixMs(), unixMs() + event.ms]);
  });
  await stage.startGateway();
  let next = 0;
  return {
    stage,
    runs,
    held,
    async turn() {
      const now = unixMs();
      next = Math.max(now, next + PACE_MS);
      await new Promise(resolve => setTimeout(resolve, next - now));
    },
    say: text => progress.say(text),
    done: () => progress.step(),
  };
}

/** Works through a list, so many at a time. */
async function inTurns<T>(
  items: readonly T[],
  width: number,
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      await work(items[index]!, index);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** One thread of `npm run test:chaos` (chaos.ts): lives its share of the runs and tells of each. */
import { parentPort, workerData } from "node:worker_threads";
import { chaos, cutAt, disturbed, type Undisturbed, undisturbed } from "../device/cuts.ts";
import { lie } from "../device/lies.ts";
import { ExitJudge, type Ground } from "../device/mempool.ts";
import { LIFE } from "../device/world.ts";

/** Every `jobs`-th run, from number `first` on. */
export interface Share {
  readonly ground: Ground;
  readonly runs: number;
  readonly seed: number;
  readonly first: number;
  readonly jobs: number;
  /** Instead of random lives the longest one again and again, the power failing once: run number i at instant i. */
  readonly every: boolean;
}

/** What some runs have come to. */
export interface Tally {
  runs: number;
  deviceCuts: number;
  gatewayCuts: number;
  operations: number;
  exits: number;
  hurried: number;
  lies: number;
}

/** What a thread tells: of one run, or of the failure that has ended it. */
export type News = { readonly tally: Tally } | { readonly seed: number; readonly failure: string };

async function liveShare(
  { ground, runs, seed, first, jobs, every }: Share,
  tell: (news: News) => void,
): Promise<void> {
  const lives = new Map<string, Undisturbed>();
  const judge = new ExitJudge(ground);
  const proposal = { deposits: [ground.deposit] };
  const options = { proposal, watch: judge.watch };
  const longest = undisturbed(LIFE);
  const live = (run: number) =>
    every
      ? disturbed(longest, { ...options, ...cutAt(longest, seed + run) })
      : chaos(seed + run, lives, options);
  for (let run = first; run < runs; run += jobs) {
    try {
      const { taken, hurried } = judge;
      const { box, peer } = live(run);
      const lies = lie(seed + run).rig.answers.length;
      await judge.judge();
      tell({
        tally: {
          runs: 1,
          deviceCuts: box.boots - 1,
          gatewayCuts: peer.boots - 1,
          operations: box.operations + box.flash.operations(),
          exits: judge.taken - taken,
          hurried: judge.hurried - hurried,
          lies,
        },
      });
    } catch (error) {
      tell({ seed: seed + run, failure: `${error instanceof Error ? error.stack : error}` });
      break;
    }
  }
  judge.close();
}

await liveShare(workerData as Share, news => parentPort?.postMessage(news));

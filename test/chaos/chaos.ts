/**
 * Random lives of a channel with the power of device and gateway failing, sessions breaking and messages repeating; every
 * exit that the device holds meanwhile is given to a real bitcoind. After each life a gateway tries random lies on a
 * device of its own:
 *
 *     npm run test:chaos -- --runs 10000 --seed 1
 *
 * Run number i has seed + i for its seed, so `--runs 1 --seed <that>` lives exactly this life again. The runs are shared
 * among as many threads as `--jobs` says (as there are cores). `--every` lives the longest life once for every instant at
 * which the power of either can fail. With `--gateway` the gateway is the real one with LDK, a
 * real bridge and bitcoind, some five seconds a life.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { startRegtest } from "../../scripts/bitcoind.ts";
import { instantsOf, undisturbed } from "../device/cuts.ts";
import { fundChannel, groundOf } from "../device/mempool.ts";
import { LIFE } from "../device/world.ts";
import { gatewayChaos } from "../gateway-cuts/cuts.ts";
import type { News, Share, Tally } from "./chaos-lives.ts";

const USAGE =
  "usage: npm run test:chaos -- [--every | --gateway] --runs <number> --seed <number> --jobs <number>";

/** Resolves when all runs are over; false if one has failed. */
function liveAll(common: Omit<Share, "first">): Promise<boolean> {
  const { runs, jobs, every } = common;
  const begun = performance.now();
  const sum: Tally = {
    runs: 0,
    deviceCuts: 0,
    gatewayCuts: 0,
    operations: 0,
    exits: 0,
    hurried: 0,
    lies: 0,
  };
  const threads = Array.from({ length: jobs }, (_, first) => {
    const share: Share = { ...common, first };
    return new Worker(new URL("chaos-lives.mjs", import.meta.url), { workerData: share });
  });
  return new Promise((resolve, reject) => {
    let working = jobs;
    const finish = (well: boolean) => {
      resolve(well);
      for (const thread of threads) void thread.terminate();
    };
    for (const thread of threads) {
      thread.on("error", reject);
      thread.on("exit", () => {
        if (--working === 0) finish(true);
      });
      thread.on("message", (news: News) => {
        if ("failure" in news) {
          console.error(`\nseed ${news.seed}: ${news.failure}`);
          console.error(
            `again: npm run test:chaos -- ${every ? "--every " : ""}--runs 1 --seed ${news.seed}`,
          );
          finish(false);
          return;
        }
        for (const key of Object.keys(sum) as (keyof Tally)[]) sum[key] += news.tally[key];
        if (sum.runs % Math.ceil(runs / 20) !== 0 && sum.runs !== runs) return;
        const leftSeconds = ((performance.now() - begun) / sum.runs) * (runs - sum.runs) * 0.001;
        console.log(
          `${sum.runs} of ${runs} lives: ${sum.deviceCuts} power cuts of the device, ${sum.gatewayCuts} of the gateway, ` +
            `${sum.operations} flash operations, ${sum.exits} exits taken by bitcoind (${sum.hurried} with a child), ` +
            `${sum.lies} lies: all is well${sum.runs < runs ? `; ${inWords(leftSeconds)} left` : ""}`,
        );
      });
    }
  });
}

function inWords(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
}

async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      runs: { type: "string" },
      seed: { type: "string" },
      jobs: { type: "string", default: `${availableParallelism()}` },
      every: { type: "boolean", default: false },
      gateway: { type: "boolean", default: false },
    },
  });
  const { every } = values;
  const seed = Number(values.seed ?? (every ? 0 : 1));
  const usual = every ? instantsOf(undisturbed(LIFE)) - seed : values.gateway ? 50 : 1000;
  const runs = Number(values.runs ?? usual);
  const jobs = Math.min(Number(values.jobs), runs);
  if (![runs, seed, jobs].every(Number.isSafeInteger) || runs < 1 || jobs < 1) {
    console.error(USAGE);
    process.exit(2);
  }
  if (values.gateway) {
    await gatewayChaos(runs, seed, line => console.log(line));
    return true;
  }
  const chain = await startRegtest();
  try {
    const ground = await groundOf(chain);
    await fundChannel(chain, ground);
    return await liveAll({ ground, runs, seed, jobs, every });
  } finally {
    await chain.stop();
  }
}

main().then(
  well => process.exit(well ? 0 : 1),
  error => {
    console.error(error instanceof Error ? error.stack : error);
    process.exit(1);
  },
);

/**
 * Random lives of a channel with the power failing, sessions breaking and messages repeating; and after each of them a
 * gateway that tries random lies on a device of its own:
 *
 *     npm run test:chaos -- --runs 10000 --seed 1
 *
 * Run number i has seed + i for its seed, so `--runs 1 --seed <that>` lives exactly this life again. With `--gateway`
 * it is the gateway's power that fails, the device's now and then too: real LDK, a real bridge and bitcoind, some five
 * seconds a life.
 */
import { parseArgs } from "node:util";
import { chaos, type Undisturbed } from "../test/device/cuts.ts";
import { lie } from "../test/device/lies.ts";
import { gatewayChaos } from "../test/gateway-cuts/cuts.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string" },
    seed: { type: "string", default: "1" },
    gateway: { type: "boolean", default: false },
  },
});
const runs = Number(values.runs ?? (values.gateway ? 50 : 1000));
const first = Number(values.seed);
if (!Number.isSafeInteger(runs) || !Number.isSafeInteger(first) || runs < 1) {
  console.error("usage: npm run test:chaos -- [--gateway] --runs <number> --seed <number>");
  process.exit(2);
}

if (values.gateway) {
  await gatewayChaos(runs, first, line => console.log(line)).then(
    () => process.exit(0),
    error => {
      console.error(error instanceof Error ? error.stack : error);
      process.exit(1);
    },
  );
}

const lives = new Map<string, Undisturbed>();
let boots = 0;
let operations = 0;
let lies = 0;
for (let i = 0; i < runs; i++) {
  try {
    const { box } = chaos(first + i, lives);
    boots += box.boots - 1;
    operations += box.operations + box.flash.operations();
    lies += lie(first + i).rig.answers.length;
  } catch (error) {
    console.error(`\nseed ${first + i}: ${error instanceof Error ? error.stack : error}`);
    console.error(`again: npm run test:chaos -- --runs 1 --seed ${first + i}`);
    process.exit(1);
  }
  if ((i + 1) % Math.ceil(runs / 20) === 0 || i + 1 === runs) {
    console.log(
      `${i + 1} of ${runs} lives, ${boots} power cuts, ${operations} flash operations, ${lies} lies: all is well`,
    );
  }
}

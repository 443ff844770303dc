/**
 * Generated and mutated messages for the decoders of the link, as many as asked for:
 *
 *     npm run test:fuzz -- --messages 1000000 --seed 1
 *
 * Ends with an error if one of them is neither delivered as it was sent nor refused with a known code.
 */
import { parseArgs } from "node:util";
import { fuzzLink } from "../link/fuzz.ts";

const { values } = parseArgs({
  options: { messages: { type: "string", default: "1000000" }, seed: { type: "string", default: "1" } },
});
const messages = Number(values.messages);
const seed = Number(values.seed);
if (!Number.isSafeInteger(messages) || !Number.isSafeInteger(seed) || messages < 1) {
  console.error("usage: npm run test:fuzz -- --messages <number> --seed <number>");
  process.exit(2);
}

const ROUNDS = 20;
const refused = new Map<string, number>();
let accepted = 0;
let slowestMs = 0;
let peakHeapMb = 0;
for (let round = 0; round < ROUNDS; round++) {
  const done = Math.floor((messages * round) / ROUNDS);
  const report = fuzzLink(Math.floor((messages * (round + 1)) / ROUNDS) - done, seed + round);
  accepted += report.accepted;
  slowestMs = Math.max(slowestMs, report.slowestMs);
  peakHeapMb = Math.max(peakHeapMb, report.peakHeapMb);
  for (const [code, count] of Object.entries(report.refused))
    refused.set(code, (refused.get(code) ?? 0) + count);
  console.log(
    `${done + report.runs} of ${messages}: ${accepted} accepted, refused with ${refused.size} codes`,
  );
}
for (const [code, count] of [...refused].sort()) console.log(`  ${code} ${count}`);
console.log(`slowest ${slowestMs.toFixed(1)} ms, heap at most ${peakHeapMb.toFixed(0)} MB`);

/**
 * The board's curve against cases from outside, in the memory it has on a chip. A line of the file `cases`, as given to
 * mcconfig, is a case (curve-outcome.ts), and after ` = ` what has to come out.
 */
import { File } from "moddable:file";
import config from "moddable:mc/config";
import { bigintCurve } from "../../../src/crypto/curve-bigint.ts";
import { curveOutcome } from "./curve-outcome.ts";

declare function trace(text: string): void;

const file = new File(config.cases);
let count = 0;
let rest = "";
while (file.position < file.length) {
  const lines = (rest + file.read(String, Math.min(1000, file.length - file.position))).split("\n");
  rest = lines.pop()!;
  for (const line of lines) {
    const [call, expected] = line.split(" = ");
    const got = curveOutcome(bigintCurve, call!);
    if (got !== expected) trace(`differs: ${line}: ${got}\n`);
    count++;
  }
}
trace(`cases: ${count}\n`);

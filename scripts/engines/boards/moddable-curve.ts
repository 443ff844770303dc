/**
 * The board's curve against cases from outside, in the memory it has on a chip. A line of the file `cases`, as given to
 * mcconfig, is a function's name, its arguments and what has to come out: bytes as hex, true, false, or an error's code.
 */
import { File } from "moddable:file";
import config from "moddable:mc/config";
import { fromHex, toHex } from "../../../src/bytes/bytes.ts";
import { bigintCurve } from "../../../src/crypto/curve-bigint.ts";
import { codeOf } from "../../../src/errors.ts";

declare function trace(text: string): void;

function run(name: string, [a, b, c, d]: Uint8Array[]): Uint8Array | boolean {
  switch (name) {
    case "publicKey":
      return bigintCurve.publicKey(a!);
    case "isPoint":
      return bigintCurve.isPoint(a!);
    case "add":
      return bigintCurve.add(a!, b!);
    case "combine":
      return bigintCurve.combine(a!, b!, c!, d!);
    case "verify":
      return bigintCurve.verify(a!, b!, c!);
    default:
      return bigintCurve.recover(a!, b![0]!, c!);
  }
}

function outcome([name, ...words]: string[]): string {
  try {
    const result = run(name!, words.map(fromHex));
    return typeof result === "boolean" ? String(result) : toHex(result);
  } catch (error) {
    return codeOf(error) ?? String(error);
  }
}

const file = new File(config.cases);
let count = 0;
let rest = "";
while (file.position < file.length) {
  const lines = (rest + file.read(String, Math.min(1000, file.length - file.position))).split("\n");
  rest = lines.pop()!;
  for (const line of lines) {
    const [call, expected] = line.split(" = ");
    const got = outcome(call!.split(" "));
    if (got !== expected) trace(`differs: ${line}: ${got}\n`);
    count++;
  }
}
trace(`cases: ${count}\n`);

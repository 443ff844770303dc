/**
 * The published test data that lies beside the project's folder, or where LNGATE_VECTORS says. A checkout
 * without it still runs every other test: `describeVectors` then shows one skipped test that says why.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, test } from "@jest/globals";

const project = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const folder = process.env["LNGATE_VECTORS"] || resolve(project, "../shared/vectors");

/** Describes tests that need one file of vectors, handing them its parsed content. */
export function describeVectors<Vectors>(
  name: string,
  file: string,
  tests: (vectors: Vectors) => void,
): void {
  const path = join(folder, file);
  if (existsSync(path)) {
    describe(name, () => tests(JSON.parse(readFileSync(path, "utf8")) as Vectors));
    return;
  }
  // Whoever names a folder wants these tests to run: then absence is a failure.
  const absent = `${path} is absent (LNGATE_VECTORS names the folder of published test data)`;
  describe(name, () => {
    if (process.env["LNGATE_VECTORS"]) {
      test("has its published test data", () => {
        throw new Error(absent);
      });
    } else test.skip(absent, () => {});
  });
}

/**
 * Mutation testing of what guards the money, one group ($MUTANTS, groups.mjs) with the tests of its own at a time,
 * and of that group the files in $MUTATE. Paths are the project's.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GROUPS } from "./groups.mjs";

const group = process.env["MUTANTS"];

export default {
  plugins: [
    import.meta.resolve("@stryker-mutator/jest-runner"),
    new URL("sentences.mjs", import.meta.url).href,
    ...(GROUPS[group].tests ? [new URL("runner.mjs", import.meta.url).href] : []),
  ],
  testRunner: GROUPS[group].tests ? "repeated" : "jest",
  testRunnerNodeArgs: ["--experimental-vm-modules", "--disable-warning=ExperimentalWarning"],
  jest: {
    projectType: "custom",
    configFile: "test/mutation/jest.config.mjs",
    enableFindRelatedTests: false,
  },
  coverageAnalysis: "perTest",
  mutate: process.env["MUTATE"].split(","),
  ignorers: ["sentences"],
  ignorePatterns: ["dist", "coverage"],
  tsconfigFile: "none",
  concurrency: 1,
  // Endless loops are found by counting, or by this beside what the tests take; a busy machine must not pass for one.
  timeoutMS: 30_000,
  // Not in the tree: other tools would find a second project there.
  tempDirName: join(tmpdir(), `lngate-mutation-${group}`),
  reporters: ["clear-text", "json", "progress-append-only"],
  jsonReporter: { fileName: `coverage/mutation-${group}.json` },
  clearTextReporter: { allowColor: false, reportTests: false, logTests: false },
};

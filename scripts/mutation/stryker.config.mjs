/**
 * Mutation testing of what guards the money, in two groups ($MUTANTS), each with the fast tests of its own: the device's
 * rules with the places that demand them, and the scalars with the online half of the signature. Paths are the
 * project's; `node scripts/mutation/run.mjs` runs both.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";

const group = process.env["MUTANTS"];

const MUTATE = {
  rules: ["rules", "normal", "opening", "closing", "exiting", "paying", "signing", "machine"].map(
    name => `device/channel/${name}.ts`,
  ),
  scalars: [
    "src/bytes/scalar-limbs.ts",
    "src/bytes/scalar-bigint.ts",
    "src/bytes/scalar-order.ts",
    "src/threshold/online.ts",
  ],
};

export default {
  plugins: [
    import.meta.resolve("@stryker-mutator/jest-runner"),
    new URL("sentences.mjs", import.meta.url).href,
  ],
  testRunner: "jest",
  testRunnerNodeArgs: ["--experimental-vm-modules", "--disable-warning=ExperimentalWarning"],
  jest: {
    projectType: "custom",
    configFile: "scripts/mutation/jest.config.mjs",
    enableFindRelatedTests: false,
  },
  coverageAnalysis: "perTest",
  mutate: MUTATE[group],
  ignorers: ["sentences"],
  ignorePatterns: ["dist", "coverage"],
  tsconfigFile: "none",
  concurrency: 1,
  timeoutMS: 10_000,
  // Not in the tree: other tools would find a second project there.
  tempDirName: join(tmpdir(), `lngate-mutation-${group}`),
  reporters: ["clear-text", "json"],
  jsonReporter: { fileName: `coverage/mutation-${group}.json` },
  clearTextReporter: { allowColor: false, reportTests: false, logTests: false },
};

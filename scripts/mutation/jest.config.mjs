/** The fast tests of what is mutated. */
import { fileURLToPath } from "node:url";
import project from "../../jest.config.mjs";

const TESTS = {
  rules: "test/device/{normal,opening,closing,paying,locked,liar,world}.test.ts",
  scalars: "test/threshold/{scalar,online}.test.ts",
};

export default {
  ...project,
  rootDir: fileURLToPath(new URL("../..", import.meta.url)),
  globals: { mutants: true },
  testMatch: [`<rootDir>/${TESTS[process.env["MUTANTS"]]}`],
};

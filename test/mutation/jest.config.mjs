/** The fast tests of what is mutated. */
import { fileURLToPath } from "node:url";
import project from "../../jest.config.mjs";

export default {
  ...project,
  rootDir: fileURLToPath(new URL("../..", import.meta.url)),
  globals: { mutants: true },
  testEnvironment: fileURLToPath(new URL("environment.mjs", import.meta.url)),
  testMatch: [`<rootDir>/test/mutation/${process.env["MUTANTS"]}.ts`],
};

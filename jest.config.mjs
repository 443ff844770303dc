/** Tests run as native ES modules; swc strips the types, nothing else. */
export default {
  testEnvironment: "node",
  testMatch: ["<rootDir>/test/**/*.test.ts"],
  extensionsToTreatAsEsm: [".ts"],
  transform: {
    "\\.ts$": [
      "@swc/jest",
      { jsc: { target: "es2022", parser: { syntax: "typescript" } }, module: { type: "es6" } },
    ],
  },
  // Ends what hangs, and says nothing of how fast a machine is: tests wait for what happens.
  testTimeout: 900_000,
  maxWorkers: "100%",
};

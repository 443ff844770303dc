/** What is mutated, in groups that have tests in common (`<group>.ts` beside this file). */
export const GROUPS = {
  scalars: [
    "src/bytes/scalar-limbs.ts",
    "src/bytes/scalar-bigint.ts",
    "src/bytes/scalar-order.ts",
    "src/threshold/online.ts",
  ],
  rules: ["rules", "paying", "normal", "machine", "exiting", "opening", "closing", "signing"].map(
    name => `device/channel/${name}.ts`,
  ),
};

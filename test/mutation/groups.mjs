/**
 * What is mutated, in groups that have tests in common. The first test that fails ends a mutant, so those that notice most
 * come first; of the tests of a subject only those are here that take seconds, all of them together.
 */
const under = (folder, names) => names.map(name => `${folder}/${name}.ts`);
const tests = (folder, names) => names.map(name => `test/${folder}/${name}.test.ts`);

export const GROUPS = {
  /** By Jest (scalars.ts): the tests replace one module by another. */
  scalars: {
    mutated: [
      ...under("src/crypto", ["scalar-limbs", "scalar-bigint", "scalar-order"]),
      "src/threshold/online.ts",
    ],
  },
  threshold: {
    mutated: under("src/threshold", [
      "abort",
      "turns",
      "keyshare",
      "keygen",
      "hash",
      "points",
      "transfer/field128",
      "transfer/transpose",
      "transfer/transfers",
      "transfer/setup",
      "transfer/extension",
      "presigning/batch",
      "presigning/multiplication",
      "presigning/p1",
      "presigning/p2",
      "presigning/mac",
      "presigning/mac-keys",
      "nonces",
      "signature",
      "records",
    ]),
    tests: tests("threshold", ["abort", "transcript", "records", "extension", "adversary", "curve"]),
  },
  /** The tests put another module in the place of the one where rules are demanded, and the first must be the first. */
  channel: {
    mutated: under("device/channel", [
      "rules",
      "payments/balance",
      "payments/outcome",
      "payments/paying",
      "payments/policy",
      "payments/remembered",
      "payments/settling",
      "normal",
      "machine",
      "exiting",
      "opening",
      "closing",
      "signing",
      "collecting",
      "context",
      "state",
    ]),
    tests: tests("device", [
      "liar",
      "state",
      "normal",
      "machine",
      "opening",
      "closing",
      "paying",
      "exited",
      "bounds",
      "locked",
      "wrong-answers",
      "parts",
      "unsayable",
      "world",
    ]),
  },
  vault: {
    mutated: under("device/vault", ["records", "charging", "vault", "journal", "flash", "identity", "drbg"]),
    tests: tests("vault", ["records", "vault", "journal", "identity", "drbg"]),
  },
  exit: {
    mutated: ["owner/recovery/exit-file.ts"],
    tests: tests("owner", ["exit-file"]),
  },
  transactions: {
    mutated: ["src/channel/transactions.ts"],
    tests: tests("link", ["transactions"]),
  },
};

/** The tests of the group `scalars` as one file, so that a mutant loads the modules once. */
await import("../../test/threshold/scalar.test.ts");
await import("../../test/threshold/online.test.ts");

export {};

/** The tests of the group `scalars` as one file, so that a mutant loads the modules once. */
await import("../threshold/scalar.test.ts");
await import("../threshold/online.test.ts");

export {};

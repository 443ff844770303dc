/**
 * The tests of the group `rules` as one file, so that a mutant loads the modules once. The first puts another module
 * in the place of the one where rules are demanded, so it must be the first.
 */
await import("../../test/device/liar.test.ts");
await import("../../test/device/normal.test.ts");
await import("../../test/device/machine.test.ts");
await import("../../test/device/opening.test.ts");
await import("../../test/device/closing.test.ts");
await import("../../test/device/paying.test.ts");
await import("../../test/device/exited.test.ts");
await import("../../test/device/bounds.test.ts");
await import("../../test/device/locked.test.ts");
await import("../../test/device/world.test.ts");

export {};

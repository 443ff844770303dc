/**
 * What the tests of the group `rules` use of @jest/globals, for tests that are called again and again in one process
 * (runner.mjs).
 */
export { expect } from "expect";

/** The tests that were described since the modules were loaded, in their order. */
export const tests = [];
export const cleanups = [];
const titles = [];

export function describe(name, body) {
  titles.push(name);
  body();
  titles.pop();
}

export function test(name, run) {
  tests.push({ id: [...titles, name].join(" "), run });
}

test.skip = () => {};

export function afterEach(cleanup) {
  cleanups.push(cleanup);
}

/** The one module that a test puts another in the place of: where rules are demanded. */
export const mocked = { demand: undefined };

export const jest = {
  unstable_mockModule: (_, factory) => {
    mocked.demand = factory().demand;
  },
};

/**
 * What the tests of the groups use of @jest/globals, for tests that are called again and again in one process
 * (runner.mjs).
 */
export { expect } from "expect";

/** The tests that were described since the modules were loaded, in their order. */
export const tests = [];
const titles = [];
/** What goes before and after the tests of the file that is loaded now. */
let file;
let files = 0;

/** Begins another file. */
export function beginFile() {
  file = { name: `before file ${files++}`, before: [], after: [] };
}

export function describe(name, body) {
  titles.push(name);
  body();
  titles.pop();
}

export function test(name, run) {
  tests.push({ id: `${file.name.slice(7)} ${[...titles, name].join(" ")}`, run, file });
}

/** One test, or group of tests, for each row; the ids need only differ. */
const each = of => rows => (name, body) => {
  rows.forEach((row, i) => {
    const cells = Array.isArray(row) ? row : [row];
    of(`${name} (${i})`, () => body(...cells));
  });
};

test.skip = () => {};
test.each = each(test);
describe.each = each(describe);

export function beforeAll(setUp) {
  file.before.push(setUp);
}

export function afterEach(cleanUp) {
  file.after.push(cleanUp);
}

/** The one module that a test puts another in the place of: where rules are demanded. */
export const mocked = { enforce: undefined };

export const jest = {
  unstable_mockModule: (_, factory) => {
    mocked.enforce = factory().enforce;
  },
};

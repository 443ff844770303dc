/** What keeps the tests from failing for the machine's load. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";

const sources = readdirSync("test", { recursive: true, encoding: "utf8" })
  .filter(name => name.endsWith(".ts") && !name.includes("node_modules"))
  .map(name => ({ name, text: readFileSync(join("test", name), "utf8") }));

const naming = (pattern: RegExp) => sources.filter(({ text }) => pattern.test(text)).map(({ name }) => name);

test("no test names a time in which it has to be done: jest.config.mjs has one for those that hang", () => {
  expect(naming(/\},\s*\d[\d_]*_000,?\s*\);/)).toEqual([]);
});

test("no test is given a second try", () => {
  expect(naming(/retry[T]imes/)).toEqual([]);
});

test("no port is picked and left to anybody: scripts/ports.ts reserves them", () => {
  expect(naming(/free[P]ort/)).toEqual([]);
});

/** docs/errors.md and the sources name the same codes. */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "@jest/globals";

const root = fileURLToPath(new URL("..", import.meta.url));
const sources = ["src", "device", "gateway", "owner"].flatMap(folder =>
  readdirSync(`${root}${folder}`, { recursive: true, encoding: "utf8" })
    .filter(name => name.endsWith(".ts"))
    .map(name => ({ name: `${folder}/${name}`, text: readFileSync(`${root}${folder}/${name}`, "utf8") })),
);

const WORDS = "[a-z0-9]+(?:-[a-z0-9]+)+";
const LITERAL = new RegExp(`"(${WORDS}|usage)"`, "g");

/** Where a source says a code; every code word in what matches is one. */
const PLACES: readonly RegExp[] = [
  // The first argument, which may choose between two.
  /\blngateError\(\s*[^,;]*?,/g,
  // What others are told or asked about by its code.
  new RegExp(`\\b(?:refuse|refused|problem|until|onRefused)\\(\\s*(?:[^"()]*,\\s*)?"${WORDS}"`, "g"),
  new RegExp(`\\bcode: "${WORDS}"`, "g"),
  new RegExp(`\\brefusedLogin: \\[\\s*"${WORDS}"`, "g"),
  // Tables by code: of sentences, of what an abort costs.
  new RegExp(`^ *"${WORDS}": (?:"|\\{ consequence)`, "gm"),
  // Functions whose answer is a code.
  /\bfunction failureCode\([\s\S]*?\n\}/g,
  /return "link-[a-z]+"/g,
];

const inSources = new Map<string, string>();
for (const { name, text } of sources) {
  for (const place of PLACES) {
    for (const [found] of text.matchAll(place)) {
      for (const [, code] of found.matchAll(LITERAL)) inSources.set(code!, name);
    }
  }
}
// The device's rules are named without their prefix.
const rules = sources.find(({ name }) => name === "device/channel/enforce.ts")!.text;
for (const [, rule] of rules.matchAll(/^ {2}\| "([a-z-]+)"/gm)) {
  inSources.set(`policy-${rule}`, "device/channel/enforce.ts");
}

const page = readFileSync(`${root}docs/errors.md`, "utf8");
const inPage = [...page.matchAll(/^\| (`[^|]+`) \|/gm)].flatMap(([, cell]) =>
  [...cell!.matchAll(/`([a-z0-9-]+)`/g)].map(([, code]) => code!),
);

test("docs/errors.md lists every code that the sources have", () => {
  // What stands here is missing in docs/errors.md: add a line for it, under where it comes from.
  const missing = [...inSources].filter(([code]) => !inPage.includes(code));
  expect(missing.map(([code, name]) => `${code} (${name})`)).toEqual([]);
  // A search that finds nothing would be content with any page.
  expect(inSources.size).toBeGreaterThan(200);
});

test("docs/errors.md lists no code twice, and none that the sources do not have", () => {
  expect(inPage.filter((code, at) => inPage.indexOf(code) !== at)).toEqual([]);
  const gone = inPage.filter(
    code => !inSources.has(code) && !sources.some(({ text }) => text.includes(`"${code}"`)),
  );
  expect(gone).toEqual([]);
});

test("every code says what it means", () => {
  for (const [line, , meaning = ""] of page.matchAll(/^\| (`[^|]+`) \| ([^|]*) \|.*$/gm)) {
    expect([line, meaning.trim()]).not.toEqual([line, ""]);
  }
});

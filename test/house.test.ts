/** Who may import whom (docs/architecture.md): the walls between parties that do not trust one another stand in the sources. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "@jest/globals";

const PARTIES = ["src", "device", "gateway", "owner", "scripts"];

/** Each source file, and what it imports: files of the project by their path, others by their name. */
const imports = new Map(
  PARTIES.flatMap(folder =>
    readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter(name => name.endsWith(".ts"))
      .map(name => join(folder, name)),
  ).map(file => {
    const text = readFileSync(file, "utf8");
    const found = text.matchAll(
      /^(?:import|export) [^;]*?from "([^"]+)"|^import "([^"]+)"|\bimport\("([^"]+)"\)/gm,
    );
    const targets = [...found].map(([, a, b, c]) => (a ?? b ?? c)!);
    return [file, targets.map(to => (to.startsWith(".") ? normalize(join(dirname(file), to)) : to))] as const;
  }),
);

/** Who never imports what, and why. */
const NEVER: readonly (readonly [why: string, from: RegExp, to: RegExp])[] = [
  [
    "src goes into the device's bundle",
    /^src\/(?!node\/)/,
    /^(node:|src\/node\/|device\/|gateway\/|owner\/|scripts\/)/,
  ],
  ["src/bytes knows nothing", /^src\/bytes\//, /^src\/(?!bytes\/|errors\.ts)/],
  ["src/crypto stands on bytes", /^src\/crypto\//, /^src\/(?!bytes\/|crypto\/|errors\.ts)/],
  ["src/bitcoin stands on crypto", /^src\/bitcoin\//, /^src\/(?!bytes\/|crypto\/|bitcoin\/|errors\.ts)/],
  [
    "BOLT knows no LNGate",
    /^src\/lightning\//,
    /^src\/(?!bytes\/|crypto\/|bitcoin\/|lightning\/|errors\.ts)/,
  ],
  ["the link knows no message", /^src\/link\//, /^src\/(?!bytes\/|crypto\/|link\/|errors\.ts)/],
  [
    "the threshold protocol knows no channel",
    /^src\/threshold\//,
    /^src\/(?!bytes\/|crypto\/|threshold\/|errors\.ts)/,
  ],
  [
    "the channel's terms know no message",
    /^src\/channel\//,
    /^src\/(?!bytes\/|crypto\/|bitcoin\/|lightning\/|channel\/|errors\.ts)/,
  ],
  ["the device's core goes into its bundle", /^device\/(?!boards\/node\/)/, /^(node:|src\/node\/)/],
  ["the device trusts nobody", /^device\//, /^(gateway|owner|scripts)\//],
  ["the gateway shares src alone", /^gateway\//, /^(device|owner|scripts)\//],
  ["the owner shares src alone with the gateway", /^owner\//, /^(gateway|scripts)\//],
  ["gateway/device joins signer and node", /^gateway\/signer\//, /^gateway\/lightning\//],
  ["gateway/device joins signer and node", /^gateway\/lightning\//, /^gateway\/signer\//],
  ["the machine is pure", /^device\/channel\//, /^device\/(device\.ts|boards\/|keys\/)/],
  [
    "commands are the top floor",
    /^(src|device|gateway|owner)\/(?!cli\/)/,
    /^((gateway|owner)\/cli|scripts)\//,
  ],
];

test.each(NEVER)("%s", (_why, from, to) => {
  const files = [...imports.keys()].filter(file => from.test(file));
  expect(files).not.toEqual([]);
  const crossed = files.flatMap(file =>
    imports
      .get(file)!
      .filter(each => to.test(each))
      .map(each => `${file} imports ${each}`),
  );
  expect(crossed).toEqual([]);
});

test("no files import each other in a circle", () => {
  const done = new Set<string>();
  const way: string[] = [];
  const circles: string[] = [];
  function visit(file: string): void {
    if (way.includes(file)) circles.push([...way.slice(way.indexOf(file)), file].join(" → "));
    if (done.has(file) || way.includes(file)) return;
    way.push(file);
    for (const each of imports.get(file) ?? []) visit(each);
    way.pop();
    done.add(file);
  }
  for (const file of imports.keys()) visit(file);
  expect(circles).toEqual([]);
});

test("a folder has a dozen files at most", () => {
  const sizes = new Map<string, number>();
  for (const file of imports.keys()) sizes.set(dirname(file), (sizes.get(dirname(file)) ?? 0) + 1);
  expect([...sizes].filter(([, size]) => size > 12)).toEqual([]);
});

test("a file of more than 500 lines says at its head why it is one", () => {
  const unexplained = [...imports.keys()].filter(file => {
    const text = readFileSync(file, "utf8");
    return text.split("\n").length > 500 && !/^\/\*\*(?:(?!\*\/)[\s\S])*Long because/.test(text);
  });
  expect(unexplained).toEqual([]);
});

test("a file that a text of the project names is there", () => {
  const folders = [...PARTIES, "test", "docs"].flatMap(folder =>
    readdirSync(folder, { recursive: true, encoding: "utf8" }).map(name => join(folder, name)),
  );
  const texts = [...readdirSync("."), ...folders].filter(
    name => /\.(md|ts|mjs)$/.test(name) && name !== "CHANGELOG.md" && !name.includes("node_modules"),
  );
  const missing = texts.flatMap(text =>
    [
      ...readFileSync(text, "utf8").matchAll(
        /(?<![\w./-])((?:src|device|gateway|owner|scripts|test|docs)\/[\w./-]+\.(?:ts|mjs|md))\b/g,
      ),
    ]
      .map(([, name]) => name!)
      .filter(name => !existsSync(name))
      .map(name => `${text}: ${name}`),
  );
  expect(missing).toEqual([]);
});

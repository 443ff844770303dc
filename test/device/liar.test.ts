import { readdirSync, readFileSync } from "node:fs";
import { afterEach, describe, expect, jest, test } from "@jest/globals";
import type { Rule } from "../../device/channel/enforce.ts";

const { enforce }: { enforce(rule: Rule, holds: boolean, sentence: string): void } = await import(
  "../../device/channel/enforce.ts"
);
/** A rule in here is switched off: only in this file, and only because the module is replaced here. */
const off = new Set<string>();
const refused = new Set<string>();

jest.unstable_mockModule("../../device/channel/enforce.ts", () => ({
  enforce: (rule: Rule, holds: boolean, sentence: string) => {
    if (!holds) {
      const callers = (new Error().stack ?? "").split("\n").slice(2);
      // checkProposal's demands have one line in common; who called that?
      refused.add(`${rule} ${callers[1]?.includes("at ensure ") ? callers[1] : callers[0]}`);
    }
    if (!off.has(rule)) enforce(rule, holds, sentence);
  },
}));
const { ATTACKS } = await import("./attacks.ts");
const { Rig } = await import("./rig.ts");

afterEach(() => off.clear());

const count = Object.values(ATTACKS).flat().length;
test(`${count} attacks on ${Object.keys(ATTACKS).length} rules, no two of the same name, none without any`, () => {
  expect(new Set(Object.values(ATTACKS).flatMap(attacks => attacks.map(({ name }) => name))).size).toBe(
    count,
  );
  expect(Object.values(ATTACKS).filter(attacks => attacks.length === 0)).toEqual([]);
});

for (const [rule, attacks] of Object.entries(ATTACKS)) {
  describe(`policy-${rule}`, () => {
    for (const attack of attacks) {
      const harmOf = (rig: InstanceType<typeof Rig>) => rig.harm() ?? attack.harm?.(rig) ?? null;

      test(`stops: ${attack.name}`, () => {
        const rig = new Rig(attack.rig);
        attack.act(rig);
        expect(rig.refusals).toContain(`policy-${rule}`);
        expect(harmOf(rig)).toBeNull();
      });

      test(`without it there is harm: ${attack.name}`, () => {
        off.add(rule);
        const rig = new Rig(attack.rig);
        attack.act(rig);
        expect(rig.refusals).not.toContain(`policy-${rule}`);
        expect(harmOf(rig)).not.toBeNull();
      });
    }
  });
}

/** Mutants have other sources, and no documents. */
const testOfSources = "mutants" in globalThis ? test.skip : test;

testOfSources("every place where a rule is demanded has been attacked", () => {
  const places = new Map<string, number>();
  const folder = new URL("../../device/channel/", import.meta.url);
  const files = readdirSync(folder, { encoding: "utf8", recursive: true });
  for (const file of files.filter(name => name.endsWith(".ts"))) {
    const source = readFileSync(new URL(file, folder), "utf8");
    for (const [, rule] of source.matchAll(/^ +(?:enforce\(\s*"([a-z-]+)"|ensure\()/gm)) {
      const name = rule ?? "channel-parameters";
      places.set(name, (places.get(name) ?? 0) + 1);
    }
  }
  const attacked = new Map<string, number>();
  for (const place of refused) {
    const rule = place.split(" ")[0]!;
    attacked.set(rule, (attacked.get(rule) ?? 0) + 1);
  }
  expect(Object.keys(ATTACKS).sort()).toEqual([...places.keys()].sort());
  expect(Object.fromEntries(attacked)).toEqual(Object.fromEntries(places));
});

testOfSources("docs/rules.md has a line for every rule, and no other", () => {
  const table = readFileSync(new URL("../../docs/rules.md", import.meta.url), "utf8");
  const documented = [...table.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, rule]) => rule);
  expect(documented.sort()).toEqual(Object.keys(ATTACKS).sort());
  const names = Object.values(ATTACKS).flatMap(attacks => attacks.map(attack => attack.name));
  for (const [, cell = ""] of table.matchAll(/^\| `.*\| ([^|]*) \|$/gm)) {
    for (const [, quoted = ""] of cell.matchAll(/"([^"]+)"/g)) {
      const words = quoted.replace(/…/g, "").trim();
      expect({ quoted, known: names.some(name => name.includes(words)) }).toEqual({ quoted, known: true });
    }
  }
});

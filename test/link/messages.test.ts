import { readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { toDevice, toGateway } from "../../src/messages/device.ts";

const doc = readFileSync(new URL("../../docs/wire.md", import.meta.url), "utf8");
const section = doc.slice(doc.indexOf("## Messages\n"), doc.indexOf("## Messages of the owner"));

describe("docs/wire.md", () => {
  for (const { number, name, layout } of [...toGateway.kinds, ...toDevice.kinds]) {
    test(`describes message ${number}, ${name}, with every field under its key`, () => {
      const row = section.split("\n").find(line => line.startsWith(`| ${number} \`${name}\` |`));
      expect(row).toBeDefined();
      // The parts of a step have a table of their own.
      const where = name === "step" ? section : (row ?? "");
      for (const field of layout) expect(where).toContain(`${field.key} \`${field.name}\``);
    });
  }

  test("describes no message that is not there", () => {
    const described = [...section.matchAll(/^\| (\d+) `([a-z]+)` \| .* \|.*\|$/gm)].map(
      row => `${row[1]} ${row[2]}`,
    );
    const parts = toDevice.kinds[0]!.layout.map(({ key, name }) => `${key} ${name}`);
    const messages = [...toGateway.kinds, ...toDevice.kinds].map(({ number, name }) => `${number} ${name}`);
    for (const each of described) expect([...messages, ...parts]).toContain(each);
  });
});

/** The JavaScript curve of the board `moddable`, over the SDK's arithmetic, against the library. Only where the SDK is. */

import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { buildForSimulator, findModdable, Simulator, startScreen } from "../../scripts/engines/moddable.ts";
import { curveCases } from "./curve-cases.ts";

const found = findModdable();

if ("missing" in found) {
  test.skip(`the board's curve in Moddable's simulator: ${found.missing}`, () => {});
} else {
  describe("the board's curve in Moddable's simulator", () => {
    const folder = mkdtempSync(join(tmpdir(), "lngate-curve-"));
    const project = join(folder, "curve");
    const lines = curveCases();
    let library: string;

    beforeAll(async () => {
      mkdirSync(project);
      copyFileSync("dist/device/engines/moddable-curve/main.js", join(project, "main.js"));
      const { creation } = JSON.parse(readFileSync("device/boards/moddable/common.json", "utf8"));
      writeFileSync(
        join(project, "manifest.json"),
        JSON.stringify({
          include: ["$(MODDABLE)/examples/manifest_base.json", "$(MODULES)/files/file/manifest.json"],
          creation,
          modules: { "*": ["./main", "$(MODULES)/crypt/arith/*"] },
          preload: ["ec", "ecp", "modular", "mont"],
        }),
      );
      writeFileSync(join(folder, "cases"), lines.map(line => `${line}\n`).join(""));
      library = await buildForSimulator({
        sdk: found.sdk,
        project,
        folder: join(folder, "build"),
        config: { cases: join(folder, "cases") },
      });
    });

    afterAll(() => rmSync(folder, { recursive: true }));

    test("is the library's, out of range, at infinity and with equal points too", async () => {
      const screen = await startScreen();
      const simulator = new Simulator(found.sdk, library, screen.display);
      try {
        expect(await simulator.nextLine(/^cases: /)).toBe(`cases: ${lines.length}`);
        expect(simulator.log.filter(line => line.startsWith("differs")).slice(0, 5)).toEqual([]);
      } finally {
        await simulator.kill();
        screen.stop();
      }
    });
  });
}

/**
 * The native curve of the board `moddable`, compiled for this machine: case by case against the JavaScript one, and against
 * published signatures; then its function of XS in the real engine.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { nativeCurve } from "../../device/boards/moddable/native-curve.ts";
import { memoryFlash } from "../../device/vault/memory-flash.ts";
import { curveOutcome } from "../../scripts/engines/boards/curve-outcome.ts";
import { ensureXsnap } from "../../scripts/engines/install.ts";
import { compiledCurve, curveSources, missingForCurve } from "../../scripts/engines/native-curve.ts";
import { startXs, type XsDevice } from "../../scripts/engines/xs.ts";
import type { PublicCurve } from "../../src/crypto/curve.ts";
import { bigintCurve } from "../../src/crypto/curve-bigint.ts";
import { describeVectors } from "../vectors.ts";
import { WYCHEPROOF_FILE, type Wycheproof, wycheproofCases } from "../wycheproof.ts";
import { curveCases } from "./curve-cases.ts";

const missing = missingForCurve();

if (missing !== null) {
  test.skip(`the native curve on this machine: ${missing}`, () => {});
} else {
  describe("the native curve on this machine", () => {
    const folder = mkdtempSync(join(tmpdir(), "lngate-curve-"));
    let curve: PublicCurve;

    beforeAll(async () => {
      curve = nativeCurve(await compiledCurve(folder));
    });

    afterAll(() => rmSync(folder, { recursive: true }));

    test("is the JavaScript curve, out of range, at infinity and with equal points too", () => {
      for (const line of curveCases()) {
        const [call, expected] = line.split(" = ");
        const outcomes = [bigintCurve, curve].map(each => curveOutcome(each, call!));
        expect([call, ...outcomes]).toEqual([call, expected, expected]);
      }
    });

    test("takes no number of a key that only looks like one of the four", () => {
      const [signature, hash] = [new Uint8Array(64).fill(1), new Uint8Array(32).fill(1)];
      expect(curve.recover(signature, 0, hash)).toEqual(bigintCurve.recover(signature, 0, hash));
      for (const id of [4, 256, 257, -1]) {
        expect(() => curve.recover(signature, id, hash)).toThrow(
          expect.objectContaining({ code: "bad-signature" }),
        );
      }
    });

    describeVectors<Wycheproof>("Wycheproof ECDSA", WYCHEPROOF_FILE, vectors => {
      test("every signature is judged as the file says", () => {
        for (const { tcId, comment, signature, hash, key, isValid } of wycheproofCases(vectors)) {
          const valid = signature !== undefined && curve.verify(signature, hash, key);
          expect({ tcId, comment, valid }).toEqual({ tcId, comment, valid: isValid });
        }
      });
    });
  });

  describe("the native curve in XS", () => {
    let engine: XsDevice;

    beforeAll(async () => {
      const worker = await ensureXsnap(await curveSources());
      const scripts = ["scripts/engines/boards/xs-prelude.js", "dist/device/engines/xs.js"];
      engine = await startXs(worker, { scripts, flash: memoryFlash(4096, 1) });
    });

    afterAll(() => engine.kill());

    test("is the curve that the device has there, and says what the library says", async () => {
      for (const line of curveCases()) {
        const [call, expected] = line.split(" = ");
        expect([call, await engine.curveCase(call!)]).toEqual([call, expected]);
      }
      // In JavaScript one verification costs more than a million.
      const { computrons, verify } = await engine.curveWork();
      expect(verify).toBeGreaterThan(100);
      expect(computrons / verify).toBeLessThan(100_000);
    });
  });
}

/** The curve of the board `moddable`, over the SDK's native arithmetic, against the library. Only where the SDK is. */

import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { buildForSimulator, findModdable, Simulator, startScreen } from "../../scripts/engines/moddable.ts";
import { concat, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf } from "../../src/errors.ts";

const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const PRIME = 2n ** 256n - 2n ** 32n - 977n;
const G = fromHex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");

const bytesOf = (value: bigint) => fromHex(value.toString(16).padStart(64, "0"));
const numberOf = (bytes: Uint8Array) => BigInt(`0x${toHex(bytes)}`);
const pointAt = (first: number, x: bigint) => concat([new Uint8Array([first]), bytesOf(x)]);

/** Also those near the ends and near powers of two. */
const scalars = fc
  .oneof(
    fc.bigInt(1n, ORDER - 1n),
    fc.bigInt(1n, 600n),
    fc.bigInt(1n, 600n).map(small => ORDER - small),
    fc.tuple(fc.nat(255), fc.bigInt(-40n, 40n)).map(([power, near]) => 2n ** BigInt(power) + near),
  )
  .filter(scalar => scalar > 0n && scalar < ORDER)
  .map(bytesOf);

type Name = "publicKey" | "isPoint" | "add" | "combine" | "verify" | "recover";

/** Lines as scripts/engines/boards/moddable-curve.ts reads them, with what the library says. */
function cases(): string[] {
  const lines: string[] = [];
  function ask(name: Name, ...args: (Uint8Array | number)[]): void {
    let expected: string;
    try {
      const result: unknown = (nobleCurve[name] as (...given: unknown[]) => unknown)(...args);
      expected = typeof result === "boolean" ? String(result) : toHex(result as Uint8Array);
    } catch (error) {
      expected = codeOf(error)!;
    }
    const words = args.map(each => toHex(typeof each === "number" ? new Uint8Array([each]) : each));
    lines.push(`${[name, ...words].join(" ")} = ${expected}`);
  }

  for (const [a, b, c, d] of fc.sample(fc.tuple(scalars, scalars, scalars, scalars), 60)) {
    const [p, q] = [nobleCurve.publicKey(c), nobleCurve.publicKey(d)];
    const minusP = concat([new Uint8Array([p[0]! ^ 1]), p.subarray(1)]);
    ask("publicKey", a);
    ask("add", p, q);
    ask("add", p, p);
    ask("add", p, minusP);
    ask("combine", p, a, q, b);
    ask("combine", p, a, p, a);
    ask("combine", p, a, minusP, a);
    ask("combine", p, a, p, bytesOf(ORDER - numberOf(a)));
  }
  const xs = [0n, 1n, PRIME - 1n, PRIME, PRIME + 1n, 2n ** 256n - 1n, ...fc.sample(fc.bigInt(0n, PRIME), 40)];
  for (const x of xs) {
    for (const first of [0, 2, 3, 4]) {
      ask("isPoint", pointAt(first, x));
      ask("add", G, pointAt(first, x));
    }
  }
  const hashes = fc.uint8Array({ minLength: 32, maxLength: 32 });
  for (const [secret, hash, at, flip] of fc.sample(
    fc.tuple(scalars, hashes, fc.nat(63), fc.integer({ min: 1, max: 255 })),
    40,
  )) {
    const key = nobleCurve.publicKey(secret);
    const signature = nobleCurve.sign(hash, secret);
    const high = concat([signature.subarray(0, 32), bytesOf(ORDER - numberOf(signature.subarray(32)))]);
    const changed = signature.slice();
    changed[at]! ^= flip;
    for (const each of [signature, high, changed]) {
      ask("verify", each, hash, key);
      for (let id = 0; id < 5; id++) ask("recover", each, id, hash);
    }
    ask("verify", signature, bytesOf(0n), key);
  }
  const [key, hash] = [nobleCurve.publicKey(bytesOf(7n)), bytesOf(1n)];
  const edges = [0n, 1n, ORDER - 1n, ORDER, ORDER + 1n, 2n ** 256n - 1n, PRIME - ORDER].map(bytesOf);
  for (const r of edges) {
    ask("publicKey", r);
    for (const s of edges) {
      ask("verify", concat([r, s]), hash, key);
      ask("verify", concat([r, s]), hash, G);
      for (let id = 0; id < 5; id++) ask("recover", concat([r, s]), id, hash);
    }
  }
  // An x of the nonce point from the group's order up, which is one in 2^127.
  let x = ORDER + 1n;
  while (!nobleCurve.isPoint(pointAt(2, x))) x++;
  const rare = concat([bytesOf(x - ORDER), bytesOf(5n)]);
  ask("recover", rare, 2, hash);
  ask("verify", rare, hash, nobleCurve.recover(rare, 2, hash));
  return lines;
}

const found = findModdable();

if ("missing" in found) {
  test.skip(`the native curve in Moddable's simulator: ${found.missing}`, () => {});
} else {
  describe("the native curve in Moddable's simulator", () => {
    const folder = mkdtempSync(join(tmpdir(), "lngate-curve-"));
    const project = join(folder, "curve");
    const lines = cases();
    let library: string;

    beforeAll(async () => {
      mkdirSync(project);
      copyFileSync("dist/device/engines/moddable-curve/main.js", join(project, "main.js"));
      const { creation } = JSON.parse(readFileSync("device/boards/moddable/manifest.json", "utf8"));
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

/** Cases for a curve, with what the library says: random ones and those at the edges. */
import fc from "fast-check";
import { concat, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf } from "../../src/errors.ts";
import { bytesOf, ORDER, scalars } from "../scalars.ts";

const PRIME = 2n ** 256n - 2n ** 32n - 977n;
const G = fromHex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");

const numberOf = (bytes: Uint8Array) => BigInt(`0x${toHex(bytes)}`);
const pointAt = (first: number, x: bigint) => concat([new Uint8Array([first]), bytesOf(x)]);

type Name = "publicKey" | "isPoint" | "add" | "combine" | "verify" | "recover";

/** Lines for scripts/engines/boards/curve-outcome.ts, each with ` = ` and what the library says. */
export function curveCases(): string[] {
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
  // Lengths, and which of two faults is named.
  const [one, short] = [bytesOf(1n), new Uint8Array(31).fill(1)];
  const uncompressed = concat([new Uint8Array([4]), new Uint8Array(64).fill(1)]);
  for (const scalar of [new Uint8Array(0), short, new Uint8Array(33).fill(1), new Uint8Array(64).fill(1)]) {
    ask("publicKey", scalar);
    ask("combine", G, one, G, scalar);
    ask("combine", G, scalar, uncompressed, scalar);
    ask("verify", rare, scalar, G);
    ask("verify", rare, scalar, uncompressed);
    ask("verify", scalar, one, G);
    ask("verify", scalar, one, uncompressed);
    ask("recover", rare, 0, scalar);
  }
  for (const length of [0, 1, 32, 34, 64, 65, 66, 1000]) {
    const point = new Uint8Array(length).fill(2);
    ask("isPoint", point);
    ask("add", point, G);
    ask("verify", point, one, G);
    if (length !== 64) ask("recover", point, 0, one);
  }
  return lines;
}

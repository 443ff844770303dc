/**
 * Presignature records made by one who knows the whole key: what the two-party protocol ends with (docs/threshold.md),
 * without the protocol. Thousands of them cost a second.
 */
import { createHash } from "node:crypto";
import { concat } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { fromBigInt, N, toBigInt } from "../../src/crypto/scalar-bigint.ts";
import { macKeys } from "../../src/threshold/presigning/mac-keys.ts";

export interface DealtRecord {
  /** `w ‖ v`; dealt with MACs `w ‖ v ‖ t_w ‖ t_v`. */
  readonly answering: Uint8Array;
  /** `r ‖ κ ‖ c`. */
  readonly completing: Uint8Array;
}

/** Numbers that look random and are the same in every run. */
export function derived(seed: string): Uint8Array {
  return new Uint8Array(createHash("sha256").update(seed).digest());
}

function scalar(seed: string): bigint {
  return toBigInt(derived(seed)) % N;
}

function inverse(a: bigint): bigint {
  let [previous, r] = [N, ((a % N) + N) % N];
  let [s, t] = [0n, 1n];
  while (r !== 0n) {
    const q = previous / r;
    [previous, r] = [r, previous - q * r];
    [s, t] = [t, s - q * t];
  }
  return ((s % N) + N) % N;
}

const xOf = (secret: bigint) => toBigInt(nobleCurve.publicKey(fromBigInt(secret)).slice(1)) % N;

/** A presignature for the key x: s = κ·(w·z + v) + c for every z. */
export function dealRecord(key: Uint8Array, seed: string): DealtRecord {
  const x = toBigInt(key);
  const [k1, k2, x1] = [scalar(`${seed}/k1`), scalar(`${seed}/k2`), scalar(`${seed}/x1`)];
  const r = xOf((k1 * k2) % N);
  const x2 = (((x - x1 * k2) % N) + N) % N;
  const w = inverse(k2);
  const kappa = inverse(k1);
  return {
    answering: concat([w, (((w * r) % N) * x2) % N].map(fromBigInt)),
    completing: concat([r, kappa, (((kappa * r) % N) * x1) % N].map(fromBigInt)),
  };
}

/** α ‖ key of all records of kind B that are dealt under this name, as a batch has it on the device's side. */
export function dealtMac(name: string): Uint8Array {
  return concat([fromBigInt(scalar(`${name}/alpha`)), derived(`${name}/mac key`)]);
}

/** The gateway's half with its MACs under `mac`: t = α·x + b. */
export function withMacs(answering: Uint8Array, mac: Uint8Array, id: number): Uint8Array {
  const alpha = toBigInt(mac.slice(0, 32));
  const keys = macKeys(mac.slice(32), id);
  const macs = [0, 32].map(
    at => (alpha * toBigInt(answering.slice(at, at + 32)) + toBigInt(keys.slice(at, at + 32))) % N,
  );
  return concat([answering.slice(0, 64), ...macs.map(fromBigInt)]);
}

/** A prepared nonce, `w ‖ r` with w = 1/k. */
export function dealNonce(seed: string): Uint8Array {
  const k = scalar(`${seed}/k`);
  return concat([inverse(k), xOf(k)].map(fromBigInt));
}

/** The message that a kind-A answer was made for: z = (s2 − v) / w. */
export function messageOf({ answering }: DealtRecord, s2: Uint8Array): bigint {
  const [w, v] = [toBigInt(answering.slice(0, 32)), toBigInt(answering.slice(32, 64))];
  return ((((toBigInt(s2) - v + N) % N) * inverse(w)) % N) as bigint;
}

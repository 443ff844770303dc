/**
 * What the threshold core costs. Milliseconds are CPU time of one core, medians over several runs; online signing is
 * measured on the very script that a device would load.
 */
import { randomBytes } from "node:crypto";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import * as noble from "@noble/secp256k1";
import { keygenDevice, keygenGateway } from "../../src/threshold/keygen.ts";
import type { KeyShare } from "../../src/threshold/keyshare.ts";
import type * as Online from "../../src/threshold/online.ts";
import { presignP1, presignP2 } from "../../src/threshold/presign.ts";
import type { Batch } from "../../src/threshold/records.ts";
import { type OtSetup, setupP1, setupP2 } from "../../src/threshold/setup.ts";
import { completeVerified } from "../../src/threshold/signature.ts";
import { bundleOnline, type OnlineEngine } from "./online-bundle.ts";

const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));
const names = { gateway: new Uint8Array([1]), device: new Uint8Array([2]) };

/** Adds up the CPU time of the steps of one party. */
class Stopwatch {
  ms = 0;

  run<Result>(step: () => Result): Result {
    const start = process.cpuUsage();
    const result = step();
    const { user, system } = process.cpuUsage(start);
    this.ms += (user + system) / 1000;
    return result;
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Four significant digits are more than any of this repeats to. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

function say(what: string): void {
  process.stderr.write(`${what}\n`);
}

function generateKey(): { gateway: KeyShare; device: KeyShare } {
  const begun = keygenGateway(names, random);
  const d0 = keygenDevice(names, random).receive(begun.send);
  const g1 = begun.next.receive(d0.send);
  const d2 = d0.next.receive(g1.send);
  const g3 = g1.next.receive(d2.send);
  const d4 = d2.next.receive(g3.send);
  const g4 = g3.next.receive(d4.send);
  return { gateway: g4.share, device: d4.next.receive(g4.send).share };
}

interface PresignRun {
  readonly p1Ms: number;
  readonly p2Ms: number;
  readonly bytes: number;
  readonly completing: Batch;
  readonly answering: Batch;
}

/** One batch of kind A, its costs per presignature. */
function presign(
  p1: [KeyShare, OtSetup],
  p2: [KeyShare, OtSetup],
  firstId: number,
  count: number,
): PresignRun {
  const [watch1, watch2] = [new Stopwatch(), new Stopwatch()];
  const s0 = watch1.run(() => presignP1({ share: p1[0], setup: p1[1], random }, firstId, count));
  const s1 = watch2.run(() => presignP2({ share: p2[0], setup: p2[1], random }, firstId).receive(s0.send));
  const s2 = watch1.run(() => s0.next.receive(s1.send));
  const s3 = watch2.run(() => s1.next.receive(s2.send));
  const s4 = watch1.run(() => s2.next.receive(s3.send));
  const done = watch2.run(() => s3.next.receive(s4.send));
  const bytes = [s0, s1, s2, s3, s4].reduce((sum, { send }) => sum + send.length, 0);
  return {
    p1Ms: watch1.ms / count,
    p2Ms: watch2.ms / count,
    bytes: bytes / count,
    completing: s4.batch,
    answering: done.batch,
  };
}

/** Median time of one call in microseconds, of rounds long enough to be measured. */
function microseconds(call: () => void, callsPerRound: number): number {
  for (let i = 0; i < callsPerRound; i++) call();
  return median(
    Array.from({ length: 15 }, () => {
      const start = process.hrtime.bigint();
      for (let i = 0; i < callsPerRound; i++) call();
      return Number(process.hrtime.bigint() - start) / 1000 / callsPerRound;
    }),
  );
}

async function loadOnline(engine: OnlineEngine): Promise<{ bytes: number; online: typeof Online }> {
  const script = await bundleOnline(engine, process.cwd());
  const online = new Function(`${script}; return online;`)() as typeof Online;
  return { bytes: Buffer.byteLength(script), online };
}

export async function benchThreshold(): Promise<Record<string, number>> {
  say("key generation");
  const keygen = Array.from({ length: 7 }, () => {
    const watch = new Stopwatch();
    return { ms: watch.run(generateKey) && watch.ms };
  });
  const { gateway, device } = generateKey();

  say("OT setup");
  const setups = Array.from({ length: 3 }, () => {
    const [watch1, watch2] = [new Stopwatch(), new Stopwatch()];
    const begun = watch1.run(() => setupP1(gateway, "A", random));
    const { send, setup } = watch2.run(() => setupP2(device, "A", random).receive(begun.send));
    return { p1: watch1.run(() => begun.next.receive(send)), p2: setup, p1Ms: watch1.ms, p2Ms: watch2.ms };
  });
  const { p1, p2 } = setups[0]!;

  let firstId = 0;
  const batches = (count: number, rounds: number): PresignRun[] =>
    Array.from({ length: rounds }, (_, round) => {
      say(`presigning, batch of ${count}, ${round + 1} of ${rounds}`);
      const run = presign([gateway, p1], [device, p2], firstId, count);
      firstId += count;
      return run;
    });
  batches(16, 2); // warms up
  const of16 = batches(16, 7);
  const of64 = batches(64, 3);

  say("online signing");
  const { answering, completing } = of16[0]!;
  const record = answering.records.slice(0, 64);
  const z = random(32);
  const byBigInt = await loadOnline("bigint");
  const byLimbs = await loadOnline("limbs");
  for (const { online } of [byBigInt, byLimbs]) {
    completeVerified(completing.records.slice(0, 96), online.answer(record, z), z, gateway.joint);
  }
  noble.hashes.sha256 = sha256;
  noble.hashes.hmacSha256 = (key, message) => hmac(sha256, key, message);
  const key = secp256k1.utils.randomSecretKey();
  const nobleSignUs = microseconds(() => noble.sign(z, key, { prehash: false }), 60);
  const onlineUs = microseconds(() => byBigInt.online.answer(record, z), 5_000);
  const onlineLimbsUs = microseconds(() => byLimbs.online.answer(record, z), 5_000);

  const figures = {
    keygenMs: median(keygen.map(({ ms }) => ms)),
    setupMs: median(setups.map(({ p1Ms, p2Ms }) => p1Ms + p2Ms)),
    setupMsP1: median(setups.map(({ p1Ms }) => p1Ms)),
    setupMsP2: median(setups.map(({ p2Ms }) => p2Ms)),
    presignMsP1: median(of16.map(({ p1Ms }) => p1Ms)),
    presignMsP2: median(of16.map(({ p2Ms }) => p2Ms)),
    presignMsP1Batch64: median(of64.map(({ p1Ms }) => p1Ms)),
    presignMsP2Batch64: median(of64.map(({ p2Ms }) => p2Ms)),
    presignBytes: of16[0]!.bytes,
    presignBytesBatch64: of64[0]!.bytes,
    onlineDeviceUs: onlineUs,
    onlineDeviceUsLimbs: onlineLimbsUs,
    nobleSignUs,
    onlineToNobleSign: onlineUs / nobleSignUs,
    onlineToNobleSignLimbs: onlineLimbsUs / nobleSignUs,
    onlineBundleBytes: byLimbs.bytes,
    onlineBundleBytesBigInt: byBigInt.bytes,
  };
  return Object.fromEntries(
    Object.entries(figures).map(([name, value]) => [name, /Bytes/.test(name) ? value : rounded(value)]),
  );
}

/**
 * What the threshold core costs. Milliseconds are CPU time of one core, medians over several runs; online signing is
 * measured on the very script that a device would load.
 */

import { randomBytes } from "node:crypto";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import * as noble from "@noble/secp256k1";
import { concat } from "../../src/bytes/bytes.ts";
import { keygenDevice, keygenGateway } from "../../src/threshold/keygen.ts";
import type { KeyShare } from "../../src/threshold/keyshare.ts";
import type * as Online from "../../src/threshold/online.ts";
import { type MacRun, macRunDevice, macRunGateway } from "../../src/threshold/presigning/mac.ts";
import { macKeys } from "../../src/threshold/presigning/mac-keys.ts";
import { presignP1, presignP1WithMacs } from "../../src/threshold/presigning/p1.ts";
import { presignP2, presignP2WithMacs } from "../../src/threshold/presigning/p2.ts";
import type { Batch } from "../../src/threshold/records.ts";
import { completeVerified } from "../../src/threshold/signature.ts";
import { type Kind, type OtSetup, setupP1, setupP2, sideOf } from "../../src/threshold/transfer/setup.ts";
import type { Figures } from "./figures.ts";
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

interface Party {
  readonly share: KeyShare;
  readonly setup: OtSetup;
  readonly random: typeof random;
}

/** One batch of kind A, its costs per presignature. */
function presignA(p1: Party, p2: Party, firstId: number, count: number): PresignRun {
  const [watch1, watch2] = [new Stopwatch(), new Stopwatch()];
  const s0 = watch1.run(() => presignP1(p1, firstId, count));
  const s1 = watch2.run(() => presignP2(p2, firstId).receive(s0.send));
  const s2 = watch1.run(() => s0.next.receive(s1.send));
  const s3 = watch2.run(() => s1.next.receive(s2.send));
  const s4 = watch1.run(() => s2.next.receive(s3.send));
  const done = watch2.run(() => s3.next.receive(s4.send));
  const costs = costsOf(watch1, watch2, [s0, s1, s2, s3, s4], count);
  return { ...costs, completing: s4.batch, answering: done.batch };
}

/** The same of kind B, with its MACs. */
function presignB(
  p1: Party & { run: MacRun },
  p2: Party & { run: MacRun },
  firstId: number,
  count: number,
): PresignRun {
  const [watch1, watch2] = [new Stopwatch(), new Stopwatch()];
  const s0 = watch1.run(() => presignP1WithMacs(p1, firstId, count));
  const s1 = watch2.run(() => presignP2WithMacs(p2, firstId).receive(s0.send));
  const s2 = watch1.run(() => s0.next.receive(s1.send));
  const s3 = watch2.run(() => s1.next.receive(s2.send));
  const s4 = watch1.run(() => s2.next.receive(s3.send));
  const s5 = watch2.run(() => s3.next.receive(s4.send));
  const done = watch1.run(() => s4.next.receive(s5.send));
  const costs = costsOf(watch1, watch2, [s0, s1, s2, s3, s4, s5], count);
  return { ...costs, completing: done.batch, answering: s5.batch };
}

function costsOf(
  watch1: Stopwatch,
  watch2: Stopwatch,
  steps: readonly { readonly send: Uint8Array }[],
  count: number,
) {
  const bytes = steps.reduce((sum, { send }) => sum + send.length, 0);
  return { p1Ms: watch1.ms / count, p2Ms: watch2.ms / count, bytes: bytes / count };
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

/** Times of each protocol, and what goes over the link for it. */
export async function benchThreshold(): Promise<Figures> {
  say("key generation");
  const keygen = Array.from({ length: 7 }, () => {
    const watch = new Stopwatch();
    return { ms: watch.run(generateKey) && watch.ms };
  });
  const { gateway, device } = generateKey();

  say("OT setup");
  const setUp = (kind: Kind) => {
    const [first, second] = sideOf("gateway", kind) === "P1" ? [gateway, device] : [device, gateway];
    const [watch1, watch2] = [new Stopwatch(), new Stopwatch()];
    const begun = watch1.run(() => setupP1(first, kind, random));
    const { send, setup } = watch2.run(() => setupP2(second, kind, random).receive(begun.send));
    const p1 = { share: first, setup: watch1.run(() => begun.next.receive(send)), random };
    return { p1, p2: { share: second, setup, random }, p1Ms: watch1.ms, p2Ms: watch2.ms };
  };
  const setups = Array.from({ length: 3 }, () => setUp("A"));
  const ofA = setups[0]!;
  const ofB = setUp("B");

  say("a run of MACs");
  const runs = Array.from({ length: 5 }, () => {
    const watch = new Stopwatch();
    const m0 = watch.run(() => macRunGateway(ofA.p1));
    const m1 = watch.run(() => macRunDevice(ofA.p2).receive(m0.send));
    const byGateway = watch.run(() => m0.next.receive(m1.send));
    return { ms: watch.ms, bytes: m0.send.length + m1.send.length, byGateway, byDevice: m1.run };
  });
  const { byGateway, byDevice, bytes: runBytes } = runs[0]!;

  let firstId = 0;
  const batches = (kind: Kind, count: number, rounds: number): PresignRun[] =>
    Array.from({ length: rounds }, (_, round) => {
      say(`presigning kind ${kind}, batch of ${count}, ${round + 1} of ${rounds}`);
      const made =
        kind === "A"
          ? presignA(ofA.p1, ofA.p2, firstId, count)
          : presignB({ ...ofB.p1, run: byDevice }, { ...ofB.p2, run: byGateway }, firstId, count);
      firstId += count;
      return made;
    });
  batches("A", 16, 2); // warms up
  const of16 = batches("A", 16, 7);
  const of64 = batches("A", 64, 3);
  batches("B", 16, 1);
  const ofB16 = batches("B", 16, 7);
  const ofB64 = batches("B", 64, 3);

  say("online signing");
  const { answering, completing } = of16[0]!;
  const record = answering.records.slice(0, 64);
  const z = random(32);
  const byBigInt = await loadOnline("bigint");
  const byLimbs = await loadOnline("limbs");
  for (const { online } of [byBigInt, byLimbs]) {
    completeVerified(completing.records.slice(0, 96), online.answer(record, z), z, gateway.joint);
  }
  const exit = ofB16[0]!;
  const { mac, firstId: exitId } = exit.completing;
  const keys = concat([mac!.slice(0, 32), macKeys(mac!.slice(32), exitId)]);
  const answer = byBigInt.online.answerWithMac(exit.answering.records.slice(0, 128), z);
  const [s2, answerMac] = [answer.slice(0, 32), answer.slice(32)];
  for (const { online } of [byBigInt, byLimbs]) {
    if (!online.isAuthentic(keys, z, s2, answerMac)) throw new Error("an honest answer is not authentic");
  }
  completeVerified(exit.completing.records.slice(0, 96), s2, z, gateway.joint);
  noble.hashes.sha256 = sha256;
  noble.hashes.hmacSha256 = (key, message) => hmac(sha256, key, message);
  const key = secp256k1.utils.randomSecretKey();
  const nobleSignUs = microseconds(() => noble.sign(z, key, { prehash: false }), 60);
  const onlineUs = microseconds(() => byBigInt.online.answer(record, z), 5_000);
  const onlineLimbsUs = microseconds(() => byLimbs.online.answer(record, z), 5_000);
  const authenticateUs = microseconds(() => byBigInt.online.isAuthentic(keys, z, s2, answerMac), 5_000);
  const authenticateLimbsUs = microseconds(() => byLimbs.online.isAuthentic(keys, z, s2, answerMac), 5_000);

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
    presignMsP1KindB: median(ofB16.map(({ p1Ms }) => p1Ms)),
    presignMsP2KindB: median(ofB16.map(({ p2Ms }) => p2Ms)),
    presignMsP1KindBBatch64: median(ofB64.map(({ p1Ms }) => p1Ms)),
    presignMsP2KindBBatch64: median(ofB64.map(({ p2Ms }) => p2Ms)),
    presignBytesKindB: ofB16[0]!.bytes,
    presignBytesKindBBatch64: ofB64[0]!.bytes,
    macRunMs: median(runs.map(({ ms }) => ms)),
    macRunBytes: runBytes,
    onlineDeviceUs: onlineUs,
    onlineDeviceUsLimbs: onlineLimbsUs,
    authenticateUs,
    authenticateUsLimbs: authenticateLimbsUs,
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

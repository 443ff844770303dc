/** Both parties of a key in one process, for the tests of this folder. */
import { createHash } from "node:crypto";
import { expect } from "@jest/globals";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import * as noble from "@noble/secp256k1";
import { concat, u32be } from "../../src/bytes/bytes.ts";
import { addMod } from "../../src/crypto/scalar.ts";
import { toBigInt } from "../../src/crypto/scalar-bigint.ts";
import { keygenDevice, keygenGateway } from "../../src/threshold/keygen.ts";
import { type KeyShare, makeKeyShare } from "../../src/threshold/keyshare.ts";
import { answer, answerWithMac, complete, isAuthentic } from "../../src/threshold/online.ts";
import { G, randomScalar } from "../../src/threshold/points.ts";
import { MacRun, macRunDevice, macRunGateway } from "../../src/threshold/presigning/mac.ts";
import { macKeys } from "../../src/threshold/presigning/mac-keys.ts";
import { presignP1, presignP1WithMacs } from "../../src/threshold/presigning/p1.ts";
import { presignP2, presignP2WithMacs } from "../../src/threshold/presigning/p2.ts";
import type { Batch, Run } from "../../src/threshold/records.ts";
import { type Kind, OtSetup, setupP1, setupP2, sideOf } from "../../src/threshold/transfer/setup.ts";
import type { Random } from "../../src/threshold/turns.ts";

import { dealTransfers } from "./second.ts";

const { Fn } = secp256k1.Point;

/** Reproducible random bytes: a failing run fails again. */
export function seededRandom(seed: string): Random {
  let count = 0;
  return length => {
    const parts: Uint8Array[] = [];
    for (let have = 0; have < length; have += 32) {
      parts.push(createHash("sha256").update(seed).update(u32be(count++)).digest());
    }
    return concat(parts).slice(0, length);
  };
}

/** Both halves of one key. */
export interface Pair {
  readonly gateway: KeyShare;
  readonly device: KeyShare;
}

const names = { gateway: new Uint8Array([1, 2, 3]), device: new Uint8Array([4, 5]) };

type KeygenMessage = "K0" | "K0'" | "K1" | "K2" | "K3" | "K4 of the device" | "K4 of the gateway";

export function generateKey(
  random: Random,
  tamper: (name: KeygenMessage, message: Uint8Array) => Uint8Array = (_, message) => message,
): Pair {
  const begun = keygenGateway(names, random);
  const d0 = keygenDevice(names, random).receive(tamper("K0", begun.send));
  const g1 = begun.next.receive(tamper("K0'", d0.send));
  const d2 = d0.next.receive(tamper("K1", g1.send));
  const g3 = g1.next.receive(tamper("K2", d2.send));
  const d4 = d2.next.receive(tamper("K3", g3.send));
  const g4 = g3.next.receive(tamper("K4 of the device", d4.send));
  return { gateway: g4.share, device: d4.next.receive(tamper("K4 of the gateway", g4.send)).share };
}

/** A private key that is known, split in two as nobody should ever have to. */
export function splitKey(privateKey: Uint8Array, random: Random, epoch = 0): Pair {
  const sid = random(32);
  const xG = randomScalar(random);
  const xD = Fn.sub(toBigInt(privateKey), xG);
  const joint = G.multiply(toBigInt(privateKey));
  return {
    gateway: makeKeyShare("gateway", sid, epoch, xG, G.multiply(xD), joint),
    device: makeKeyShare("device", sid, epoch, xD, G.multiply(xG), joint),
  };
}

/** The whole key, which only a test may know. */
export function wholeKey({ gateway, device }: Pair): Uint8Array {
  return addMod(gateway.secret, device.secret);
}

/** Both halves of a run of MACs. */
export interface Runs {
  readonly gateway: MacRun;
  readonly device: MacRun;
}

/** Both halves of one kind's oblivious transfers; for kind B with a run of MACs. */
export interface Setups {
  readonly p1: OtSetup;
  readonly p2: OtSetup;
  readonly runs?: Runs;
}

/** The share that plays a side. */
export function shareOf(pair: Pair, kind: Kind, side: "P1" | "P2"): KeyShare {
  return sideOf("gateway", kind) === side ? pair.gateway : pair.device;
}

function transfers(pair: Pair, kind: Kind, random: Random): Setups {
  const begun = setupP1(shareOf(pair, kind, "P1"), kind, random);
  const { send, setup } = setupP2(shareOf(pair, kind, "P2"), kind, random).receive(begun.send);
  return { p1: begun.next.receive(send), p2: setup };
}

export function setUp(pair: Pair, kind: Kind, random: Random): Setups {
  const made = transfers(pair, kind, random);
  return kind === "A" ? made : { ...made, runs: makeRuns(pair, transfers(pair, "A", random), random) };
}

/** The same as a dealer makes them, at a hundredth of the price, for ceremonies that come after them; the run is a real one. */
export function dealSetups(pair: Pair, kind: Kind, random: Random): Setups {
  const { sid, epoch } = pair.gateway;
  const { chooser, sender } = dealTransfers({ sid, epoch }, kind, random);
  const made = {
    p1: new OtSetup(kind, "P1", epoch, chooser.sid, concat([chooser.delta, ...chooser.seeds])),
    p2: new OtSetup(kind, "P2", epoch, sender.sid, concat(sender.seeds.flat())),
  };
  return kind === "A" ? made : { ...made, runs: makeRuns(pair, dealSetups(pair, "A", random), random) };
}

/** A new run of MACs on kind A's transfers. */
export function makeRuns(
  pair: Pair,
  ofKindA: Setups,
  random: Random,
  tamper: (name: "M0" | "M1", message: Uint8Array) => Uint8Array = (_, message) => message,
): Runs {
  const gateway = macRunGateway({ share: pair.gateway, setup: ofKindA.p1, random });
  const device = macRunDevice({ share: pair.device, setup: ofKindA.p2, random });
  const { send, run } = device.receive(tamper("M0", gateway.send));
  return { gateway: gateway.next.receive(tamper("M1", send)), device: run };
}

/** Setups as they come back from storage: what RESET destroys in one copy lives on in another. */
export function copyOf({ p1, p2, runs }: Setups): Setups {
  return {
    p1: OtSetup.fromBytes(p1.toBytes()),
    p2: OtSetup.fromBytes(p2.toBytes()),
    ...(runs ? { runs: copyOfRuns(runs) } : {}),
  };
}

export function copyOfRuns({ gateway, device }: Runs): Runs {
  return { gateway: MacRun.fromBytes(gateway.toBytes()), device: MacRun.fromBytes(device.toBytes()) };
}

export interface Presigned {
  /** P1's records, r ‖ κ ‖ c. */
  readonly completing: Batch;
  /** P2's records, w ‖ v. */
  readonly answering: Batch;
}

/** May change a message on its way. */
export type Tamper = (name: "S0" | "S1" | "S2" | "S3" | "S4" | "S5", message: Uint8Array) => Uint8Array;

export function presign(
  pair: Pair,
  setups: Setups,
  count: number,
  random: Random,
  { firstId = 0, tamper = (_, message) => message }: { firstId?: number; tamper?: Tamper } = {},
): Presigned {
  const { kind } = setups.p1;
  const one = { share: shareOf(pair, kind, "P1"), setup: setups.p1, random };
  const two = { share: shareOf(pair, kind, "P2"), setup: setups.p2, random };
  if (kind === "A") {
    const p1 = presignP1(one, firstId, count);
    const s1 = presignP2(two, firstId).receive(tamper("S0", p1.send));
    const s2 = p1.next.receive(tamper("S1", s1.send));
    const s3 = s1.next.receive(tamper("S2", s2.send));
    const s4 = s2.next.receive(tamper("S3", s3.send));
    const done = s3.next.receive(tamper("S4", s4.send));
    return { completing: s4.batch, answering: done.batch };
  }
  const { gateway, device } = setups.runs!;
  const p1 = presignP1WithMacs({ ...one, run: device }, firstId, count);
  const s1 = presignP2WithMacs({ ...two, run: gateway }, firstId).receive(tamper("S0", p1.send));
  const s2 = p1.next.receive(tamper("S1", s1.send));
  const s3 = s1.next.receive(tamper("S2", s2.send));
  const s4 = s2.next.receive(tamper("S3", s3.send));
  const s5 = s3.next.receive(tamper("S4", s4.send));
  const done = s4.next.receive(tamper("S5", s5.send));
  return { completing: done.batch, answering: s5.batch };
}

/** P2's answer by its i-th record, and the MAC of it where there is one. */
export function answerBy(answering: Batch, i: number, z: Uint8Array): { s2: Uint8Array; mac: Uint8Array } {
  const record = recordAt(answering, i);
  const whole = answering.kind === "B" ? answerWithMac(record, z) : answer(record, z);
  return { s2: whole.slice(0, 32), mac: whole.slice(32) };
}

/** α ‖ b_w ‖ b_v of the i-th record, as the device has them. */
export function macKeysAt({ mac, firstId }: Batch, i: number): Uint8Array {
  return concat([mac!.subarray(0, 32), macKeys(mac!.subarray(32), firstId + i)]);
}

/** The i-th record of a batch. */
export function recordAt({ records, count }: Batch, i: number): Uint8Array {
  const size = records.length / count;
  return records.slice(i * size, (i + 1) * size);
}

/** Presigns, and signs as many random messages; both libraries verify, and the MACs of kind B are right. */
export function signAndVerify(pair: Pair, setups: Setups, { firstId, count }: Run, random: Random): void {
  const { answering, completing } = presign(pair, setups, count, random, { firstId });
  for (let i = 0; i < count; i++) {
    const z = random(32);
    const { s2, mac } = answerBy(answering, i, z);
    const signature = complete(recordAt(completing, i), s2);
    if (completing.kind === "B") expect(isAuthentic(macKeysAt(completing, i), z, s2, mac)).toBe(true);
    expect(secp256k1.verify(signature, z, pair.gateway.joint, { prehash: false, lowS: true })).toBe(true);
    // The same by the other library, for some: it is the slower one.
    if (i % 16 === 0) expect(noble.verify(signature, z, pair.gateway.joint, { prehash: false })).toBe(true);
  }
}

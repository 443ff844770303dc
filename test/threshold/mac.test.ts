/**
 * The MACs of kind B's records: what both sides hold in the end, every message altered, and the shortcuts that break
 * them, each carried out without its guard and refused with it.
 */
import { beforeAll, describe, expect, test } from "@jest/globals";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { concat, equal, toHex } from "../../src/bytes/bytes.ts";
import { fromBigInt, N, toBigInt } from "../../src/crypto/scalar-bigint.ts";
import { codeOf } from "../../src/errors.ts";
import { afterAbort, consequenceOf, NO_ABORTS } from "../../src/threshold/abort.ts";
import { complete, isAuthentic } from "../../src/threshold/online.ts";
import { G } from "../../src/threshold/points.ts";
import {
  asNumbers,
  type Both,
  type Checked,
  ensureMacs,
  MAC_CORRECTION_BYTES,
  MacRun,
  macRunDevice,
  macRunGateway,
  receiveMacs,
  sendMacs,
} from "../../src/threshold/presigning/mac.ts";
import { macKeys } from "../../src/threshold/presigning/mac-keys.ts";
import { presignP1, presignP1WithMacs } from "../../src/threshold/presigning/p1.ts";
import { presignP2, presignP2WithMacs } from "../../src/threshold/presigning/p2.ts";
import type { Batch } from "../../src/threshold/records.ts";
import type { Random } from "../../src/threshold/turns.ts";
import { codeThrownBy } from "../thrown.ts";
import {
  answerBy,
  copyOf,
  copyOfRuns,
  dealSetups,
  generateKey,
  macKeysAt,
  makeRuns,
  type Pair,
  type Presigned,
  presign,
  type Runs,
  recordAt,
  type Setups,
  seededRandom,
  type Tamper,
  wholeKey,
} from "./parties.ts";

const random = seededRandom("macs");
const { Fn } = secp256k1.Point;
const COUNT = 4;
const TRANSFERS = 416;

let pair: Pair;
let ofKindA: Setups;
let setups: Setups;
let runs: Runs;
let presigned: Presigned;

beforeAll(() => {
  pair = generateKey(random);
  ofKindA = dealSetups(pair, "A", random);
  setups = dealSetups(pair, "B", random);
  runs = setups.runs!;
  presigned = presign(pair, copyOf(setups), 8, random);
});

function flip(message: Uint8Array, at: number): Uint8Array {
  return message.map((byte, i) => (i === at ? byte ^ 1 : byte));
}

const numbers = (bytes: Uint8Array) =>
  Array.from({ length: bytes.length / 32 }, (_, i) => toBigInt(bytes.slice(32 * i, 32 * i + 32)));

test("every record of a batch has MACs of its own w and v, under keys that only the device has", () => {
  const { answering, completing } = presigned;
  const alpha = runs.device.alpha;
  expect(toHex(completing.mac!.subarray(0, 32))).toBe(toHex(fromBigInt(alpha)));
  expect(answering.mac).toBeUndefined();
  for (let i = 0; i < answering.count; i++) {
    const [w, v, ofW, ofV] = numbers(recordAt(answering, i)) as [bigint, bigint, bigint, bigint];
    const [, bw, bv] = numbers(macKeysAt(completing, i)).map(value => Fn.create(value)) as [
      bigint,
      bigint,
      bigint,
    ];
    expect([ofW, ofV]).toEqual([Fn.add(Fn.mul(alpha, w), bw), Fn.add(Fn.mul(alpha, v), bv)]);
  }
});

/** A forgery by one who knows α: the answer for another hash, with the MAC that makes the device believe it is right. */
function forged(answering: Batch, i: number, alpha: bigint, expected: Uint8Array, wanted: Uint8Array) {
  const [w, v, ofW, ofV] = numbers(recordAt(answering, i)) as [bigint, bigint, bigint, bigint];
  const answerFor = (z: Uint8Array) => Fn.add(Fn.mul(w, Fn.create(toBigInt(z))), v);
  const error = Fn.sub(answerFor(wanted), answerFor(expected));
  const honest = Fn.add(Fn.mul(Fn.create(toBigInt(expected)), ofW), ofV);
  const mac = fromBigInt(Fn.add(honest, Fn.mul(alpha, error))).slice(16);
  return { s2: fromBigInt(answerFor(wanted)), mac };
}

test("whoever knows α has a signature of any hash; whoever does not is refused, answer by answer", () => {
  const { answering, completing } = presigned;
  const [expected, wanted] = [random(32), random(32)];
  const check = (alpha: bigint) => {
    const { s2, mac } = forged(answering, 0, alpha, expected, wanted);
    const signature = complete(recordAt(completing, 0), s2);
    expect(secp256k1.verify(signature, wanted, pair.gateway.joint, { prehash: false, lowS: true })).toBe(
      true,
    );
    return isAuthentic(macKeysAt(completing, 0), expected, s2, mac);
  };
  expect(check(runs.device.alpha)).toBe(true);
  for (let guess = 0; guess < 20; guess++) expect(check(toBigInt(random(32)) % N)).toBe(false);
  // Answers of other records, and other messages' answers of the same one.
  for (let i = 0; i < answering.count; i++) {
    for (const z of [expected, wanted]) {
      const { s2, mac } = answerBy(answering, i, z);
      expect(isAuthentic(macKeysAt(completing, 0), expected, s2, mac)).toBe(i === 0 && z === expected);
    }
  }
});

describe("a run", () => {
  const extension = 128 * 80;
  test.each([
    ["M0", "nonce", 7, "threshold-extension-check"],
    ["M1", "nonce", 7, "threshold-extension-check"],
    ["M1", "first row of u", 32, "threshold-extension-check"],
    ["M1", "last row of u", 32 + extension - 1, "threshold-extension-check"],
    ["M1", "x̂", 32 + extension, "threshold-extension-check"],
    ["M1", "last t̂", 32 + extension + 16 + 2047, "threshold-extension-check"],
  ] as const)("%s with another %s is refused", (name, _, at, code) => {
    const on = copyOf(ofKindA);
    const run = () => makeRuns(pair, on, random, (each, m) => (each === name ? flip(m, at) : m));
    expect(codeThrownBy(run)).toBe(code);
    expect(on.p1.destroyed).toBe(true);
  });

  test.each(["M0", "M1"] as const)("%s truncated, lengthened or empty is refused", name => {
    for (const change of [
      (m: Uint8Array) => m.subarray(1),
      (m: Uint8Array) => concat([m, m]),
      () => new Uint8Array(0),
    ]) {
      const run = () => makeRuns(pair, copyOf(ofKindA), random, (each, m) => (each === name ? change(m) : m));
      expect(codeThrownBy(run)).toBe("threshold-bad-message");
    }
  });

  test("M1 of an earlier run is refused", () => {
    let earlier: Uint8Array | undefined;
    makeRuns(pair, copyOf(ofKindA), random, (name, m) => {
      if (name === "M1") earlier = m;
      return m;
    });
    const replayed = () =>
      makeRuns(pair, copyOf(ofKindA), random, (name, m) => (name === "M1" ? earlier! : m));
    expect(codeThrownBy(replayed)).toBe("threshold-extension-check");
  });

  test("is made of kind A's transfers, by their sides, and cuts off a batch in flight", () => {
    const { gateway, device } = pair;
    const on = copyOf(ofKindA);
    const other = copyOf(setups);
    expect(codeThrownBy(() => macRunGateway({ share: gateway, setup: on.p2, random }))).toBe("bad-ot-setup");
    expect(codeThrownBy(() => macRunDevice({ share: device, setup: on.p1, random }))).toBe("bad-ot-setup");
    // In kind B the gateway is the one that chooses.
    expect(codeThrownBy(() => macRunDevice({ share: device, setup: other.p1, random }))).toBe("bad-ot-setup");
    expect(codeThrownBy(() => macRunGateway({ share: gateway, setup: other.p2, random }))).toBe(
      "bad-ot-setup",
    );
    const begun = presignP1({ share: gateway, setup: on.p1, random }, 0, COUNT);
    const s1 = presignP2({ share: device, setup: on.p2, random }, 0).receive(begun.send);
    macRunGateway({ share: gateway, setup: on.p1, random });
    expect(codeThrownBy(() => begun.next.receive(s1.send))).toBe("threshold-batch-abandoned");
  });

  test("comes back from storage as it was, and damaged bytes do not", () => {
    for (const run of [runs.device, runs.gateway]) {
      const bytes = run.toBytes();
      expect(toHex(MacRun.fromBytes(bytes).toBytes())).toBe(toHex(bytes));
      const bad = [
        flip(bytes, 0),
        flip(bytes, 1),
        bytes.subarray(1),
        concat([bytes, bytes]),
        new Uint8Array(0),
      ];
      for (const each of bad) expect(codeThrownBy(() => MacRun.fromBytes(each))).toBe("bad-mac-run");
    }
    expect(MacRun.fromBytes(runs.device.toBytes()).alpha).toBe(runs.device.alpha);
  });

  test("belongs to one key, one epoch, one side, and kind B", () => {
    const { device, gateway } = pair;
    const on = copyOf(setups);
    const own = copyOfRuns(runs);
    const p1 = (share = device, run = own.device, setup = on.p1) =>
      codeThrownBy(() => presignP1WithMacs({ share, setup, random, run }, 0, COUNT));
    const p2 = (share = gateway, run = own.gateway, setup = on.p2) =>
      codeThrownBy(() => presignP2WithMacs({ share, setup, random, run }, 0));
    const foreign = new MacRun("device", 0, random(32), random(32), random(52 + 416 * 16));
    expect(p1(device, foreign)).toBe("bad-mac-run");
    expect(p1(device, own.gateway)).toBe("bad-mac-run");
    expect(p2(gateway, own.device)).toBe("bad-mac-run");
    expect(p1({ ...device, epoch: 1 })).toBe("threshold-old-epoch");
    expect(p2({ ...gateway, epoch: 1 })).toBe("threshold-old-epoch");
    expect(p1(device, own.device, copyOf(ofKindA).p1)).toBe("bad-ot-setup");
    // And kind B is never made without.
    expect(codeThrownBy(() => presignP1({ share: device, setup: on.p1, random }, 0, COUNT))).toBe(
      "bad-ot-setup",
    );
    expect(codeThrownBy(() => presignP2({ share: gateway, setup: on.p2, random }, 0))).toBe("bad-ot-setup");
    // Nor with kind A's transfers by their sides, and either one's own half of the run.
    expect(p1(gateway, own.gateway, copyOf(ofKindA).p1)).toBe("bad-ot-setup");
    expect(p2(device, own.device, copyOf(ofKindA).p2)).toBe("bad-ot-setup");
    own.device.destroy();
    expect(p1()).toBe("threshold-setup-destroyed");
    expect(codeThrownBy(() => own.device.toBytes())).toBe("threshold-setup-destroyed");
    expect(codeThrownBy(() => own.device.alpha)).toBe("threshold-setup-destroyed");
  });
});

describe("presigning kind B", () => {
  const S3_EACH = 130 + MAC_CORRECTION_BYTES;
  const lastS3 = (COUNT - 1) * S3_EACH;

  /** What `tamper` leads to, and the setups it happened on. */
  function outcome(tamper: Tamper) {
    const on = copyOf(setups);
    try {
      presign(pair, on, COUNT, random, { tamper });
    } catch (error) {
      expect(String(error)).not.toMatch(/[0-9a-f]{12}|\d+(,\s*\d+){3}/i);
      return { code: codeOf(error), on };
    }
    return { code: undefined, on };
  }
  const changed = (name: string, change: (m: Uint8Array) => Uint8Array) =>
    outcome((each, message) => (each === name ? change(message) : message));

  test.each([
    ["S3", "opening", 20, "threshold-bad-commitment"],
    ["S4", "hash", 3, "threshold-bad-confirmation"],
    ["S4", "offset of w", 32 + 31, "threshold-mac-check"],
    ["S4", "last offset of v", 32 + 64 * COUNT - 1, "threshold-mac-check"],
    ["S5", "sign of the first t_w·T", 0, "threshold-mac-check"],
    ["S5", "sign of the last t_v·T", 66 * COUNT - 33, "threshold-mac-check"],
  ] as const)("%s with another %s is refused", (name, _, at, code) => {
    expect(changed(name, message => flip(message, at)).code).toBe(code);
  });

  test("every correction is looked at: one that is altered is caught exactly where it was chosen", () => {
    let caught = 0;
    for (const [j, which, record] of [
      [0, 0, 0],
      [1, 1, 0],
      [2, 0, 1],
      [3, 1, 2],
      [414, 0, 3],
      [415, 1, 3],
    ] as const) {
      const at = record * S3_EACH + 130 + 32 * (which * TRANSFERS + j) + 31;
      const { code, on } = changed("S3", message => flip(message, at));
      const isChosen = (runs.device.choices[j >> 3]! >> (j & 7)) & 1;
      expect(code).toBe(isChosen ? "threshold-mac-check" : undefined);
      expect([on.runs!.device.destroyed, on.p1.destroyed]).toEqual([isChosen === 1, isChosen === 1]);
      caught += isChosen;
    }
    expect(caught).toBeGreaterThan(0);
    expect(caught).toBeLessThan(6);
  });

  test("scalars of n or more and points off the curve are refused, whatever was chosen", () => {
    const put = (at: number, bytes: Uint8Array) => (message: Uint8Array) => {
      const copy = message.slice();
      copy.set(bytes, at);
      return copy;
    };
    for (const j of [0, 1, 2, 3, 4, 5]) {
      const { code, on } = changed("S3", put(lastS3 + 130 + 32 * j, fromBigInt(N)));
      expect([code, on.runs!.device.destroyed]).toEqual(["threshold-bad-message", false]);
    }
    expect(changed("S4", put(32, fromBigInt(N))).code).toBe("threshold-bad-message");
    expect(changed("S5", put(33, new Uint8Array(33))).code).toBe("threshold-bad-message");
  });

  test.each(["S3", "S4", "S5"] as const)("%s truncated, lengthened or empty is refused", name => {
    for (const change of [
      (m: Uint8Array) => m.subarray(1),
      (m: Uint8Array) => concat([m, new Uint8Array(1)]),
      () => new Uint8Array(0),
    ])
      expect(changed(name, change).code).toBe("threshold-bad-message");
  });

  test("messages of another batch or another run are refused", () => {
    const record = (on: Setups): Map<string, Uint8Array> => {
      const seen = new Map<string, Uint8Array>();
      const note: Tamper = (name, message) => {
        seen.set(name, message);
        return message;
      };
      presign(pair, on, COUNT, random, { tamper: note });
      return seen;
    };
    const sources = [
      record(copyOf(setups)),
      record({ ...copyOf(setups), runs: makeRuns(pair, copyOf(ofKindA), random) }),
    ];
    for (const seen of sources) {
      expect(changed("S3", () => seen.get("S3")!).code).toBe("threshold-bad-commitment");
      expect(changed("S4", () => seen.get("S4")!).code).toBe("threshold-bad-confirmation");
      expect(changed("S5", () => seen.get("S5")!).code).toBe("threshold-mac-check");
      // The offsets of another batch under the right hash, the corrections of another batch under the right openings.
      const offsets = (m: Uint8Array) => concat([m.subarray(0, 32), seen.get("S4")!.subarray(32)]);
      expect(changed("S4", offsets).code).toBe("threshold-mac-check");
      const corrections = (m: Uint8Array) =>
        concat(
          Array.from({ length: COUNT }, (_, i) => [
            m.subarray(i * S3_EACH, i * S3_EACH + 130),
            seen.get("S3")!.subarray(i * S3_EACH + 130, (i + 1) * S3_EACH),
          ]).flat(),
        );
      expect(changed("S3", corrections).code).toBe("threshold-mac-check");
    }
  });

  test("two halves of different runs are noticed before anything is installed", () => {
    const other = makeRuns(pair, copyOf(ofKindA), random);
    const on = { ...copyOf(setups), runs: { gateway: other.gateway, device: copyOfRuns(runs).device } };
    expect(codeThrownBy(() => presign(pair, on, COUNT, random))).toBe("threshold-mac-check");
  });

  test("a step is taken once: the offsets of a batch are never sent twice, not even as a repetition", () => {
    const on = copyOf(setups);
    const own = copyOfRuns(runs);
    const p1 = presignP1WithMacs({ share: pair.device, setup: on.p1, random, run: own.device }, 0, COUNT);
    const p2 = presignP2WithMacs({ share: pair.gateway, setup: on.p2, random, run: own.gateway }, 0);
    const s1 = p2.receive(p1.send);
    expect(s1.end).toBe(COUNT);
    const s2 = p1.next.receive(s1.send);
    const s3 = s1.next.receive(s2.send);
    const s4 = s2.next.receive(s3.send);
    expect(codeThrownBy(() => s2.next.receive(s3.send))).toBe("threshold-step-spent");
    const s5 = s3.next.receive(s4.send);
    expect(codeThrownBy(() => s3.next.receive(s4.send))).toBe("threshold-step-spent");
    s4.next.receive(s5.send);
    expect(codeThrownBy(() => s4.next.receive(s5.send))).toBe("threshold-step-spent");
  });
});

describe("the traps", () => {
  /** One record's values as the gateway has them, and what the device's side checks them by. */
  function someRecord() {
    const [k, r, x1] = [random(32), random(32), random(32)].map(bytes => Fn.create(toBigInt(bytes)));
    const w = Fn.inv(k!);
    const x2 = Fn.sub(toBigInt(wholeKey(pair)), Fn.mul(x1!, k!));
    const values: Both = [w, Fn.mul(Fn.mul(w, r!), x2)];
    return { k: k!, r: r!, x1: x1!, values };
  }

  /** Both sides' parts for one record under the keys `wanted`; `change` may alter the corrections on their way. */
  function authenticate(
    on: Runs,
    values: Both,
    wanted: Both,
    change: (corrections: Uint8Array) => void = () => {},
    sessionId = random(32),
  ) {
    const corrections = new Uint8Array(MAC_CORRECTION_BYTES);
    const own = sendMacs(on.gateway, sessionId, values, corrections);
    change(corrections);
    const received = receiveMacs(on.device, sessionId, corrections);
    const offsets = wanted.map((key, which) => Fn.sub(key, Fn.create(received[which]!)));
    const macs = own.map((mac, which) => Fn.add(Fn.create(mac), offsets[which]!)) as [bigint, bigint];
    return { offsets, own, macs };
  }

  /** Adds `error` to the correction of w at column j. */
  const shift = (j: number, error: bigint) => (corrections: Uint8Array) => {
    const at = 32 * j;
    const value = Fn.add(toBigInt(corrections.slice(at, at + 32)), error);
    corrections.set(fromBigInt(value), at);
  };

  const checkedBy = (
    { k, r, x1 }: ReturnType<typeof someRecord>,
    keys: Both,
    macs: readonly [bigint, bigint],
  ): Checked => ({
    nonce: G.multiply(k),
    r,
    x1,
    keys,
    claims: [G.multiply(Fn.mul(macs[0], k)), G.multiply(Fn.mul(macs[1], k))],
  });

  test("a key tied to the record's id alone gives α to one aborted batch whose id comes again", () => {
    const key = random(32);
    const twoBatches = (keyOf: (batch: number) => Uint8Array) => {
      const batch = (number: number) => {
        const { values } = someRecord();
        return { w: values[0], ...authenticate(runs, values, asNumbers(macKeys(keyOf(number), 7))) };
      };
      const [first, second] = [batch(0), batch(1)];
      // All of this the gateway has: two equations t = α·w + b with one b.
      return Fn.mul(Fn.sub(first.macs[0], second.macs[0]), Fn.inv(Fn.sub(first.w, second.w)));
    };
    const alpha = twoBatches(() => key);
    expect(alpha).toBe(runs.device.alpha);
    const { answering, completing } = presigned;
    const [expected, wanted] = [random(32), random(32)];
    const { s2, mac } = forged(answering, 1, alpha, expected, wanted);
    expect(isAuthentic(macKeysAt(completing, 1), expected, s2, mac)).toBe(true);
    // The guard: every batch has a key of its own.
    expect(twoBatches(() => random(32))).not.toBe(runs.device.alpha);
  });

  test("the key of a batch is another one even if the device's random numbers repeat and the gateway's do not", () => {
    const repeating = (): Random => seededRandom("stuck");
    const begin = (gatewayRandom: Random) => {
      const on = copyOf(setups);
      const own = copyOfRuns(runs);
      const p1 = presignP1WithMacs(
        { share: pair.device, setup: on.p1, random: repeating(), run: own.device },
        0,
        COUNT,
      );
      const p2 = presignP2WithMacs(
        { share: pair.gateway, setup: on.p2, random: gatewayRandom, run: own.gateway },
        0,
      );
      const s1 = p2.receive(p1.send);
      const s2 = p1.next.receive(s1.send);
      const s3 = s1.next.receive(s2.send);
      const s4 = s2.next.receive(s3.send);
      const s5 = s3.next.receive(s4.send);
      return { nonce: p1.send.slice(0, 32), answering: s5.batch, completing: s4.next.receive(s5.send).batch };
    };
    // The same nonce of its own as well, so that only its nonce shares differ.
    const nonceThen = (seed: string): Random => {
      const rest = seededRandom(seed);
      let isFirst = true;
      return length => {
        if (!isFirst) return rest(length);
        isFirst = false;
        return new Uint8Array(length).fill(9);
      };
    };
    const [first, second] = [begin(nonceThen("one")), begin(nonceThen("two"))];
    expect(toHex(first.nonce)).toBe(toHex(second.nonce));
    expect(equal(first.completing.mac!.subarray(32), second.completing.mac!.subarray(32))).toBe(false);
    const [a, b] = [first, second].map(({ answering }) => numbers(recordAt(answering, 0)));
    expect(a![0]).not.toBe(b![0]);
    const alpha = Fn.mul(Fn.sub(a![2]!, b![2]!), Fn.inv(Fn.sub(a![0]!, b![0]!)));
    expect(alpha).not.toBe(runs.device.alpha);
  });

  test("weights that the gateway foresees let errors of two records cancel, whatever the device's bits are", () => {
    const weights = seededRandom("foreseen");
    const foreseen = Array.from({ length: 4 }, () => BigInt(`0x${toHex(weights(16))}`));
    const attack = (j: number, weighing: Random) => {
      const [one, two] = [someRecord(), someRecord()];
      const keys = [asNumbers(random(64)), asNumbers(random(64))] as const;
      // λ·e·(k2 + r1) of the one is the other's negative.
      const e = 1n;
      const e2 = Fn.neg(Fn.mul(Fn.mul(foreseen[0]!, one.k), Fn.inv(Fn.mul(foreseen[2]!, two.k))));
      const first = authenticate(runs, one.values, keys[0], shift(j, e));
      const second = authenticate(runs, two.values, keys[1], shift(j, e2));
      ensureMacs(
        runs.device.alpha,
        pair.device.joint,
        [checkedBy(one, keys[0], first.macs), checkedBy(two, keys[1], second.macs)],
        weighing,
      );
    };
    const chosen = Array.from({ length: TRANSFERS }, (_, j) => j).find(
      j => (runs.device.choices[j >> 3]! >> (j & 7)) & 1,
    )!;
    attack(chosen, seededRandom("foreseen"));
    expect(codeThrownBy(() => attack(chosen, random))).toBe("threshold-mac-check");
  });

  test("without RESET, wrong values in one column at a time tell the device's bits, and with them α", () => {
    const record = someRecord();
    const keys = asNumbers(random(64));
    const bits = new Uint8Array(TRANSFERS / 8);
    let failures = 0;
    for (let j = 0; j < TRANSFERS; j++) {
      const { macs } = authenticate(runs, record.values, keys, shift(j, 1n));
      try {
        ensureMacs(runs.device.alpha, pair.device.joint, [checkedBy(record, keys, macs)], random);
      } catch (error) {
        expect(codeOf(error)).toBe("threshold-mac-check");
        bits[j >> 3] = bits[j >> 3]! | (1 << (j & 7));
        failures++;
      }
    }
    // Never the same run after a failure: this many times it would have been another.
    expect(failures).toBeGreaterThan(100);
    const known = new MacRun(
      "device",
      0,
      pair.device.sid,
      runs.gateway.id,
      concat([bits, new Uint8Array(416 * 16)]),
    );
    expect(known.alpha).toBe(runs.device.alpha);
    const { answering, completing } = presigned;
    const [expected, wanted] = [random(32), random(32)];
    const { s2, mac } = forged(answering, 2, known.alpha, expected, wanted);
    expect(isAuthentic(macKeysAt(completing, 2), expected, s2, mac)).toBe(true);
  });

  test("with RESET, the first wrong guess ends the run, and the next one has another α; the third is a LOCK", () => {
    const alphas = new Set<bigint>();
    const kindA = copyOf(ofKindA);
    let status = NO_ABORTS;
    for (let reset = 1; reset <= 3; reset++) {
      const on = { ...copyOf(setups), runs: makeRuns(pair, kindA, random) };
      const { alpha } = on.runs.device;
      alphas.add(alpha);
      const wrong: Tamper = (name, m) => (name === "S5" ? concat([m.subarray(33, 66), m.subarray(33)]) : m);
      let thrown: unknown;
      try {
        presign(pair, on, COUNT, random, { tamper: wrong });
      } catch (error) {
        thrown = error;
      }
      expect([codeOf(thrown), consequenceOf(thrown)]).toEqual(["threshold-mac-check", "reset"]);
      expect(codeThrownBy(() => on.runs.device.alpha)).toBe("threshold-setup-destroyed");
      expect(codeThrownBy(() => on.p1.toBytes())).toBe("threshold-setup-destroyed");
      const after = afterAbort(status, thrown);
      expect(after).toMatchObject({ alarm: true, consequence: reset < 3 ? "reset" : "lock" });
      status = after.status;
    }
    expect(alphas.size).toBe(3);
  });

  test("without the check at all, the same guesses would be tried on the device, a record each", () => {
    // A batch whose first column is wrong: its answers are authentic exactly if that bit is not chosen.
    for (const j of [0, 1, 2, 3, 4, 5, 6, 7]) {
      const { values } = someRecord();
      const key = random(32);
      const { macs } = authenticate(runs, values, asNumbers(macKeys(key, 0)), shift(j, 1n));
      const z = random(32);
      const linear = (a: bigint, b: bigint) => Fn.add(Fn.mul(a, Fn.create(toBigInt(z))), b);
      const mac = fromBigInt(linear(macs[0], macs[1])).slice(16);
      const keys = concat([fromBigInt(runs.device.alpha), macKeys(key, 0)]);
      const isChosen = ((runs.device.choices[j >> 3]! >> (j & 7)) & 1) === 1;
      expect(isAuthentic(keys, z, fromBigInt(linear(values[0], values[1])), mac)).toBe(!isChosen);
    }
  });
});

/** Attacks on the protocol, each carried out: it must work where its guard is taken away, and fail with it. */
import { beforeAll, describe, expect, test } from "@jest/globals";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { concat, toHex, u32be } from "../../src/bytes/bytes.ts";
import { fromBigInt, toBigInt } from "../../src/crypto/scalar-bigint.ts";
import {
  type AbortStatus,
  afterAbort,
  consequenceOf,
  ensureNotAborted,
  NO_ABORTS,
  ownerConfirms,
} from "../../src/threshold/abort.ts";
import { tagged, taggedScalar } from "../../src/threshold/hash.ts";
import { answer } from "../../src/threshold/online.ts";
import { G } from "../../src/threshold/points.ts";
import { presignP1 } from "../../src/threshold/presigning/p1.ts";
import { PresignatureJournal } from "../../src/threshold/records.ts";
import { completeVerified } from "../../src/threshold/signature.ts";
import { extendP2, rowBytesFor } from "../../src/threshold/transfer/extension.ts";
import { combine, prepareWeights } from "../../src/threshold/transfer/field128.ts";
import { OtSetup } from "../../src/threshold/transfer/setup.ts";
import { transpose128 } from "../../src/threshold/transfer/transpose.ts";
import { codeThrownBy } from "../thrown.ts";
import {
  copyOf,
  dealSetups,
  generateKey,
  type Pair,
  type Presigned,
  presign,
  recordAt,
  type Setups,
  seededRandom,
  wholeKey,
} from "./parties.ts";

const random = seededRandom("attacks");
const { Fn } = secp256k1.Point;
const scalar = (bytes: Uint8Array) => toBigInt(bytes);

let pair: Pair;
let setups: Setups;
let presigned: Presigned;

beforeAll(() => {
  pair = generateKey(random);
  setups = dealSetups(pair, "A", random);
  presigned = presign(pair, copyOf(setups), 8, random);
});

describe("a record used for two messages", () => {
  /** What P1 computes from two answers of one record: the other side's w, the nonce, the key. */
  function keyFromReuse(
    record: Uint8Array,
    z: Uint8Array,
    s2: Uint8Array,
    otherZ: Uint8Array,
    otherS2: Uint8Array,
  ) {
    const difference = (a: Uint8Array, b: Uint8Array) => Fn.sub(Fn.create(scalar(a)), Fn.create(scalar(b)));
    const w = Fn.mul(difference(s2, otherS2), Fn.inv(difference(z, otherZ)));
    const [r, kappa, c] = [0, 32, 64].map(at => scalar(record.subarray(at, at + 32)));
    const k = Fn.inv(Fn.mul(kappa!, w));
    const s = Fn.add(Fn.mul(kappa!, scalar(s2)), c!);
    return fromBigInt(Fn.mul(Fn.sub(Fn.mul(s, k), Fn.create(scalar(z))), Fn.inv(r!)));
  }

  test("gives the whole key to P1", () => {
    const [z, otherZ] = [random(32), random(32)];
    const record = recordAt(presigned.answering, 0);
    const key = keyFromReuse(
      recordAt(presigned.completing, 0),
      z,
      answer(record, z),
      otherZ,
      answer(record, otherZ),
    );
    expect(toHex(key)).toBe(toHex(wholeKey(pair)));
  });

  test("is refused by the store, which answers another message with another record", () => {
    const store = new PresignatureJournal(pair.device.sid, 0);
    store.activate(presign(pair, copyOf(setups), 4, random).answering);
    const [z, otherZ] = [random(32), random(32)];
    const first = store.take("A", z, record => answer(record, z));
    const second = store.take("A", otherZ, record => answer(record, otherZ));
    expect(second.id).not.toBe(first.id);
    expect(
      store.take("A", z, () => {
        throw new Error("not made twice");
      }),
    ).toEqual(first);
    const reuse = () => store.use("A", first.id, otherZ, record => answer(record, otherZ));
    expect(codeThrownBy(reuse)).toBe("policy-record-reuse");
    try {
      reuse();
    } catch (error) {
      expect(afterAbort(NO_ABORTS, error)).toMatchObject({
        consequence: "lock",
        alarm: true,
        status: { locked: true },
      });
    }
  });

  test("through an old image of the store gives the key away, and the guards against it refuse", () => {
    const store = new PresignatureJournal(pair.device.sid, 0);
    store.activate(presigned.answering);
    const image = [...store.events()].map(event => event.slice());
    const [z, otherZ] = [random(32), random(32)];
    const first = store.take("A", z, record => answer(record, z));

    // No guard: the old image knows nothing of the first message.
    const restored = () => new PresignatureJournal(pair.device.sid, 0, undefined, image);
    const second = restored().take("A", otherZ, record => answer(record, otherZ));
    expect(second.id).toBe(first.id);
    const completing = recordAt(presigned.completing, first.id);
    expect(toHex(keyFromReuse(completing, z, first.answer, otherZ, second.answer))).toBe(
      toHex(wholeKey(pair)),
    );

    // In a later epoch the image has no records.
    const inNextEpoch = new PresignatureJournal(pair.device.sid, 1, undefined, image);
    expect(codeThrownBy(() => inNextEpoch.take("A", otherZ, record => answer(record, otherZ)))).toBe(
      "records-exhausted",
    );
    // The other side's store, for its own half of the record.
    const peer = new PresignatureJournal(pair.gateway.sid, 0);
    peer.activate(presigned.completing);
    peer.use("A", first.id, z, record => completeVerified(record, first.answer, z, pair.gateway.joint));
    const complete = (record: Uint8Array) =>
      completeVerified(record, second.answer, otherZ, pair.gateway.joint);
    expect(codeThrownBy(() => peer.use("A", second.id, otherZ, complete))).toBe("policy-record-reuse");
    // And an image of a later epoch is not taken for this one.
    expect(
      codeThrownBy(() => new PresignatureJournal(pair.device.sid, 0, undefined, [...inNextEpoch.events()])),
    ).toBe("threshold-old-epoch");
  });
});

describe("selective abort against the OT extension", () => {
  const COUNT = 4;
  const COLUMNS = 416 * COUNT;
  const rowBytes = rowBytesFor(COLUMNS);

  /** A P2 that follows the protocol but for what `change` does to u, with x̂ and t̂ made to fit afterwards. */
  function attack(victim: OtSetup, change: (u: Uint8Array) => void) {
    const begun = presignP1({ share: pair.gateway, setup: victim, random }, 0, COUNT);
    const nonce2 = random(32);
    const head = [u32be(0), new Uint8Array([0x41]), u32be(0), new Uint8Array([0, COUNT])];
    const session = tagged("sid", pair.gateway.sid, ...head, begun.send.subarray(0, 32), nonce2);
    const { message, choices, matrix } = extendP2(setups.p2, session, COLUMNS, random);
    const u = message.slice(0, 128 * rowBytes);
    change(u);
    const transcript = tagged("ote-u", session, u);
    const count = COLUMNS / 128;
    const chi = concat(
      Array.from({ length: count }, (_, j) => tagged("ote-chi", transcript, u32be(j)).slice(0, 16)),
    );
    const weights = prepareWeights(chi, count);
    const rows = Array.from({ length: 128 }, (_, i) => matrix.subarray(i * rowBytes, (i + 1) * rowBytes));
    const sums = [choices, ...rows].map(row => combine(weights, row));
    const s1 = concat([nonce2, u, ...sums, random(32 * COUNT)]);
    return { session, choices, matrix, s2: () => begun.next.receive(s1).send };
  }

  /** One session that passes the check exactly if Δ has a zero at i: a bad bit in row i, unless the row is unused. */
  function probe(victim: OtSetup, i: number): 0 | 1 {
    const { s2 } = attack(victim, u => {
      u[i * rowBytes] = u[i * rowBytes]! ^ 1;
    });
    try {
      s2();
      return 0;
    } catch (error) {
      expect(consequenceOf(error)).toBe("reset");
      return 1;
    }
  }

  /** P1's share of the key, from one session with a P1 whose Δ is known. */
  function shareFrom(victim: OtSetup, delta: Uint8Array): Uint8Array {
    const { session, choices, matrix, s2 } = attack(victim, () => {});
    const sid = tagged("sid-i", session, u32be(0));
    const fields = s2().subarray(0, 26_883);
    const at = (offset: number) => scalar(fields.subarray(offset, offset + 32));
    const t = transpose128(matrix, rowBytes, 0, 416);
    const pad = (j: number, row: Uint8Array) =>
      taggedScalar("ote-pad", concat([sid, new Uint8Array(28)]), u32be(j), new Uint8Array([0]), row);
    let sum = 0n;
    let x1 = 0n;
    for (let j = 0; j < 416; j++) {
      const mask = -((choices[j >> 3]! >> (j & 7)) & 1);
      const row = t.slice(16 * j, 16 * j + 16).map((byte, i) => byte ^ (mask & delta[i]!));
      const alpha = pad(j, row);
      sum = Fn.add(sum, Fn.mul(taggedScalar("gadget", sid, u32be(j)), alpha));
      if (j === 0)
        x1 = Fn.add(
          Fn.sub(at(0), alpha),
          pad(
            0,
            row.map((byte, i) => byte ^ delta[i]!),
          ),
        );
    }
    const [r1, cc] = [at(416 * 64 + 97), at(416 * 64 + 129)];
    return fromBigInt(Fn.sub(Fn.add(Fn.neg(sum), Fn.mul(x1, r1)), cc));
  }

  test("without RESET, 128 sessions tell Δ and one more tells the gateway's share", () => {
    const stored = setups.p1.toBytes();
    const delta = new Uint8Array(16);
    let aborted = 0;
    for (let i = 0; i < 128; i++) {
      // The guard taken away: after a failed check this victim goes on with its stored setup.
      const bit = probe(OtSetup.fromBytes(stored), i);
      delta[i >> 3] = delta[i >> 3]! | (bit << (i & 7));
      aborted += bit;
    }
    expect(aborted).toBeGreaterThan(30);
    expect(toHex(delta)).toBe(toHex(setups.p1.delta));
    expect(toHex(shareFrom(OtSetup.fromBytes(stored), delta))).toBe(toHex(pair.gateway.secret));
  });

  test("with RESET, the first failed check ends that setup, and the third all of them", () => {
    let status: AbortStatus = NO_ABORTS;
    for (let reset = 1; reset <= 3; reset++) {
      ensureNotAborted(status);
      const victim = OtSetup.fromBytes(setups.p1.toBytes());
      const firstOne = Array.from({ length: 128 }, (_, i) => i).find(i => probe(victim, i) === 1);
      expect(firstOne).toBeDefined();
      expect(victim.destroyed).toBe(true);
      expect(codeThrownBy(() => probe(victim, 0))).toBe("threshold-setup-destroyed");
      expect(codeThrownBy(() => victim.toBytes())).toBe("threshold-setup-destroyed");
      expect(toHex(victim.delta)).toBe("00".repeat(16));
      const outcome = afterAbort(status, Object.assign(new Error(), { code: "threshold-extension-check" }));
      expect(outcome.alarm).toBe(true);
      expect(outcome.consequence).toBe(reset < 3 ? "reset" : "lock");
      status = outcome.status;
      const waiting = reset < 3 ? "threshold-awaiting-owner" : "threshold-locked";
      expect(codeThrownBy(() => ensureNotAborted(status))).toBe(waiting);
      status = ownerConfirms(status);
    }
    expect(codeThrownBy(() => ensureNotAborted(status))).toBe("threshold-locked");
  });
});

describe("P1's attacks on the multiplication", () => {
  test("corrections for different numbers in different places are caught, and the setup is gone", () => {
    // Right for P2's unchosen pads, wrong for chosen ones: whether P2 notices depends on its bits, that is on k2.
    const on = copyOf(setups);
    const tamper = (name: string, message: Uint8Array) => {
      if (name !== "S2") return message;
      const changed = message.slice();
      changed[64 + 31] = changed[64 + 31]! ^ 1;
      return changed;
    };
    expect(codeThrownBy(() => presign(pair, on, 4, random, { tamper }))).toBe(
      "threshold-multiplication-check",
    );
    expect(on.p2.destroyed).toBe(true);
    expect(on.p1.destroyed).toBe(false); // it learns of it from P2, over the link
  });

  test("a share of another key in place of its own is caught, and the setup is gone", () => {
    const on = copyOf(setups);
    const liar: Pair = { ...pair, gateway: { ...pair.gateway, secret: random(32) } };
    expect(codeThrownBy(() => presign(liar, on, 4, random))).toBe("threshold-share-check");
    expect(on.p2.destroyed).toBe(true);
  });
});

test("a presignature signs under the untweaked key only", () => {
  const z = random(32);
  const s2 = answer(recordAt(presigned.answering, 7), z);
  const tweaked = secp256k1.Point.fromBytes(pair.gateway.joint).add(G.multiply(5n)).toBytes();
  const under = (key: Uint8Array) => () => completeVerified(recordAt(presigned.completing, 7), s2, z, key);
  expect(codeThrownBy(under(tweaked))).toBe("threshold-bad-signature");
  expect(under(pair.gateway.joint)()).toHaveLength(64);
});

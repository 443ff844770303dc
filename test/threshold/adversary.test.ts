/**
 * Our code against a second implementation that was written from the documents (second.ts). Where both play honestly they agree,
 * so the documents say what the code does; then the second one lies in one value at a time, with everything else made to fit it,
 * which a message that is altered on its way never is.
 */
import { describe, expect, test } from "@jest/globals";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { toHex } from "../../src/bytes/bytes.ts";
import { toBigInt } from "../../src/crypto/scalar-bigint.ts";
import { codeOf } from "../../src/errors.ts";
import { keygenDevice, keygenGateway } from "../../src/threshold/keygen.ts";
import { complete, isAuthentic } from "../../src/threshold/online.ts";
import { type MacRun, macRunDevice, macRunGateway } from "../../src/threshold/presigning/mac.ts";
import { presignP1, presignP1WithMacs } from "../../src/threshold/presigning/p1.ts";
import { presignP2, presignP2WithMacs } from "../../src/threshold/presigning/p2.ts";
import type { Batch } from "../../src/threshold/records.ts";
import { type OtSetup, setupP1, setupP2 } from "../../src/threshold/transfer/setup.ts";
import type { Random } from "../../src/threshold/turns.ts";
import { answering, completing, type Dealt, deal, ours } from "./dealt.ts";
import { answerBy, macKeysAt, recordAt, seededRandom } from "./parties.ts";
import {
  alphaOf,
  answered,
  type ByteLies,
  chooseTransfers,
  hashScalar,
  joined,
  KeygenDevice,
  KeygenGateway,
  type Kind,
  type Lies,
  type Manner,
  mod,
  number,
  ORDER,
  P1,
  P2,
  proof,
  recordKeys,
  runAsDevice,
  runAsGateway,
  scalar,
  sendTransfers,
  signed,
  times,
  word,
} from "./second.ts";

const random = seededRandom("adversary");
const { Point } = secp256k1;
const names = { gateway: new Uint8Array([1, 2, 3]), device: new Uint8Array([4, 5]) };
const COUNT = 4;
const FIRST = 260;
const KINDS: readonly Kind[] = ["A", "B"];

const bitOf = (bytes: Uint8Array, at: number) => (bytes[at >> 3]! >> (at & 7)) & 1;
const flipped = (bytes: Uint8Array, at = 0) => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
const somePoint = () => times(number(random(32))).toBytes();
/** Lies about record `at` only. */
const about =
  (at: number, change: (value: Uint8Array) => Uint8Array) =>
  (value: Uint8Array, i: number): Uint8Array =>
    i === at ? change(value) : value;
const aboutNumber =
  (at: number, change: (value: bigint) => bigint) =>
  (value: bigint, i: number): bigint =>
    i === at ? change(value) : value;
const flippedAt = (at: number) => (bytes: Uint8Array) => flipped(bytes, at);
const flip = flippedAt(0);
const plusOne = (value: bigint) => value + 1n;

/** What it is refused with; an error of the second implementation's own fails the test. */
function refusal(action: () => unknown): string | undefined {
  try {
    action();
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    return code;
  }
  return undefined;
}

const verifies = (signature: Uint8Array, sighash: Uint8Array, key: Uint8Array) =>
  secp256k1.verify(signature, sighash, key, { prehash: false, lowS: true });

/** Proofs by one who does not know the discrete logarithm, of which each needs a challenge that leaves something out. */
const forgery = {
  /** e without A: A is made to fit. */
  withoutCommitment(sid: Uint8Array, role: string, point: Uint8Array): Uint8Array {
    const e = hashScalar("pok", sid, new TextEncoder().encode(role), point);
    const z = mod(number(random(32)));
    return joined([
      times(z)
        .subtract(times(e, Point.fromBytes(point)))
        .toBytes(),
      scalar(z),
    ]);
  },
  /** e without X: X is made to fit. */
  withoutStatement(sid: Uint8Array, role: string): { point: Uint8Array; proven: Uint8Array } {
    const commitment = somePoint();
    const e = hashScalar("pok", sid, new TextEncoder().encode(role), commitment);
    const z = mod(number(random(32)));
    const point = times(Point.Fn.inv(e), times(z).subtract(Point.fromBytes(commitment)));
    return { point: point.toBytes(), proven: joined([commitment, scalar(z)]) };
  },
};

describe("key generation", () => {
  /** Our gateway and a device of the second implementation. */
  function withDevice(manner: (device: () => KeygenDevice) => Omit<Manner, "random"> = () => ({})) {
    const second: KeygenDevice = new KeygenDevice(names, { random, ...manner(() => second) });
    const g0 = keygenGateway(names, random);
    const g1 = g0.next.receive(second.k0(g0.send));
    const g3 = g1.next.receive(second.k2(g1.send));
    const g4 = g3.next.receive(second.k4(g3.send));
    second.end(g4.send);
    return { ours: g4.share, theirs: second.share };
  }

  /** Our device and a gateway of the second implementation. */
  function withGateway(manner: (gateway: () => KeygenGateway) => Omit<Manner, "random"> = () => ({})) {
    const second: KeygenGateway = new KeygenGateway(names, { random, ...manner(() => second) });
    const d0 = keygenDevice(names, random).receive(second.k0());
    const d2 = d0.next.receive(second.k1(d0.send));
    const d4 = d2.next.receive(second.k3(d2.send));
    return { ours: d4.next.receive(second.k4(d4.send)).share, theirs: second.share };
  }

  test.each([
    ["gateway", withDevice],
    ["device", withGateway],
  ] as const)("our %s and the second one's other half make one key", (role, run) => {
    const { ours: own, theirs } = run();
    expect(own.role).toBe(role);
    expect(toHex(own.joint)).toBe(toHex(theirs.joint));
    expect(toHex(own.sid)).toBe(toHex(theirs.sid));
    expect(toHex(times(toBigInt(own.secret) + theirs.x).toBytes())).toBe(toHex(own.joint));
    expect(toHex(own.peer)).toBe(toHex(times(theirs.x).toBytes()));
  });

  /** The same lies by either party. */
  type Maker = (second: () => { sid: Uint8Array }, role: string) => ByteLies;
  const proofs: [string, Maker][] = [
    ["another point than the proven one", () => ({ point: somePoint })],
    [
      "a proof by the other role",
      (second, role) => ({
        proof: () =>
          proof(second().sid, role === "device" ? "gateway" : "device", 5n, times(5n).toBytes(), random),
        point: () => times(5n).toBytes(),
      }),
    ],
    [
      "a proof for another session",
      (_, role) => ({
        proof: () => proof(random(32), role, 5n, times(5n).toBytes(), random),
        point: () => times(5n).toBytes(),
      }),
    ],
    [
      "a proof whose challenge leaves out its commitment",
      (second, role) => {
        const point = somePoint();
        return { point: () => point, proof: () => forgery.withoutCommitment(second().sid, role, point) };
      },
    ],
    [
      "a proof whose challenge leaves out its statement",
      (second, role) => {
        let made: ReturnType<typeof forgery.withoutStatement> | undefined;
        const make = () => {
          made ??= forgery.withoutStatement(second().sid, role);
          return made;
        };
        return { point: () => make().point, proof: () => make().proven };
      },
    ],
  ];

  test.each(proofs)("a device with %s is refused", (_, make) => {
    expect(refusal(() => withDevice(second => ({ bytes: make(second, "device") })))).toBe(
      "threshold-bad-proof",
    );
  });

  test.each(proofs)("a gateway with %s is refused", (_, make) => {
    expect(refusal(() => withGateway(second => ({ bytes: make(second, "gateway") })))).toBe(
      "threshold-bad-proof",
    );
  });

  test("a gateway that had committed to something else is refused, whether it says so before or after", () => {
    const code = (bytes: ByteLies) => refusal(() => withGateway(() => ({ bytes })));
    expect(code({ commitment: () => random(32) })).toBe("threshold-bad-commitment");
    for (const at of [0, 33, 97, 98, 129]) {
      expect(code({ opening: opening => flipped(opening, at) })).toBe("threshold-bad-commitment");
    }
  });

  test("a party that confirms another key is refused", () => {
    const bytes = { confirmation: (hash: Uint8Array) => flipped(hash, 31) };
    expect(refusal(() => withDevice(() => ({ bytes })))).toBe("threshold-bad-confirmation");
    expect(refusal(() => withGateway(() => ({ bytes })))).toBe("threshold-bad-confirmation");
  });
});

test("the base transfers give both implementations the same seeds", () => {
  const kind = "A";
  const of = deal(random);
  const [one, two] = [completing(kind), answering(kind)];
  const ourP1 = setupP1(ours.share(of, one), kind, random);
  const theirP2 = sendTransfers(of.shares[two], kind, ourP1.send, random);
  const p1 = ourP1.next.receive(theirP2.e2);
  const theirP1 = chooseTransfers(of.shares[one], kind, random);
  const ourP2 = setupP2(ours.share(of, two), kind, random).receive(theirP1.e1);
  const chosen = theirP1.end(ourP2.send);
  for (let i = 0; i < 128; i++) {
    const [c, other] = [bitOf(p1.delta, i) as 0 | 1, (1 - bitOf(p1.delta, i)) as 0 | 1];
    expect(toHex(p1.seed(i))).toBe(toHex(theirP2.setup.seeds[i]![c]));
    expect(toHex(p1.seed(i))).not.toBe(toHex(theirP2.setup.seeds[i]![other]));
    const own = bitOf(chosen.delta, i) as 0 | 1;
    expect(toHex(chosen.seeds[i]!)).toBe(toHex(ourP2.setup.seed(i, own)));
    expect(toHex(chosen.seeds[i]!)).not.toBe(toHex(ourP2.setup.seed(i, (1 - own) as 0 | 1)));
  }
  expect(toHex(p1.sid)).toBe(toHex(theirP2.setup.sid));
  expect(toHex(ourP2.setup.sid)).toBe(toHex(chosen.sid));
});

describe("a run of MACs", () => {
  const withDevice = (of: Dealt, setup: OtSetup, manner: Omit<Manner, "random"> = {}) => {
    const begun = macRunGateway({ share: ours.share(of, "gateway"), setup, random });
    const { m1, run } = runAsDevice(of.transfers.A.sender, begun.send, { random, ...manner });
    return { ours: begun.next.receive(m1), theirs: run };
  };

  test("gives both implementations the same seeds, the device's side one of each pair, and α", () => {
    const of = deal(random);
    const { ours: gateway, theirs } = withDevice(of, ours.chooser(of.transfers.A.chooser, "A"));
    const begun = runAsGateway(of.transfers.A.chooser, random);
    const setup = ours.sender(of.transfers.A.sender, "A");
    const { send, run: device } = macRunDevice({ share: ours.share(of, "device"), setup, random }).receive(
      begun.m0,
    );
    const pairs = begun.end(send);
    for (let j = 0; j < 416; j++) {
      const [c, own] = [bitOf(theirs.choices, j) as 0 | 1, bitOf(device.choices, j) as 0 | 1];
      expect(toHex(theirs.seeds[j]!)).toBe(toHex(gateway.seed(j, c)));
      expect(toHex(theirs.seeds[j]!)).not.toBe(toHex(gateway.seed(j, (1 - c) as 0 | 1)));
      expect(toHex(device.seed(j))).toBe(toHex(pairs.seeds[j]![own]));
      expect(toHex(device.seed(j))).not.toBe(toHex(pairs.seeds[j]![1 - own]!));
    }
    expect(device.alpha).toBe(alphaOf({ id: device.id, choices: device.choices, seeds: [] }));
    expect([toHex(gateway.id), toHex(device.id)]).toEqual([toHex(theirs.id), toHex(pairs.id)]);
  });

  test.each([
    ["other choices in a row that is looked at", (row: number) => ({ u: about(row, flip) })],
    ["another sum of its choices", () => ({ x̂: (sum: Uint8Array) => flipped(sum, 15) })],
    ["another sum of its last row", () => ({ t̂: about(127, (sum: Uint8Array) => flipped(sum, 15)) })],
  ] as [string, (row: number) => ByteLies][])(
    "a device's side with %s ends kind A's transfers",
    (_, bytes) => {
      const of = deal(random);
      const row = Array.from({ length: 128 }, (__, i) => i).find(i =>
        bitOf(of.transfers.A.chooser.delta, i),
      )!;
      const setup = ours.chooser(of.transfers.A.chooser, "A");
      expect(refusal(() => withDevice(of, setup, { bytes: bytes(row) }))).toBe("threshold-extension-check");
      expect(setup.destroyed).toBe(true);
    },
  );
});

describe.each(KINDS)("presigning of kind %s", kind => {
  const [one, two] = [completing(kind), answering(kind)];
  const isB = kind === "B";

  interface Ours {
    readonly setup: OtSetup;
    readonly run: MacRun;
    readonly random?: Random;
  }

  /** Our P1 and a P2 of the second implementation. */
  function withP2(
    of: Dealt,
    lies: Omit<Manner, "random"> = {},
    own = oursOf(of, "P1"),
  ): { batch: Batch; p2: P2 } {
    const { transfers, shares, run } = of;
    const p2 = new P2(
      shares[two],
      kind,
      transfers[kind].sender,
      { random, ...lies },
      isB ? run.gateway : undefined,
    );
    const presigner = { share: ours.share(of, one), setup: own.setup, random: own.random ?? random };
    if (!isB) {
      const s0 = presignP1(presigner, FIRST, COUNT);
      const s2 = s0.next.receive(p2.s1(s0.send));
      const s4 = s2.next.receive(p2.s3(s2.send));
      p2.s5(s4.send);
      return { batch: s4.batch, p2 };
    }
    const s0 = presignP1WithMacs({ ...presigner, run: own.run }, FIRST, COUNT);
    const s2 = s0.next.receive(p2.s1(s0.send));
    const s4 = s2.next.receive(p2.s3(s2.send));
    return { batch: s4.next.receive(p2.s5(s4.send)).batch, p2 };
  }

  /** Our P2 and a P1 of the second implementation. */
  function withP1(
    of: Dealt,
    lies: Omit<Manner, "random"> = {},
    own = oursOf(of, "P2"),
  ): { batch: Batch; p1: P1 } {
    const { transfers, shares, run } = of;
    const p1 = new P1(
      shares[one],
      kind,
      transfers[kind].chooser,
      { random, ...lies },
      isB ? run.device : undefined,
    );
    const presigner = { share: ours.share(of, two), setup: own.setup, random: own.random ?? random };
    const s0 = p1.s0(FIRST, COUNT);
    if (!isB) {
      const s1 = presignP2(presigner, 0).receive(s0);
      const s3 = s1.next.receive(p1.s2(s1.send));
      return { batch: s3.next.receive(p1.s4(s3.send)).batch, p1 };
    }
    const s1 = presignP2WithMacs({ ...presigner, run: own.run }, 0).receive(s0);
    const s3 = s1.next.receive(p1.s2(s1.send));
    const { send, batch } = s3.next.receive(p1.s4(s3.send));
    p1.end(send);
    return { batch, p1 };
  }

  function oursOf(of: Dealt, side: "P1" | "P2"): Ours {
    const { chooser, sender } = of.transfers[kind];
    const setup = side === "P1" ? ours.chooser(chooser, kind) : ours.sender(sender, kind);
    return { setup, run: ours.run(of, side === "P1" ? one : two) };
  }

  test("our P1 and the second implementation's P2 make signatures of Q, each from one record", () => {
    const of = deal(random);
    const { batch, p2 } = withP2(of);
    for (let i = 0; i < COUNT; i++) {
      const sighash = random(32);
      const { s2, mac } = answered(p2.records[i]!, sighash);
      expect(verifies(complete(recordAt(batch, i), s2), sighash, of.shares.gateway.joint)).toBe(true);
      if (!isB) continue;
      expect(isAuthentic(macKeysAt(batch, i), sighash, s2, mac)).toBe(true);
      expect(isAuthentic(macKeysAt(batch, i), sighash, s2, flipped(mac, 15))).toBe(false);
      expect(toHex(batch.mac!.subarray(0, 32))).toBe(toHex(scalar(alphaOf(of.run.device))));
      const keys = recordKeys(batch.mac!.slice(32), FIRST + i);
      expect(macKeysAt(batch, i).slice(32).length).toBe(64);
      const mod64 = [32, 64].map(at => mod(number(macKeysAt(batch, i).slice(at, at + 32))));
      expect(mod64).toEqual(keys);
    }
    expect([batch.firstId, batch.count, batch.kind]).toEqual([FIRST, COUNT, kind]);
  });

  test("the second implementation's P1 and our P2 do so, too", () => {
    const of = deal(random);
    const { batch, p1 } = withP1(of);
    for (let i = 0; i < COUNT; i++) {
      const sighash = random(32);
      const { s2, mac } = answerBy(batch, i, sighash);
      expect(verifies(signed(p1.records[i]!, s2), sighash, of.shares.gateway.joint)).toBe(true);
      if (!isB) continue;
      const [keyW, keyV] = p1.macs.keys[i]!;
      const expected = scalar(p1.macs.alpha * number(s2) + number(sighash) * keyW + keyV).slice(16);
      expect(toHex(mac)).toBe(toHex(expected));
    }
    expect([batch.firstId, batch.count, batch.kind]).toEqual([FIRST, COUNT, kind]);
  });

  /** Lies of P2, what they are refused with, and whether the transfers end with that. */
  const lastRow = (of: Dealt) =>
    127 - Array.from({ length: 128 }, (_, i) => bitOf(of.transfers[kind].chooser.delta, 127 - i)).indexOf(1);
  const proven = (point: Uint8Array, given: Uint8Array) => ({
    R2: about(3, () => point),
    "proof of R2": about(3, () => given),
  });
  const ofP2: [string, string, (of: Dealt) => { numbers?: Lies; bytes?: ByteLies }][] = [
    [
      "other choices in one row",
      "threshold-extension-check",
      of => ({ bytes: { u: about(lastRow(of), row => flipped(row, row.length - 17)) } }),
    ],
    [
      "other choices in the last bits of one row",
      "threshold-extension-check",
      of => ({ bytes: { u: about(lastRow(of), row => flipped(row, row.length - 1)) } }),
    ],
    ["another sum of its choices", "threshold-extension-check", () => ({ bytes: { x̂: flipped } })],
    ["another sum of its first row", "threshold-extension-check", () => ({ bytes: { t̂: about(0, flip) } })],
    [
      "another sum of its last row",
      "threshold-extension-check",
      () => ({ bytes: { t̂: about(127, sum => flipped(sum, 15)) } }),
    ],
    [
      "a commitment to something else",
      "threshold-bad-commitment",
      () => ({ bytes: { commitment: about(3, flip) } }),
    ],
    ...([0, 33, 97, 98, 129] as const).map(
      at =>
        [
          `an opening that differs at ${at}`,
          "threshold-bad-commitment",
          () => ({ bytes: { opening: about(3, opening => flipped(opening, at)) } }),
        ] as [string, string, () => { bytes: ByteLies }],
    ),
    [
      "a nonce point that it does not know",
      "threshold-bad-proof",
      () => ({ bytes: { R2: about(3, somePoint) } }),
    ],
    [
      "a nonce point with another's proof, committed to",
      "threshold-bad-proof",
      () => ({
        bytes: proven(times(5n).toBytes(), proof(random(32), "P2", 5n, times(5n).toBytes(), random)),
      }),
    ],
    [
      "a nonce point off the curve, committed to",
      "threshold-bad-message",
      () => ({ bytes: { R2: about(3, () => joined([new Uint8Array([2]), new Uint8Array(32).fill(255)])) } }),
    ],
    [
      "a proof whose number is n or more",
      "threshold-bad-message",
      () => ({
        bytes: {
          "proof of R2": about(3, given => joined([given.slice(0, 33), new Uint8Array(32).fill(255)])),
        },
      }),
    ],
    [
      "proofs of two nonces whose errors cancel out",
      "threshold-bad-proof",
      () => ({
        bytes: {
          "proof of R2": (given, i) =>
            joined([
              given.slice(0, 33),
              scalar(number(given.slice(33)) + (i === 0 ? 1n : i === 1 ? -1n : 0n)),
            ]),
        },
      }),
    ],
    ...(isB
      ? ([
          ["MACs of another w", () => ({ "w of the corrections": aboutNumber(3, plusOne) })],
          ["MACs of another v", () => ({ "v of the corrections": aboutNumber(0, plusOne) })],
          ["another MAC of w", () => ({ t_w: aboutNumber(0, plusOne) })],
          ["another MAC of v", () => ({ t_v: aboutNumber(3, plusOne) })],
        ] as const)
      : []
    ).map(
      ([name, numbers]) =>
        [name, "threshold-mac-check", () => ({ numbers: numbers() })] as [
          string,
          string,
          () => { numbers: Lies },
        ],
    ),
  ];

  // What is not of kind B alone is the same in both kinds.
  test.each(isB ? ofP2.slice(-4) : ofP2)("a P2 with %s is refused (%s)", (_, code, lies) => {
    const of = deal(random);
    const own = oursOf(of, "P1");
    expect(refusal(() => withP2(of, lies(of), own))).toBe(code);
    const ends = ["threshold-extension-check", "threshold-mac-check"].includes(code);
    expect([own.setup.destroyed, own.run.destroyed]).toEqual([ends, ends && isB]);
  });

  // What P2 looks at depends on its bits: about half of the columns tell whether they are.
  const MULTIPLICATION = "threshold-multiplication-check";
  const everyColumn = (name: string, change: (value: bigint) => bigint): Lies =>
    Object.fromEntries(
      Array.from({ length: 416 }, (_, j) => [`${name} of column ${j}`, aboutNumber(3, change)]),
    );
  const SHARE = "threshold-share-check";
  const ofP1: [string, string, () => { numbers?: Lies; bytes?: ByteLies }][] = [
    [
      "another x1' in its corrections",
      MULTIPLICATION,
      () => ({ numbers: { "x1' of the corrections": aboutNumber(3, plusOne) } }),
    ],
    [
      "another check value in its corrections",
      MULTIPLICATION,
      () => ({ numbers: everyColumn("â", plusOne) }),
    ],
    ["another η", MULTIPLICATION, () => ({ numbers: { η: aboutNumber(3, plusOne) } })],
    ["another μ", MULTIPLICATION, () => ({ bytes: { μ: about(3, flip) } })],
    [
      "a correction of n or more",
      "threshold-bad-message",
      () => ({
        bytes: { Ã: about(3, all => joined([all.slice(0, -32), new Uint8Array(32).fill(255)])) },
      }),
    ],
    ["another x1' in the open", SHARE, () => ({ bytes: { "Q1'": about(3, somePoint) } })],
    ["another r1", SHARE, () => ({ numbers: { r1: aboutNumber(3, plusOne) } })],
    ["another cc", SHARE, () => ({ numbers: { cc: aboutNumber(3, plusOne) } })],
    ["another share of the key", SHARE, () => ({ numbers: { x_P1: aboutNumber(3, plusOne) } })],
    ["no share of the key at all", SHARE, () => ({ numbers: { x_P1: () => 0n } })],
    [
      "two presignatures whose errors cancel out",
      SHARE,
      () => ({ numbers: { cc: (value, i) => (i === 0 ? value + 1n : i === 1 ? value - 1n : value) } }),
    ],
    [
      "a nonce point that it does not know",
      "threshold-bad-proof",
      () => ({ bytes: { R1: about(3, somePoint) } }),
    ],
    [
      "a proof by the other role",
      "threshold-bad-proof",
      () => ({
        bytes: {
          R1: about(3, () => times(5n).toBytes()),
          "proof of R1": about(3, () => proof(random(32), "P2", 5n, times(5n).toBytes(), random)),
        },
      }),
    ],
    [
      "proofs of two nonces whose errors cancel out",
      "threshold-bad-proof",
      () => ({
        bytes: {
          "proof of R1": (given, i) =>
            joined([
              given.slice(0, 33),
              scalar(number(given.slice(33)) + (i === 0 ? 1n : i === 1 ? -1n : 0n)),
            ]),
        },
      }),
    ],
    ["other nonces in the end", "threshold-bad-confirmation", () => ({ bytes: { ack: flip } })],
  ];

  test.each(isB ? ofP1.filter(([, code]) => code === SHARE) : ofP1)(
    "a P1 with %s is refused (%s)",
    (_, code, lies) => {
      const of = deal(random);
      const own = oursOf(of, "P2");
      expect(refusal(() => withP1(of, lies(), own))).toBe(code);
      const ends = [MULTIPLICATION, SHARE].includes(code);
      expect([own.setup.destroyed, own.run.destroyed]).toEqual([ends, ends && isB]);
    },
  );

  test("a P1 with another x1' in one column is refused exactly if P2 has chosen there", () => {
    for (const j of [0, 415]) {
      for (const value of ["x1'", "â"]) {
        const of = deal(random);
        const own = oursOf(of, "P2");
        let choices: Uint8Array | undefined;
        const watched = (length: number) => {
          const bytes = random(length);
          if (length === (416 / 8) * COUNT + 16) choices = bytes;
          return bytes;
        };
        const run = () =>
          withP1(
            of,
            { numbers: { [`${value} of column ${j}`]: aboutNumber(3, plusOne) } },
            { ...own, random: watched },
          );
        const code = refusal(run);
        expect(code).toBe(bitOf(choices!, 3 * 416 + j) ? MULTIPLICATION : undefined);
      }
    }
  });

  test("the check value of every presignature is another one, so that η tells nothing of x1'", () => {
    const of = deal(random);
    const { delta } = of.transfers[kind].chooser;
    let s2: Uint8Array | undefined;
    const p2 = new P2(
      of.shares[two],
      kind,
      of.transfers[kind].sender,
      { random },
      isB ? of.run.gateway : undefined,
    );
    const presigner = { share: ours.share(of, one), random, ...oursOf(of, "P1") };
    const s0 = isB ? presignP1WithMacs(presigner, FIRST, COUNT) : presignP1(presigner, FIRST, COUNT);
    s2 = s0.next.receive(p2.s1(s0.send)).send;
    const seen = p2.ids.map((sid, i) => {
      const part = s2!.slice((i * s2!.length) / COUNT, ((i + 1) * s2!.length) / COUNT);
      const row = p2.rows[i * 416]!.map((byte, at) => byte ^ (bitOf(p2.choices, i * 416) ? delta[at]! : 0));
      const pad = (k: number, of: Uint8Array) =>
        hashScalar("ote-pad", joined([sid, new Uint8Array(28)]), word(0), new Uint8Array([k]), of);
      const input = (k: number) =>
        mod(
          number(part.slice(32 * k, 32 * k + 32)) -
            pad(k, row) +
            pad(
              k,
              row.map((byte, at) => byte ^ delta[at]!),
            ),
        );
      const [x1, check] = [input(0), input(1)];
      const theta = hashScalar("theta", sid, part.slice(0, 416 * 64));
      expect(number(part.slice(416 * 64, 416 * 64 + 32))).toBe(mod(check + theta * x1));
      return [x1, check];
    });
    expect(new Set(seen.flat()).size).toBe(2 * COUNT);
    // Random numbers modulo n are long.
    for (const value of seen.flat()) expect(value > ORDER >> 64n).toBe(true);
  });
});

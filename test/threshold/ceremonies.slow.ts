import { beforeAll, describe, expect, test } from "@jest/globals";
import { concat, toHex } from "../../src/bytes/bytes.ts";
import { fromBigInt, N, toBigInt } from "../../src/crypto/scalar-bigint.ts";
import { codeOf } from "../../src/errors.ts";
import { tagged } from "../../src/threshold/hash.ts";
import { keygenDevice, keygenGateway } from "../../src/threshold/keygen.ts";
import { decodeKeyShare, encodeKeyShare, KEY_SHARE_BYTES, samePair } from "../../src/threshold/keyshare.ts";
import { decodePoint, encodePoint, G, prove } from "../../src/threshold/points.ts";
import { presignP1 } from "../../src/threshold/presigning/p1.ts";
import { presignP2 } from "../../src/threshold/presigning/p2.ts";
import { OtSetup, setupP1, setupP2 } from "../../src/threshold/transfer/setup.ts";
import {
  copyOf,
  dealSetups,
  generateKey,
  type Pair,
  presign,
  type Setups,
  seededRandom,
  shareOf,
  type Tamper,
} from "./parties.ts";

const random = seededRandom("ceremonies");
const names = { gateway: new Uint8Array([1]), device: new Uint8Array([2]) };

/** One bit of a copy changed. */
function flip(message: Uint8Array, at: number, bit = 1): Uint8Array {
  const changed = message.slice();
  changed[at] = changed[at]! ^ bit;
  return changed;
}

/** A message that replaces the due one must not say more in its error than which rule it broke. */
function refusal(action: () => unknown): string | undefined {
  try {
    action();
  } catch (error) {
    // No bytes of anything, secret or not: no long run of hex digits and no list of numbers.
    expect(String(error)).not.toMatch(/[0-9a-f]{12}|\d+(,\s*\d+){3}/i);
    expect(Object.keys(error as object)).toEqual(["code"]);
    return codeOf(error);
  }
  return undefined;
}

let pair: Pair;
let otherPair: Pair;
let setups: Setups;
let setupsB: Setups;
/** The same key one epoch later. */
let laterPair: Pair;
let laterSetups: Setups;

beforeAll(() => {
  pair = generateKey(random);
  otherPair = generateKey(random);
  setups = dealSetups(pair, "A", random);
  setupsB = dealSetups(pair, "B", random);
  laterPair = { gateway: { ...pair.gateway, epoch: 1 }, device: { ...pair.device, epoch: 1 } };
  laterSetups = dealSetups(laterPair, "A", random);
});

describe("key generation", () => {
  type Name = "K0" | "K0'" | "K1" | "K2" | "K3" | "K4 of the device" | "K4 of the gateway";

  function run(tamper: (name: Name, message: Uint8Array) => Uint8Array): Pair {
    const g0 = keygenGateway(names, random);
    const d0 = keygenDevice(names, random).receive(tamper("K0", g0.send));
    const g1 = g0.next.receive(tamper("K0'", d0.send));
    const d2 = d0.next.receive(tamper("K1", g1.send));
    const g3 = g1.next.receive(tamper("K2", d2.send));
    const d4 = d2.next.receive(tamper("K3", g3.send));
    const g4 = g3.next.receive(tamper("K4 of the device", d4.send));
    return { gateway: g4.share, device: d4.next.receive(tamper("K4 of the gateway", g4.send)).share };
  }

  const fields: [Name, string, number, string[]][] = [
    ["K0", "nonce", 0, ["threshold-bad-proof", "threshold-bad-commitment"]],
    ["K0'", "nonce", 31, ["threshold-bad-proof", "threshold-bad-commitment"]],
    ["K1", "commitment", 5, ["threshold-bad-commitment"]],
    ["K2", "prefix of Q_D", 0, ["threshold-bad-proof"]],
    ["K2", "x of Q_D", 20, ["threshold-bad-message", "threshold-bad-proof"]],
    ["K2", "prefix of A", 33, ["threshold-bad-proof"]],
    ["K2", "x of A", 50, ["threshold-bad-message", "threshold-bad-proof"]],
    ["K2", "z", 97, ["threshold-bad-proof"]],
    ["K3", "Q_G", 20, ["threshold-bad-commitment"]],
    ["K3", "A", 40, ["threshold-bad-commitment"]],
    ["K3", "z", 97, ["threshold-bad-commitment"]],
    ["K3", "ρ", 129, ["threshold-bad-commitment"]],
    ["K4 of the device", "hash", 0, ["threshold-bad-confirmation"]],
    ["K4 of the gateway", "hash", 31, ["threshold-bad-confirmation"]],
  ];

  test.each(fields)("%s with another %s is refused", (name, _, at, codes) => {
    const code = refusal(() => run((each, message) => (each === name ? flip(message, at) : message)));
    expect(codes).toContain(code);
  });

  test.each([...new Set(fields.map(([name]) => name))])(
    "%s truncated, lengthened or empty is refused",
    name => {
      const lengths = [
        (m: Uint8Array) => m.slice(1),
        (m: Uint8Array) => concat([m, new Uint8Array(1)]),
        () => new Uint8Array(0),
      ];
      for (const change of lengths) {
        const code = refusal(() => run((each, message) => (each === name ? change(message) : message)));
        expect(code).toBe("threshold-bad-message");
      }
    },
  );

  test("messages of an earlier key generation are refused", () => {
    const seen = new Map<Name, Uint8Array>();
    run((name, message) => {
      seen.set(name, message);
      return message;
    });
    for (const [name, message] of seen) {
      if (name === "K0" || name === "K0'") continue; // nonces: a replayed one only changes the session
      expect(refusal(() => run((each, fresh) => (each === name ? message : fresh)))).toMatch(
        /^threshold-bad-(proof|commitment|confirmation)$/,
      );
    }
  });

  test("a rogue key, chosen to cancel the other's, is refused on either side", () => {
    const wanted = G.multiply(0x1234567n);
    // The device answers with wanted − Q_G, as if it had seen Q_G; it cannot prove to know that key.
    const sid: Uint8Array[] = [];
    const victim = keygenGateway(names, () => new Uint8Array(32).fill(7));
    const nonceD = random(32);
    const committed = victim.next.receive(nonceD);
    sid.push(
      tagged("kg", new Uint8Array([1]), names.gateway, names.device, new Uint8Array(32).fill(7), nonceD),
    );
    const secretG = toBigInt(new Uint8Array(32).fill(7)); // the attacker is even told it
    const rogue = encodePoint(wanted.subtract(G.multiply(secretG)));
    const forged = prove([{ sid: sid[0]!, role: "device", point: rogue, secret: 0x1234567n }], random)[0]!;
    expect(refusal(() => committed.next.receive(concat([rogue, forged])))).toBe("threshold-bad-proof");

    // The gateway opens another point than the one it had committed to before it saw Q_D.
    const gateway = keygenGateway(names, random);
    const device = keygenDevice(names, random).receive(gateway.send);
    const g1 = gateway.next.receive(device.send);
    const d2 = device.next.receive(g1.send);
    const g3 = g1.next.receive(d2.send);
    const cancelling = wanted.subtract(decodePoint(d2.send.subarray(0, 33)));
    const k3 = concat([encodePoint(cancelling), g3.send.subarray(33)]);
    expect(refusal(() => d2.next.receive(k3))).toBe("threshold-bad-commitment");
  });

  test("the device cannot send the gateway's own point and proof back as its own", () => {
    const nonce = new Uint8Array(32).fill(7);
    const victim = keygenGateway(names, () => nonce.slice());
    const nonceD = random(32);
    const g1 = victim.next.receive(nonceD);
    const sid = tagged("kg", new Uint8Array([1]), names.gateway, names.device, nonce, nonceD);
    const secret = toBigInt(nonce);
    const point = G.multiply(secret).toBytes();
    const proof = prove([{ sid, role: "gateway", point, secret }], random)[0]!;
    expect(refusal(() => g1.next.receive(concat([point, proof])))).toBe("threshold-bad-proof");
  });

  test("keys that add up to infinity are refused", () => {
    const nonce = new Uint8Array(32).fill(7);
    const victim = keygenGateway(names, () => nonce.slice());
    const nonceD = random(32);
    const g1 = victim.next.receive(nonceD);
    const sid = tagged("kg", new Uint8Array([1]), names.gateway, names.device, nonce, nonceD);
    const secret = N - toBigInt(nonce);
    const point = G.multiply(secret).toBytes();
    const proof = prove([{ sid, role: "device", point, secret }], random)[0]!;
    expect(refusal(() => g1.next.receive(concat([point, proof])))).toBe("threshold-bad-message");
  });
});

describe("key shares in storage", () => {
  test("come back as they were", () => {
    for (const share of [pair.gateway, { ...pair.device, epoch: 0xfffffffe }]) {
      const bytes = encodeKeyShare(share);
      expect(bytes).toHaveLength(KEY_SHARE_BYTES);
      expect(decodeKeyShare(bytes)).toEqual(share);
    }
    expect(samePair(pair.gateway, pair.device)).toBe(true);
    expect(samePair(pair.gateway, otherPair.device)).toBe(false);
  });

  test("are refused when any field is damaged", () => {
    const bytes = encodeKeyShare(pair.device);
    const secretAt = 1 + 1 + 32 + 4;
    for (const at of [0, 1, secretAt + 31, secretAt + 32, secretAt + 60, bytes.length - 1]) {
      expect(refusal(() => decodeKeyShare(flip(bytes, at, at === 1 ? 2 : 1)))).toBe("bad-key-share");
    }
    for (const secret of [new Uint8Array(32), fromBigInt(N)]) {
      const changed = bytes.slice();
      changed.set(secret, secretAt);
      expect(refusal(() => decodeKeyShare(changed))).toBe("bad-key-share");
    }
    expect(refusal(() => decodeKeyShare(bytes.subarray(1)))).toBe("bad-key-share");
    expect(refusal(() => decodeKeyShare(concat([bytes, new Uint8Array(1)])))).toBe("bad-key-share");
  });
});

describe("OT setup", () => {
  test("E1 and E2 with a bad point in any place are refused, whichever of the pair is wanted", () => {
    const e1 = setupP1(pair.gateway, "A", random);
    const fresh = () => setupP2(pair.device, "A", random);
    expect(refusal(() => fresh().receive(flip(e1.send, 0, 4)))).toBe("threshold-bad-message");
    expect(refusal(() => fresh().receive(flip(e1.send, 8_448 - 33, 4)))).toBe("threshold-bad-message");
    expect(refusal(() => fresh().receive(e1.send.subarray(33)))).toBe("threshold-bad-message");
    const answered = fresh().receive(e1.send);
    for (const place of [0, 1]) {
      const begun = setupP1(pair.gateway, "A", random);
      const bad = flip(answered.send, place * 33, 4);
      expect(refusal(() => begun.next.receive(bad))).toBe("threshold-bad-message");
    }
    expect(refusal(() => e1.next.receive(new Uint8Array(0)))).toBe("threshold-bad-message");
    expect(refusal(() => e1.next.receive(answered.send))).toBe("threshold-step-spent");
  });

  test("belongs to a side: the wrong party of a kind cannot begin it", () => {
    expect(refusal(() => setupP1(pair.device, "A", random))).toBe("bad-key-share");
    expect(refusal(() => setupP2(pair.gateway, "A", random))).toBe("bad-key-share");
    expect(refusal(() => setupP1(pair.gateway, "B", random))).toBe("bad-key-share");
  });

  test("comes back from storage as it was, and damaged bytes do not", () => {
    const bytes = setups.p2.toBytes();
    expect(toHex(OtSetup.fromBytes(bytes).toBytes())).toBe(toHex(bytes));
    for (const changed of [
      flip(bytes, 0),
      flip(bytes, 1, 8),
      flip(bytes, 2, 4),
      bytes.subarray(1),
      concat([bytes, bytes]),
    ]) {
      expect(refusal(() => OtSetup.fromBytes(changed))).toBe("bad-ot-setup");
    }
  });

  test("a changed transfer makes the first batch fail its check, and both setups of a kind are useless", () => {
    const begun = setupP1(pair.gateway, "A", random);
    const { send, setup } = setupP2(pair.device, "A", random).receive(begun.send);
    const swapped = concat([send.subarray(33, 66), send.subarray(0, 33), send.subarray(66)]);
    const p1 = begun.next.receive(swapped);
    expect(refusal(() => presign(pair, { p1, p2: setup }, 4, random))).toBe("threshold-extension-check");
    expect(p1.destroyed).toBe(true);
  });
});

describe("presigning", () => {
  const EACH_S2 = 416 * 64 + 32 + 32 + 33 + 32 + 32 + 33 + 65;
  const COUNT = 4;
  const ROWS = 128 * (52 * COUNT + 16);
  type Name = Parameters<Tamper>[0];
  // Those of kind A; what kind B has besides is in mac.test.ts.
  const messages: readonly Name[] = ["S0", "S1", "S2", "S3", "S4"];

  const run = (tamper: Tamper, on = setups) => presign(pair, copyOf(on), COUNT, random, { tamper });
  const alter =
    (name: Name, change: (message: Uint8Array) => Uint8Array): Tamper =>
    (each, message) =>
      each === name ? change(message) : message;

  const correction = 416 * 64;
  const last = (COUNT - 1) * EACH_S2;
  const fields: [Name, string, number, string[]][] = [
    ["S0", "nonce", 3, ["threshold-extension-check"]],
    ["S0", "epoch", 35, ["threshold-old-epoch"]],
    ["S0", "number", 39, ["threshold-extension-check"]],
    ["S0", "kind", 40, ["threshold-wrong-batch"]],
    ["S0", "B", 42, ["threshold-wrong-batch"]],
    ["S1", "nonce", 0, ["threshold-extension-check"]],
    ["S1", "first row of u", 32, ["threshold-extension-check"]],
    ["S1", "last row of u", 32 + ROWS - 1, ["threshold-extension-check"]],
    ["S1", "x̂", 32 + ROWS, ["threshold-extension-check"]],
    ["S1", "first t̂", 32 + ROWS + 16, ["threshold-extension-check"]],
    ["S1", "last t̂", 32 + ROWS + 16 + 2047, ["threshold-extension-check"]],
    ["S1", "commitment", 32 + ROWS + 16 + 2048 + 32 * (COUNT - 1), ["threshold-bad-commitment"]],
    ["S2", "first Ã", 31, ["threshold-multiplication-check"]],
    ["S2", "second half of Ã", last + 63, ["threshold-multiplication-check"]],
    ["S2", "last Ã", last + correction - 1, ["threshold-multiplication-check"]],
    ["S2", "η", last + correction + 31, ["threshold-multiplication-check"]],
    ["S2", "μ", last + correction + 32, ["threshold-multiplication-check"]],
    ["S2", "sign of Q1'", last + correction + 64, ["threshold-share-check"]],
    ["S2", "x of Q1'", last + correction + 90, ["threshold-share-check", "threshold-bad-message"]],
    ["S2", "r1", last + correction + 97 + 31, ["threshold-share-check"]],
    ["S2", "cc", last + correction + 129 + 31, ["threshold-share-check"]],
    ["S2", "sign of R1", last + correction + 161, ["threshold-bad-proof"]],
    ["S2", "x of R1", last + correction + 180, ["threshold-bad-proof", "threshold-bad-message"]],
    ["S2", "A of the proof", last + correction + 194, ["threshold-bad-proof"]],
    ["S2", "z of the proof", last + EACH_S2 - 1, ["threshold-bad-proof"]],
    ["S3", "R2", 10, ["threshold-bad-commitment"]],
    ["S3", "A of the proof", 40, ["threshold-bad-commitment"]],
    ["S3", "z of the proof", 97, ["threshold-bad-commitment"]],
    ["S3", "ρ", 130 * COUNT - 1, ["threshold-bad-commitment"]],
    ["S4", "hash", 12, ["threshold-bad-confirmation"]],
  ];

  test.each(fields)("%s with another %s is refused", (name, _, at, codes) => {
    expect(codes).toContain(refusal(() => run(alter(name, message => flip(message, at)))));
  });

  test.each(messages)("%s truncated, lengthened or empty is refused", name => {
    const changes = [
      (m: Uint8Array) => m.subarray(0, m.length - 1),
      (m: Uint8Array) => concat([m, new Uint8Array(1)]),
      () => new Uint8Array(0),
    ];
    for (const change of changes)
      expect(refusal(() => run(alter(name, change)))).toBe("threshold-bad-message");
  });

  test("scalars of n or more, in any of their places, are refused", () => {
    const n = fromBigInt(N);
    for (const at of [0, last + 32, last + correction, last + correction + 97, last + correction + 129]) {
      const put = (message: Uint8Array) => {
        const changed = message.slice();
        changed.set(n, at);
        return changed;
      };
      expect(refusal(() => run(alter("S2", put)))).toBe("threshold-bad-message");
    }
  });

  test("infinity and points off the curve are refused in S2", () => {
    for (const at of [last + correction + 64, last + correction + 161, last + correction + 194]) {
      const put = (message: Uint8Array) => {
        const changed = message.slice();
        changed.fill(0, at, at + 33);
        return changed;
      };
      expect(refusal(() => run(alter("S2", put)))).toBe("threshold-bad-message");
    }
  });

  test("a proof of knowledge of zero nonces cannot be had: R2 = −r1·G is refused", () => {
    // P1 chooses r1 after P2 has committed to R2, so only a P1 that knows k2 could do it; here it is told.
    const on = copyOf(setups);
    const p2 = presignP2({ share: pair.device, setup: on.p2, random }, 0);
    const p1 = presignP1({ share: pair.gateway, setup: on.p1, random }, 0, COUNT);
    const s2 = p1.next.receive(p2.receive(p1.send).send);
    expect(refusal(() => s2.next.receive(new Uint8Array(130 * COUNT)))).toBe("threshold-bad-commitment");
  });

  test("messages of another batch, kind, key or epoch are refused", () => {
    const record = (from: Pair, on: Setups): Map<Name, Uint8Array> => {
      const seen = new Map<Name, Uint8Array>();
      const tamper: Tamper = (name, message) => {
        seen.set(name, message);
        return message;
      };
      presign(from, copyOf(on), COUNT, random, { tamper });
      return seen;
    };
    const sources: [string, Map<Name, Uint8Array>][] = [
      ["another batch", record(pair, setups)],
      ["the other kind", record(pair, setupsB)],
      ["another key", record(otherPair, dealSetups(otherPair, "A", random))],
      ["another epoch", record(laterPair, laterSetups)],
    ];
    const allowed: Record<Name, RegExp> = {
      // A whole S0 of the same kind, key and epoch only brings an old nonce; the sessions then differ.
      S0: /^threshold-(extension-check|wrong-batch|old-epoch)$/,
      S1: /^threshold-extension-check$/,
      S2: /^threshold-multiplication-check$/,
      S3: /^threshold-bad-commitment$/,
      S4: /^threshold-bad-confirmation$/,
      S5: /^$/,
    };
    // These have other lengths in kind B.
    const ofOtherKind: Partial<Record<Name, RegExp>> = {
      S3: /^threshold-bad-message$/,
      S4: /^threshold-bad-message$/,
    };
    for (const [source, seen] of sources) {
      for (const name of messages) {
        const code = refusal(() => run(alter(name, () => seen.get(name)!)));
        const pattern = (source === "the other kind" && ofOtherKind[name]) || allowed[name];
        expect({ source, name, code }).toEqual({ source, name, code: expect.stringMatching(pattern) });
      }
    }
  });

  test("a message of another step does not fit any step", () => {
    const seen = new Map<Name, Uint8Array>();
    run((name, message) => {
      seen.set(name, message);
      return message;
    });
    for (const name of messages) {
      for (const other of messages) {
        if (name === other) continue;
        expect(refusal(() => run(alter(name, () => seen.get(other)!)))).toBe("threshold-bad-message");
      }
    }
  });

  test("a step runs once, also after a failure, and an older batch is cut off by a newer one", () => {
    const on = copyOf(setups);
    const p1 = presignP1({ share: pair.gateway, setup: on.p1, random }, 0, COUNT);
    const p2 = presignP2({ share: pair.device, setup: on.p2, random }, 0);
    expect(refusal(() => p1.next.receive(new Uint8Array(0)))).toBe("threshold-bad-message");
    const s1 = p2.receive(p1.send);
    expect(refusal(() => p2.receive(p1.send))).toBe("threshold-step-spent");
    expect(refusal(() => p1.next.receive(s1.send))).toBe("threshold-step-spent");

    const older = presignP1({ share: pair.gateway, setup: on.p1, random }, 4, COUNT);
    const olderS1 = presignP2({ share: pair.device, setup: on.p2, random }, 4).receive(older.send);
    presignP1({ share: pair.gateway, setup: on.p1, random }, 8, COUNT);
    expect(refusal(() => older.next.receive(olderS1.send))).toBe("threshold-batch-abandoned");
  });

  test("S0 may not name records that were there before, and sizes are multiples of 4 up to 64", () => {
    const on = copyOf(setups);
    const begin = (firstId: number, count: number) =>
      presignP1({ share: pair.gateway, setup: on.p1, random }, firstId, count).send;
    const receive = (s0: Uint8Array, nextId: number) =>
      presignP2({ share: pair.device, setup: on.p2, random }, nextId).receive(s0);
    expect(refusal(() => receive(begin(8, 4), 9))).toBe("threshold-wrong-batch");
    expect(receive(begin(8, 4), 8).send.length).toBeGreaterThan(0);
    for (const count of [0, 2, 3, 68, -4, 4.5]) {
      expect(refusal(() => begin(0, count))).toBe("threshold-wrong-batch");
    }
  });

  test("share and setup must belong together", () => {
    const otherKey = () => presignP1({ share: otherPair.gateway, setup: copyOf(setups).p1, random }, 0, 4);
    expect(refusal(otherKey)).toBe("bad-ot-setup");
    const otherSide = () => presignP1({ share: pair.device, setup: copyOf(setups).p2, random }, 0, 4);
    expect(refusal(otherSide)).toBe("bad-ot-setup");
    const oldSetup = () => presignP1({ share: laterPair.gateway, setup: copyOf(setups).p1, random }, 0, 4);
    expect(refusal(oldSetup)).toBe("threshold-old-epoch");
    expect(shareOf(pair, "B", "P1")).toBe(pair.device);
  });
});

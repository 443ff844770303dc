import { beforeAll, describe, expect, test } from "@jest/globals";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { multisig2of2, witnessSignature } from "../../src/bitcoin/script.ts";
import { sighash } from "../../src/bitcoin/sighash.ts";
import { parseTransaction } from "../../src/bitcoin/transaction.ts";
import { equal, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { makeNonces } from "../../src/threshold/nonces.ts";
import { complete, signWithNonce } from "../../src/threshold/online.ts";
import { completeVerified } from "../../src/threshold/signature.ts";
import type { Kind } from "../../src/threshold/transfer/setup.ts";
import { type AppendixC, secretOf } from "../device/bolt3/appendixC.ts";
import { codeThrownBy } from "../thrown.ts";
import { describeVectors } from "../vectors.ts";
import {
  answerBy,
  generateKey,
  type Pair,
  presign,
  recordAt,
  type Setups,
  seededRandom,
  setUp,
  signAndVerify,
  splitKey,
  wholeKey,
} from "./parties.ts";

const random = seededRandom("signing");
const kinds: Kind[] = ["A", "B"];
const RULES = { prehash: false, lowS: true } as const;

describe.each(kinds)("kind %s, both parties, from key generation to signatures", kind => {
  const BATCHES = 2;
  const EACH = 16;
  let pair: Pair;
  let setups: Setups;

  beforeAll(() => {
    pair = generateKey(random);
    setups = setUp(pair, kind, random);
  });

  test.each([0, 1])(`batch %i: ${EACH} random messages verify with @noble under the joint key`, batch =>
    signAndVerify(pair, setups, { firstId: batch * EACH, count: EACH }, random),
  );

  test("every nonce of a batch is another one, and both sides hold the same", () => {
    const { answering, completing } = presign(pair, setups, 8, random, { firstId: BATCHES * EACH });
    const z = random(32);
    const rs = Array.from({ length: 8 }, (_, i) => {
      const signature = complete(recordAt(completing, i), answerBy(answering, i, z).s2);
      return toHex(signature.subarray(0, 32));
    });
    expect(new Set(rs).size).toBe(8);
  });

  test("an answer made for another message or record completes nothing", () => {
    const { answering, completing } = presign(pair, setups, 4, random, { firstId: BATCHES * EACH + 8 });
    const z = random(32);
    const finish = (record: number, s2: Uint8Array, sighash: Uint8Array) => () =>
      completeVerified(recordAt(completing, record), s2, sighash, pair.gateway.joint);
    const { s2 } = answerBy(answering, 0, z);
    expect(codeThrownBy(finish(0, s2, random(32)))).toBe("threshold-bad-signature");
    expect(codeThrownBy(finish(1, s2, z))).toBe("threshold-bad-signature");
    expect(finish(0, s2, z)()).toHaveLength(64);
  });
});

test("the key that signs is the sum of the shares, which nobody computes", () => {
  const pair = generateKey(random);
  expect(secp256k1.getPublicKey(wholeKey(pair))).toEqual(pair.gateway.joint);
  expect(pair.gateway.joint).toEqual(pair.device.joint);
  expect(equal(pair.gateway.secret, pair.device.secret)).toBe(false);
});

test("prepared nonces sign under the device's own key", () => {
  const { records, kind, firstId, count } = makeNonces(3, 10, 32, random);
  expect({ kind, firstId, count, bytes: records.length }).toEqual({
    kind: "H",
    firstId: 10,
    count: 32,
    bytes: 32 * 64,
  });
  const key = secp256k1.utils.randomSecretKey();
  for (let i = 0; i < count; i++) {
    const z = random(32);
    const signature = signWithNonce(records.slice(i * 64, (i + 1) * 64), key, z);
    expect(secp256k1.verify(signature, z, secp256k1.getPublicKey(key), RULES)).toBe(true);
  }
  for (const count of [0, -1, 0.5, 65_536]) {
    expect(codeThrownBy(() => makeNonces(0, 0, count, random))).toBe("bad-batch");
  }
});

describeVectors<AppendixC>("BOLT #3 appendix C", "bolt3-commitment.json", vectors => {
  test.each(kinds)("its funding key, split, threshold-signs its 16 commitments by kind %s", kind => {
    const pair = splitKey(secretOf(vectors, "local_funding_privkey"), random);
    const published = fromHex(vectors.common["local_funding_pubkey"]!);
    expect(pair.device.joint).toEqual(published);
    const scriptCode = multisig2of2(published, fromHex(vectors.common["remote_funding_pubkey"]!));
    const hashes = vectors.cases.map(({ commit_tx, local_signature }) => {
      const tx = parseTransaction(fromHex(commit_tx));
      const z = sighash(tx, 0, scriptCode, vectors.common.funding_amount_satoshi);
      // The published signature itself shows that this is the hash to sign.
      expect(secp256k1.verify(fromHex(local_signature), z, published, { ...RULES, format: "der" })).toBe(
        true,
      );
      return z;
    });
    expect(hashes).toHaveLength(16);
    const { answering, completing } = presign(pair, setUp(pair, kind, random), 16, random);
    hashes.forEach((z, i) => {
      const { s2 } = answerBy(answering, i, z);
      const signature = completeVerified(recordAt(completing, i), s2, z, published);
      const der = witnessSignature(signature).slice(0, -1);
      expect(secp256k1.verify(der, z, published, { ...RULES, format: "der" })).toBe(true);
    });
  });
});

/**
 * One session of every ceremony with fixed randomness, message by message, against the bytes that were written down when two
 * implementations agreed on them (adversary.test.ts). Both sides of the other tests run the same code, so that a change of the
 * wire, or of what goes into a hash, would pass them. A change that is meant is copied from what the failure shows.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { encodeKeyShare } from "../../src/threshold/keyshare.ts";
import { complete, isAuthentic } from "../../src/threshold/online.ts";
import { setupP1, setupP2 } from "../../src/threshold/transfer/setup.ts";
import { deal, ours, shown } from "./dealt.ts";
import {
  answerBy,
  generateKey,
  macKeysAt,
  makeRuns,
  presign,
  recordAt,
  seededRandom,
  shareOf,
} from "./parties.ts";
import type { Kind } from "./second.ts";

const written: Record<string, Record<string, string>> = JSON.parse(
  readFileSync("test/threshold/transcript.json", "utf8"),
);

class Transcript {
  readonly seen: Record<string, string> = {};

  note(name: string, bytes: Uint8Array): Uint8Array {
    this.seen[name] = shown(bytes, each => createHash("sha256").update(each).digest());
    return bytes;
  }
}

const randomOf = (title: string) => seededRandom(`transcript of ${title}`);
const dealt = () => deal(randomOf("the dealer"));
const pairOf = (of = dealt()) => ({ gateway: ours.share(of, "gateway"), device: ours.share(of, "device") });

test("key generation says what was written down", () => {
  const transcript = new Transcript();
  const { gateway, device } = generateKey(randomOf("key generation"), (name, message) =>
    transcript.note(name, message),
  );
  transcript.note("the gateway's share", encodeKeyShare(gateway));
  transcript.note("the device's share", encodeKeyShare(device));
  expect(transcript.seen).toEqual(written["key generation"]);
});

describe.each(["A", "B"] as const)("kind %s", kind => {
  test("presigning and signing say what was written down, and the signature is one of Q", () => {
    const transcript = new Transcript();
    const of = dealt();
    const { chooser, sender } = of.transfers[kind];
    const setups = {
      p1: ours.chooser(chooser, kind),
      p2: ours.sender(sender, kind),
      runs: { gateway: ours.run(of, "gateway"), device: ours.run(of, "device") },
    };
    const title = `presigning of kind ${kind}`;
    const { completing, answering } = presign(pairOf(of), setups, 4, randomOf(title), {
      firstId: 260,
      tamper: (name, message) => transcript.note(name, message),
    });
    transcript.note("P1's records", completing.records);
    transcript.note("P2's records", answering.records);
    if (completing.mac) transcript.note("P1's keys of MACs", completing.mac);
    const sighash = randomOf("a sighash")(32);
    const { s2, mac } = answerBy(answering, 3, sighash);
    transcript.note("answer", s2);
    if (kind === "B") transcript.note("its MAC", mac);
    const signature = transcript.note("signature", complete(recordAt(completing, 3), s2));
    expect(transcript.seen).toEqual(written[title]);
    const joint = of.shares.gateway.joint;
    expect(secp256k1.verify(signature, sighash, joint, { prehash: false, lowS: true })).toBe(true);
    if (kind === "B") expect(isAuthentic(macKeysAt(completing, 3), sighash, s2, mac)).toBe(true);
    expect([completing, answering].map(({ firstId, count, epoch }) => [firstId, count, epoch])).toEqual([
      [260, 4, 0],
      [260, 4, 0],
    ]);
  });

  test("the base transfers say what was written down", () => {
    const transcript = new Transcript();
    const title = `transfers of kind ${kind}`;
    const random = randomOf(title);
    const pair = pairOf();
    const begun = setupP1(shareOf(pair, kind satisfies Kind, "P1"), kind, random);
    const e1 = transcript.note("E1", begun.send);
    const { send, setup } = setupP2(shareOf(pair, kind, "P2"), kind, random).receive(e1);
    transcript.note("P1's half", begun.next.receive(transcript.note("E2", send)).toBytes());
    transcript.note("P2's half", setup.toBytes());
    expect(transcript.seen).toEqual(written[title]);
  });
});

test("a run of MACs says what was written down", () => {
  const transcript = new Transcript();
  const of = dealt();
  const { chooser, sender } = of.transfers.A;
  const { gateway, device } = makeRuns(
    pairOf(of),
    { p1: ours.chooser(chooser, "A"), p2: ours.sender(sender, "A") },
    randomOf("a run"),
    (name, message) => transcript.note(name, message),
  );
  transcript.note("the gateway's half", gateway.toBytes());
  transcript.note("the device's half", device.toBytes());
  expect(transcript.seen).toEqual(written["a run of MACs"]);
});

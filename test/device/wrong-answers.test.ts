import { describe, expect, test } from "@jest/globals";
import { sighash } from "../../src/bitcoin/sighash.ts";
import { depositScriptOf } from "../../src/channel/device-keys.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import type { AuthenticatedPartial } from "../../src/messages/device.ts";
import { theftOf } from "./attacks.ts";
import { exitIsValid } from "./audit.ts";
import { derived } from "./dealer.ts";
import { chip, recordOf } from "./parties.ts";
import { Rig, type RigOptions } from "./rig.ts";
import { watchedCurve } from "./watched-curve.ts";

const flip = (bytes: Uint8Array) => bytes.map((byte, i) => (i === 7 ? byte ^ 1 : byte));

describe.each([
  ["without a curve", { curve: null }],
  ["with a curve", {}],
] as [string, RigOptions][])("a board %s", (_, options) => {
  /** A step with an answer that `change` has made wrong. */
  function wrong(rig: Rig, change: (partial: AuthenticatedPartial) => AuthenticatedPartial) {
    const holder = rig.holder(rig.view());
    const partial = change(holder.partial);
    // The anchor's record comes after that of the commitment.
    const isLater = holder.anchorPartial && partial.id > holder.anchorPartial.id;
    const anchor = isLater ? { anchorPartial: rig.half(derived("the anchor's")) } : {};
    return rig.step({ holder: { ...holder, partial, ...anchor } });
  }
  const books = (rig: Rig) => ({
    B: rig.state.books.cursors.B,
    wrong: rig.state.books.wrongAnswers ?? 0,
    phase: rig.state.books.phase,
  });

  test.each([
    ["an answer for another hash, with its MAC", rig => rig.half(derived("another"))],
    ["an altered answer", (_, partial) => ({ ...partial, scalar: flip(partial.scalar) })],
    ["an altered MAC", (_, partial) => ({ ...partial, mac: flip(partial.mac) })],
    ["no MAC at all but zeros", (_, partial) => ({ ...partial, mac: new Uint8Array(16) })],
    ["a scalar that is none", (_, partial) => ({ ...partial, scalar: new Uint8Array(32).fill(255) })],
    ["the answer of another record", (rig, { id }) => ({ ...rig.half(derived("x")), id })],
  ] as [string, (rig: Rig, partial: AuthenticatedPartial) => AuthenticatedPartial][])(
    "refuses %s: one record is burnt, one wrong answer counted, nothing told",
    (_name, change) => {
      const rig = new Rig(options).open();
      const before = books(rig);
      const answer = wrong(rig, partial => change(rig, partial));
      expect(answer).toMatchObject({ refused: { code: "policy-own-signature" } });
      expect([answer.secret, answer.completeSignature, answer.signed]).toEqual([
        undefined,
        undefined,
        undefined,
      ]);
      expect(rig.state.holder?.number).toBe(0);
      expect(books(rig)).toMatchObject({ wrong: 1, phase: "open" });
      expect(books(rig).B).toBeGreaterThan(before.B);
      const image = Buffer.from(rig.box.flash.image());
      for (let id = before.B; id < books(rig).B; id++)
        expect(image.includes(Buffer.from(recordOf("B", id).completing.slice(32)))).toBe(false);
      expect(rig.harm()).toBeNull();
    },
  );

  test("counts them over steps that succeed and over restarts, and is locked by the third, its exit good", () => {
    const rig = new Rig(options).open();
    wrong(rig, partial => ({ ...partial, scalar: flip(partial.scalar) }));
    rig.move(rig.view());
    expect(rig.state.holder?.number).toBe(1);
    expect(books(rig)).toMatchObject({ wrong: 1, phase: "open" });
    rig.box.restart();
    // The commitment's is right and the anchor's is not: two records, one wrong answer.
    const { B } = books(rig);
    const half = rig.holder(rig.view());
    const anchorPartial = { ...half.anchorPartial!, mac: flip(half.anchorPartial!.mac) };
    expect(rig.step({ holder: { ...half, anchorPartial } }).refused?.code).toBe("policy-own-signature");
    expect(books(rig)).toEqual({ B: B + 2, wrong: 2, phase: "open" });
    rig.box.restart();
    rig.move(rig.view());
    expect(rig.state.holder?.number).toBe(2);

    wrong(rig, () => rig.half(theftOf(rig).sighash));
    rig.box.restart();
    expect(books(rig)).toMatchObject({ wrong: 3, phase: "locked" });
    expect(rig.step({ holder: rig.holder(rig.view()) }).refused?.code).toBe("policy-phase");
    expect(rig.harm()).toBeNull();
    rig.box.run({ type: "exit", index: 1 });
    expect(rig.box.exits[0]).toMatchObject({ index: 1, number: 2 });
    // What is refused from now on is no further news, and wears no flash.
    const { generation } = rig.box.vault.journal;
    expect(rig.step({ holder: rig.holder(rig.view()) }).refused?.code).toBe("policy-phase");
    expect([rig.state.books.phase, rig.box.vault.journal.generation]).toEqual(["locked", generation]);
    exitIsValid(rig.state, rig.identity);
  });

  test("cannot be made to sign the channel away, nor a deposit that waits for the next one", () => {
    const deposit = { txid: derived("the owner's next deposit"), vout: 0, valueSat: 5_000_000 };
    const theft = (rig: Rig) => {
      const { tx } = { tx: theftOf(rig) };
      const input = { txid: deposit.txid, vout: 0, sequence: 0xffffffff };
      const spend = { version: 2, inputs: [input], outputs: tx.transaction.outputs.slice(0, 1), locktime: 0 };
      return sighash(spend, 0, depositScriptOf(rig.identity), deposit.valueSat);
    };
    for (const hashOf of [(rig: Rig) => theftOf(rig).sighash, theft]) {
      const rig = new Rig(options).open();
      const hash = hashOf(rig);
      const honest = rig.holder(rig.view());
      const parts = { ...honest, partial: rig.half(hash), anchorPartial: rig.half(derived("anything")) };
      const stepped = rig.step({ holder: parts, forceClose: honest.number });
      expect(stepped.refused?.code).toBe("policy-own-signature");
      expect(stepped.completeSignature).toBeUndefined();
      // Nor kept, to be had from the flash or by a step that follows.
      const { ownSignature } = rig.state.holder!;
      expect(nobleCurve.verify(ownSignature, hash, rig.identity.fundingKey)).toBe(false);
      expect(rig.step({ forceClose: honest.number }).refused?.code).toBe("policy-exit-before-revoke");
      expect(rig.step({ forceClose: 0 }).completeSignature).toEqual(ownSignature);
    }
  });

  test("blames nobody for a bit of its own that has flipped: that record is passed over", () => {
    const rig = new Rig(options).open();
    const image = rig.box.flash.image();
    const at = Buffer.from(image).indexOf(recordOf("B", rig.nextB).completing);
    image[at + 40]! ^= 1;
    rig.box.flash = chip(image);
    rig.box.restart();
    const damaged = rig.nextB;
    expect(rig.step({ holder: rig.holder(rig.view()) }).refused?.code).toBe("record-missing");
    expect(books(rig)).toMatchObject({ wrong: 0, phase: "open" });
    rig.nextB = damaged + 1;
    rig.move(rig.view());
    expect(rig.state.holder?.number).toBe(1);
    expect(rig.harm()).toBeNull();
  });
});

test("a board with a curve verifies what the bridge has signed, and nothing of its own", () => {
  const { curve, verified } = watchedCurve();
  const rig = new Rig({ curve }).open();
  verified.length = 0;
  rig.move(rig.view());
  expect(rig.state.holder?.number).toBe(1);
  expect(verified).toEqual([Buffer.from(rig.proposal.fundingKey).toString("hex")]);
});

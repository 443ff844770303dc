/** What the device answers when a channel ends on the chain: the newest state or nothing, and only to the owner. */

import { describe, expect, test } from "@jest/globals";
import { sighash } from "../../src/bitcoin/sighash.ts";
import { counterpartyBasepoints, holderBasepoints } from "../../src/channel/device-keys.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { htlcScript, toLocalScript } from "../../src/lightning/channel.ts";
import { deriveCommitmentKeys } from "../../src/lightning/keys.ts";
import type { Step } from "../../src/messages/device.ts";
import { derived } from "../device/dealer.ts";
import { bridgePoint, bridgeSecret } from "../device/peer.ts";
import { Rig } from "../device/rig.ts";

type Spend = NonNullable<Step["spend"]>;

/** The bridge has published its commitment 0, which it had revoked; 60,000 sat of it are collected. */
function spendOf(rig: Rig, changed: Partial<Spend> = {}): Spend {
  return {
    index: rig.proposal.index,
    point: bridgePoint(0),
    secret: bridgeSecret(0),
    inputs: [
      { txid: derived("other"), vout: 3, sequence: 1 },
      { txid: derived("published"), vout: 1, sequence: 0xfffffffd },
    ],
    input: 1,
    amountSat: 60_000,
    valueSat: 59_000,
    locktime: 7,
    ...changed,
  };
}

/** The transaction as the device has to build it: one output, the owner's. */
function hashOf(rig: Rig, { inputs, input, amountSat, valueSat, locktime }: Spend, script: Uint8Array) {
  const outputs = [{ valueSat, script: rig.identity.shutdownScript }];
  return sighash({ version: 2, inputs, outputs, locktime }, input, script, amountSat);
}

function keysOf(rig: Rig, point: Uint8Array) {
  return deriveCommitmentKeys(
    nobleCurve,
    point,
    counterpartyBasepoints(rig.proposal),
    holderBasepoints(rig.identity),
  );
}

describe("a forced close that the gateway asks for", () => {
  test("gets the newest state's signature, and it is the last thing that is signed", () => {
    const rig = new Rig().open();
    rig.move(rig.view());
    const { number, view } = rig.state.holder!;
    const { completeSignature: own } = rig.step({ forceClose: number });
    const { sighash: hash } = rig.build(true, number, rig.holderPoint(number), view);
    expect(nobleCurve.verify(own!, hash, rig.identity.fundingKey)).toBe(true);
    expect(rig.state.books.phase).toBe("exited");

    expect(rig.step({ counterparty: rig.counterparty(rig.view()) }).refused?.code).toBe("policy-phase");
    expect(rig.close(100_000, 0).refused?.code).toBe("policy-phase");
    expect(rig.step({ forceClose: number }).completeSignature).toEqual(own);
    expect(rig.harm()).toBeNull();
  });

  test("gets nothing for a revoked state, or one that is not there yet", () => {
    const rig = new Rig().open();
    rig.move(rig.view());
    const { number } = rig.state.holder!;
    for (const other of [number - 1, number + 1]) {
      const { completeSignature: own, refused } = rig.step({ forceClose: other });
      expect({ own, code: refused?.code }).toEqual({ own: undefined, code: "policy-exit-before-revoke" });
    }
    expect(rig.state.books.phase).toBe("open");
  });

  test("may come with a state that the device has not seen: it is verified first", () => {
    const rig = new Rig().open();
    rig.step({ counterparty: rig.counterparty(rig.view()) });
    const holder = rig.holder(rig.view());
    const forged = { ...holder, signature: new Uint8Array(64).fill(7) };
    expect(rig.step({ holder: forged, forceClose: holder.number }).completeSignature).toBeUndefined();
    expect(rig.state.books.phase).toBe("open");
    const { completeSignature: own } = rig.step({
      holder: rig.holder(rig.view()),
      forceClose: holder.number,
    });
    expect(own).toHaveLength(64);
  });

  test("of a channel whose funding was not signed gets nothing", () => {
    const rig = new Rig();
    rig.app("open");
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
    rig.step({ holder: rig.holder(rig.view()) });
    expect(rig.step({ forceClose: 0 }).refused?.code).toBe("policy-exit-before-revoke");
  });
});

describe("what is collected", () => {
  test("from a revoked commitment goes to the owner's script, signed by the revocation key", () => {
    const rig = new Rig().open();
    const spend = spendOf(rig);
    const keys = keysOf(rig, spend.point);
    const { completeSignature: own } = rig.step({ spend });
    const hash = hashOf(rig, spend, toLocalScript(keys, rig.proposal.counterpartyDelay));
    expect(nobleCurve.verify(own!, hash, keys.revocation)).toBe(true);
  });

  test("of a payment that timed out in the bridge's commitment is signed by our key in it", () => {
    const rig = new Rig().open();
    const htlc = { paymentHash: derived("hash"), amountMsat: 60_000_000, cltvExpiry: 7 };
    const { secret: _, ...spend } = spendOf(rig, { htlc });
    const keys = keysOf(rig, spend.point);
    const { completeSignature: own } = rig.step({ spend });
    const hash = hashOf(rig, spend, htlcScript({ ...htlc, offered: false }, keys));
    expect(nobleCurve.verify(own!, hash, keys.countersignatoryHtlc)).toBe(true);
  });

  test("uses a nonce of its own for each question, and none for one that was answered, also after the exit and a power cut", () => {
    const rig = new Rig().open();
    const before = rig.state.books.cursors.H;
    const other = { ...spendOf(rig), valueSat: spendOf(rig).valueSat - 1 };
    const first = rig.step({ spend: spendOf(rig) }).completeSignature!;
    const second = rig.step({ spend: other }).completeSignature!;
    expect(second.slice(0, 32)).not.toEqual(first.slice(0, 32));
    expect(rig.step({ spend: spendOf(rig) }).completeSignature).toEqual(first);
    rig.step({ forceClose: 0 });
    rig.box.restart();
    expect(rig.step({ spend: other }).completeSignature).toEqual(second);
    expect(rig.state.books.cursors.H).toBe(before + 2);
    expect(rig.step({ spend: { ...other, valueSat: other.valueSat - 1 } }).completeSignature).toHaveLength(
      64,
    );
    expect(rig.state.books.cursors.H).toBe(before + 3);
  });

  test.each([
    ["pays miners more than the owner allows", { valueSat: 60_000 - 25_001 }],
    ["names an input that is not there", { input: 2 }],
    ["belongs to a channel that never was", { index: 9 }],
    ["is neither revoked nor a payment of ours", { secret: undefined }],
  ])("is refused where it %s", (_, changed) => {
    const rig = new Rig().open();
    const spend = Object.fromEntries(
      Object.entries({ ...spendOf(rig), ...changed }).filter(([, value]) => value !== undefined),
    ) as unknown as Spend;
    const { completeSignature: own, refused } = rig.step({ spend });
    expect(own).toBeUndefined();
    expect(refused?.code).toMatch(/^policy-close-|^channel-unknown$/);
  });
});

import { describe, expect, test } from "@jest/globals";
import { sighash } from "../../src/bitcoin/sighash.ts";
import { nobleCurve } from "../../src/bytes/curve.ts";
import { htlcScript, toLocalScript } from "../../src/lightning/channel.ts";
import { deriveCommitmentKeys } from "../../src/lightning/keys.ts";
import { ourBasepoints, theirBasepoints } from "../../src/link/transactions.ts";
import { spendOf } from "./attacks.ts";
import { bridgePoint, bridgeSecret } from "./peer.ts";
import { Rig } from "./rig.ts";

function pendingRig(): Rig {
  const rig = new Rig().open();
  rig.pay("toll", 1000);
  rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
  return rig;
}

describe("a device that leaves", () => {
  test("hands out the finished signature of its newest commitment, and moves no more", () => {
    const rig = pendingRig();
    const number = rig.state.holder!.number;
    const { own } = rig.step({ leave: number });
    const { sighash: hash } = rig.build(true, number, rig.ourPoint(number), rig.state.holder!.view);
    expect(nobleCurve.verify(own!, hash, rig.identity.fundingKey)).toBe(true);
    expect(rig.state.books.phase).toBe("exited");
    rig.box.restart();
    // Asked again it answers again, alone: what else is in the step is not looked at.
    const again = rig.step({ leave: number, holder: rig.holder(rig.view()) });
    expect(again.own).toEqual(own);
    expect(again.secret).toBeUndefined();
    expect(rig.state.holder!.number).toBe(number);
    expect(rig.step({ holder: rig.holder(rig.view()) }).refused?.code).toBe("policy-phase");
  });

  test("learns that a payment was made all the same, if the preimage comes", () => {
    const rig = pendingRig();
    rig.step({ leave: 1 });
    rig.paid("toll");
    expect(rig.box.decided.map(each => each.preimage)).toEqual([rig.preimage("toll")]);
  });

  test("opens another channel only if the one before was closed", () => {
    const rig = new Rig().open();
    rig.close(199_000, 0);
    rig.say({ type: "channel", index: 1, state: "closed" });
    rig.step({ leave: 0 });
    rig.box.run({ type: "exit", index: 1 });
    expect(rig.state.books.phase).toBe("none");
    rig.app("open");
    expect(rig.refusals).toEqual([]);
  });
});

describe("a device that collects", () => {
  const keysOf = (rig: Rig) =>
    deriveCommitmentKeys(
      nobleCurve,
      bridgePoint(1),
      theirBasepoints(rig.proposal),
      ourBasepoints(rig.identity),
    );

  function isFor(
    rig: Rig,
    own: Uint8Array,
    script: Uint8Array,
    key: Uint8Array,
    spend: ReturnType<typeof spendOf>,
  ) {
    const outputs = [{ valueSat: spend.valueSat, script: rig.identity.shutdownScript }];
    const { inputs, locktime } = spend;
    return nobleCurve.verify(
      own,
      sighash({ version: 2, inputs, outputs, locktime }, 0, script, spend.amountSat),
      key,
    );
  }

  test("signs for a payment that timed out in the bridge's commitment, to the owner's script, in every phase", () => {
    const rig = pendingRig();
    const spend = spendOf(rig, {});
    const keys = keysOf(rig);
    const { incoming: _, ...htlc } = rig.htlc("toll", 1000);
    const script = htlcScript({ ...htlc, offered: false }, keys);
    expect(isFor(rig, rig.step({ spend }).own!, script, keys.countersignatoryHtlc, spend)).toBe(true);
    rig.step({ leave: 1 });
    expect(isFor(rig, rig.step({ spend }).own!, script, keys.countersignatoryHtlc, spend)).toBe(true);
  });

  test("signs for all of a commitment that the bridge had revoked, with the revocation key", () => {
    const rig = pendingRig();
    const { htlc: _, ...rest } = spendOf(rig, {
      secret: bridgeSecret(1),
      amountSat: 50_000,
      valueSat: 40_000,
    });
    const keys = keysOf(rig);
    const { own } = rig.step({ spend: rest });
    expect(isFor(rig, own!, toLocalScript(keys, rig.proposal.theirDelay), keys.revocation, rest)).toBe(true);
  });

  test("knows only its own channels", () => {
    const rig = pendingRig();
    expect(rig.step({ spend: spendOf(rig, { index: 2 }) }).refused?.code).toBe("channel-unknown");
  });
});

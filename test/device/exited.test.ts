import { describe, expect, test } from "@jest/globals";
import { exitOf } from "../../device/channel/exiting.ts";
import { sighash } from "../../src/bitcoin/sighash.ts";
import { transactionBytes } from "../../src/bitcoin/transaction.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { counterpartyBasepoints, holderBasepoints } from "../../src/channel/device-keys.ts";
import { anchorOf, channelOf } from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { htlcScript, toLocalScript } from "../../src/lightning/channel.ts";
import { signedAnchorBump, signedCommitment } from "../../src/lightning/commitment.ts";
import { deriveCommitmentKeys } from "../../src/lightning/keys.ts";
import { storedSecret } from "../../src/lightning/shachain.ts";
import { codeThrownBy } from "../thrown.ts";
import { spendOf } from "./attacks.ts";
import { derived } from "./dealer.ts";
import { keyPair, proposalWith } from "./parties.ts";
import { bridgePoint, bridgeSecret } from "./peer.ts";
import { Rig, type RigOptions } from "./rig.ts";

function pendingRig(options: RigOptions = {}): Rig {
  const rig = new Rig(options).open();
  rig.pay("toll", 1000);
  rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
  return rig;
}

describe("a device that leaves", () => {
  test("hands out the finished signature of its newest commitment, and moves no more", () => {
    const rig = pendingRig();
    const number = rig.state.holder!.number;
    const { completeSignature: own } = rig.step({ forceClose: number });
    const { sighash: hash } = rig.build(true, number, rig.holderPoint(number), rig.state.holder!.view);
    expect(nobleCurve.verify(own!, hash, rig.identity.fundingKey)).toBe(true);
    expect(rig.state.books.phase).toBe("exited");
    rig.box.restart();
    // Asked again it answers again, alone: what else is in the step is not looked at.
    const again = rig.step({ forceClose: number, holder: rig.holder(rig.view()) });
    expect(again.completeSignature).toEqual(own);
    expect(again.secret).toBeUndefined();
    expect(rig.state.holder!.number).toBe(number);
    expect(rig.step({ holder: rig.holder(rig.view()) }).refused?.code).toBe("policy-phase");
  });

  test("has nothing to hand out before there is a commitment of its own", () => {
    expect(new Rig().step({ forceClose: 0 }).refused?.code).toBe("policy-exit-before-revoke");
  });

  test("leaves also with no record of a kind left, which is no old image", () => {
    const rig = new Rig({ charge: { A: 10, B: 20, H: 0 } }).open();
    expect(rig.step({ forceClose: 0 }).completeSignature).toEqual(rig.state.holder!.ownSignature);
  });

  test("learns that a payment was made all the same, if the preimage comes", () => {
    const rig = pendingRig();
    rig.step({ forceClose: 1 });
    rig.paid("toll");
    expect(rig.box.decided.map(each => each.preimage)).toEqual([rig.preimage("toll")]);
  });

  test("opens another channel only if the one before was closed", () => {
    const rig = new Rig().open();
    rig.close(199_000, 0);
    rig.say({ type: "channel", index: 1, state: "closed" });
    rig.step({ forceClose: 0 });
    rig.box.run({ type: "exit", index: 1 });
    expect(rig.state.books.phase).toBe("none");
    rig.app("open");
    expect(rig.refusals).toEqual([]);
  });
});

describe("the exit that the owner reads out", () => {
  /** What must be in it, rebuilt here; payments by their names. */
  function expected(rig: Rig, ...payments: string[]) {
    const { holder, parameters } = rig.state;
    const { number, view, ownSignature, bridgeSignature, anchorSignature } = holder!;
    const { proposal } = parameters!;
    const point = rig.holderPoint(number);
    const commitment = rig.build(true, number, point, view);
    const signed = signedCommitment(
      channelOf(rig.identity, proposal),
      commitment,
      ownSignature,
      bridgeSignature,
    );
    const bump = anchorSignature && signedAnchorBump(anchorOf(rig.identity, commitment)!, anchorSignature);
    return {
      index: 1,
      number,
      point,
      proposal,
      view,
      commitment: transactionBytes(signed),
      ownSignature,
      bridgeSignature,
      anchor: bump ? transactionBytes(bump) : null,
      anchorSignature: anchorSignature ?? null,
      htlcSignatures: holder!.htlcSignatures,
      paymentHashes: payments.map(name => sha256(rig.preimage(name))),
    };
  }

  test("is the newest commitment with its anchor, and what the bridge may publish instead", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    const [before, after] = [rig.view(), rig.view(0, [rig.htlc("toll", 1000)])];
    rig.step({ counterparty: rig.counterparty(after) });
    const exit = expected(rig, "toll");
    expect(exit.anchor).not.toBeNull();
    rig.box.run({ type: "exit", index: 1 });
    const counterparty = [
      { number: 1, point: bridgePoint(1), view: after },
      { number: 0, point: bridgePoint(0), view: before },
    ];
    expect(rig.box.exits).toEqual([
      {
        ...exit,
        counterparty,
        secrets: { count: 0, secrets: [] },
        paymentHashes: [sha256(rig.preimage("toll"))],
      },
    ]);
  });

  test("has no anchor while an HTLC is pending, and of the bridge's commitments none that is revoked", () => {
    const rig = pendingRig();
    const exit = expected(rig, "toll");
    expect(exit.htlcSignatures).toHaveLength(1);
    expect(exit.anchor).toBeNull();
    rig.box.run({ type: "exit", index: 1 });
    const counterparty = [{ number: 1, point: bridgePoint(1), view: exit.view }];
    const secrets = { count: 1, secrets: [bridgeSecret(0)] };
    const paymentHashes = [sha256(rig.preimage("toll"))];
    expect(rig.box.exits).toEqual([{ ...exit, counterparty, secrets, paymentHashes }]);
  });

  test("tells every secret of the bridge's, after hundreds of states and a power cut", () => {
    const rig = new Rig({ charge: { A: 250, B: 250, H: 60 } }).open();
    for (let i = 0; i < 100; i++) rig.move(rig.view(0, [], 1500 + (i % 2)));
    rig.step({ revoked: rig.revoked() });
    expect(rig.refusals).toEqual([]);
    rig.box.restart();
    rig.box.run({ type: "exit", index: 1 });
    const { secrets } = rig.box.exits[0]!;
    expect(secrets.count).toBe(100);
    expect(secrets.secrets.length).toBeLessThanOrEqual(7);
    for (let number = 0; number < 100; number++) {
      expect(storedSecret(secrets, number)).toEqual(bridgeSecret(number));
    }
  });

  test("of a channel before tells as well what the bridge may publish, and its secrets", () => {
    const rig = new Rig().open();
    rig.move(rig.view(0, [], 1600));
    const exit = expected(rig);
    rig.close(199_000, 0);
    rig.say({ type: "channel", index: 1, state: "closed" });
    rig.proposal = proposalWith({
      index: 2,
      deposits: [{ txid: derived("more"), vout: 0, valueSat: 201_000 }],
    });
    rig.app("open");
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
    rig.box.run({ type: "exit", index: 1 });
    const counterparty = [{ number: 1, point: bridgePoint(1), view: exit.view }];
    const secrets = { count: 1, secrets: [bridgeSecret(0)] };
    expect(rig.box.exits).toEqual([{ ...exit, counterparty, secrets, paymentHashes: [] }]);
  });

  test("tells the payments that there are, whatever slots are free between them", () => {
    const { state, box } = pendingRig();
    const [toll] = state.payments;
    const exit = exitOf({ ...state, payments: [null, toll!, null] }, box.context, 1);
    expect(exit.paymentHashes).toEqual([toll!.paymentHash]);
  });

  test("is not there where there is no channel", () => {
    for (const index of [0, 1]) {
      expect(codeThrownBy(() => new Rig().box.run({ type: "exit", index }))).toBe("policy-close-state");
    }
  });
});

describe("a device that collects", () => {
  const keysOf = (rig: Rig) =>
    deriveCommitmentKeys(
      nobleCurve,
      bridgePoint(1),
      counterpartyBasepoints(rig.proposal),
      holderBasepoints(rig.identity),
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
    expect(isFor(rig, rig.step({ spend }).completeSignature!, script, keys.countersignatoryHtlc, spend)).toBe(
      true,
    );
    rig.step({ forceClose: 1 });
    expect(isFor(rig, rig.step({ spend }).completeSignature!, script, keys.countersignatoryHtlc, spend)).toBe(
      true,
    );
  });

  test("signs for all of a commitment that the bridge had revoked, with the revocation key", () => {
    const rig = pendingRig();
    const { htlc: _, ...rest } = spendOf(rig, {
      secret: bridgeSecret(1),
      amountSat: 50_000,
      valueSat: 40_000,
    });
    const keys = keysOf(rig);
    const { completeSignature: own } = rig.step({ spend: rest });
    expect(isFor(rig, own!, toLocalScript(keys, rig.proposal.counterpartyDelay), keys.revocation, rest)).toBe(
      true,
    );
  });

  test("takes another nonce for each question: two signatures with one would give the key away", () => {
    const rig = pendingRig();
    const before = rig.state.books.cursors.H;
    const answers = [700, 701, 702].map(
      valueSat => rig.step({ spend: spendOf(rig, { valueSat }) }).completeSignature!,
    );
    expect(new Set(answers.map(own => toHex(own.subarray(0, 32)))).size).toBe(3);
    expect(rig.state.books.cursors.H).toBe(before + 3);
    rig.box.restart();
    // The same question is the same signature, whatever else was asked between.
    expect(rig.step({ spend: spendOf(rig, { valueSat: 700 }) }).completeSignature).toEqual(answers[0]);
    expect(rig.state.books.cursors.H).toBe(before + 3);
    expect(rig.harm()).toBeNull();
  });

  test("without a curve takes the secret at the gateway's word, and signs as well", () => {
    const { htlc: _, ...spend } = spendOf(pendingRig(), { secret: bridgeSecret(1) });
    const { completeSignature: own } = pendingRig({ curve: null }).step({ spend });
    expect(own).toEqual(pendingRig().step({ spend }).completeSignature);
    expect(own).toBeDefined();
  });

  test("signs for a payment of the bridge's in a commitment that is revoked, by the script of one that it offers", () => {
    const rig = pendingRig();
    const { incoming: _, ...offered } = rig.htlc("counterparty", 1000);
    const spend = spendOf(rig, { secret: bridgeSecret(1), htlc: { ...offered, incoming: true } });
    const keys = keysOf(rig);
    const script = htlcScript({ ...offered, offered: true }, keys);
    expect(isFor(rig, rig.step({ spend }).completeSignature!, script, keys.revocation, spend)).toBe(true);
  });

  test("keeps back the nonces that payments in flight need", () => {
    // One is used in the commitment with the payment; settling it may take two more.
    const code = (H: number) => {
      const rig = pendingRig({ charge: { A: 60, B: 70, H } });
      return rig.step({ spend: spendOf(rig, {}) }).refused?.code;
    };
    expect([code(3), code(4)]).toEqual(["records-used-up", undefined]);
  });

  test("knows only its own channels", () => {
    const rig = pendingRig();
    expect(rig.step({ spend: spendOf(rig, { index: 2 }) }).refused?.code).toBe("channel-unknown");
    const { htlc: _, ...spend } = spendOf(rig, { index: 0, secret: bridgeSecret(1) });
    expect(new Rig().step({ spend }).refused?.code).toBe("channel-unknown");
  });

  test("knows each channel before by its number, with the keys and the delay that it had", () => {
    const rig = new Rig({ charge: { A: 80, B: 90, H: 60 } });
    const proposals = [1, 2, 3].map(index =>
      proposalWith({
        index,
        counterpartyDelay: 144 + index,
        htlcBasepoint: keyPair(`HTLCs of channel ${index}`).point,
        deposits: [{ txid: derived(`deposit ${index}`), vout: 0, valueSat: 201_000 }],
      }),
    );
    for (const proposal of proposals) {
      rig.proposal = proposal;
      rig.app("open");
      rig.step({ proposal, counterparty: rig.counterparty(rig.view(), 0) });
      if (proposal.index === 3) break;
      rig.step({ holder: rig.holder(rig.view(), 0) });
      rig.step({ fund: true });
      rig.close(199_000, 0);
      rig.say({ type: "channel", index: proposal.index, state: "closed" });
    }
    expect(rig.refusals).toEqual([]);
    expect(rig.state.former!.map(({ index }) => index)).toEqual([2, 1]);
    const { htlc: _, ...rest } = spendOf(rig, {
      secret: bridgeSecret(1),
      amountSat: 50_000,
      valueSat: 40_000,
    });
    for (const proposal of proposals) {
      rig.proposal = proposal;
      const inputs = [{ ...rest.inputs[0]!, txid: derived(`commitment of channel ${proposal.index}`) }];
      const spend = { ...rest, inputs, index: proposal.index };
      const script = toLocalScript(keysOf(rig), proposal.counterpartyDelay);
      expect(isFor(rig, rig.step({ spend }).completeSignature!, script, keysOf(rig).revocation, spend)).toBe(
        true,
      );
    }
    expect(rig.step({ spend: { ...rest, index: 4 } }).refused?.code).toBe("channel-unknown");
  });
});

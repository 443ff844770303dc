/** What a gateway might wish and has no words for: the device builds what it signs itself, from what it knows. */
import { describe, expect, test } from "@jest/globals";
import { p2wpkh } from "../../src/bitcoin/script.ts";
import { sighash } from "../../src/bitcoin/sighash.ts";
import { ascii } from "../../src/bytes/bytes.ts";
import { depositScriptOf } from "../../src/channel/device-keys.ts";
import { channelOf, closingSighash, fundingOf } from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { buildClosing } from "../../src/lightning/closing.ts";
import { type Step, type Stepped, toDevice } from "../../src/messages/device.ts";
import { type Cbor, type CborMap, decodeCbor, encodeCbor } from "../cbor.ts";
import { codeThrownBy } from "../thrown.ts";
import { keyPair } from "./parties.ts";
import { Rig } from "./rig.ts";

const THIEF = p2wpkh(keyPair("the gateway's own").point);

/** Is the gateway able to make a signature by the shared key over this hash of the device's answer? */
function signs({ signed }: Stepped, hash: Uint8Array, rig: Rig, i = 0): boolean {
  return nobleCurve.verify(rig.completed(signed!.partials[i]!), hash, rig.identity.fundingKey);
}

/** A step with one field of one of its parts changed, or left out (undefined), as only raw bytes can say it. */
function doctored(parts: Omit<Step, "type" | "id">, part: number, field: number, value: Cbor | undefined) {
  const message = decodeCbor(toDevice.encode({ type: "step", id: 99, ...parts })) as CborMap;
  const { [field]: _, ...rest } = message[part] as CborMap;
  return encodeCbor({ ...message, [part]: value === undefined ? rest : { ...rest, [field]: value } });
}

const PROPOSAL = 3;
const HOLDER = 4;
const CLOSE = 7;

describe("a gateway cannot say", () => {
  test("that a close pays our part to an address of its own", () => {
    const rig = new Rig().open();
    const close = { holderSat: 199_000, counterpartySat: 0, counterpartyScript: THIEF };
    const answer = rig.step({ close });
    const channel = channelOf(rig.identity, rig.proposal);
    const stolen = buildClosing(channel, { ...close, holderScript: THIEF });
    expect(signs(answer, stolen.sighash, rig)).toBe(false);
    expect(signs(answer, closingSighash(rig.identity, rig.proposal, close), rig)).toBe(true);
    const bytes = doctored({ close }, CLOSE, 9, THIEF);
    expect(codeThrownBy(() => rig.box.receive(bytes))).toBe("message-malformed");
  });

  test("that the deposit or its change goes elsewhere than into the channel and back", () => {
    const rig = new Rig();
    rig.proposal = { ...rig.proposal, channelSat: 100_000, changeSat: 100_000 };
    rig.app("open");
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
    rig.step({ holder: rig.holder(rig.view()) });
    const answer = rig.step({ fund: true });
    const { transaction, sighashes } = fundingOf(rig.identity, rig.proposal);
    const [channel, change] = transaction.outputs;
    const { valueSat } = rig.proposal.deposits[0]!;
    for (const outputs of [
      [{ ...channel!, script: THIEF }, change!],
      [channel!, { ...change!, script: THIEF }],
      [channel!],
      [{ ...channel!, valueSat: channel!.valueSat - 1 }, change!],
    ]) {
      const stolen = sighash({ ...transaction, outputs }, 0, depositScriptOf(rig.identity), valueSat);
      expect(signs(answer, stolen, rig)).toBe(false);
    }
    expect(signs(answer, sighashes[0]!, rig)).toBe(true);
    const bytes = doctored({ proposal: rig.proposal }, PROPOSAL, 99, THIEF);
    expect(codeThrownBy(() => rig.box.receive(bytes))).toBe("message-malformed");
  });

  test("that two channels' funding transactions are one, with each one's true value of an input, and the rest for the miners", () => {
    const rig = new Rig();
    const deposits = ["first", "second"].map(name => ({ txid: sha256(ascii(name)), vout: 0 }));
    const TRUE_SAT = 150_000;
    // Of each channel the value of one deposit is said to be lower than it is.
    const answers = [0, 1].map(truth => {
      rig.proposal = {
        ...rig.proposal,
        index: truth + 1,
        deposits: deposits.map((each, i) => ({ ...each, valueSat: i === truth ? TRUE_SAT : 51_000 })),
      };
      rig.app("open");
      rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
      rig.step({ holder: rig.holder(rig.view(), 0) });
      const answer = rig.step({ fund: true });
      const { transaction } = fundingOf(rig.identity, rig.proposal);
      rig.close(199_000, 0);
      rig.say({ type: "channel", index: truth + 1, state: "closed" });
      return { answer, transaction };
    });
    expect(rig.refusals).toEqual([]);
    const script = depositScriptOf(rig.identity);
    for (const { transaction } of answers) {
      const signed = answers.map(({ answer }, i) =>
        signs(answer, sighash(transaction, i, script, TRUE_SAT), rig, i),
      );
      expect(signed.sort()).toEqual([false, true]);
    }
  });

  test("that a state of ours needs no signature of the bridge's, and no half of our own", () => {
    const rig = new Rig().open();
    const before = rig.state;
    for (const field of [3, 5]) {
      const bytes = doctored({ holder: rig.holder(rig.view()) }, HOLDER, field, undefined);
      expect(codeThrownBy(() => rig.box.receive(bytes))).toBe("message-malformed");
    }
    expect(rig.state).toBe(before);
    expect(rig.box.takeSent()).toEqual([]);
  });
});

/** What a gateway might wish and has no words for: the device builds what it signs itself, from what it knows. */
import { describe, expect, test } from "@jest/globals";
import { p2wpkh } from "../../src/bitcoin/script.ts";
import { sighash } from "../../src/bitcoin/sighash.ts";
import { type Cbor, type CborMap, decodeCbor, encodeCbor } from "../../src/bytes/cbor.ts";
import { nobleCurve } from "../../src/bytes/curve.ts";
import { buildClosing } from "../../src/lightning/closing.ts";
import { type Step, type Stepped, toDevice } from "../../src/link/messages.ts";
import { channelOf, closingSighash, depositScriptOf, fundingOf } from "../../src/link/transactions.ts";
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
    const close = { ourSat: 199_000, theirSat: 0, theirScript: THIEF };
    const answer = rig.step({ close });
    const channel = channelOf(rig.identity, rig.proposal);
    const stolen = buildClosing(channel, { ...close, ourScript: THIEF });
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

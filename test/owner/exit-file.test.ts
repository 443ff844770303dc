/** The exit as a file: what is in it comes back whole, nothing in it can be changed, and what could not be published is refused. */
import { createHmac } from "node:crypto";
import { describe, expect, test } from "@jest/globals";
import { MAX_PAYMENTS } from "../../device/channel/payments/remembered.ts";
import {
  checkExit,
  type ExitFile,
  type ExitSource,
  ensurePublishable,
  readExit,
  writeExit,
} from "../../owner/recovery/exit-file.ts";
import { timeOuts } from "../../owner/recovery/time-outs.ts";
import { transactionBytes } from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf } from "../../src/errors.ts";
import { derived } from "../device/dealer.ts";
import { BRIDGE, HEIGHT } from "../device/parties.ts";
import { bridgePoint, bridgeSecret } from "../device/peer.ts";
import { Rig } from "../device/rig.ts";
import { codeThrownBy } from "../thrown.ts";

/** A device that left: at rest, or with a payment in flight. */
function left(inFlight: boolean) {
  const rig = new Rig().open();
  rig.pay("toll", 1000);
  if (inFlight) rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
  rig.box.run({ type: "exit", index: 1 });
  const exit = rig.box.exits[0]!;
  const source: ExitSource = {
    network: "regtest",
    deviceId: rig.identity.deviceId,
    keys: rig.identity,
    commitmentMaster: rig.identity.commitmentMaster,
  };
  return { rig, exit, source, text: writeExit(source, exit, true) };
}

const rest = left(false);
const pending = left(true);
const read = (text: string, master = rest.source.commitmentMaster) =>
  readExit("exit.json", text, () => master);
const fileOf = ({ text }: typeof rest): ExitFile => read(text);

describe("an exit file", () => {
  test.each([
    ["at rest", rest],
    ["with a payment in flight", pending],
  ])("of a state %s says all that the device told, and asks for the secret of its own device", (_, made) => {
    const asked: unknown[] = [];
    const file = readExit("exit.json", made.text, (key, network) => {
      asked.push([toHex(key), network]);
      return made.source.commitmentMaster;
    });
    expect(asked).toEqual([[toHex(made.rig.identity.fundingKey), "regtest"]]);
    const { commitment: _commitment, anchor: _anchor, anchorSignature, ...told } = made.exit;
    expect(file).toMatchObject({ ...told, final: true, network: "regtest", deviceId: "toll2345" });
    expect(file.anchorSignature ?? null).toEqual(anchorSignature);
    expect("anchorSignature" in file).toBe(made === rest);
    for (const name of Object.keys(file.keys) as (keyof typeof file.keys)[])
      expect(file.keys[name]).toEqual(made.rig.identity[name]);
    expect(Object.keys(file.keys)).toHaveLength(8);
  });

  test("says beside its content what it is, and whether it may be published", () => {
    const final = JSON.parse(rest.text);
    expect(final).toMatchObject({
      version: 1,
      deviceId: "toll2345",
      network: "regtest",
      channel: 1,
      state: 0,
      final: true,
    });
    expect(final.about).toContain("publishes it");
    const copy = JSON.parse(writeExit(rest.source, rest.exit, false));
    expect(copy.final).toBe(false);
    expect(copy.about).toContain("must not be published");
    expect(read(JSON.stringify(copy)).final).toBe(false);
    expect(rest.text.endsWith("}\n")).toBe(true);
  });

  test("that was changed anywhere, or belongs to other words, is refused", () => {
    const json = JSON.parse(rest.text) as { exit: string; mac: string };
    const changed = (field: "exit" | "mac", at: number) => {
      const bytes = fromHex(json[field]);
      bytes[at] = bytes[at]! ^ 1;
      return JSON.stringify({ ...json, [field]: toHex(bytes) });
    };
    const length = json.exit.length / 2;
    const places = Array.from({ length: 40 }, (_, i) => Math.floor((i * (length - 1)) / 39));
    for (const at of places) expect(codeThrownBy(() => read(changed("exit", at)))).toBe("exit-damaged");
    for (const at of [0, 31]) expect(codeThrownBy(() => read(changed("mac", at)))).toBe("exit-damaged");
    expect(codeThrownBy(() => read(rest.text, derived("other words")))).toBe("exit-damaged");
    // A copy cannot be made final by the words beside its content.
    const copy = JSON.parse(writeExit(rest.source, rest.exit, false));
    expect(read(JSON.stringify({ ...copy, final: true })).final).toBe(false);
    expect(codeThrownBy(() => read(JSON.stringify({ ...copy, mac: json.mac })))).toBe("exit-damaged");
  });

  test.each([
    ["nothing", ""],
    ["no file of ours", "[]"],
    ["half a file", rest.text.slice(0, 300)],
    ["another version", rest.text.replace('"version": 1', '"version": 2')],
    ["no content", JSON.stringify({ ...JSON.parse(rest.text), exit: "" })],
    ["a content that is no hex", JSON.stringify({ ...JSON.parse(rest.text), exit: "zz" })],
    ["no seal", JSON.stringify({ ...JSON.parse(rest.text), mac: undefined })],
    [
      "half a seal",
      JSON.stringify({ ...JSON.parse(rest.text), mac: JSON.parse(rest.text).mac.slice(0, 32) }),
    ],
  ])("that is %s is refused and named", (_, text) => {
    let thrown: unknown;
    try {
      read(text);
    } catch (error) {
      thrown = error;
    }
    expect(codeOf(thrown)).toBe("exit-damaged");
    expect(String(thrown)).toContain("exit.json");
  });

  test("is sealed with a key of its own, which follows from the device's secret", () => {
    const { exit, mac } = JSON.parse(rest.text) as { exit: string; mac: string };
    const hmac = (key: Uint8Array, bytes: Uint8Array) => createHmac("sha256", key).update(bytes).digest();
    const key = hmac(rest.source.commitmentMaster, Buffer.from("lngate/1/exit"));
    expect(mac).toBe(toHex(hmac(key, fromHex(exit))));
  });

  test("has room for as many payments as a device remembers, and drops the first of more", () => {
    const paymentHashes = Array.from({ length: MAX_PAYMENTS + 1 }, (_, i) => derived(`payment ${i}`));
    const file = read(writeExit(rest.source, { ...rest.exit, paymentHashes }, true));
    expect(file.paymentHashes).toEqual(paymentHashes.slice(1));
  });

  test("passes on why there is no secret for its device", () => {
    const refused = () =>
      readExit("exit.json", rest.text, () => {
        throw Object.assign(new Error("another network"), { code: "wrong-network" });
      });
    expect(codeThrownBy(refused)).toBe("wrong-network");
  });
});

describe("an exit that is checked", () => {
  test.each([
    ["at rest", rest],
    ["with a payment in flight", pending],
  ])("%s is the transaction that the device told, and what the bridge may publish instead", (_, made) => {
    const checked = checkExit(fileOf(made));
    expect(toHex(transactionBytes(checked.transaction))).toBe(toHex(made.exit.commitment));
    expect(checked.anchor && toHex(transactionBytes(checked.anchor))).toEqual(
      made.exit.anchor && toHex(made.exit.anchor),
    );
    const { view, number } = made.rig.state.counterparty!;
    const theirs = made.rig.build(false, number, bridgePoint(number), view);
    expect(checked.counterparty.map(each => [each.number, toHex(each.point), each.commitment.txid])).toEqual([
      [number, toHex(bridgePoint(number)), theirs.txid],
    ]);
    const ours = made.rig.build(true, made.exit.number, made.exit.point, made.exit.view);
    expect(checked.commitment.txid).toEqual(ours.txid);
    expect(checked.channel.fundingSat).toBe(200_000);
    expect(checked.secrets).toEqual(made.exit.secrets);
  });

  test("has every signature in it verified", () => {
    const other = (hash: Uint8Array, secret = BRIDGE.funding.secret) => nobleCurve.sign(hash, secret);
    const wrong = other(derived("something else"));
    const refused = (made: typeof rest, changed: Partial<ExitFile>) =>
      codeThrownBy(() => checkExit({ ...fileOf(made), ...changed }));
    for (const made of [rest, pending]) {
      expect(refused(made, { bridgeSignature: wrong })).toBe("exit-invalid");
      expect(refused(made, { ownSignature: wrong })).toBe("exit-invalid");
      // Each by the other one's key.
      const { bridgeSignature, ownSignature } = fileOf(made);
      expect(refused(made, { bridgeSignature: ownSignature, ownSignature: bridgeSignature })).toBe(
        "exit-invalid",
      );
      expect(refused(made, { number: made.exit.number + 1 })).toBe("exit-invalid");
    }
    expect(refused(rest, { anchorSignature: wrong })).toBe("exit-invalid");
  });

  test("can be published whatever the bridge has signed for payments in flight, and says which don't come home", () => {
    const wrong = nobleCurve.sign(derived("something else"), BRIDGE.htlc.secret);
    const stranded = (changed: Partial<ExitFile>) =>
      [...checkExit({ ...fileOf(pending), ...changed }).stranded].map(({ valueSat }) => valueSat);
    expect(stranded({})).toEqual([]);
    for (const htlcSignatures of [[wrong], []]) expect(stranded({ htlcSignatures })).toEqual([1000]);
  });

  test("whose payments have timed out asks for a coin for those that come home, and names the others", async () => {
    const rig = new Rig().open();
    rig.pay("one", 1000);
    rig.pay("two", 2000);
    rig.move(rig.view(0, [rig.htlc("one", 1000), rig.htlc("two", 2000)]));
    rig.box.run({ type: "exit", index: 1 });
    const file = read(writeExit(rest.source, rig.box.exits[0]!, true));
    const remarksOn = async (htlcSignatures: readonly Uint8Array[]) => {
      const remarks: string[] = [];
      const chain = { output: async () => ({}) };
      const run = { options: { chain }, height: HEIGHT + 500, feeratePerKw: 1000, remarks };
      const exit = checkExit({ ...file, htlcSignatures: [...htlcSignatures] });
      const { deviceId, keys, point } = exit.file;
      const ours = { ...exit, deviceId, fundingKey: keys.fundingKey, point, htlcSignatures };
      expect(await timeOuts(run as never, ours, undefined, [])).toBeNull();
      return remarks.map(remark => remark.replace(/ of device \w+/, ""));
    };
    const [one, two] = file.htlcSignatures;
    const due = expect.stringMatching(/^3000 sat in 2 payment\(s\) have timed out and are yours/);
    expect(await remarksOn([one!, two!])).toEqual([due]);
    const [first] = checkExit(file).commitment.htlcs;
    const left = 3000 - first!.valueSat;
    expect(await remarksOn([two!, two!])).toEqual([
      expect.stringMatching(
        new RegExp(`^${first!.valueSat} sat of a payment can't be taken back from its exit`),
      ),
      expect.stringMatching(new RegExp(`^${left} sat in 1 payment\\(s\\) have timed out`)),
    ]);
  });

  test("is checked before a device's channel is ended by it", () => {
    ensurePublishable(rest.source, rest.exit);
    const wrong = nobleCurve.sign(derived("something else"), BRIDGE.funding.secret);
    const refused = () => ensurePublishable(rest.source, { ...rest.exit, bridgeSignature: wrong });
    expect(codeThrownBy(refused)).toBe("exit-invalid");
  });

  test("without a signature of its anchor can be published all the same", () => {
    const { anchorSignature: _, ...file } = fileOf(rest);
    expect(checkExit(file).anchor).toBeNull();
  });

  test("has secrets only if they fit together and reach up to what is not revoked", () => {
    const file = fileOf(pending);
    expect(file.secrets).toEqual({ count: 1, secrets: [bridgeSecret(0)] });
    const secretsOf = (changed: Partial<ExitFile>) => checkExit({ ...file, ...changed }).secrets;
    expect(secretsOf({})).toEqual(file.secrets);
    const { secrets: _, ...without } = file;
    expect(checkExit(without).secrets).toBeNull();
    expect(secretsOf({ secrets: { count: 0, secrets: [] } })).toBeNull();
    expect(secretsOf({ secrets: { count: 2, secrets: [bridgeSecret(0)] } })).toBeNull();
    expect(secretsOf({ secrets: { count: 1, secrets: [] } })).toBeNull();
    expect(secretsOf({ secrets: { count: 1, secrets: [new Uint8Array(32)] } })).toBeNull();
    // The one before the newest is not revoked: the secrets reach up to it.
    const [newest] = file.counterparty;
    const before = { ...newest!, number: newest!.number - 1 };
    expect(secretsOf({ counterparty: [newest!, before] })).toBeNull();
    expect(secretsOf({ counterparty: [newest!, before], secrets: { count: 0, secrets: [] } })).toEqual({
      count: 0,
      secrets: [],
    });
    // What does not fit together is not written down either.
    const text = writeExit(pending.source, { ...pending.exit, secrets: { count: 1, secrets: [] } }, true);
    expect(read(text).secrets).toBeUndefined();
  });
});

/** What a board computes, and when: until the receipt only what the receipt needs, the rest when nobody waits. */
import { expect, test } from "@jest/globals";
import type { Receipt } from "../../device/api.ts";
import { BECH32, decodeBech32, encodeBech32 } from "../../src/bytes/bech32.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve, type PublicCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { encodeInvoice } from "../../src/lightning/bolt11-write.ts";
import type { Step, ToDevice } from "../../src/messages/device.ts";
import { derived } from "./dealer.ts";
import { Host } from "./host.ts";
import { bridgePoint } from "./peer.ts";
import { Rig } from "./rig.ts";

/** What one operation on the curve takes on a chip without a native one. */
const OPERATION_MS = 270;

/** A board whose curve takes its time and counts, and a gateway that makes its payments: it has a device of its own to ask. */
class Chip {
  readonly rig: Rig;
  readonly host: Host;
  /** Operations on the curve, each with the moment at which it began. */
  readonly operations: { readonly name: string; readonly at: number }[] = [];
  sat = 0;

  constructor(rig = new Rig().open(), isSlow = true) {
    this.rig = rig;
    const counted: Partial<Record<keyof PublicCurve, unknown>> = {};
    for (const name of ["publicKey", "combine", "verify", "recover"] as const) {
      counted[name] = (...args: never[]) => {
        this.operations.push({ name, at: this.host?.nowMs ?? 0 });
        if (isSlow && this.host) this.host.nowMs += OPERATION_MS;
        return (nobleCurve[name] as (...args: never[]) => unknown)(...args);
      };
    }
    this.host = new Host(rig.box.flash.image(), false, { ...nobleCurve, ...counted } as PublicCurve);
  }

  /** What the curve did meanwhile. */
  during(act: () => void): string[] {
    const before = this.operations.length;
    act();
    return this.operations.slice(before).map(({ name }) => name);
  }

  invoice(name: string, amountMsat = 1_000_000, nameThePayee = false): string {
    return encodeInvoice(
      {
        network: "regtest",
        amountMsat,
        timestamp: Math.floor(this.host.nowMs / 1000),
        paymentHash: sha256(this.rig.preimage(name)),
        paymentSecret: derived("payment secret"),
        description: name,
        features: [8, 14],
        nameThePayee,
      },
      derived("payee"),
      nobleCurve,
    );
  }

  /** The application pays. What became of it, once it is known. */
  pay(name: string): Receipt[] {
    const receipts: Receipt[] = [];
    void this.host.device.pay(this.invoice(name)).then(
      receipt => receipts.push(receipt),
      () => {},
    );
    this.rig.pay(name, 1000);
    return receipts;
  }

  /** A step to both devices, which answer alike. */
  step(parts: Omit<Step, "type" | "id">): ToDevice {
    const expected = this.rig.step(parts);
    const message: ToDevice = { type: "step", ...parts, id: this.rig.lastId };
    this.host.say(message);
    this.host.pass(20);
    expect(this.host.heard.at(-1)).toEqual(expected);
    return message;
  }

  /** The steps of a payment up to the one before its receipt. */
  begin(
    name: string,
    change: (holder: ReturnType<Rig["holder"]>) => ReturnType<Rig["holder"]> = h => h,
  ): void {
    const { rig } = this;
    const view = rig.view(this.sat, [rig.htlc(name, 1000)]);
    const { point: _, ...counterparty } = rig.counterparty(view);
    const isKnown = rig.state.counterparty!.nextPoint !== undefined;
    this.step({ counterparty: isKnown ? counterparty : rig.counterparty(view) });
    this.step({ holder: change(rig.holder(view)) });
  }

  /** The step with the receipt, and what the bridge revokes with it. */
  end(name: string): void {
    const { rig } = this;
    this.sat += 1000;
    const view = rig.view(this.sat);
    const number = rig.state.counterparty!.number;
    const revoked = { ...rig.revoked(), nextPoint: bridgePoint(number + 1) };
    const { point: _, ...counterparty } = rig.counterparty(view);
    this.step({ paid: [rig.preimage(name)], revoked, holder: rig.holder(view), counterparty });
  }

  /** The bridge has revoked the state with the HTLC, and nobody asks for anything. */
  handOn(): void {
    const number = this.rig.state.counterparty!.number;
    this.step({ revoked: { ...this.rig.revoked(), nextPoint: bridgePoint(number + 1) } });
  }

  /** A payment as every other one. */
  whole(name: string): void {
    this.pay(name);
    this.begin(name);
    this.end(name);
    this.handOn();
    this.host.pass(20_000);
  }
}

const settled = () => new Promise(resolve => setImmediate(resolve));

test("until the receipt: the invoice's signature and the bridge's on our commitment, and nothing else", async () => {
  const chip = new Chip();
  chip.host.pass(20_000);
  chip.whole("first");
  let receipts: Receipt[] = [];
  expect(
    chip.during(() => {
      receipts = chip.pay("toll");
    }),
  ).toEqual(["recover"]);
  expect(chip.during(() => chip.begin("toll"))).toEqual(["verify"]);
  // However long the receipt takes.
  expect(chip.during(() => chip.host.pass(30_000))).toEqual([]);
  chip.host.say({ type: "paid", preimage: chip.rig.preimage("toll") });
  await settled();
  expect(receipts).toMatchObject([{ preimage: toHex(chip.rig.preimage("toll")) }]);
  chip.rig.paid("toll");
  expect(chip.host.crashes).toEqual([]);
});

test("after it: as much as a payment takes, each piece in a turn of its own", () => {
  const chip = new Chip();
  chip.host.pass(20_000);
  for (const name of ["first", "second"]) chip.whole(name);
  chip.pay("toll");
  chip.begin("toll");
  // The bridge's secret, and the keys of the point that comes with it; the signatures on our new state and on the old one's HTLC.
  const [revocation, key] = ["combine", "publicKey"];
  expect(chip.during(() => chip.end("toll"))).toEqual([key, "verify", "verify", revocation, key, key, key]);
  const before = chip.operations.length;
  chip.handOn();
  chip.host.pass(20_000);
  const [told, ...idle] = chip.operations.slice(before);
  expect(told!.name).toBe(key);
  // Keys for the bridge's next commitment, and for two of ours with a point further on for each.
  const ours = [revocation, key, key, key, key];
  expect(idle.map(({ name }) => name)).toEqual([revocation, key, key, key, ...ours, ...ours]);
  for (const [i, { at }] of idle.entries())
    if (i > 0) expect(at - idle[i - 1]!.at).toBeGreaterThanOrEqual(OPERATION_MS + 50);
  expect(chip.during(() => chip.host.pass(60_000))).toEqual([]);
});

test("a quick board does all of it in one turn", () => {
  const chip = new Chip(new Rig().open(), false);
  chip.host.pass(60);
  expect(chip.operations.map(({ name }) => name)).toContain("combine");
  expect(chip.during(() => chip.host.pass(60_000))).toEqual([]);
});

test("a message that comes while an application waits is read within a turn, whatever there was to prepare", () => {
  const chip = new Chip();
  // Some of the work is done, most of it is not.
  chip.host.pass(700);
  expect(chip.operations.length).toBeLessThan(4);
  chip.pay("toll");
  const waiting = chip.operations.length;
  chip.host.pass(10_000);
  expect(chip.operations).toHaveLength(waiting);
  // Answered before any timer rings: what is missing is made for it.
  const { rig } = chip;
  const view = rig.view(0, [rig.htlc("toll", 1000)]);
  const parts = { counterparty: rig.counterparty(view) };
  const stepped = rig.step(parts);
  chip.host.say({ type: "step", ...parts, id: rig.lastId });
  expect(chip.host.heard.at(-1)).toEqual(stepped);
});

test("a message between two pieces of work is read at once, and the work begins again for what it has changed", () => {
  const chip = new Chip();
  chip.host.pass(700);
  const before = chip.operations.length;
  chip.host.say({ type: "step", id: 99 });
  expect(chip.host.heard.at(-1)).toEqual({ type: "stepped", id: 99 });
  expect(chip.operations).toHaveLength(before);
  chip.host.pass(20_000);
  // What was there is not made again.
  expect(chip.operations.filter(({ name }) => name === "combine")).toHaveLength(2);
});

test("a receipt in a step is the application's before the rest of the step is worked on", async () => {
  const chip = new Chip();
  chip.host.pass(20_000);
  const receipts = chip.pay("toll");
  chip.begin("toll");
  const { rig } = chip;
  const view = rig.view(1000);
  const parts = { paid: [rig.preimage("toll")], revoked: rig.revoked(), holder: rig.holder(view) };
  const stepped = rig.step(parts);
  const work = chip.during(() => chip.host.say({ type: "step", ...parts, id: rig.lastId }));
  expect(work).toEqual([]);
  await settled();
  expect(receipts).toHaveLength(1);
  chip.host.pass(20);
  expect(chip.host.heard.at(-1)).toEqual(stepped);
});

test("an HTLC signed wrong is found when its receipt is there, and the application is told at its next payment", async () => {
  const chip = new Chip();
  chip.host.pass(20_000);
  chip.pay("toll");
  chip.begin("toll", holder => ({ ...holder, htlcSignatures: [holder.signature] }));
  chip.host.pass(20_000);
  expect(chip.host.device.balance().badHtlcSignature).toBe(false);
  chip.host.say({ type: "paid", preimage: chip.rig.preimage("toll") });
  chip.host.pass(1000);
  expect(chip.host.device.balance().badHtlcSignature).toBe(true);
  const { phase } = chip.host.device.balance();
  expect(phase).toBe("open");
  await expect(chip.host.device.pay(chip.invoice("another"))).rejects.toMatchObject({
    code: "policy-htlc-signature",
  });
  expect(chip.host.heard.filter(({ type }) => type === "pay")).toHaveLength(1);
  // Nor after a restart.
  const again = new Host(chip.host.flash.image());
  await expect(again.device.pay(chip.invoice("another"))).rejects.toMatchObject({
    code: "policy-htlc-signature",
  });
  expect(again.device.exit()).not.toBe("");
});

test("an application that pays at once, with nothing verified yet, is refused as well", async () => {
  const chip = new Chip();
  chip.host.pass(20_000);
  chip.pay("toll");
  chip.begin("toll", holder => ({ ...holder, htlcSignatures: [holder.signature] }));
  await expect(chip.host.device.pay(chip.invoice("another"))).rejects.toMatchObject({
    code: "policy-htlc-signature",
  });
  expect(chip.host.device.balance().badHtlcSignature).toBe(true);
});

test("an invoice that is known is not recovered again; one that was quoted is recovered once", async () => {
  const chip = new Chip();
  chip.host.pass(20_000);
  const invoice = chip.invoice("toll");
  expect(chip.during(() => void chip.host.device.quote(invoice))).toEqual(["recover"]);
  expect(chip.during(() => void chip.pay("toll"))).toEqual([]);
  // Under way, and asked for again by somebody who has changed a letter of it.
  const other = chip.invoice("toll", 2_000_000);
  const joined: Receipt[] = [];
  expect(chip.during(() => void chip.host.device.pay(other).then(receipt => joined.push(receipt)))).toEqual(
    [],
  );
  chip.begin("toll");
  chip.end("toll");
  await settled();
  expect(joined).toMatchObject([{ amountMsat: 1_000_000 }]);
  // And paid.
  expect(chip.during(() => void chip.host.device.pay(other).then(receipt => joined.push(receipt)))).toEqual(
    [],
  );
  await settled();
  expect(joined[1]).toEqual(joined[0]);
  // A signature that is wrong is found where something would be paid.
  const { prefix, words } = decodeBech32(chip.invoice("new", 1_000_000, true), BECH32, 2048);
  words[words.length - 30]! ^= 1;
  const spoilt = chip.host.device.pay(encodeBech32(prefix, words, BECH32));
  await expect(spoilt).rejects.toMatchObject({ code: "invoice-malformed" });
  expect(chip.operations.at(-1)!.name).toBe("verify");
});

test("nothing is computed any more once the device is disconnected", async () => {
  const chip = new Chip();
  chip.host.pass(700);
  await chip.host.device.disconnect();
  expect(chip.during(() => chip.host.pass(60_000))).toEqual([]);
});

/** What is verified late is verified soon, whatever a gateway does that has had an HTLC of ours signed wrong. */
import { expect, test } from "@jest/globals";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { encodeInvoice } from "../../src/lightning/bolt11-write.ts";
import type { Step } from "../../src/messages/device.ts";
import { derived } from "../device/dealer.ts";
import { Host } from "../device/host.ts";
import { Rig } from "../device/rig.ts";

const invoiceOf = (rig: Rig, host: Host, name: string) =>
  encodeInvoice(
    {
      network: "regtest",
      amountMsat: 1_000_000,
      timestamp: Math.floor(host.nowMs / 1000),
      paymentHash: sha256(rig.preimage(name)),
      paymentSecret: derived("payment secret"),
      description: name,
      features: [8, 14],
      nameThePayee: false,
    },
    derived("payee"),
    nobleCurve,
  );

/** A payment of 1,000 sat whose HTLC in our own commitment nobody can take back; the application still waits for it. */
function stranded() {
  const rig = new Rig().open();
  const host = new Host(rig.box.flash.image());
  host.pass(20_000);
  const ends: string[] = [];
  host.device.pay(invoiceOf(rig, host, "toll")).then(
    () => ends.push("paid"),
    error => ends.push(error.code),
  );
  rig.pay("toll", 1000);
  const step = (parts: Omit<Step, "type" | "id">) => {
    rig.step(parts);
    host.say({ type: "step", ...parts, id: rig.lastId });
    host.pass(1);
  };
  const view = rig.view(0, [rig.htlc("toll", 1000)]);
  step({ counterparty: rig.counterparty(view) });
  const holder = rig.holder(view);
  step({ holder: { ...holder, htlcSignatures: [holder.signature] } });
  return { rig, host, ends };
}

const settled = () => new Promise(resolve => setImmediate(resolve));

test("after a pay() that ran out of time nobody waits, and what was not verified is", async () => {
  const { host, ends } = stranded();
  host.pass(61_000);
  await settled();
  expect(ends).toEqual(["payment-pending"]);
  host.pass(1000);
  expect(host.crashes).toEqual([]);
  expect(host.device.balance().badHtlcSignature).toBe(true);
});

test("a gateway that says something all the time does not put it off", async () => {
  const { rig, host, ends } = stranded();
  host.say({ type: "paid", preimage: rig.preimage("toll") });
  await settled();
  expect(ends).toEqual(["paid"]);
  for (let i = 0; i < 5; i++) {
    host.say({ type: "step", id: 1000 + i });
    host.pass(40);
  }
  expect(host.crashes).toEqual([]);
  expect(host.device.balance().badHtlcSignature).toBe(true);
});

test("the signatures on five HTLCs are verified one in a turn", () => {
  const OPERATION_MS = 270;
  const rig = new Rig().open();
  const names = Array.from({ length: 5 }, (_, i) => `toll ${i}`);
  for (const name of names) rig.pay(name, 1000);
  const htlcs = names.map(name => rig.htlc(name, 1000));
  rig.move(rig.view(0, htlcs));
  expect(rig.refusals).toEqual([]);
  expect(rig.state.holder!.view.htlcs).toHaveLength(5);
  const verifiedAt: number[] = [];
  let host: Host | undefined;
  const slow = <A extends unknown[], T>(work: (...args: A) => T) => {
    return (...args: A): T => {
      if (host) host.nowMs += OPERATION_MS;
      return work(...args);
    };
  };
  const curve = {
    ...nobleCurve,
    publicKey: slow(nobleCurve.publicKey),
    combine: slow(nobleCurve.combine),
    verify: slow((...args: Parameters<typeof nobleCurve.verify>) => {
      verifiedAt.push(host!.nowMs);
      return nobleCurve.verify(...args);
    }),
  };
  host = new Host(rig.box.flash.image(), false, curve);
  host.pass(20_000);
  expect(host.crashes).toEqual([]);
  expect(verifiedAt).toHaveLength(5);
  for (let i = 1; i < 5; i++)
    expect(verifiedAt[i]! - verifiedAt[i - 1]!).toBeGreaterThanOrEqual(OPERATION_MS + 50);
});

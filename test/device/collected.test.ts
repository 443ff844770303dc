/** What collecting several outputs in one transaction may cost. */
import { expect, test } from "@jest/globals";
import type { Step } from "../../src/messages/device.ts";
import { HEIGHT } from "./parties.ts";
import { bridgePoint } from "./peer.ts";
import { Rig } from "./rig.ts";

test("outputs that are collected in one transaction burn together no more than the highest fee that the owner allows", () => {
  const unlimited = { perPaymentMsat: 1e12, perHourMsat: 1e12, perDayMsat: 1e12 };
  const rig = new Rig({ policy: unlimited }).open();
  // Four payments of 40,000 sat time out in a commitment that the bridge has published.
  const names = ["a", "b", "c", "d"];
  for (const name of names) rig.pay(name, 40_000);
  const view = rig.view(
    0,
    names.map(name => rig.htlc(name, 40_000)),
  );
  rig.move(view);
  expect(rig.refusals).toEqual([]);
  const commitment = rig.build(false, 1, bridgePoint(1), view);
  const inputs = commitment.htlcs.map(({ vout }) => ({ txid: commitment.txid, vout, sequence: 1 }));
  const collecting = { inputs, locktime: HEIGHT + 80, valueSat: 15_000 };
  const codes = commitment.htlcs.map(({ htlc }, input) => {
    const asked = view.htlcs.find(({ paymentHash }) => paymentHash === htlc.paymentHash)!;
    const spend: NonNullable<Step["spend"]> = {
      ...collecting,
      index: 1,
      point: bridgePoint(1),
      htlc: asked,
      input,
      amountSat: 40_000,
    };
    const { own, refused } = rig.step({ spend });
    expect(own === undefined).toBe(refused !== undefined);
    return refused?.code;
  });
  // 25,000 sat may go: that is so with the first input's value alone, and no more with the second's.
  expect(rig.identity.policy.maxCloseFeeSat).toBe(25_000);
  const refused = "policy-close-balance";
  expect(codes).toEqual([undefined, refused, refused, refused]);
});

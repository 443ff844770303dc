/** What a clock that was wrong once leaves behind when it is right again. */
import { expect, test } from "@jest/globals";
import { derived } from "./dealer.ts";
import { NOW_MS, proposalWith } from "./parties.ts";
import { Rig } from "./rig.ts";

test("an invoice whose payment was undecided when its channel was said to have closed is not paid again in the next", () => {
  const rig = new Rig().open();
  // Payable for an hour.
  const expiresAt = NOW_MS / 1000 + 3600;
  rig.pay("toll", 1000, { expiresAt });
  rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
  rig.failed("toll");
  // The clock is set ahead for a moment, and a lie told.
  rig.box.lieMs = 2 * 3_600_000;
  rig.say({ type: "channel", index: 1, state: "closed" });
  rig.box.lieMs = 0;
  // The bridge can publish its HTLC all the same.
  expect(rig.box.decided.map(({ failure }) => failure)).toEqual(["payment-channel-ended"]);
  const first = rig.publishable.filter(({ view }) => view.htlcs.length > 0);
  expect(first).toHaveLength(1);
  rig.proposal = proposalWith({
    index: 2,
    deposits: [{ txid: derived("another"), vout: 0, valueSat: 201_000 }],
  });
  rig.app("open");
  rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
  rig.step({ holder: rig.holder(rig.view(), 0) });
  rig.step({ fund: true });
  expect(rig.refusals).toEqual([]);
  rig.pay("toll", 1000, { expiresAt });
  expect(rig.refusals).toEqual(["policy-invoice-expiry"]);
  expect(rig.state.payments.some(payment => payment && !payment.settled)).toBe(false);
});

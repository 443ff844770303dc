/** What is kept back of the records for payments in flight is not to be had for nothing. */
import { expect, test } from "@jest/globals";
import { Rig } from "./rig.ts";

const left = (rig: Rig) => rig.box.context.records.left("B", rig.state.books.cursors.B);

/** A true state of ours, with the true half of our signature, that lacks nothing but the half for the anchor. */
function withoutAnchor(rig: Rig, counterpartySat: number) {
  const { anchorPartial: _, ...holder } = rig.holder(rig.view(counterpartySat));
  // It was made, but not sent.
  rig.nextB--;
  return { holder };
}

function inFlightRig(): Rig {
  const rig = new Rig().open();
  rig.pay("toll", 1000);
  rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
  rig.paid("toll");
  rig.refusals.length = 0;
  return rig;
}

test("a state that lacks its anchor's half uses up no record", () => {
  const rig = inFlightRig();
  const before = left(rig);
  for (let i = 0; i < 5; i++) rig.step(withoutAnchor(rig, 1000));
  expect(left(rig)).toBe(before);
  expect(new Set(rig.refusals)).toEqual(new Set(["policy-exit-before-revoke"]));
  expect(rig.step({ holder: rig.holder(rig.view(1000)) }).refused).toBeUndefined();
});

test("a state whose anchor's half is of a record that is not there uses up no record", () => {
  const rig = inFlightRig();
  const before = left(rig);
  for (let i = 0; i < 5; i++) {
    const { holder } = withoutAnchor(rig, 1000);
    expect(
      rig.step({ holder: { ...holder, anchorPartial: { ...holder.partial, id: 4_000_000 } } }).refused,
    ).toBeDefined();
  }
  expect(left(rig)).toBe(before);
  expect(rig.step({ holder: rig.holder(rig.view(1000)) }).refused).toBeUndefined();
});

test("proposals that come to nothing leave the records that a payment needs", () => {
  const rig = new Rig();
  for (let index = 1; index < 100; index++) {
    rig.app("open");
    rig.proposal = { ...rig.proposal, index };
    const view = rig.view();
    if (rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(view, 0) }).refused) break;
    if (rig.step({ holder: rig.holder(view, 0) }).refused) break;
  }
  expect(rig.refusals).toEqual(["records-used-up"]);
  expect(left(rig)).toBeGreaterThanOrEqual(4);
});

test("a payment in more pieces than there are records to settle them is refused before it is in any commitment", () => {
  const rig = new Rig({ charge: { A: 20, B: 10, H: 40 } }).open();
  rig.pay("toll", 3200);
  const pieces = Array.from({ length: 8 }, () => rig.htlc("toll", 400));
  expect(rig.step({ holder: rig.holder(rig.view(0, pieces)) }).refused?.code).toBe("records-used-up");
  expect(rig.state.holder?.view.htlcs).toEqual([]);
  expect(left(rig)).toBe(8);
});

test("a word that changes nothing is not written: that a payment has failed is kept once", () => {
  const rig = new Rig().open();
  rig.pay("toll", 1000);
  rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
  rig.failed("toll");
  const before = rig.box.vault.journal.generation;
  for (let i = 0; i < 20; i++) rig.failed("toll");
  expect(rig.box.vault.journal.generation).toBe(before);
});

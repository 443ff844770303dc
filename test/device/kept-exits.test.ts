/** Exits of channels are there when the owner asks for them, and are not forgotten by mistake. */
import { expect, test } from "@jest/globals";
import { codeThrownBy } from "../thrown.ts";
import { derived } from "./dealer.ts";
import { Host } from "./host.ts";
import { proposalWith } from "./parties.ts";
import { Rig } from "./rig.ts";

test("while a second channel is opening, the exit is that of the first", () => {
  const rig = new Rig().open();
  rig.say({ type: "channel", index: 1, state: "closed" });
  rig.app("open");
  rig.proposal = proposalWith({
    index: 2,
    deposits: [{ txid: derived("made up"), vout: 0, valueSat: 201_000 }],
  });
  rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
  expect(rig.refusals).toEqual([]);
  const host = new Host(rig.box.flash.image());
  expect(host.device.exit()).not.toBe("");
});

test.each([
  ["NaN", Number.NaN],
  ["nothing", undefined],
  ["0", 0],
  ["1.5", 1.5],
])("forget() refuses %s for the number of a channel, and forgets nothing", (_name, index) => {
  const rig = new Rig().open();
  rig.say({ type: "channel", index: 1, state: "closed" });
  rig.app("open");
  rig.proposal = proposalWith({ index: 2 });
  rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
  rig.step({ holder: rig.holder(rig.view(), 0) });
  rig.step({ fund: true });
  const host = new Host(rig.box.flash.image());
  const before = host.device.balance().formerSat;
  expect(before).toBeGreaterThan(190_000);
  expect(codeThrownBy(() => host.device.forget(index as number))).toBe("bad-argument");
  expect(host.device.balance().formerSat).toBe(before);
});

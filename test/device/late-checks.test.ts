/** What nobody waits for is verified after the receipt: what is bad then is found, whenever the power fails. */
import { expect, test } from "@jest/globals";
import { exitIsValid } from "./audit.ts";
import { Box, type Cut } from "./box.ts";
import { seeded } from "./cuts.ts";
import { BRIDGE, proposalWith } from "./parties.ts";
import { Rig, type RigOptions } from "./rig.ts";
import { watchedCurve } from "./watched-curve.ts";

/** A payment of 1,000 sat is in both commitments; the bridge's signature on its HTLC in ours is another one. */
function lost(options: RigOptions = {}): Rig {
  const rig = new Rig(options).open();
  rig.pay("toll", 1000);
  const view = rig.view(0, [rig.htlc("toll", 1000)]);
  rig.step({ counterparty: rig.counterparty(view) });
  const holder = rig.holder(view);
  const htlcSignatures = [holder.signature];
  const stepped = rig.step({ revoked: rig.revoked(), holder: { ...holder, htlcSignatures } });
  expect([stepped.refused, stepped.secret]).toEqual([undefined, rig.box.context.secretOf(1, 0)]);
  return rig;
}

const CHECK = { type: "check", most: 99 } as const;
const check = (rig: Rig) => rig.box.run(CHECK);
const isMarked = (rig: Rig) => rig.state.parameters!.badHtlcSignature === true;

test("before the secret of a state is told, one signature is verified: the bridge's on our commitment", () => {
  const { curve, verified } = watchedCurve();
  const funding = Buffer.from(BRIDGE.funding.point).toString("hex");
  const rig = new Rig({ curve }).open();
  const names = ["one", "two", "three"];
  for (const name of names) rig.pay(name, 1000);
  const view = rig.view(
    0,
    names.map(name => rig.htlc(name, 1000)),
  );
  verified.length = 0;
  rig.move(view);
  expect(rig.state.holder!.number).toBe(1);
  expect(verified).toEqual([funding]);
  for (const name of names) rig.paid(name);
  expect(verified).toHaveLength(1);
  // Once each, however often it is asked.
  for (let i = 0; i < 3; i++) check(rig);
  expect(verified).toHaveLength(4);
  rig.pay("four", 1000);
  rig.move(rig.view(3000, [rig.htlc("four", 1000)]));
  expect(verified).toHaveLength(5);
  // What nobody has looked at is looked at before it makes way.
  rig.paid("four");
  rig.move(rig.view(4000));
  expect(verified).toHaveLength(7);
  // After a restart it is not known any more.
  rig.pay("five", 1000);
  rig.move(rig.view(4000, [rig.htlc("five", 1000)]));
  check(rig);
  verified.length = 0;
  rig.box.restart();
  check(rig);
  expect(verified).toHaveLength(1);
  expect(isMarked(rig)).toBe(false);
  expect(rig.harm()).toBeNull();
});

test("an HTLC signed wrong is found after its receipt: no further payment, the exit as good as before", () => {
  const rig = lost();
  rig.paid("toll");
  expect(rig.box.decided.map(({ preimage }) => preimage)).toEqual([rig.preimage("toll")]);
  expect(isMarked(rig)).toBe(false);
  check(rig);
  expect(isMarked(rig)).toBe(true);
  exitIsValid(rig.state, rig.identity, true);
  expect(rig.tried("another", 1000)).toEqual(["policy-htlc-signature"]);
  // The owner leaves with it, as it is.
  const image = rig.box.flash.image();
  rig.box.run({ type: "exit", index: 1 });
  expect(rig.box.exits[0]).toMatchObject({ index: 1, number: 1 });

  // Or the channel goes on without the HTLC, and is closed: it takes no payment any more.
  const later = new Rig({ image });
  later.nextB = rig.nextB;
  later.move(later.view(1000));
  expect(later.refusals).toEqual([]);
  expect(later.state.holder!.number).toBe(2);
  exitIsValid(later.state, later.identity);
  expect(later.tried("another", 1000)).toEqual(["policy-htlc-signature"]);
  later.box.restart();
  expect(later.tried("another", 1000)).toEqual(["policy-htlc-signature"]);
  later.step({ revoked: later.revoked() });
  expect(later.close(later.state.books.baseSat - 900, 1000).refused).toBeUndefined();
});

test("it is found as well where the state without the HTLC comes together with the receipt", () => {
  const rig = lost();
  const view = rig.view(1000);
  const { refused } = rig.step({
    paid: [rig.preimage("toll")],
    holder: rig.holder(view),
    counterparty: rig.counterparty(view),
  });
  expect(refused).toBeUndefined();
  expect([rig.state.holder!.number, isMarked(rig)]).toEqual([2, true]);
  expect(rig.tried("another", 1000)).toEqual(["policy-htlc-signature"]);
});

test("the next channel starts without the mark of this one", () => {
  const rig = lost();
  rig.paid("toll");
  rig.move(rig.view(1000));
  expect(isMarked(rig)).toBe(true);
  rig.say({ type: "channel", index: 1, state: "closed" });
  expect(rig.state.books.phase).toBe("none");
  rig.proposal = proposalWith({ index: 2 });
  rig.app("open");
  rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
  rig.step({ holder: rig.holder(rig.view(), 0) });
  rig.step({ fund: true });
  expect([rig.state.books.phase, isMarked(rig)]).toEqual(["open", false]);
  expect(rig.tried("another", 1000)).toEqual([]);
});

test("a board without a curve takes them as they are", () => {
  const rig = lost({ curve: null });
  check(rig);
  expect(isMarked(rig)).toBe(false);
  expect(rig.tried("another", 1000)).toEqual([]);
});

test("whenever the power fails between receipt and check, there is no further payment, and the exit is good", () => {
  const rig = lost();
  const image = rig.box.flash.image();
  const receipt = { type: "message", message: { type: "paid", preimage: rig.preimage("toll") } } as const;
  /** A life from that moment on, with a cut; how many instants it had. */
  function live(cuts: readonly Cut[]): [operations: number, effects: number] {
    const box = new Box({ image, cuts, random: seeded(cuts.length) });
    for (const input of [receipt, CHECK, receipt, CHECK] as const) box.run(input);
    const { state } = box;
    expect([state.payments[0]!.preimage, state.parameters!.badHtlcSignature]).toEqual([
      rig.preimage("toll"),
      true,
    ]);
    exitIsValid(state, rig.identity, true);
    const later = new Rig({ image: box.flash.image() });
    expect(later.tried("another", 1000)).toEqual(["policy-htlc-signature"]);
    return [box.operations + box.flash.operations(), box.effects];
  }
  const [operations, effects] = live([]);
  expect(operations).toBeGreaterThan(4);
  for (let operation = 0; operation < operations; operation++) live([{ at: "flash", operation }]);
  for (let effect = 0; effect < effects; effect++) {
    live([{ at: "before", effect }]);
    live([{ at: "after", effect }]);
  }
  // Without a check, too.
  expect(new Rig({ image }).tried("another", 1000)).toEqual(["policy-htlc-signature"]);
});

import { describe, expect, test } from "@jest/globals";
import { derived } from "./dealer.ts";
import { proposalWith } from "./parties.ts";
import { Rig } from "./rig.ts";
import { SHORT_LIFE, World } from "./world.ts";

function asked(rig = new Rig()): Rig {
  rig.app("open");
  return rig;
}

describe("a device without a channel", () => {
  test("asks for one with its first commitment points, for the same one again", () => {
    const rig = new Rig();
    rig.box.run({ type: "open" });
    rig.box.run({ type: "open" });
    const [first, second] = rig.box.takeSent();
    expect(first).toEqual(second);
    expect(first).toMatchObject({
      type: "open",
      index: 1,
      points: [0, 1, 2, 3, 4, 5].map(n => rig.holderPoint(n)),
    });
  });

  test("knows that it asked after a restart", () => {
    const rig = asked();
    rig.box.restart();
    expect(
      rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) }).refused,
    ).toBeUndefined();
  });
});

describe("a device that opens a channel", () => {
  test("gives each answer again when it is asked again, before and after a restart", () => {
    const rig = asked();
    const first = { proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) };
    const second = { holder: rig.holder(rig.view()) };
    for (const parts of [first, second, { fund: true }]) {
      const { id: _, ...answer } = rig.step(parts);
      const { cursors } = rig.state.books;
      expect(answer.refused).toBeUndefined();
      rig.box.restart();
      const { id: __, ...again } = rig.step(parts);
      expect(again).toEqual(answer);
      expect(rig.state.books.cursors).toEqual(cursors);
    }
  });

  test("takes another proposal under a new number if the first one came to nothing", () => {
    const rig = asked();
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
    rig.step({ holder: rig.holder(rig.view()) });
    rig.app("open");
    rig.proposal = proposalWith({ index: 2, changeSat: 100_000, channelSat: 100_000 });
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
    expect(rig.state.holder).toBeNull();
    rig.step({ holder: rig.holder(rig.view()) });
    rig.step({ fund: true });
    expect(rig.refusals).toEqual([]);
    expect(rig.harm()).toBeNull();
    expect(rig.state.books).toMatchObject({ phase: "open", index: 2, baseSat: 100_000 });
    // Of a channel that was never funded there is no exit.
    expect(rig.state.former).toBeNull();
  });

  test("signs no funding transaction where no channel was proposed", () => {
    expect(new Rig().step({ fund: true }).refused?.code).toBe("policy-funding");
  });

  test("opens where enough records are there for all deposits and a payment, and otherwise keeps them", () => {
    const deposits = [0, 1, 2, 3].map(vout => ({ txid: derived("deposits"), vout, valueSat: 50_250 }));
    for (const [A, code] of [
      [10, undefined],
      [9, "policy-funding"],
    ] as const) {
      const rig = asked(new Rig({ charge: { A, B: 10, H: 10 } }));
      rig.proposal = proposalWith({ deposits });
      rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
      rig.step({ holder: rig.holder(rig.view()) });
      const { cursors } = rig.state.books;
      const { signed, refused } = rig.step({ fund: true });
      expect(refused?.code).toBe(code);
      expect(signed?.partials.length).toBe(code ? undefined : 4);
      if (code) expect(rig.state.books.cursors).toEqual(cursors);
    }
  });

  test("keeps nothing of a proposal whose commitment it cannot sign, but the records that were read", () => {
    const rig = asked();
    const counterparty = { ...rig.counterparty(rig.view()), point: new Uint8Array(33).fill(5) };
    expect(rig.step({ counterparty }).refused?.code).toBe("policy-phase");
    expect(rig.step({ proposal: rig.proposal, counterparty }).refused?.code).toBe("bad-point");
    expect(rig.state.counterparty).toBeNull();
    expect(rig.state.books.cursors).toEqual({ A: 0, B: 0, H: 0 });
  });

  test("signs no two funding transactions that could be joined: each channel's number is in it", () => {
    const signed = [1, 2].map(index => {
      const rig = new Rig();
      rig.proposal = proposalWith({ index });
      return rig.build(true, 0, rig.holderPoint(0), rig.view()).txid;
    });
    expect(signed[0]).not.toEqual(signed[1]);
  });
});

describe("a device whose channel was closed", () => {
  test("opens the next one and keeps the exits of three, until the owner has seen them closed", () => {
    const rig = new Rig().open();
    function openNext(index: number): void {
      rig.close(199_000, 0);
      rig.say({ type: "channel", index: index - 1, state: "closed" });
      rig.proposal = proposalWith({
        index,
        deposits: [{ txid: derived(`deposit ${index}`), vout: 0, valueSat: 201_000 }],
      });
      rig.app("open");
      rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
      // It may be asked for again while it opens, although there may be three exits by now.
      rig.app("open");
      rig.step({ holder: rig.holder(rig.view(), 0) });
      rig.step({ fund: true });
    }
    for (let index = 2; index <= 4; index++) openNext(index);
    expect(rig.refusals).toEqual([]);
    openNext(5);
    expect(rig.refusals.slice(0, 2)).toEqual(["exits-kept", "policy-funding"]);
    expect(rig.state.books).toMatchObject({ phase: "none", index: 4 });
    expect(rig.state.former?.map(each => each.index)).toEqual([3, 2, 1]);

    rig.refusals.length = 0;
    rig.box.run({ type: "forget", index: 2 });
    rig.app("open");
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
    rig.step({ holder: rig.holder(rig.view(), 0) });
    rig.step({ fund: true });
    rig.box.restart();
    expect(rig.refusals).toEqual([]);
    expect(rig.harm()).toBeNull();
    expect(rig.state.former?.map(each => each.index)).toEqual([4, 3]);
    rig.box.run({ type: "exit", index: 3 });
    expect(rig.box.exits[0]).toMatchObject({ index: 3, number: 0, proposal: { index: 3 } });
    // It is not the present one that was left.
    expect(rig.state.books.phase).toBe("open");
    expect(() => rig.box.run({ type: "exit", index: 1 })).toThrow("no such channel");
  });

  test("is as it was before, but for what it paid", () => {
    const { box } = new World().live(SHORT_LIFE);
    expect(box.state.books).toMatchObject({ phase: "none", index: 1 });
    expect(() => box.run({ type: "close" })).toThrow("nothing to close");
  });
});

import { describe, expect, test } from "@jest/globals";
import { proposalWith } from "./parties.ts";
import { Rig } from "./rig.ts";

describe("a device that closes", () => {
  test("signs each close once, whatever is lost, and several for a negotiation", () => {
    const rig = new Rig().open();
    const { id: _, ...first } = rig.close(199_000, 0);
    rig.box.restart();
    const { id: __, ...again } = rig.close(199_000, 0);
    expect(again).toEqual(first);
    rig.close(198_500, 0);
    expect(rig.state.parameters?.closes).toHaveLength(2);
    expect(rig.state.books.phase).toBe("closing");
    expect(rig.harm()).toBeNull();
  });

  test("answers for its newest commitment again, and for no other", () => {
    const rig = new Rig().open();
    const holder = rig.holder(rig.view());
    const { id: _, ...answer } = rig.step({ holder });
    rig.close(199_000, 0);
    const { id: __, ...again } = rig.step({ holder });
    expect(again).toEqual(answer);
    expect(rig.step({ holder: rig.holder(rig.view()) }).refused?.code).toBe("policy-phase");
    expect(rig.step({ counterparty: rig.counterparty(rig.view()) }).refused?.code).toBe("policy-phase");
  });

  test("pays no more", () => {
    const rig = new Rig().open();
    rig.close(199_000, 0);
    rig.pay("toll", 1000);
    expect(rig.refusals).toEqual(["channel-not-open"]);
  });

  test("believes that this very channel has ended, and no other", () => {
    const rig = new Rig().open();
    rig.close(199_000, 0);
    rig.say({ type: "channel", index: 2, state: "closed" });
    rig.say({ type: "channel", index: 1, state: "ready" });
    expect(rig.state.books.phase).toBe("closing");
    rig.say({ type: "channel", index: 1, state: "closed" });
    expect(rig.state.books.phase).toBe("none");
  });

  test("may still leave alone, until a close is on the chain", () => {
    const rig = new Rig().open();
    rig.close(199_000, 0);
    rig.box.run({ type: "exit", index: 1 });
    expect(rig.box.exits).toHaveLength(1);
    expect(rig.close(198_000, 0).refused?.code).toBe("policy-phase");
  });
});

describe("a device that is told that its channel was closed without it", () => {
  const pending = () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    rig.move(rig.view(0, [rig.htlc("toll", 1000)]));
    return rig;
  };
  const closed = (rig: Rig) => rig.say({ type: "channel", index: 1, state: "closed" });
  /** The next channel, as far as its funding. */
  function openAnother(rig: Rig): void {
    rig.proposal = proposalWith({ index: 2, channelSat: 100_000, changeSat: 100_000 });
    rig.app("open");
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
    rig.step({ holder: rig.holder(rig.view(), 0) });
    rig.step({ fund: true });
  }

  test("believes it, signs nothing of that channel any more, and keeps its exit", () => {
    const rig = new Rig().open();
    rig.move(rig.view());
    closed(rig);
    rig.box.restart();
    expect(rig.state.books.phase).toBe("none");
    for (const parts of [{ holder: rig.holder(rig.view()) }, { counterparty: rig.counterparty(rig.view()) }])
      expect(rig.step(parts).refused?.code).toBe("policy-phase");
    expect(rig.close(199_000, 0).refused?.code).toBe("policy-close-state");
    rig.box.run({ type: "exit", index: 1 });
    const before = rig.refusals.length;
    openAnother(rig);
    expect(rig.refusals).toHaveLength(before);
    rig.box.run({ type: "exit", index: 1 });
    const [first, second] = rig.box.exits;
    expect(first).toMatchObject({ index: 1, number: 1 });
    expect(second?.commitment).toEqual(first?.commitment);
    expect(rig.state.books.phase).toBe("open");
  });

  test("also after its exit was read out, which stays the last", () => {
    const rig = new Rig().open();
    rig.box.run({ type: "exit", index: 1 });
    closed(rig);
    expect(rig.state.books.phase).toBe("none");
    rig.step({ holder: rig.holder(rig.view()) });
    expect(rig.refusals).toEqual(["policy-phase"]);
    expect(rig.secrets.size).toBe(0);
    openAnother(rig);
    expect(rig.state.books).toMatchObject({ phase: "open", index: 2 });
  });

  test("stays with it while a payment is undecided, whatever the gateway says of it", () => {
    const rig = pending();
    closed(rig);
    expect(rig.state.books.phase).toBe("open");
    rig.failed("toll");
    closed(rig);
    expect(rig.state.books.phase).toBe("open");
    expect(rig.box.decided).toEqual([]);
    // The invoice has expired, and nobody can ask to pay it again: not in its last second, but after it.
    rig.box.nowMs = rig.state.payments[0]!.expiresAt * 1000;
    closed(rig);
    expect(rig.state.books.phase).toBe("open");
    rig.box.nowMs += 1000;
    closed(rig);
    expect(rig.state.books.phase).toBe("none");
    expect(rig.box.decided).toMatchObject([{ settled: true, failure: "payment-channel-ended" }]);
    openAnother(rig);
    expect(rig.refusals).toEqual([]);
    // What the old channel left open lowers nothing in the new one.
    expect(rig.step({ counterparty: rig.counterparty(rig.view(1001)) }).refused?.code).toBe("policy-balance");
  });

  test("knows what it has paid", () => {
    const rig = pending();
    rig.paid("toll");
    closed(rig);
    expect(rig.state.books.phase).toBe("none");
    expect(rig.state.payments).toMatchObject([{ settled: true, preimage: rig.preimage("toll") }]);
  });

  test("does not hear it while it is locked", () => {
    const rig = new Rig().open();
    const { cursors } = rig.state.books;
    rig.nextB = cursors.B - 1;
    rig.step({ holder: rig.holder(rig.view()) });
    closed(rig);
    expect(rig.state.books.phase).toBe("locked");
  });
});

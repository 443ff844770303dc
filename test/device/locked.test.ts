import { describe, expect, test } from "@jest/globals";
import { derived } from "./dealer.ts";
import { AREA_PAGES, PAGE_BYTES, proposalWith } from "./parties.ts";
import { Rig } from "./rig.ts";
import { LIFE, World } from "./world.ts";

describe("a device that was asked for a used record again", () => {
  function locked(): Rig {
    const rig = new Rig().open();
    const holder = rig.holder(rig.view());
    rig.step({
      holder: { ...holder, partial: rig.half(derived("any"), 0) },
    });
    return rig;
  }

  test("is locked: it signs nothing, reveals nothing and pays nothing, for ever", () => {
    const rig = locked();
    expect(rig.refusals).toEqual(["policy-record-reuse"]);
    rig.box.restart();
    expect(rig.state.books.phase).toBe("locked");
    expect(rig.step({ holder: rig.holder(rig.view()) }).refused?.code).toBe("policy-phase");
    expect(rig.step({ counterparty: rig.counterparty(rig.view()) }).refused?.code).toBe("policy-phase");
    expect(rig.close(199_000, 0).refused?.code).toBe("policy-phase");
    rig.pay("toll", 1000);
    expect(rig.refusals[rig.refusals.length - 1]).toBe("channel-not-open");
    expect(rig.secrets.size).toBe(0);
    expect(rig.harm()).toBeNull();
  });

  test("still lets the owner leave", () => {
    const rig = locked();
    rig.box.run({ type: "exit", index: 1 });
    expect(rig.box.exits[0]).toMatchObject({ index: 1, number: 0 });
  });

  test.each([
    ["by the gateway's word", (rig: Rig) => rig.step({ forceClose: 0 })],
    ["by its owner's", (rig: Rig) => rig.box.run({ type: "exit", index: 1 })],
  ])("signs no other channel once it was left %s and has ended", (_, leave) => {
    const rig = locked();
    leave(rig);
    rig.say({ type: "channel", index: 1, state: "closed" });
    rig.app("open");
    const deposits = [{ txid: derived("more"), vout: 0, valueSat: 201_000 }];
    rig.proposal = proposalWith({ index: 2, deposits });
    const counterparty = rig.counterparty(rig.view(), 0);
    expect(rig.step({ proposal: rig.proposal, counterparty }).refused?.code).toBe("policy-phase");
    expect(rig.step({ fund: true }).refused?.code).toBe("policy-phase");
    expect(rig.state.books.phase).toBe("locked");
  });
});

describe("a device whose flash was put back to an old image", () => {
  test("of the state alone, notices: it signs nothing, and its exit, which may be poison, is not given out", () => {
    const world = new World().live(LIFE.slice(0, 1));
    const old = world.box.flash.image();
    world.live([{ wish: "pay", names: ["toll"] }]);
    const now = world.box.flash.image();
    // The journal's pages of then, the records' pages of now.
    const mixed = now.slice();
    const [from, to] = [PAGE_BYTES, PAGE_BYTES * (1 + 2 * AREA_PAGES)];
    mixed.set(old.subarray(from, to), from);
    const rig = new Rig({ image: mixed });
    rig.nextB = 10;
    expect(rig.state.holder?.number).toBe(0);
    expect(() => rig.box.run({ type: "exit", index: 1 })).toThrow("an old image was put back");
    expect(rig.step({ counterparty: rig.counterparty(rig.view()) }).refused?.code).toBe("vault-rolled-back");
    expect(rig.step({ holder: rig.holder(rig.view()) }).refused?.code).toBe("vault-rolled-back");
    expect(rig.close(199_000, 0).refused?.code).toBe("vault-rolled-back");
    // Nor to the gateway, which could publish it.
    const left = rig.step({ forceClose: 0 });
    expect([left.refused?.code, left.completeSignature]).toEqual(["vault-rolled-back", undefined]);
    expect(rig.state.books.phase).toBe("open");
  });
});

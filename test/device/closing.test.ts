import { describe, expect, test } from "@jest/globals";
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

  test("believes that it is closed only if it has signed a close of this very channel", () => {
    const rig = new Rig().open();
    rig.say({ type: "channel", index: 1, state: "closed" });
    expect(rig.state.books.phase).toBe("open");
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

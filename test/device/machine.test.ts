/** What leaves the machine, effect by effect: nothing is written, erased or said that is not called for. */
import { describe, expect, test } from "@jest/globals";
import type { Effect } from "../../device/channel/context.ts";
import { type Input, transition } from "../../device/channel/machine.ts";
import { lngateError } from "../../src/errors.ts";
import type { Step, ToDevice } from "../../src/messages/device.ts";
import { CHARGE, DEPOSIT, NOW_MS, proposalWith } from "./parties.ts";
import { Rig } from "./rig.ts";

const effectsOf = (rig: Rig, input: Input) => transition(rig.state, rig.box.context, input).effects;
/** Jest takes a list for equal to one that ends in undefined: so names, whatever they are. */
const typesOf = (effects: readonly Effect[]) => effects.map(({ type }) => String(type));
const effectsOfMessage = (rig: Rig, message: ToDevice) => effectsOf(rig, { type: "message", message });

describe("a session begins", () => {
  const connected = { type: "connected", generation: 7 } as const;

  test("with what the device is and has", () => {
    const recordsLeft = [CHARGE.A, CHARGE.B, CHARGE.H];
    const rig = new Rig();
    const bounds = rig.box.context.identity.policy;
    const hello = { type: "hello", generation: 7, phase: "none", index: 0, clock: NOW_MS / 1000, bounds };
    expect(effectsOf(rig, connected)).toEqual([{ type: "send", message: { ...hello, recordsLeft } }]);

    rig.open();
    rig.pay("toll", 1000);
    rig.step({ counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 1000)])) });
    rig.paid("toll");
    rig.box.nowMs = NOW_MS + 1999;
    // What is paid is not asked for again.
    expect(effectsOf(rig, connected)).toEqual([
      {
        type: "send",
        message: {
          type: "hello",
          generation: 7,
          clock: NOW_MS / 1000 + 1,
          phase: "open",
          index: 1,
          recordsLeft: [CHARGE.A - 3, CHARGE.B - 2, CHARGE.H - 1],
          holderNumber: 0,
          counterpartyNumber: 1,
          bounds,
        },
      },
    ]);
  });

  test("with the word that there is no curve", () => {
    const [hello] = effectsOf(new Rig({ curve: null }), connected);
    expect(hello).toMatchObject({ message: { curveless: true } });
  });
});

describe("the gateway's word", () => {
  test("is passed on where nothing of the channel changes", () => {
    const rig = new Rig().open();
    const failure = { code: "no-deposit", sentence: "there is nothing to spend" };
    expect(effectsOfMessage(rig, { type: "failed", ...failure })).toEqual([
      { type: "notice", state: "open", failure },
    ]);
    expect(effectsOfMessage(rig, { type: "channel", index: 1, state: "ready" })).toEqual([
      { type: "notice", state: "ready" },
    ]);
  });

  test("is no news of payments that there are not", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    const preimage = rig.preimage("another");
    expect(effectsOfMessage(rig, { type: "paid", preimage })).toEqual([]);
    const failed = { type: "failed", paymentHash: preimage, code: "x", sentence: "y" } as const;
    expect(effectsOfMessage(rig, failed)).toEqual([]);
  });
});

describe("the application", () => {
  test("asks for no second channel beside the one that there is", () => {
    const rig = new Rig().open();
    rig.app("open");
    rig.close(199_000, 0);
    rig.app("open");
    expect(rig.refusals).toEqual(["channel-exists", "channel-exists"]);
  });

  test("asks for the close again while it is under way", () => {
    const rig = new Rig().open();
    rig.close(199_000, 0);
    expect(effectsOf(rig, { type: "close" })).toEqual([{ type: "send", message: { type: "close" } }]);
  });
});

describe("the owner", () => {
  test("leaves with a write, and nothing is sent", () => {
    const rig = new Rig().open();
    expect(typesOf(effectsOf(rig, { type: "exit", index: 1 }))).toEqual(["persist"]);
  });

  test("lets the device forget what it has of closed channels", () => {
    const rig = new Rig().open();
    const forget = { type: "forget", index: 1 } as const;
    expect(effectsOf(rig, forget)).toEqual([]);
    rig.close(199_000, 0);
    rig.say({ type: "channel", index: 1, state: "closed" });
    rig.app("open");
    rig.proposal = proposalWith({ index: 2, deposits: [{ ...DEPOSIT, vout: 2 }] });
    rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view(), 0) });
    expect(rig.state.former).toHaveLength(1);
    expect(typesOf(effectsOf(rig, forget))).toEqual(["persist"]);
    rig.box.run(forget);
    expect(rig.state.former).toBeNull();
  });
});

describe("a step", () => {
  const step = (rig: Rig, parts: Omit<Step, "type" | "id">) =>
    effectsOfMessage(rig, { type: "step", id: 5, ...parts });

  test("that is refused writes nothing, unless a record was read", () => {
    const rig = new Rig().open();
    expect(typesOf(step(rig, { counterparty: rig.counterparty(rig.view(), 7) }))).toEqual(["send"]);
    const holder = rig.holder(rig.view());
    const wrong = { ...holder.partial, scalar: new Uint8Array(32).fill(1) };
    const effects = step(rig, { holder: { ...holder, partial: wrong } });
    expect(typesOf(effects)).toEqual(["persist", "erase", "send"]);
    expect(effects[1]).toEqual({ type: "erase", kind: "B", below: wrong.id + 1 });
  });

  test("that is taken writes, then erases what it used, then answers", () => {
    const rig = new Rig().open();
    rig.pay("toll", 1000);
    const { A, H } = rig.state.books.cursors;
    const effects = step(rig, { counterparty: rig.counterparty(rig.view(0, [rig.htlc("toll", 1000)])) });
    expect(typesOf(effects)).toEqual(["persist", "erase", "erase", "send"]);
    expect(effects.slice(1, 3)).toEqual([
      { type: "erase", kind: "A", below: A + 1 },
      { type: "erase", kind: "H", below: H + 1 },
    ]);
  });

  /** Keys cannot be derived, for a reason with or without a code. */
  const failing = (error: Error) =>
    new Rig({
      contextWith: context => ({
        ...context,
        keysFor: () => {
          throw error;
        },
      }),
    });

  test("is refused with a sentence that fits into a message", () => {
    const rig = failing(lngateError("bad-point", "x".repeat(500)));
    rig.app("open");
    const { refused } = rig.step({ proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) });
    expect(refused).toEqual({ code: "bad-point", sentence: "x".repeat(200) });
  });

  test("that meets a mistake of the program's is not answered at all", () => {
    const rig = failing(new TypeError("a mistake"));
    rig.app("open");
    const parts = { proposal: rig.proposal, counterparty: rig.counterparty(rig.view()) };
    expect(() => rig.step(parts)).toThrow("a mistake");
  });
});

/** Charging that breaks off at each message there is, or in which a check fails, and goes on. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { askStatus } from "../../owner/client/channel.ts";
import { recordsInFlash } from "../../owner/client/charge.ts";
import { readChargingState, readShare, writeChargingState } from "../../owner/folder/device-files.ts";
import type { FromOwner, ToOwner } from "../../src/messages/owner.ts";
import { Charged } from "./charged.ts";
import { cutOnce, type GatewayHalf } from "./gateway-half.ts";

let charged: Charged;
let gateway: GatewayHalf;

beforeAll(async () => {
  charged = await Charged.start();
  ({ gateway } = charged);
});
afterEach(() => gateway.behave());
afterAll(() => charged.stop());

const refusal = (code: string) => expect.objectContaining({ code });

describe("charging that is interrupted", () => {
  const isStep = (step: string) => (question: FromOwner) =>
    question.type === "presign-step" && question.step === step;
  const isAnswer = (step: string) => (answer: ToOwner) => answer.type === "presigned" && answer.step === step;
  const questions: [string, (question: FromOwner) => boolean][] = [
    ["before S0 of kind A", question => question.type === "presign" && question.kind === "A"],
    ["before S1 of kind A", isStep("S1")],
    ["before S3 of kind A", isStep("S3")],
    ["before the word that kind A is in the flash", q => q.type === "installed" && q.kind === "A"],
    ["before S0 of kind B", question => question.type === "presign" && question.kind === "B"],
    ["before S2 of kind B", isStep("S2")],
    ["before S4 of kind B", isStep("S4")],
    ["before the word that kind B is in the flash", q => q.type === "installed" && q.kind === "B"],
  ];
  let last: ToOwner["type"] | undefined;
  let asked: string | undefined;
  const answers: [string, (answer: ToOwner) => boolean][] = [
    ["after S0 of kind A", isAnswer("S0")],
    ["after S2 of kind A", isAnswer("S2")],
    ["after S4 of kind A, which the gateway has activated", isAnswer("S4")],
    ["after S1 of kind B", isAnswer("S1")],
    ["after S3 of kind B", isAnswer("S3")],
    ["after S5 of kind B, which the gateway has prepared", isAnswer("S5")],
    ["after the word that a batch is in the flash", a => a.type === "done" && last === "presigned"],
  ];

  /** Whatever happened: the gateway names no record that the device has not, and lacks none that the device names. */
  function expectConsistent(): void {
    expect(charged.onGateway("A")).toEqual(expect.arrayContaining([...charged.inFlash("A").keys()]));
    expect([...charged.inFlash("B").keys()]).toEqual(expect.arrayContaining(charged.onGateway("B")));
  }

  test.each(questions)("%s, it goes on and both sides have the same", async (_name, matches) => {
    gateway.question = cutOnce(matches);
    const target = charged.further();
    await expect(charged.charge(target)).rejects.toEqual(refusal("gateway-unreachable"));
    expectConsistent();
    await charged.charge(target);
    expect(charged.onGateway("A")).toEqual([...charged.inFlash("A").keys()]);
    expect(charged.onGateway("B")).toEqual([...charged.inFlash("B").keys()]);
  });

  test.each(answers)("%s, it goes on and both sides have the same", async (_name, matches) => {
    const cut = cutOnce(matches);
    gateway.answer = answer => {
      const outcome = cut(answer);
      last = answer.type;
      return outcome;
    };
    const target = charged.further();
    await expect(charged.charge(target)).rejects.toEqual(refusal("gateway-unreachable"));
    expectConsistent();
    await charged.charge(target);
    expect(charged.onGateway("A")).toEqual([...charged.inFlash("A").keys()]);
    expect(charged.onGateway("B")).toEqual([...charged.inFlash("B").keys()]);
  });

  const never = () => false;
  test.each([
    ["before it begins", (q: FromOwner) => q.type === "mac-run", never],
    ["after M0", never, isAnswer("M0")],
    ["before M1", isStep("M1"), never],
    ["after M1, which the gateway has stored", never, a => a.type === "done" && asked === "M1"],
  ] as [string, (q: FromOwner) => boolean, (a: ToOwner) => boolean][])(
    "while a run of MACs is made, %s, it makes one that both sides have",
    async (_name, question, answer) => {
      const { run: before, ...state } = readChargingState(charged.path);
      writeChargingState(charged.path, state);
      const cut = cutOnce(question);
      gateway.question = each => {
        asked = each.type === "presign-step" ? each.step : each.type;
        return cut(each);
      };
      gateway.answer = cutOnce(answer);
      const target = charged.further();
      await expect(charged.charge(target)).rejects.toEqual(refusal("gateway-unreachable"));
      await charged.charge(target);
      const { run } = readChargingState(charged.path);
      expect(run!.id).toEqual(gateway.registry.run(charged.info.deviceId)!.id);
      expect(run!.id).not.toEqual(before!.id);
      expect(run!.alpha).not.toBe(before!.alpha);
      expect(charged.onGateway("B")).toEqual([...charged.inFlash("B").keys()]);
    },
  );

  test("by the end of the gateway while a batch waits for the flash, it goes on", async () => {
    gateway.question = cutOnce(question => question.type === "installed" && question.kind === "B");
    await expect(charged.charge(charged.further())).rejects.toEqual(refusal("gateway-unreachable"));
    const ids = [...charged.inFlash("B").keys()];
    expect(charged.onGateway("B")).not.toEqual(ids);
    await gateway.restart();
    await charged.charge(charged.further());
    expect(charged.onGateway("B")).toEqual([...charged.inFlash("B").keys()]);
    expect([...charged.inFlash("B").keys()]).toEqual(expect.arrayContaining(ids));
  });

  test("by the owner between two batches, it stops there and goes on", async () => {
    const stop = new AbortController();
    const target = charged.further();
    const first = await charged.charge(target, {
      signal: stop.signal,
      onProgress: ({ made }) => made > 0 && stop.abort(),
    });
    expect(first).toMatchObject({ interrupted: true });
    expect(first.added.A + first.added.B).toBeGreaterThan(0);
    expect(await charged.charge(target)).toMatchObject({ interrupted: false, payments: target });
  });

  test("in the end every pair of records signs under the shared key, in both directions", () => {
    expect(charged.inFlash("A").size).toBeGreaterThan(24);
    charged.expectAllToSign();
  });
});

describe("a check that fails while presigning", () => {
  const flip = (bytes: Uint8Array, at: number) => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
  const abortsOfBoth = () => [
    readChargingState(charged.path).aborts,
    gateway.registry.abortStatus(charged.info.deviceId),
  ];

  test("on the owner's side destroys the transfers on both; only the owner's word makes new ones", async () => {
    const before = recordsInFlash(charged.path);
    gateway.answer = answer =>
      answer.type === "presigned" && answer.step === "S2"
        ? { ...answer, body: flip(answer.body, 100) }
        : answer;
    const target = charged.further();
    await expect(charged.charge(target)).rejects.toEqual(refusal("threshold-multiplication-check"));
    gateway.answer = answer => answer;
    for (const aborts of abortsOfBoth()) expect(aborts).toMatchObject({ resets: 1, awaitingOwner: true });
    expect(readChargingState(charged.path).setups.A).toBeUndefined();
    expect(gateway.registry.setup(charged.info.deviceId, "A")).toBeUndefined();
    expect(readChargingState(charged.path).setups.B).toBeDefined();
    expect((await askStatus({ folder: charged.folder, deviceId: charged.info.deviceId })).trouble).toBe(
      "awaiting-owner",
    );

    await expect(charged.charge(target)).rejects.toEqual(refusal("threshold-awaiting-owner"));
    expect(await charged.charge(target, { confirmReset: true })).toMatchObject({ interrupted: false });
    expect(charged.onGateway("A")).toEqual(
      expect.arrayContaining([...charged.inFlash("A").keys()].slice(before.A)),
    );
    for (const aborts of abortsOfBoth()) expect(aborts).toMatchObject({ resets: 1, awaitingOwner: false });
  });

  test("of the MACs ends the run and kind B's transfers on both, and nothing of the batch is installed", async () => {
    const [ids, held] = [[...charged.inFlash("B").keys()], charged.onGateway("B")];
    const { alpha } = readChargingState(charged.path).run!;
    gateway.answer = answer =>
      answer.type === "presigned" && answer.step === "S5"
        ? { ...answer, body: flip(answer.body, 33) }
        : answer;
    const target = charged.further();
    await expect(charged.charge(target)).rejects.toEqual(refusal("threshold-mac-check"));
    gateway.answer = answer => answer;
    for (const aborts of abortsOfBoth()) expect(aborts).toMatchObject({ resets: 2, awaitingOwner: true });
    expect(readChargingState(charged.path).run).toBeUndefined();
    expect(gateway.registry.run(charged.info.deviceId)).toBeUndefined();
    expect(readChargingState(charged.path).setups.B).toBeUndefined();
    expect(gateway.registry.setup(charged.info.deviceId, "B")).toBeUndefined();
    expect(readChargingState(charged.path).setups.A).toBeDefined();
    expect([...charged.inFlash("B").keys()]).toEqual(ids);
    expect(charged.onGateway("B")).toEqual(held);

    await expect(charged.charge(target)).rejects.toEqual(refusal("threshold-awaiting-owner"));
    expect(await charged.charge(target, { confirmReset: true })).toMatchObject({ interrupted: false });
    expect(readChargingState(charged.path).run!.alpha).not.toBe(alpha);
    const added = [...charged.inFlash("B").keys()].slice(ids.length);
    expect(added.length).toBeGreaterThan(0);
    expect(charged.onGateway("B")).toEqual([...held, ...added]);
  });

  test("on the gateway's side does the same, and the third time the key is locked", async () => {
    const twice = { ...gateway.registry.abortStatus(charged.info.deviceId), resets: 2 };
    gateway.registry.putAbortStatus(charged.info.deviceId, twice);
    gateway.question = question =>
      question.type === "presign-step" && question.step === "S1"
        ? { ...question, body: flip(question.body, 100) }
        : question;
    const target = charged.further();
    await expect(charged.charge(target)).rejects.toEqual(refusal("threshold-extension-check"));
    gateway.question = question => question;
    expect(gateway.registry.abortStatus(charged.info.deviceId)).toMatchObject({ resets: 3, locked: true });
    expect(gateway.locked).toEqual([charged.info.deviceId]);
    expect(readChargingState(charged.path).setups.A).toBeUndefined();
    await expect(charged.charge(target, { confirmReset: true })).rejects.toEqual(refusal("threshold-locked"));
    expect((await askStatus({ folder: charged.folder, deviceId: charged.info.deviceId })).trouble).toBe(
      "locked",
    );
    expect(readShare(charged.path).epoch).toBe(0);
  });
});

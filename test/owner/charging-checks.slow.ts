/** A check fails while presigning: the transfers of both sides are gone, and only the owner's word makes new ones. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { askStatus } from "../../owner/channel.ts";
import { recordsInFlash } from "../../owner/charge.ts";
import { type DeviceInfo, readChargingState, readShare } from "../../owner/device-files.ts";
import { Charged } from "./charged.ts";
import type { GatewayHalf } from "./gateway-half.ts";

let charged: Charged;
let gateway: GatewayHalf;
let folder: string;
let info: DeviceInfo;
let path: string;

beforeAll(async () => {
  charged = await Charged.start();
  ({ gateway, folder, info, path } = charged);
});
afterEach(() => {
  gateway.question = question => question;
  gateway.answer = answer => answer;
});
afterAll(() => charged.stop());

const refusal = (code: string) => expect.objectContaining({ code });

describe("a check that fails while presigning", () => {
  const flip = (bytes: Uint8Array, at: number) => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
  const standings = () => [readChargingState(path).standing, gateway.registry.standing(info.deviceId)];

  test("on the owner's side destroys the transfers on both; only the owner's word makes new ones", async () => {
    const before = recordsInFlash(path);
    gateway.answer = answer =>
      answer.type === "presigned" && answer.step === "S2"
        ? { ...answer, body: flip(answer.body, 100) }
        : answer;
    const target = charged.further();
    await expect(charged.charge(target)).rejects.toEqual(refusal("threshold-multiplication-check"));
    gateway.answer = answer => answer;
    for (const standing of standings()) expect(standing).toMatchObject({ resets: 1, awaitingOwner: true });
    expect(readChargingState(path).setups.A).toBeUndefined();
    expect(gateway.registry.setup(info.deviceId, "A")).toBeUndefined();
    expect(readChargingState(path).setups.B).toBeDefined();
    expect((await askStatus({ folder, deviceId: info.deviceId })).trouble).toBe("awaiting-owner");

    await expect(charged.charge(target)).rejects.toEqual(refusal("threshold-awaiting-owner"));
    expect(await charged.charge(target, { confirmReset: true })).toMatchObject({ interrupted: false });
    expect(charged.onGateway("A")).toEqual(
      expect.arrayContaining([...charged.inFlash("A").keys()].slice(before.A)),
    );
    for (const standing of standings()) expect(standing).toMatchObject({ resets: 1, awaitingOwner: false });
  });

  test("of the MACs ends the run and kind B's transfers on both, and nothing of the batch is installed", async () => {
    const [ids, held] = [[...charged.inFlash("B").keys()], charged.onGateway("B")];
    const { alpha } = readChargingState(path).run!;
    gateway.answer = answer =>
      answer.type === "presigned" && answer.step === "S5"
        ? { ...answer, body: flip(answer.body, 33) }
        : answer;
    const target = charged.further();
    await expect(charged.charge(target)).rejects.toEqual(refusal("threshold-mac-check"));
    gateway.answer = answer => answer;
    for (const standing of standings()) expect(standing).toMatchObject({ resets: 2, awaitingOwner: true });
    expect(readChargingState(path).run).toBeUndefined();
    expect(gateway.registry.run(info.deviceId)).toBeUndefined();
    expect(readChargingState(path).setups.B).toBeUndefined();
    expect(gateway.registry.setup(info.deviceId, "B")).toBeUndefined();
    expect(readChargingState(path).setups.A).toBeDefined();
    expect([...charged.inFlash("B").keys()]).toEqual(ids);
    expect(charged.onGateway("B")).toEqual(held);

    await expect(charged.charge(target)).rejects.toEqual(refusal("threshold-awaiting-owner"));
    expect(await charged.charge(target, { confirmReset: true })).toMatchObject({ interrupted: false });
    expect(readChargingState(path).run!.alpha).not.toBe(alpha);
    const added = [...charged.inFlash("B").keys()].slice(ids.length);
    expect(added.length).toBeGreaterThan(0);
    expect(charged.onGateway("B")).toEqual([...held, ...added]);
  });

  test("on the gateway's side does the same, and the third time the key is locked", async () => {
    const twice = { ...gateway.registry.standing(info.deviceId), resets: 2 };
    gateway.registry.putStanding(info.deviceId, twice);
    gateway.question = question =>
      question.type === "presign-step" && question.step === "S1"
        ? { ...question, body: flip(question.body, 100) }
        : question;
    const target = charged.further();
    await expect(charged.charge(target)).rejects.toEqual(refusal("threshold-extension-check"));
    gateway.question = question => question;
    expect(gateway.registry.standing(info.deviceId)).toMatchObject({ resets: 3, locked: true });
    expect(gateway.locked).toEqual([info.deviceId]);
    expect(readChargingState(path).setups.A).toBeUndefined();
    await expect(charged.charge(target, { confirmReset: true })).rejects.toEqual(refusal("threshold-locked"));
    expect((await askStatus({ folder, deviceId: info.deviceId })).trouble).toBe("locked");
    expect(readShare(path).epoch).toBe(0);
  });
});

import { existsSync, rmSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { readShare } from "../../owner/device-files.ts";
import { deviceFolder, pairedDevices, pairingFolder } from "../../owner/folder.ts";
import { pairDevice } from "../../owner/pair.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { decodePairingCode } from "../../src/link/pairing-code.ts";
import { cutOnce, type GatewayHalf, newOwner, startGatewayHalf } from "./gateway-half.ts";

let gateway: GatewayHalf;
const folders: string[] = [];
function owner(): string {
  const folder = newOwner();
  folders.push(folder);
  return folder;
}

beforeAll(async () => {
  gateway = await startGatewayHalf();
});
afterEach(() => {
  gateway.question = question => question;
  gateway.answer = answer => answer;
  gateway.ahead = 0;
  gateway.serviceFee = undefined;
});
afterAll(async () => {
  await gateway.stop();
  for (const folder of folders) rmSync(folder, { recursive: true });
});

const refusal = (code: string) => expect.objectContaining({ code });

describe("pairing", () => {
  test("may be interrupted at each message and repeated with the same code until it is completed", async () => {
    const folder = owner();
    const code = gateway.invite("interrupted");
    const { deviceId } = decodePairingCode(code);
    const attempt = () => pairDevice({ folder, code });

    for (const type of ["pairing", "pair-committed", "pair-opened", "pair-agreed"] as const) {
      gateway.answer = cutOnce(answer => answer.type === type);
      await expect(attempt()).rejects.toEqual(refusal("gateway-unreachable"));
      expect(gateway.registry.device(deviceId).state).toBe("invited");
      expect(existsSync(deviceFolder(folder, deviceId))).toBe(false);
    }

    // Everything is on the owner's disk, and the gateway never heard of it.
    gateway.question = cutOnce(question => question.type === "pair-complete");
    await expect(attempt()).rejects.toEqual(refusal("gateway-unreachable"));
    expect(gateway.registry.device(deviceId).state).toBe("invited");
    const firstKey = readShare(pairingFolder(folder, deviceId)).joint;

    // The gateway has completed it, and the owner does not hear that.
    gateway.answer = cutOnce(answer => answer.type === "paired");
    await expect(attempt()).rejects.toEqual(refusal("gateway-unreachable"));
    expect(gateway.registry.device(deviceId).state).toBe("paired");
    expect(pairedDevices(folder)).toEqual([]);
    const secondKey = readShare(pairingFolder(folder, deviceId)).joint;
    expect(equal(firstKey, secondKey)).toBe(false);

    const questions: string[] = [];
    gateway.question = question => {
      questions.push(question.type);
      return question;
    };
    const info = await attempt();
    expect(questions).toEqual(["pair"]);
    expect(info.keys.fundingKey).toEqual(secondKey);
    expect(pairedDevices(folder)).toEqual([deviceId]);
    expect(existsSync(pairingFolder(folder, deviceId))).toBe(false);

    await expect(attempt()).rejects.toEqual(refusal("pairing-code-used"));
    await expect(pairDevice({ folder: owner(), code })).rejects.toEqual(refusal("pairing-code-used"));
  });
});

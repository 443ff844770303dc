/** Pairing that breaks off at each message there is, and what it agrees on for the gateway's service. */
import { existsSync, rmSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { openVault } from "../../device/vault/vault.ts";
import { pairDevice } from "../../owner/client/pair.ts";
import { readShare } from "../../owner/folder/device-files.ts";
import { deviceFolder, pairedDevices, pairingFolder } from "../../owner/folder/folder.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { decodePairingCode } from "../../src/pairing/code.ts";
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
afterEach(() => gateway.behave());
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

describe("pairing agrees on the gateway's service fee", () => {
  const TERMS = { ratePpm: 50_000, baseMsat: 1_000, settleFromMsat: 1_000_000, creditMsat: 5_000_000 };

  test("after the owner has seen it, and both sides keep it", async () => {
    const folder = owner();
    gateway.serviceFee = TERMS;
    const seen: unknown[] = [];
    const code = gateway.invite("with a fee");
    const info = await pairDevice({ folder, code, onServiceFee: terms => void seen.push(terms) });
    expect(seen).toEqual([TERMS]);
    // What the gateway takes from others later changes nothing.
    gateway.serviceFee = { ...TERMS, ratePpm: 90_000 };
    expect(gateway.registry.device(info.deviceId).pairing!.serviceFee).toEqual(TERMS);
    const flash = openFileFlash(deviceFolder(folder, info.deviceId));
    expect(openVault(flash).identity.serviceFee).toEqual(TERMS);
    flash.close();
  });

  test("and refuses, before anything is made, more than the owner allows and what can't be kept", async () => {
    const folder = owner();
    const code = gateway.invite("too dear");
    const questions: string[] = [];
    gateway.question = question => {
      questions.push(question.type);
      return question;
    };
    const attempt = (terms: typeof TERMS, options: Partial<Parameters<typeof pairDevice>[0]> = {}) => {
      gateway.serviceFee = terms;
      return expect(pairDevice({ folder, code, ...options })).rejects;
    };
    await attempt({ ...TERMS, ratePpm: 50_001 }).toEqual(refusal("service-fee-too-high"));
    await attempt({ ...TERMS, baseMsat: 1_001 }).toEqual(refusal("service-fee-too-high"));
    await attempt(TERMS, { maxServiceFee: { ratePpm: 49_999 } }).toEqual(refusal("service-fee-too-high"));
    await attempt(TERMS, { maxServiceFee: { baseMsat: 0 } }).toEqual(refusal("service-fee-too-high"));
    await attempt({ ...TERMS, settleFromMsat: 1_000 }).toEqual(refusal("service-fee-invalid"));
    await attempt({ ...TERMS, creditMsat: 1_500_000 }).toEqual(refusal("service-fee-invalid"));
    const no = Object.assign(new Error("no"), { code: "no" });
    const onServiceFee = () => {
      throw no;
    };
    await attempt(TERMS, { onServiceFee }).toBe(no);
    expect(new Set(questions)).toEqual(new Set(["pair"]));
    gateway.serviceFee = { ...TERMS, ratePpm: 70_000 };
    await pairDevice({ folder, code, maxServiceFee: { ratePpm: 70_000 } });
  });

  test("and ends if the two sides have seen different terms", async () => {
    const folder = owner();
    gateway.serviceFee = TERMS;
    gateway.answer = answer =>
      answer.type === "pairing" ? { ...answer, serviceFee: { ...TERMS, ratePpm: 1 } } : answer;
    const code = gateway.invite("two prices");
    await expect(pairDevice({ folder, code })).rejects.toEqual(refusal("pairing-mismatch"));
    expect(gateway.registry.device(decodePairingCode(code).deviceId).state).toBe("invited");
  });
});

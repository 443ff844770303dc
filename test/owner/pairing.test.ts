import { readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { DEFAULT_POLICY } from "../../device/identity.ts";
import { openVault } from "../../device/vault/vault.ts";
import { askLimits } from "../../owner/client/channel.ts";
import { pairDevice } from "../../owner/client/pair.ts";
import { type DeviceInfo, readChargingState, readShare } from "../../owner/folder/device-files.ts";
import { deviceFolder } from "../../owner/folder/folder.ts";
import { coldKeys, ownerKeysFrom } from "../../owner/folder/seed.ts";
import { ascii, equal, toHex } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { decodePairingCode, encodePairingCode } from "../../src/pairing/code.ts";
import { pairingKeys } from "../../src/pairing/keys.ts";
import { samePair } from "../../src/threshold/keyshare.ts";
import { type GatewayHalf, newOwner, startGatewayHalf, WORDS } from "./gateway-half.ts";

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
  describe("leaves", () => {
    let folder: string;
    let code: string;
    let info: DeviceInfo;
    let path: string;
    beforeAll(async () => {
      folder = owner();
      code = gateway.invite("a car");
      info = await pairDevice({ folder, code, depositDelay: 144, policy: { perPaymentMsat: 7_000_000 } });
      path = deviceFolder(folder, info.deviceId);
    });

    test("halves of one key, the same transfers and the same public keys on both sides", () => {
      const { pairing, name } = gateway.registry.device(info.deviceId);
      const share = readShare(path);
      expect(samePair(share, pairing!.share)).toBe(true);
      expect(share.joint).toEqual(pairing!.share.joint);
      expect(equal(share.secret, pairing!.share.secret)).toBe(false);
      expect(pairing!.keys).toEqual(info.keys);
      expect(name).toBe("a car");
      const { setups } = readChargingState(path);
      for (const kind of ["A", "B"] as const) {
        const theirs = gateway.registry.setup(info.deviceId, kind)!;
        expect(setups[kind]!.fingerprint).toEqual(theirs.fingerprint);
        expect([setups[kind]!.setup.side, theirs.setup.side].sort()).toEqual(["P1", "P2"]);
      }
    });

    test("a flash with the device's identity, without the key's half", () => {
      const flash = openFileFlash(path);
      const { identity } = openVault(flash);
      const image = toHex(flash.read(0, flash.pageBytes * flash.pageCount));
      flash.close();
      const account = gateway.registry.account(info.deviceId)!;
      expect(identity).toMatchObject({
        deviceId: info.deviceId,
        network: "regtest",
        brokerUrl: `mqtt://127.0.0.1:${gateway.port}`,
        linkKey: account.linkKey,
        birthHeight: 101,
        ...info.keys,
      });
      expect(identity.policy.perPaymentMsat).toBe(7_000_000);
      expect(sha256(ascii(identity.brokerPassword))).toEqual(account.passwordHash);
      expect(image).not.toContain(toHex(readShare(path).secret));
    });

    test("the device's limits at the gateway, and in its flash nothing by which a thief could ask for others", async () => {
      const { perHourMsat, perDayMsat, payees } = DEFAULT_POLICY;
      const limits = { perPaymentMsat: 7_000_000, perHourMsat, perDayMsat, payees };
      expect(gateway.registry.limits(info.deviceId)).toEqual(limits);
      const image = readFileSync(join(path, "flash.bin"));
      expect(image.includes(Buffer.from(gateway.registry.device(info.deviceId).pairing!.deviceLinkKey))).toBe(
        true,
      );
      expect(image.includes(Buffer.from(info.ownerLinkKey))).toBe(false);
      expect(image.includes(info.ownerPassword)).toBe(false);
    });

    test("cold keys that follow from the words alone", () => {
      const cold = coldKeys(ownerKeysFrom(WORDS, "regtest"), info.index);
      expect(info.keys).toMatchObject(cold);
      expect(info.keys.depositDelay).toBe(144);
    });

    test("link keys that have nothing to do with the code", () => {
      const { secret } = decodePairingCode(code);
      const fromCode = pairingKeys(secret, info.deviceId);
      const { pairing, invitation } = gateway.registry.device(info.deviceId);
      const keys = [pairing!.deviceLinkKey, pairing!.ownerLinkKey, fromCode.linkKey].map(toHex);
      expect(new Set(keys).size).toBe(3);
      expect(invitation!.secret).toBeUndefined();
      expect(info.ownerPassword).not.toBe(fromCode.password);
    });

    test("files that only their owner can read, and a log without secrets", () => {
      for (const name of readdirSync(path)) expect(statSync(join(path, name)).mode & 0o077).toBe(0);
      expect(readdirSync(path).sort()).toEqual(["backup.json", "charging.json", "device.json", "flash.bin"]);
      const backup = readFileSync(join(path, "backup.json"), "utf8");
      const charging = readChargingState(path).setups.A!.setup.toBytes();
      expect(backup).not.toContain(toHex(charging.slice(-16)));
      const log = gateway.log.join("");
      const { pairing } = gateway.registry.device(info.deviceId);
      for (const secret of [pairing!.share.secret, pairing!.ownerLinkKey, pairing!.deviceLinkKey])
        expect(log).not.toContain(toHex(secret));
      expect(log).toContain(`${info.deviceId}: paired name="a car"`);
    });

    test("an owner who changes the limits at the gateway, over restarts, and is told by an old one that it can't", async () => {
      const device = { folder, deviceId: info.deviceId };
      const limits = {
        perPaymentMsat: 1000,
        perHourMsat: 2000,
        perDayMsat: 3000,
        payees: [info.keys.fundingKey],
      };
      expect(await askLimits(device, limits)).toEqual(limits);
      await gateway.restart();
      expect(await askLimits(device)).toEqual(limits);
      gateway.answer = answer =>
        answer.type === "limits"
          ? { type: "refused", code: "message-unknown", sentence: "there is no message 20" }
          : answer;
      await expect(askLimits(device)).rejects.toEqual(refusal("gateway-outdated"));
    });
  });

  test("with a mistyped code says so before anybody is asked", async () => {
    const code = gateway.invite("typo");
    const at = code.length - 12;
    const wrong = code[at] === "q" ? "p" : "q";
    await expect(
      pairDevice({ folder: owner(), code: `${code.slice(0, at)}${wrong}${code.slice(at + 1)}` }),
    ).rejects.toEqual(refusal("pairing-code-malformed"));
  });

  test("with a code of another gateway, or one that was replaced or withdrawn, is refused", async () => {
    const folder = owner();
    const replaced = gateway.invite("twice");
    const code = gateway.invite("twice");
    const { deviceId, secret } = decodePairingCode(code);
    const wrongSecret = {
      deviceId,
      secret: secret.map(byte => byte ^ 1),
      host: "127.0.0.1",
      port: gateway.port,
    };
    for (const bad of [replaced, encodePairingCode(wrongSecret)])
      await expect(pairDevice({ folder, code: bad })).rejects.toEqual(refusal("pairing-code-wrong"));
    gateway.registry.cancelInvitation(deviceId);
    await expect(pairDevice({ folder, code })).rejects.toEqual(refusal("pairing-code-wrong"));
  });

  test("with an expired code is refused", async () => {
    const code = gateway.invite("late", 60);
    const folder = owner();
    gateway.ahead = 61;
    await expect(pairDevice({ folder, code })).rejects.toEqual(refusal("pairing-code-expired"));
    expect(gateway.registry.device(decodePairingCode(code).deviceId).state).toBe("invited");
  });

  test("with a gateway that is not there says so", async () => {
    const secret = new Uint8Array(16);
    const code = encodePairingCode({ deviceId: "aaaaaaaa", secret, host: "127.0.0.1", port: 1 });
    await expect(pairDevice({ folder: owner(), code })).rejects.toEqual(refusal("gateway-unreachable"));
  });

  test("ends when the messages are changed on the way", async () => {
    const folder = owner();
    const code = gateway.invite("tampered");
    gateway.answer = answer =>
      answer.type === "pair-opened"
        ? { ...answer, k3: answer.k3.map((byte, i) => (i === 129 ? byte ^ 1 : byte)) }
        : answer;
    await expect(pairDevice({ folder, code })).rejects.toEqual(refusal("threshold-bad-commitment"));
    gateway.answer = answer => (answer.type === "pairing" ? { ...answer, network: "signet" } : answer);
    await expect(pairDevice({ folder, code })).rejects.toEqual(refusal("pairing-wrong-network"));
    expect(gateway.registry.device(decodePairingCode(code).deviceId).state).toBe("invited");
  });

  test("out of order, in the middle or with nonsense is refused and harms nobody", async () => {
    const folder = owner();
    const code = gateway.invite("disorder");
    gateway.question = question =>
      question.type === "pair-share" ? { type: "pair-agree", k4: new Uint8Array(32) } : question;
    await expect(pairDevice({ folder, code })).rejects.toEqual(refusal("pairing-out-of-order"));
    gateway.question = question => (question.type === "pair-share" ? { type: "status" } : question);
    await expect(pairDevice({ folder, code })).rejects.toEqual(refusal("pairing-out-of-order"));
    expect(gateway.registry.device(decodePairingCode(code).deviceId).state).toBe("invited");
  });
});

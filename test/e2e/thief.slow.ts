/**
 * Somebody has the flash of a device, and nothing else; gateway and bridge are honest. The device's own limits are in that
 * flash, where nothing authenticates them: the gateway's are what holds.
 */
import { spawn } from "node:child_process";
import { copyFileSync, mkdtempSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Device } from "../../device/api.ts";
import { openNodeBoard } from "../../device/boards/node/board.ts";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { openDevice } from "../../device/device.ts";
import type { SpendingPolicy } from "../../device/identity.ts";
import { writeOwnersWord } from "../../device/vault/charging.ts";
import { openVault } from "../../device/vault/vault.ts";
import { openStore } from "../../gateway/store/registry.ts";
import { askLimits, askStatus } from "../../owner/client/channel.ts";
import { changeGatewayLimits, changeLimits, spendingLimits } from "../../owner/client/limits.ts";
import { codeOf } from "../../src/errors.ts";
import { World } from "./world.ts";

const MUCH = { perPaymentMsat: 1e12, perHourMsat: 1e12, perDayMsat: 1e12 };
const CHANNEL_SAT = 500_000;
/** Nearly all that can be paid from it. */
const MOST_MSAT = 400_000_000;

let world: World;
beforeAll(async () => {
  world = await World.start();
  await world.startGateway();
});
afterAll(async () => {
  await world?.stop();
});

interface Stolen {
  readonly device: Device;
  stop(): void;
}

/** A device with the flash of that one, in which the thief has written limits of his own. */
async function steal(deviceId: string, written: Partial<SpendingPolicy> = MUCH): Promise<Stolen> {
  const folder = mkdtempSync(join(world.folder, "thief-"));
  copyFileSync(join(world.folderOf(deviceId), "flash.bin"), join(folder, "flash.bin"));
  const flash = openFileFlash(folder);
  const { identity } = openVault(flash);
  const policy = { ...identity.policy, ...written, payees: [] };
  writeOwnersWord(flash, { policy, height: identity.birthHeight, time: identity.birthTime });
  flash.close();
  const board = openNodeBoard(folder);
  const device = openDevice(board);
  await device.connect();
  return {
    device,
    stop() {
      device.disconnect();
      board.close();
    },
  };
}

/** What becomes of a payment: its code, or "paid". */
function outcomeOf(device: Device, amountMsat: number, maxFeeMsat = 1_000_000): Promise<string | undefined> {
  return device.pay(world.toll.invoice(amountMsat), { maxFeeMsat }).then(() => "paid", codeOf);
}

const arrivedMsat = () => world.toll.claimed.reduce((sum, { amountMsat }) => sum + amountMsat, 0);

/** Runs `lngate` to its end; what it printed. */
function lngate(...args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, ["dist/lngate.mjs", ...args]);
  let out = "";
  child.stdout.on("data", chunk => (out += chunk));
  return new Promise(resolve => child.on("close", () => resolve(out)));
}

describe("whoever has a device's flash", () => {
  test("spends no more from its channel than the owner has told the gateway", async () => {
    const car = await world.makeCar("car", CHANNEL_SAT, { payments: 40 });
    car.stop();
    const before = arrivedMsat();
    const thief = await steal(car.deviceId);
    expect(await outcomeOf(thief.device, MOST_MSAT)).toBe("policy-payment-limit");
    // The default allows 5,000 sat a payment and 20,000 an hour.
    const outcomes: (string | undefined)[] = [];
    for (let i = 0; i < 4; i++) outcomes.push(await outcomeOf(thief.device, 4_900_000, 100_000));
    // What the ways did not cost was given back.
    outcomes.push(await outcomeOf(thief.device, 500_000, 0));
    await world.stopGateway();
    await world.startGateway();
    await thief.device.connect();
    outcomes.push(await outcomeOf(thief.device, 500_000, 0));
    expect(outcomes).toEqual([...Array(4).fill("paid"), "policy-velocity", "policy-velocity"]);
    expect(arrivedMsat() - before).toBe(4 * 4_900_000);

    // The control: with the owner's word at the gateway the same flash pays it.
    const { deviceId } = car;
    const ask = (told?: Parameters<typeof askLimits>[1]) =>
      askLimits({ folder: world.ownerFolder, deviceId }, told);
    const flash = openFileFlash(world.folderOf(deviceId));
    const own = spendingLimits(openVault(flash).identity.policy);
    flash.close();
    await changeGatewayLimits(MUCH, own, ask);
    expect(await outcomeOf(thief.device, MOST_MSAT)).toBe("paid");
    thief.stop();
  });

  test("nor from a channel that it opens with the deposit", async () => {
    const deviceId = await world.makeDevice("deposit", { payments: 20 });
    await world.deposit(deviceId, CHANNEL_SAT);
    const thief = await steal(deviceId);
    await world.mineUntil(thief.device.openChannel());
    const before = arrivedMsat();
    expect(await outcomeOf(thief.device, MOST_MSAT)).toBe("policy-payment-limit");
    expect(arrivedMsat()).toBe(before);
    thief.stop();
  });

  test("opens no channel whose commitments would burn the deposit, and the owner is told", async () => {
    const deviceId = await world.makeDevice("burning", { payments: 20 });
    await world.deposit(deviceId, CHANNEL_SAT);
    const thief = await steal(deviceId, { minFeeratePerKw: 250_000, maxFeeratePerKw: 300_000 });
    const opening = thief.device.openChannel().then(() => "opened", codeOf);
    expect(await world.mineUntil(opening)).toBe("feerates-apart");
    const owner = { folder: world.ownerFolder, deviceId };
    expect(await askStatus(owner)).toMatchObject({
      channel: "none",
      depositSat: CHANNEL_SAT,
      trouble: "feerates-apart",
    });
    thief.stop();
  });

  test("who is the owner raises the limits in both places, and the device pays", async () => {
    const car = await world.makeCar("mine", CHANNEL_SAT, { payments: 20 });
    const { deviceId } = car;
    expect(await outcomeOf(car.device, MOST_MSAT)).toBe("policy-payment-limit");
    car.stop();
    const device = { folder: world.ownerFolder, deviceId };
    await changeLimits(world.folderOf(deviceId), MUCH, told => askLimits(device, told));
    const again = await world.startCar(deviceId);
    expect(await outcomeOf(again.device, MOST_MSAT)).toBe("paid");
    again.stop();
  });

  test("finds no limits of a device that was paired before gateways kept any, until its owner says some", async () => {
    const deviceId = await world.makeDevice("before", { payments: 0 });
    const owner = ["--data", world.ownerFolder, "--device", deviceId];
    const check = () => lngate("gateway", "check", "--config", world.config.file);
    const store = openStore(world.config.dataDir);
    store.openDB({ name: "spending-limits", encoding: "binary" }).removeSync(deviceId);
    await store.close();
    expect(await check()).toContain(`note    spending limits: "before" (${deviceId}) has none here`);
    expect(await lngate("device", "status", ...owner)).toContain("LIMITS    the gateway has none");
    await lngate("device", "limits", "--gateway", ...owner);
    const [line] = /^ok .*spending limits: .*$/m.exec(await check()) ?? [];
    expect(line).toMatch(/(\d+) of \1 devices/);
    expect(await lngate("device", "status", ...owner)).not.toContain("LIMITS");
  });
});

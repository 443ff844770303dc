/** Every way a channel ends while bridge and gateway are there, each counted on the chain to the satoshi. */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { askClose, askFreeze, askStatus } from "../../owner/client/channel.ts";
import { readHeldChannels } from "../../owner/folder/device-files.ts";
import { CHANNEL_FILE, FLASH_FILE } from "../../owner/folder/folder.ts";
import { checkExit } from "../../owner/recovery/exit-file.ts";
import { lookAtExit } from "../../owner/recovery/held-exits.ts";
import { type Line, Program } from "../../scripts/program.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { type Car, waitFor } from "../e2e/world.ts";
import {
  booksOf,
  carOf,
  changeScript,
  coinOf,
  exitOf,
  homeScript,
  Ledger,
  look,
  payTolls,
  recoverAll,
  type Scene,
  startScene,
  stopScene,
  told,
  tracked,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 200_000;
const TOLLS_MSAT = [1_500_000, 400_000];

let scene: Scene;
beforeAll(async () => {
  scene = await startScene();
});
afterAll(() => stopScene(scene));

interface Opened {
  readonly car: Car;
  readonly deviceId: string;
  readonly funding: string;
  readonly channelId: string;
  readonly paidSat: number;
}

/** A car whose channel has seen some tolls. */
async function opened(name: string): Promise<Opened> {
  const { world } = scene;
  const car = await carOf(scene, name, DEPOSIT_SAT);
  const { deviceId } = car;
  const paidMsat = await payTolls(scene, car, TOLLS_MSAT);
  await untilSilent(car);
  const { fundingTxid = "" } = await askStatus({ folder: world.ownerFolder, deviceId });
  const channel = world.bridge.channels().find(({ funding }) => funding === `${fundingTxid}:0`)!;
  const { channelId } = channel;
  return { car, deviceId, funding: fundingTxid, channelId, paidSat: Math.floor(paidMsat / 1000) };
}

async function untilClosed({ funding }: Opened): Promise<void> {
  const { bitcoind } = scene.world;
  await waitFor("the close", async () => {
    if ((await bitcoind.rpc<string[]>("getrawmempool")).length > 0) await bitcoind.mine(1);
    return (await bitcoind.rpc("gettxout", [funding, 0, true])) === null;
  });
  await bitcoind.mine(1);
}

/** A payment that arrives at the toll company, which neither takes nor refuses it. */
async function payUntilHeld({ car }: Opened, amountMsat: number): Promise<void> {
  const { world } = scene;
  const held = world.toll.hold();
  car.device.pay(world.toll.invoice(amountMsat), { maxFeeMsat: 5_000 }).catch(() => {});
  await held;
  await untilSilent(car);
}

describe("a mutual close", () => {
  test.each([
    ["the device", ({ car }: Opened) => void car.device.close().catch(() => {})],
    [
      "the gateway",
      ({ deviceId }: Opened) => void askClose({ folder: scene.world.ownerFolder, deviceId }).catch(() => {}),
    ],
    ["the bridge", ({ channelId }: Opened) => scene.world.bridge.close(channelId)],
  ])("that %s asks for pays the owner's address", async (who, ask) => {
    const channel = await opened(`mutual ${who}`);
    ask(channel);
    await untilClosed(channel);
    const books = await booksOf(scene, channel.deviceId, channel.funding);
    expect(told(`mutual close, asked by ${who}`, DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: channel.paidSat, anchorsSat: 0 });
    channel.car.stop();
  });
});

describe("the bridge closes alone", () => {
  test("at rest: the words are enough to take what it pays", async () => {
    const channel = await opened("bridge alone");
    channel.car.stop();
    scene.world.bridge.close(channel.channelId, true);
    await untilClosed(channel);
    await recoverAll(scene);
    const books = await booksOf(scene, channel.deviceId, channel.funding);
    expect(told("the bridge closes alone", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: channel.paidSat, anchorsSat: 660 });
  });

  test("with a payment in flight that never arrives: the device signs, and it comes back when it expires", async () => {
    const { world } = scene;
    const channel = await opened("bridge in flight");
    await payUntilHeld(channel, 2_000_000);
    world.bridge.close(channel.channelId, true);
    await untilClosed(channel);
    world.toll.failHeld();
    const ledger = new Ledger(world);
    const home = homeScript(scene, channel.deviceId);
    await waitFor("the payment to come back", async () => {
      await world.bitcoind.mine(5);
      await new Promise(resolve => setTimeout(resolve, 100));
      return (await ledger.unspentSat([home])) > 0;
    });
    await recoverAll(scene);
    const books = await booksOf(scene, channel.deviceId, channel.funding);
    expect(told("the bridge closes with a payment in flight", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: channel.paidSat, anchorsSat: 660 });
    channel.car.stop();
  });

  test("with a payment in flight, and then gateway and device are gone: the exit file is enough", async () => {
    const { world } = scene;
    const channel = await opened("bridge in flight alone");
    await payUntilHeld(channel, 2_000_000);
    channel.car.stop();
    await world.stopGateway();
    const exit = exitOf(scene, channel.deviceId);
    world.bridge.close(channel.channelId, true);
    await untilClosed(channel);
    world.toll.failHeld();
    await recoverAll(scene, { exits: [exit] });
    const books = await booksOf(scene, channel.deviceId, channel.funding);
    expect(told("the same without gateway and device", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: channel.paidSat, anchorsSat: 660 });
    await world.startGateway();
  });
});

describe("the device is lost or stolen", () => {
  test("the owner freezes it: nothing is signed for the thief, the bridge closes, the words collect", async () => {
    const { world } = scene;
    const channel = await opened("stolen");
    const { deviceId, car } = channel;
    await askFreeze({ folder: world.ownerFolder, deviceId });
    // The thief has the device and everything in it; the gateway does not listen.
    const thief = car.device.pay(world.toll.invoice(100_000), { maxFeeMsat: 5_000, timeoutMs: 1_500 });
    await expect(thief).rejects.toMatchObject({ code: "payment-pending" });
    await untilClosed(channel);
    await recoverAll(scene);
    const books = await booksOf(scene, deviceId, channel.funding);
    expect(told("frozen", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: channel.paidSat, anchorsSat: 660 });
    // A restart of the gateway thaws nothing.
    await world.stopGateway();
    await world.startGateway();
    const again = car.device.pay(world.toll.invoice(100_001), { maxFeeMsat: 5_000, timeoutMs: 1_500 });
    await expect(again).rejects.toMatchObject({
      code: expect.stringMatching(/payment-pending|gateway-unreachable/),
    });
    car.stop();
  });
});

describe("a thief has all that is in the flash", () => {
  test("and publishes the exit: it is the newest one, there is no other, and it pays the owner, who has no device", async () => {
    const { world } = scene;
    const car = await carOf(scene, "thief", DEPOSIT_SAT);
    const { deviceId } = car;
    const path = world.folderOf(deviceId);
    const early = lookAtExit(path).exit;
    const paidMsat = await payTolls(scene, car, TOLLS_MSAT);
    await untilSilent(car);
    car.stop();
    const flash = readFileSync(join(path, FLASH_FILE));
    const { exit } = lookAtExit(path);
    expect(flash.includes(Buffer.from(exit.ownSignature))).toBe(true);
    expect(flash.includes(Buffer.from(early.ownSignature))).toBe(false);
    await world.bitcoind.rpc("sendrawtransaction", [toHex(exit.commitment)]);
    await world.bitcoind.mine(1);
    rmSync(join(path, FLASH_FILE));

    // Only now the owner hears of it.
    await askFreeze({ folder: world.ownerFolder, deviceId });
    await waitFor("the gateway to see it", async () => {
      return (await askStatus({ folder: world.ownerFolder, deviceId })).channel === "closed";
    });
    const [channel] = readHeldChannels(join(path, CHANNEL_FILE))!;
    // Whatever the gateway says of the channel, it stops nothing else.
    const lie = { ...channel!, proposal: { ...channel!.proposal, revocationBasepoint: new Uint8Array(33) } };
    expect((await look(scene, { channels: [lie] })).remarks.join()).toContain("channel.json");
    await recoverAll(scene, { channels: [channel!] });
    const { fundingTxid = "" } = await askStatus({ folder: world.ownerFolder, deviceId });
    const books = await booksOf(scene, deviceId, fundingTxid);
    expect(told("a thief publishes the exit", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: Math.floor(paidMsat / 1000), anchorsSat: 660 });
  });
});

describe("our own commitment is on the chain, and the owner did not put it there", () => {
  async function lngate(...args: string[]): Promise<Line> {
    const { words, world } = scene;
    const program = new Program(args.slice(0, 2).join(" "), [
      "dist/lngate.mjs",
      ...args,
      "--data",
      world.ownerFolder,
      "--json",
    ]);
    if (args[1] === "recover") program.write(words);
    return program.result();
  }
  function recover(...args: string[]): Promise<Line> {
    const { url, cookieFile = "" } = scene.world.bitcoind.rpcOptions;
    return lngate("owner", "recover", "--bitcoind", url, "--cookie", cookieFile, "--feerate", "2", ...args);
  }
  type Of = { readonly deviceId: string };

  test("the words and the device's folder find it, whatever the gateway says of the channel", async () => {
    const { world } = scene;
    const channel = await opened("own commitment");
    const { deviceId, car } = channel;
    car.stop();
    const file = join(world.folder, "own.exit.json");
    const device = ["--device", deviceId];
    await lngate("device", "exit", ...device, "--out", file);
    const { exit } = lookAtExit(world.folderOf(deviceId));
    const ofIt = (plan: Line) => (plan["exits"] as Of[]).filter(each => each.deviceId === deviceId);

    // The channel has ended for the device, and nobody has closed it: nothing is published unless the owner names the exit.
    const open = await recover("--yes");
    expect(ofIt(open)).toEqual([]);
    expect(String(open["remarks"])).toContain(`device ${deviceId} has ended for the device, and is open`);
    expect(await world.bitcoind.rpc("gettxout", [channel.funding, 0, true])).not.toBeNull();

    await world.bitcoind.rpc("sendrawtransaction", [toHex(exit.commitment)]);
    await world.bitcoind.mine(1);
    const again = tracked(scene, await world.startCar(deviceId));
    await waitFor("the device to know", () => again.device.balance().phase === "none");
    again.stop();
    // It is still the exit of the latest channel, also now that the gateway says that this is closed.
    expect(await lngate("device", "exit", ...device, "--out", file)).toMatchObject({ channel: exit.index });
    expect(await lngate("owner", "watch", ...device)).toMatchObject({ valid: true, state: exit.number });
    await expect(lngate("device", "exit", ...device, "--channel", "7")).rejects.toThrow(
      /exit-none: .*no exit of channel 7; it holds those of 1/,
    );

    const toLocalSat = checkExit(exitOf(scene, deviceId)).commitment.outputs.find(
      ({ kind }) => kind === "to-local",
    )!.valueSat;
    for (const plan of [await recover(), await recover("--exit", file)]) {
      expect(ofIt(plan)).toMatchObject([{ action: "done" }]);
      expect((plan["waiting"] as { valueSat: number }[]).map(({ valueSat }) => valueSat)).toContain(
        toLocalSat,
      );
    }
    await world.bitcoind.mine(exit.proposal.holderDelay - 1);
    await recover("--yes");
    await world.bitcoind.mine(1);
    const books = await booksOf(scene, deviceId, channel.funding);
    expect(told("our own commitment, published by somebody else", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: channel.paidSat, anchorsSat: 660 });
  });
});

describe("the owner leaves while a payment is in flight", () => {
  test("a coin pays for taking it back when it expires", async () => {
    const { world } = scene;
    const channel = await opened("exit in flight");
    await payUntilHeld(channel, 3_000_000);
    channel.car.stop();
    const exit = exitOf(scene, channel.deviceId);
    expect(exit.view.htlcs).toHaveLength(1);
    await world.stopGateway();
    world.toll.failHeld();
    await expectExitWithCoin(channel, exit);
    await world.startGateway();
  });
});

/** Publishes the exit, waits for the expiry, and pays for the timed-out payment's transaction with a coin of the words. */
async function expectExitWithCoin(channel: Opened, exit: ReturnType<typeof exitOf>): Promise<void> {
  const { world } = scene;
  const COIN_SAT = 50_000;
  const coin = await coinOf(scene, COIN_SAT);
  const ledger = new Ledger(world);
  const before = await ledger.unspentSat([changeScript(scene)]);
  const published = await recoverAll(scene, { exits: [exit], coin });
  expect(published).toHaveLength(4);
  let feesSat = await ledger.feeOf(channel.funding);
  for (const each of published) feesSat += await ledger.feeOf(each);
  const home = await ledger.unspentSat([homeScript(scene, channel.deviceId)]);
  const change = (await ledger.unspentSat([changeScript(scene)])) - before;
  process.stdout.write(
    `exit with a payment in flight: ${DEPOSIT_SAT} + coin ${COIN_SAT} sat = ${home} home + ${change} change + ${channel.paidSat} bridge + 660 anchors + ${feesSat} fees\n`,
  );
  expect(home + change).toBe(DEPOSIT_SAT + COIN_SAT - channel.paidSat - 660 - feesSat);
}

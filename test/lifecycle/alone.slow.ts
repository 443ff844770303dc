/** The owner leaves alone: the gateway has vanished, or answers nothing but what it wants. */

import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { GatewayLinks } from "../../gateway/link/links.ts";
import { openRegistry, openStore } from "../../gateway/store/registry.ts";
import { bitcoindChain } from "../../owner/chain/bitcoind.ts";
import { askClose, askStatus } from "../../owner/client/channel.ts";
import { FLASH_FILE, openOwner } from "../../owner/folder/folder.ts";
import { checkExit, readExit } from "../../owner/recovery/exit-file.ts";
import { lookAtExit, takeExitFromImage, takeExitFromText } from "../../owner/recovery/held-exits.ts";
import { recoveryKeys } from "../../owner/recovery/keys.ts";
import { carryOut } from "../../owner/recovery/recover.ts";
import { Program } from "../../scripts/program.ts";
import { shownHash, txidOf, weightOf } from "../../src/bitcoin/transaction.ts";
import { toDevice } from "../../src/messages/device.ts";
import { inFragments } from "../../src/messages/fragments.ts";
import { toOwner } from "../../src/messages/owner.ts";
import { type World, waitFor } from "../e2e/world.ts";
import {
  booksOf,
  carOf,
  changeScript,
  coinOf,
  exitOf,
  homeScript,
  Ledger,
  look,
  NETWORK,
  payTolls,
  recoverAll,
  type Scene,
  sealed,
  startScene,
  stopScene,
  told,
  untilSilent,
} from "./scene.ts";

const DEPOSIT_SAT = 300_000;
let scene: Scene;
let ledger: Ledger;

beforeAll(async () => {
  scene = await startScene();
  ledger = new Ledger(scene.world);
});
afterAll(() => stopScene(scene));

describe("the gateway vanishes", () => {
  test("the newest state brings everything home, to the satoshi", async () => {
    const { world } = scene;
    const car = await carOf(scene, "vanished", DEPOSIT_SAT);
    const { deviceId } = car;
    const paidMsat = await payTolls(scene, car, [1_500_000, 354_000, 20_000]);
    await untilSilent(car);
    // A copy that is looked at while the device works is good for nothing else.
    const copy = sealed(scene.words, lookAtExit(world.folderOf(deviceId)), false);
    expect(copy).toMatchObject({ final: false });
    await expect(look(scene, { exits: [copy] })).rejects.toMatchObject({ code: "exit-not-newest" });
    car.stop();
    await world.stopGateway();

    const exit = exitOf(scene, deviceId);
    const txids = await recoverAll(scene, { exits: [exit] });
    expect(txids).toHaveLength(2);
    const [commitment, sweep] = txids as [string, string];
    const funding = (await ledger.transaction(commitment)).vin[0]!.txid;
    const fees = [funding, commitment, sweep].map(txid => ledger.feeOf(txid));
    const [fundingFee, exitFee, sweepFee] = (await Promise.all(fees)) as [number, number, number];
    const home = await ledger.unspentSat([homeScript(scene, deviceId)]);
    const bridgeSat = Math.floor(paidMsat / 1000);
    const anchorsSat = 660;
    process.stdout.write(
      `vanished: ${DEPOSIT_SAT} = ${home} home + ${bridgeSat} paid + ${fundingFee} funding fee + ${exitFee} exit fee + ${anchorsSat} anchors + ${sweepFee} sweep fee\n`,
    );
    expect(home).toBe(DEPOSIT_SAT - bridgeSat - fundingFee - exitFee - anchorsSat - sweepFee);
    expect(copy.number).toBe(exit.number);
    await world.startGateway();
  });
});

describe("a board, which writes no files", () => {
  test("prints its last state, and an image of its flash is good for no other; it comes home, to the satoshi", async () => {
    const { world, words } = scene;
    const car = await carOf(scene, "board", DEPOSIT_SAT);
    const { deviceId } = car;
    const path = world.folderOf(deviceId);
    const paidMsat = await payTolls(scene, car, [800_000]);
    await untilSilent(car);
    const dump = (name: string, content: Uint8Array | string) => {
      const file = join(world.folder, name);
      writeFileSync(file, content);
      return file;
    };
    const running = dump("running.bin", readFileSync(join(path, FLASH_FILE)));
    expect(() => takeExitFromImage(path, running, false)).toThrow(
      expect.objectContaining({ code: "exit-not-ended" }),
    );

    const printed = car.device.exit();
    expect(car.device.exit()).toBe(printed);
    await expect(car.device.pay(world.toll.invoice(1_000))).rejects.toMatchObject({
      code: "channel-not-open",
    });
    // As a terminal shows it: in lines, among others.
    const lines = printed.match(/.{1,100}/g)!.join("\n");
    const session = dump("console.txt", `>print(device.exit())\n${lines}\n=undefined\n>`);
    const file = join(world.folder, "board.exit.json");
    const args = ["device", "exit", "--data", world.ownerFolder, "--from", session, "--out", file, "--json"];
    await new Program("device exit", ["dist/lngate.mjs", ...args]).result();
    const keys = recoveryKeys(words, NETWORK);
    const exit = readExit(file, readFileSync(file, "utf8"), key => keys.device(key).commitmentMaster);
    expect(exit).toMatchObject({ deviceId, final: true });

    // The image of the whole chip, in text, from behind the vault's time; and the board that was erased after it.
    const chip = new Uint8Array(3 * 4096 + statSync(running).size).fill(0xa5);
    chip.set(readFileSync(join(path, FLASH_FILE)), 2 * 4096);
    const text = dump("chip.txt", Buffer.from(chip).toString("base64").replace(/.{76}/g, "$&\n"));
    // What is printed leaves out the payments.
    for (const held of [takeExitFromImage(path, text, false), takeExitFromImage(path, running, true)])
      expect({ ...sealed(words, held, true), paymentHashes: [] }).toEqual(exit);
    // What is damaged or somebody else's does not pass for an exit.
    const owner = openOwner(world.ownerFolder);
    const digit = printed[60] === "0" ? "1" : "0";
    for (const wrong of [printed.slice(0, -9), printed.slice(0, 60) + digit + printed.slice(61), ""])
      expect(() => takeExitFromText(owner, wrong)).toThrow(expect.objectContaining({ code: "exit-damaged" }));
    const others = { ...owner, keys: { ...owner.keys, hotSecret: new Uint8Array(32) } };
    expect(() => takeExitFromText(others, printed)).toThrow(
      expect.objectContaining({ code: "exit-damaged" }),
    );

    car.stop();
    const [commitment] = (await recoverAll(scene, { exits: [exit] })) as [string];
    const funding = (await ledger.transaction(commitment)).vin[0]!.txid;
    const books = await booksOf(scene, deviceId, funding);
    expect(told("exit printed by a board", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: Math.floor(paidMsat / 1000), anchorsSat: 660 });
  });
});

describe("the ransom", () => {
  test("a gateway that answers everything with “pay first” delays nothing beyond BOLT #3", async () => {
    const { world } = scene;
    const car = await carOf(scene, "ransomed", DEPOSIT_SAT);
    const { deviceId } = car;
    const paidMsat = await payTolls(scene, car, [1_000_000]);
    await untilSilent(car);
    await world.stopGateway();
    // The same gateway, with every key and record it ever had, run by a blackmailer.
    const blackmailer = await blackmail(world);
    await waitFor("the device to be connected", () => car.device.isConnected());
    await expect(car.device.close()).rejects.toMatchObject({ code: "pay-first" });
    const toll = car.device.pay(world.toll.invoice(50_000), { maxFeeMsat: 5_000, timeoutMs: 1_000 });
    await expect(toll).rejects.toMatchObject({ code: "payment-pending" });
    await expect(askClose({ folder: world.ownerFolder, deviceId })).rejects.toMatchObject({
      code: "pay-first",
    });
    car.stop();

    const begin = await world.bitcoind.rpc<number>("getblockcount");
    const exit = exitOf(scene, deviceId);
    const [commitment, sweep] = (await recoverAll(scene, { exits: [exit] })) as [string, string];
    const blocks = (await world.bitcoind.rpc<number>("getblockcount")) - begin;
    const funding = (await ledger.transaction(commitment)).vin[0]!.txid;
    const books = await booksOf(scene, deviceId, funding);
    expect(told("ransom refused", DEPOSIT_SAT, books)).toBe(0);
    process.stdout.write(
      `ransom refused: everything home ${blocks} blocks after the owner's decision (1 for the exit, ${exit.proposal.holderDelay} of BOLT #3's delay, 1 for collecting), ransom paid: 0\n`,
    );
    // One block for the exit, the delay counted from it, and the block after the collecting transaction was in one.
    expect(blocks).toBeLessThanOrEqual(1 + exit.proposal.holderDelay + 1);
    expect(books.bridgeSat).toBe(Math.floor(paidMsat / 1000));
    expect(await ledger.feeOf(sweep)).toBeLessThan(500);
    expect(blackmailer.asked()).toBeGreaterThan(0);
    await blackmailer.stop();
    await world.startGateway();
  });
});

/** Opens the gateway's links with its own accounts and answers every message with a enforce for money. */
async function blackmail(world: World) {
  const { mqtt, dataDir } = world.config;
  if (mqtt.kind !== "embedded") throw new Error("the test's broker is embedded");
  const store = openStore(dataDir);
  const registry = openRegistry(store);
  const [code, sentence] = ["pay-first", "your money is safe with us; send 50,000 sat and it is yours again"];
  let asked = 0;
  const links = await GatewayLinks.open({
    mqtt,
    account: identity => registry.account(identity),
    identities: () => registry.identities(),
    onMessage(identity) {
      asked++;
      if (identity.endsWith(".owner")) {
        for (const piece of inFragments(toOwner.encode({ type: "refused", code, sentence })))
          links.send(identity, piece);
      } else links.send(identity, toDevice.encode({ type: "failed", code, sentence }));
    },
    onSession() {},
    onRefused() {},
  });
  return {
    asked: () => asked,
    async stop() {
      await links.close();
      await store.close();
    },
  };
}

describe("deep water", () => {
  test.each([
    ["goes out together with", false],
    ["waits and waits for", true],
  ])("an exit whose fee is too low %s a coin that hurries it through its anchor", async (_, published) => {
    const { world } = scene;
    const { bitcoind } = world;
    const car = await carOf(scene, `stuck ${published}`, DEPOSIT_SAT);
    const paidMsat = await payTolls(scene, car, [1_000_000]);
    await untilSilent(car);
    car.stop();
    const exit = exitOf(scene, car.deviceId);
    const transaction = checkExit(exit).transaction;
    const txid = shownHash(txidOf(transaction));
    // Feerates have risen: for bitcoind there is no fee worth a place in this transaction.
    const fallInPrice = (sat: number) => bitcoind.rpc("prioritisetransaction", [txid, 0, -sat]);
    const options = { exits: [exit], feeratePerKw: 5_000 };
    const COIN_SAT = 60_000;
    const coin = await coinOf(scene, COIN_SAT);
    const chain = bitcoindChain(bitcoind.rpcOptions);
    const slow = await look(scene, options);
    expect(slow.exits).toMatchObject([{ action: "publish" }]);
    expect(slow.remarks.join()).toContain("--coin");
    if (published) {
      await carryOut(chain, slow);
      // Miners who have better to do: blocks without it.
      const address = await bitcoind.rpc<string>("getnewaddress", ["", "bech32"]);
      for (let i = 0; i < 3; i++) await bitcoind.rpc("generateblock", [address, []]);
      expect((await look(scene, options)).exits).toMatchObject([{ action: "wait", confirmation: "waiting" }]);
    } else {
      await fallInPrice(1_100);
      await expect(carryOut(chain, slow)).rejects.toMatchObject({
        code: "chain-refused",
        message: expect.stringContaining("--coin"),
      });
      // A parent below the relay minimum is taken by nobody, whatever its child pays.
      await fallInPrice(-1_100);
    }
    const hurried = await look(scene, { ...options, coin });
    expect(hurried.exits).toMatchObject([{ action: "bump" }]);
    const [plan] = hurried.exits;
    const feeratePerKw =
      ((plan!.feeSat + plan!.childFeeSat!) * 1000) / (weightOf(transaction) + weightOf(plan!.child!));
    expect(feeratePerKw).toBeGreaterThanOrEqual(5_000);
    expect(feeratePerKw).toBeLessThan(5_100);
    const child = (await carryOut(chain, hurried)).map(shownHash).pop();
    await bitcoind.mine(1);
    chain.close();
    expect((await look(scene, options)).exits).toMatchObject([{ action: "done" }]);
    const before = await ledger.unspentSat([changeScript(scene)]);
    const [sweep] = (await recoverAll(scene, { exits: [exit] })) as [string];
    const funding = (await ledger.transaction(txid)).vin[0]!.txid;
    let feesSat = 0;
    for (const each of [funding, txid, child!, sweep]) feesSat += await ledger.feeOf(each);
    const home = await ledger.unspentSat([homeScript(scene, car.deviceId)]);
    const change = COIN_SAT - (await ledger.feeOf(child!));
    expect(before).toBeGreaterThanOrEqual(change);
    process.stdout.write(
      `stuck, then hurried: ${DEPOSIT_SAT} + coin ${COIN_SAT} sat = ${home} home + ${change} change + 1001 bridge + 330 anchor + ${feesSat} fees, of which ${await ledger.feeOf(child!)} for hurrying\n`,
    );
    // Our own anchor came along; the bridge's is left.
    expect(home + change).toBe(DEPOSIT_SAT + COIN_SAT - Math.floor(paidMsat / 1000) - 330 - feesSat);
  });

  test("a reorg takes the exit out of the chain: the same command goes on from there", async () => {
    const { world } = scene;
    const { bitcoind } = world;
    const car = await carOf(scene, "reorganised", DEPOSIT_SAT);
    car.stop();
    const exit = exitOf(scene, car.deviceId);
    const chain = bitcoindChain(bitcoind.rpcOptions);
    await carryOut(chain, await look(scene, { exits: [exit] }));
    const [block] = await bitcoind.mine(1);
    expect((await look(scene, { exits: [exit] })).exits).toMatchObject([{ action: "done" }]);
    await bitcoind.rpc("invalidateblock", [block]);
    expect((await look(scene, { exits: [exit] })).exits).toMatchObject([{ action: "wait" }]);
    const [, sweep] = [null, ...(await recoverAll(scene, { exits: [exit] }))];
    chain.close();
    const { txid } = (await ledger.transaction(sweep!)).vin[0]!;
    const funding = (await ledger.transaction(txid)).vin[0]!.txid;
    const books = await booksOf(scene, car.deviceId, funding);
    expect(told("exit reorganised out and in again", DEPOSIT_SAT, books)).toBe(0);
    expect(books).toMatchObject({ bridgeSat: 0, anchorsSat: 330 });
  });

  test("the bridge is away until a payment expires: the gateway closes, with the exit that the device hands out", async () => {
    const { world } = scene;
    const { bitcoind } = world;
    const car = await carOf(scene, "bridge away", DEPOSIT_SAT);
    const { deviceId } = car;
    const paidMsat = await payTolls(scene, car, [1_000_000]);
    const { fundingTxid = "" } = await askStatus({ folder: world.ownerFolder, deviceId });
    const held = world.toll.hold();
    car.device.pay(world.toll.invoice(2_000_000), { maxFeeMsat: 5_000 }).catch(() => {});
    await held;
    await untilSilent(car);
    world.bridgeWire.cut();
    await waitFor("the gateway's close", async () => {
      await bitcoind.mine(3);
      await new Promise(resolve => setTimeout(resolve, 60));
      return (await bitcoind.rpc("gettxout", [fundingTxid, 0, true])) === null;
    });
    await bitcoind.mine(1);
    expect(car.device.balance().phase).toBe("exited");
    car.stop();
    // What timed out in our own commitment needs a coin for its fee, and only the owner has one.
    const exit = exitOf(scene, deviceId);
    const COIN_SAT = 40_000;
    const coin = await coinOf(scene, COIN_SAT);
    const published = await recoverAll(scene, { exits: [exit], coin });
    let feesSat =
      (await ledger.feeOf(fundingTxid)) + (await ledger.feeOf(shownHash(checkExit(exit).commitment.txid)));
    for (const each of published) feesSat += await ledger.feeOf(each);
    const home = await ledger.unspentSat([homeScript(scene, deviceId)]);
    const change = await ledger.unspentSat([changeScript(scene)]);
    process.stdout.write(`bridge away: ${DEPOSIT_SAT} sat = ${home} home, ${feesSat} fees\n`);
    expect(change).toBeGreaterThan(0);
    const claimFee = await feeWithCoin(published);
    expect(home).toBe(DEPOSIT_SAT - Math.floor(paidMsat / 1000) - 660 - (feesSat - claimFee));
    world.bridgeWire.mend();
  });
});

/** The fee of the transaction that a coin paid. */
async function feeWithCoin(txids: readonly string[]): Promise<number> {
  for (const txid of txids) {
    const { vin, vout } = await ledger.transaction(txid);
    if (vin.length === 2 && vout.length === 2) return ledger.feeOf(txid);
  }
  throw new Error("no coin paid a fee");
}

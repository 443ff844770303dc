/**
 * The bundle and the application for the board `espruino` in Espruino itself, built for Linux, against a real gateway,
 * bridge and destination. The engine is not fetched: LNGATE_ESPRUINO names the program that its `make BOARD=LINUX` gives.
 */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { memoryFlash } from "../../device/vault/memory-flash.ts";
import { openVault } from "../../device/vault/vault.ts";
import { makeKeyTable } from "../../owner/board/key-table.ts";
import { EspruinoBoard } from "../../scripts/engines/espruino.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { codeOf } from "../../src/errors.ts";
import { World, waitFor } from "../e2e/world.ts";

const engine = process.env["LNGATE_ESPRUINO"];
const PAGES = 16;
const PAGE_BYTES = 4096;
const DEPOSIT_SAT = 400_000;

if (engine === undefined) {
  process.stderr.write("Espruino is left out: LNGATE_ESPRUINO does not name its build for Linux.\n");
}

(engine === undefined ? describe.skip : describe)("a whole device in Espruino", () => {
  let world: World;
  let deviceId: string;
  let board: EspruinoBoard;

  async function powerOn(): Promise<void> {
    const ready = board.prints(/lngate: ready/);
    board.powerOn();
    await ready;
  }

  beforeAll(async () => {
    world = await World.start();
    await world.startGateway();
    deviceId = await world.makeDevice("car", { payments: 12, flashPages: PAGES });
    await world.deposit(deviceId, DEPOSIT_SAT);
    // Without a curve the board can't open a channel: it is opened at home.
    const atHome = await world.startCar(deviceId);
    await world.mineUntil(atHome.device.openChannel());
    atHome.stop();
    const vault = new Uint8Array(readFileSync(`${world.folderOf(deviceId)}/flash.bin`));
    board = new EspruinoBoard(engine!);
    await board.flash({
      lngate: readFileSync("dist/device/espruino/lngate.js", "utf8"),
      app: readFileSync("dist/device/espruino/app.js", "utf8"),
      keyTable: makeKeyTable(openVault(memoryFlash(PAGE_BYTES, PAGES, vault))),
      vault,
    });
    await powerOn();
  });

  afterAll(async () => {
    await board?.powerOff();
    board?.remove();
    await world?.stop();
  });

  async function pays(invoice: string) {
    const receipt = await board.pay(invoice, { maxFeeMsat: 5_000 });
    expect(toHex(sha256(fromHex(receipt.preimage)))).toBe(receipt.hash);
    expect(world.toll.timesPaid(receipt.hash)).toBe(1);
    return receipt;
  }

  test("pays three invoices", async () => {
    for (const amountMsat of [400_000, 1_000_000, 20_000]) {
      const receipt = await pays(world.toll.invoice(amountMsat));
      expect(receipt).toMatchObject({ amountMsat, feeMsat: 1_000 });
    }
    await waitFor("rest", () => board.isAtRest());
  });

  test("a payment that fails costs nothing", async () => {
    const before = await board.balance();
    const arrived = world.toll.hold();
    const refusal = board
      .pay(world.toll.invoice(500_000), { maxFeeMsat: 5_000 })
      .then(() => undefined, codeOf);
    await arrived;
    world.toll.failHeld();
    expect(await refusal).toMatch(/^payment-/);
    await waitFor("rest", () => board.isAtRest());
    expect((await board.balance()).balanceSat).toBe(before.balanceSat);
  });

  test("the power fails while a payment is with the payee: the device comes back to its receipt", async () => {
    const invoice = world.toll.invoice(450_000);
    const arrived = world.toll.hold();
    board.pay(invoice, { maxFeeMsat: 5_000 }).catch(() => {});
    await arrived;
    await board.powerOff();
    world.toll.claimHeld();
    await powerOn();
    await pays(invoice);
    await waitFor("rest", () => board.isAtRest());
  });

  test("closes the channel to the owner", async () => {
    const { balanceSat } = await board.balance();
    const { txid } = await world.mineUntil(board.close());
    const mine = (await world.minedTransaction(txid)).outputs.filter(
      ({ script }) => script === world.closeScript(deviceId),
    );
    expect(mine).toHaveLength(1);
    expect(balanceSat - mine[0]!.sat).toBeLessThan(3_000);
  });
});

/**
 * The application of the board `moddable`, as it is flashed, in the Moddable SDK's simulator against a real gateway,
 * bridge and destination: a reader hands it invoices over HTTP, and the owner closes the channel. Only where the SDK is.
 */

import { copyFileSync, cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { askClose, askStatus } from "../../owner/client/channel.ts";
import { buildForSimulator, findModdable, Simulator, startScreen } from "../../scripts/engines/moddable.ts";
import { curveSources, missingForCurve } from "../../scripts/engines/native-curve.ts";
import { reservePort } from "../../scripts/ports.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { World } from "../e2e/world.ts";

const DEPOSIT_SAT = 400_000;
const BOARD = "dist/device/moddable";
const found = findModdable();

/** The board's project as it is built without its native curve, or with it: mcconfig clones nothing, the library is here. */
async function makeProject(folder: string, isNative: boolean): Promise<void> {
  cpSync(BOARD, folder, { recursive: true });
  if (!isNative) {
    copyFileSync(join(BOARD, "manifest-javascript.json"), join(folder, "manifest.json"));
    return;
  }
  const { library } = await curveSources();
  const { modules } = JSON.parse(readFileSync(join(BOARD, "manifest.json"), "utf8"));
  modules["*"].push(join(library, "util"));
  writeFileSync(join(folder, "manifest.json"), JSON.stringify({ include: ["./common.json"], modules }));
}

if ("missing" in found) {
  test.skip(`the application in Moddable's simulator: ${found.missing}`, () => {});
} else {
  const curves: [name: string, isNative: boolean][] = [["in JavaScript", false]];
  if (missingForCurve() === null) curves.push(["in C", true]);
  describe.each(curves)("the application in Moddable's simulator, its curve %s", (_name, isNative) => {
    const { sdk } = found;
    let world: World;
    let deviceId: string;
    let port: number;
    let library: string;
    let screen: { readonly display: string; stop(): void };
    let board: Simulator;

    const powerOn = () => {
      board = new Simulator(sdk, library, screen.display);
    };

    beforeAll(async () => {
      world = await World.start();
      await world.startGateway();
      deviceId = await world.makeDevice("car", { payments: 12 });
      await world.deposit(deviceId, DEPOSIT_SAT);
      port = await reservePort();
      const project = join(world.folder, "board");
      await makeProject(project, isNative);
      library = await buildForSimulator({
        sdk,
        project,
        folder: join(world.folder, "moddable"),
        config: { flash: join(world.folderOf(deviceId), "flash.bin"), port: String(port) },
      });
      screen = await startScreen();
      powerOn();
    });

    afterAll(async () => {
      await board?.kill();
      screen?.stop();
      await world.stop();
    });

    /** As a reader does. */
    async function handOver(invoice: string): Promise<string> {
      const outcome = board.nextLine(/lngate: ready, (not )?paid/);
      const { status } = await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: invoice });
      expect(status).toBe(202);
      return outcome;
    }

    async function pays(invoice: string, amountMsat: number): Promise<void> {
      const line = await handOver(invoice);
      const [, amount, receipt] = /paid (\d+) msat in \d+ ms, receipt ([0-9a-f]{64})/.exec(line) ?? [];
      expect(Number(amount)).toBe(amountMsat);
      expect(world.toll.timesPaid(toHex(sha256(fromHex(receipt!))))).toBe(1);
    }

    test("opens a channel from the deposit", async () => {
      await world.mineUntil(board.nextLine(/lngate: ready, \d+ msat to spend/));
    });

    test("pays three invoices that a reader hands over", async () => {
      for (const amountMsat of [400_000, 1_000_000, 20_000]) {
        await pays(world.toll.invoice(amountMsat), amountMsat);
      }
    });

    test("says what it was handed that is no invoice, and takes nothing long", async () => {
      expect(await handOver("lnbcrt1nothing")).toMatch(/not paid: invoice-/);
      await expect(
        fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: "1".repeat(100_000) }),
      ).rejects.toThrow();
      expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(400);
    });

    test("a payment that fails costs nothing", async () => {
      const spendable = (line: string) => Number(/(\d+) msat to spend/.exec(line)![1]);
      const before = spendable(await handOver("no invoice"));
      const arrived = world.toll.hold();
      const outcome = handOver(world.toll.invoice(500_000));
      await arrived;
      world.toll.failHeld();
      const line = await outcome;
      expect(line).toMatch(/not paid: payment-/);
      expect(spendable(line)).toBe(before);
    });

    test("the power fails while a payment is with the payee: started again, it gives the receipt", async () => {
      const invoice = world.toll.invoice(450_000);
      const arrived = world.toll.hold();
      handOver(invoice).catch(() => {});
      await arrived;
      await board.kill();
      world.toll.claimHeld();
      powerOn();
      await board.nextLine(/lngate: ready/);
      await pays(invoice, 450_000);
    });

    test("the connection is cut: the board dials again", async () => {
      world.wire.cut();
      const invoice = world.toll.invoice(300_000);
      expect(await handOver(invoice)).toMatch(/not paid: gateway-unreachable/);
      world.wire.mend();
      while (/gateway-unreachable/.test(await handOver(invoice))) {
        await new Promise(resolve => setTimeout(resolve, 200));
      }
      await pays(invoice, 300_000);
    });

    test("the owner closes the channel", async () => {
      const owner = { folder: world.ownerFolder, deviceId };
      await askClose(owner);
      const closed = async () => {
        for (;;) {
          const { channel, closeTxid } = await askStatus(owner);
          if (channel === "closed") return closeTxid!;
          await new Promise(resolve => setTimeout(resolve, 100));
        }
      };
      const txid = await world.mineUntil(closed());
      const mine = (await world.minedTransaction(txid)).outputs.filter(
        ({ script }) => script === world.closeScript(deviceId),
      );
      expect(mine).toHaveLength(1);
    });
  });
}

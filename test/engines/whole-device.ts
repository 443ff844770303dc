/** What every engine has to show: a device's whole life, against a real gateway, bridge and destination. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type FileFlash, openFileFlash } from "../../device/boards/node/flash.ts";
import { ASK } from "../../scripts/engines/boards/questions.ts";
import type { EngineDevice, EngineOptions } from "../../scripts/engines/engine.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { codeOf } from "../../src/errors.ts";
import { World, waitFor } from "../e2e/world.ts";

const DEPOSIT_SAT = 400_000;

/** Starts an engine with the device's scripts loaded. */
export type StartEngine = (options: Pick<EngineOptions, "flash" | "onAsk">) => Promise<EngineDevice>;

/** `opensAtHome`: without a curve, the channel is opened on the owner's computer before the board gets its image. */
export function describeWholeDevice(engineName: string, startEngine: StartEngine, opensAtHome = false): void {
  describe(`a whole device in ${engineName}`, () => {
    let world: World;
    let deviceId: string;
    let flash: FileFlash;
    let device: EngineDevice;
    let onAsk: (what: number) => void = () => {};

    /** Power on: a new engine, which has nothing but the flash. */
    async function powerOn(): Promise<void> {
      flash = openFileFlash(world.folderOf(deviceId), { sync: false });
      device = await startEngine({ flash, onAsk: what => onAsk(what) });
      expect(await device.start()).toBe(deviceId);
      await device.connect();
    }

    async function powerOff(): Promise<void> {
      onAsk = () => {};
      await device.kill();
      flash.close();
    }

    beforeAll(async () => {
      world = await World.start();
      await world.startGateway();
      deviceId = await world.makeDevice("car", { payments: 12 });
      await world.deposit(deviceId, DEPOSIT_SAT);
      if (opensAtHome) {
        const atHome = await world.startCar(deviceId);
        await world.mineUntil(atHome.device.openChannel());
        atHome.stop();
      }
      await powerOn();
    });

    afterAll(async () => {
      await powerOff();
      await world.stop();
    });

    async function pays(invoice: string) {
      const receipt = await device.pay(invoice, { maxFeeMsat: 5_000 });
      expect(toHex(sha256(fromHex(receipt.preimage)))).toBe(receipt.hash);
      expect(world.toll.timesPaid(receipt.hash)).toBe(1);
      return receipt;
    }

    test("has a channel from the deposit", async () => {
      await world.mineUntil(device.openChannel());
      const { phase, balanceSat } = await device.balance();
      expect(phase).toBe("open");
      expect(balanceSat).toBeGreaterThan(DEPOSIT_SAT - 2_000);
    });

    test("pays three invoices", async () => {
      for (const amountMsat of [400_000, 1_000_000, 20_000]) {
        const receipt = await pays(world.toll.invoice(amountMsat));
        expect(receipt).toMatchObject({ amountMsat, feeMsat: amountMsat < 354_000 ? 5_000 : 1_000 });
      }
      await waitFor("rest", () => device.isAtRest());
    });

    test("a payment that fails costs nothing", async () => {
      const before = await device.balance();
      const arrived = world.toll.hold();
      const failing = device.pay(world.toll.invoice(500_000), { maxFeeMsat: 5_000 });
      const refusal = failing.then(() => undefined, codeOf);
      await arrived;
      world.toll.failHeld();
      expect(await refusal).toMatch(/^payment-/);
      await waitFor("rest", () => device.isAtRest());
      expect((await device.balance()).balanceSat).toBe(before.balanceSat);
    });

    test("the power fails while a payment is with the payee: the device comes back to its receipt", async () => {
      const invoice = world.toll.invoice(450_000);
      const arrived = world.toll.hold();
      device.pay(invoice, { maxFeeMsat: 5_000 }).catch(() => {});
      await arrived;
      await powerOff();
      world.toll.claimHeld();
      await powerOn();
      await pays(invoice);
      await waitFor("rest", () => device.isAtRest());
    });

    test.each([1, 2, 3, 4, 5, 6])("the power fails at flash operation %i of a payment", async operation => {
      const invoice = world.toll.invoice(400_000 + operation);
      let count = 0;
      const cut = new Promise<void>(resolve => {
        onAsk = what => {
          if ((what !== ASK.flashProgram && what !== ASK.flashErase) || ++count !== operation) return;
          void powerOff().then(resolve);
        };
      });
      device.pay(invoice, { maxFeeMsat: 5_000 }).catch(() => {});
      await cut;
      await powerOn();
      await pays(invoice);
      await waitFor("rest", () => device.isAtRest());
    });

    test("closes the channel to the owner", async () => {
      const { balanceSat } = await device.balance();
      const { txid } = await world.mineUntil(device.close());
      const mine = (await world.minedTransaction(txid)).outputs.filter(
        ({ script }) => script === world.closeScript(deviceId),
      );
      expect(mine).toHaveLength(1);
      expect(balanceSat - mine[0]!.sat).toBeLessThan(3_000);
    });
  });
}

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { askStatus } from "../../owner/client/channel.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import { type Car, untilAtRest, World, waitFor } from "./world.ts";

const TOLL_MSAT = 2_000_000;

describe("parts of the path go away and come back", () => {
  let world: World;
  let car: Car;
  let balanceSat: number;

  beforeAll(async () => {
    world = await World.start();
    await world.startGateway();
    const policy = { perHourMsat: 1e12, perDayMsat: 1e12 };
    car = await world.makeCar("car", 500_000, { payments: 60, policy });
  });

  afterAll(async () => {
    car?.stop();
    await world?.stop();
  });

  beforeEach(async () => {
    await waitFor("the connection", () => car.device.isConnected());
    await untilAtRest(car);
    balanceSat = car.device.balance().balanceSat;
  });

  const hashOf = (invoice: string) => toHex(decodeInvoice(invoice, nobleCurve).paymentHash);

  /** Paid once, with the same receipt whoever asks, and the channel still works. */
  async function expectPaidOnce(invoice: string): Promise<void> {
    const receipt = await car.device.pay(invoice);
    expect(receipt).toMatchObject({ hash: hashOf(invoice), amountMsat: TOLL_MSAT, feeMsat: 1000 });
    await untilAtRest(car);
    expect(await car.device.pay(invoice)).toEqual(receipt);
    expect(world.toll.timesPaid(receipt.hash)).toBe(1);
    const left = balanceSat - (TOLL_MSAT + 1000) / 1000;
    await waitFor("the balance", () => car.device.balance().balanceSat === left);
    await car.device.pay(world.toll.invoice(1000));
  }

  async function expectNothingPaid(invoice: string): Promise<void> {
    expect(world.toll.timesPaid(hashOf(invoice))).toBe(0);
    expect(car.device.balance().balanceSat).toBe(balanceSat);
    await car.device.pay(world.toll.invoice(1000));
  }

  async function restartCar(): Promise<void> {
    car.stop();
    car = await world.startCar(car.deviceId);
  }

  /** Begins to pay; resolves when the payment is with the toll company, which keeps it. */
  async function payUntilHeld(invoice: string): Promise<{ outcome: Promise<unknown> }> {
    const held = world.toll.hold();
    const outcome = car.device.pay(invoice).catch((error: Error) => error);
    await held;
    return { outcome };
  }

  describe("the gateway", () => {
    test("is away when a payment is asked for: nothing is authorised", async () => {
      await world.stopGateway();
      await waitFor("the end of the connection", () => !car.device.isConnected());
      const invoice = world.toll.invoice(TOLL_MSAT);
      const before = car.device.balance();
      await expect(car.device.pay(invoice)).rejects.toMatchObject({ code: "gateway-unreachable" });
      await expect(car.device.close()).rejects.toMatchObject({ code: "gateway-unreachable" });
      expect(car.device.balance()).toEqual(before);
      await world.startGateway();
      await restartCar();
      await expectNothingPaid(invoice);
      await untilAtRest(car);
      balanceSat = car.device.balance().balanceSat;
      await expectPaidOnce(invoice);
    });

    test("goes away in the middle of a payment and comes back: it is paid, once", async () => {
      const invoice = world.toll.invoice(TOLL_MSAT);
      const { outcome } = await payUntilHeld(invoice);
      await world.stopGateway();
      await world.startGateway();
      world.toll.claimHeld();
      expect(await outcome).toMatchObject({ hash: hashOf(invoice) });
      await expectPaidOnce(invoice);
    });

    test("is away while the payment arrives", async () => {
      const invoice = world.toll.invoice(TOLL_MSAT);
      const { outcome } = await payUntilHeld(invoice);
      await world.stopGateway();
      world.toll.claimHeld();
      await waitFor("the claim", () => world.toll.timesPaid(hashOf(invoice)) === 1);
      await world.startGateway();
      expect(await outcome).toMatchObject({ hash: hashOf(invoice) });
      await expectPaidOnce(invoice);
    });

    test("is away while the payment fails", async () => {
      const invoice = world.toll.invoice(TOLL_MSAT);
      const { outcome } = await payUntilHeld(invoice);
      await world.stopGateway();
      world.toll.failHeld();
      await world.startGateway();
      expect(await outcome).toMatchObject({ code: "payment-rejected" });
      await expectNothingPaid(invoice);
    });
  });

  describe("the device", () => {
    test("is away while its payment arrives", async () => {
      const invoice = world.toll.invoice(TOLL_MSAT);
      const { outcome } = await payUntilHeld(invoice);
      car.stop();
      expect(await outcome).toMatchObject({ code: "payment-pending" });
      world.toll.claimHeld();
      await waitFor("the claim", () => world.toll.timesPaid(hashOf(invoice)) === 1);
      car = await world.startCar(car.deviceId);
      await expectPaidOnce(invoice);
    });

    test("is away while its payment fails", async () => {
      const invoice = world.toll.invoice(TOLL_MSAT);
      await payUntilHeld(invoice);
      car.stop();
      world.toll.failHeld();
      car = await world.startCar(car.deviceId);
      await expect(car.device.pay(invoice)).rejects.toMatchObject({ code: "payment-rejected" });
      await expectNothingPaid(invoice);
    });

    test("is told apart from one that is away, as soon as it has gone and again when it is back", async () => {
      const online = async () =>
        (await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId })).online;
      await waitFor("the device to be called connected", online);
      car.stop();
      await waitFor("the device to be called away", async () => !(await online()));
      car = await world.startCar(car.deviceId);
      await waitFor("the device to be called connected", online);
    });

    test("does not wait for ever: the payment is pending, and asking again tells how it ended", async () => {
      const invoice = world.toll.invoice(TOLL_MSAT);
      const held = world.toll.hold();
      const impatient = car.device.pay(invoice, { timeoutMs: 1 });
      await expect(impatient).rejects.toMatchObject({ code: "payment-pending" });
      await held;
      world.toll.claimHeld();
      await expectPaidOnce(invoice);
    });

    test("is restarted at any message of a payment: it is paid, once", async () => {
      for (let at = 0, messages = 0; messages >= at; at++) {
        await untilAtRest(car);
        balanceSat = car.device.balance().balanceSat;
        const invoice = world.toll.invoice(TOLL_MSAT);
        messages = 0;
        const end = world.onLink(() => {
          if (messages++ === at) car.stop();
        });
        await car.device.pay(invoice).catch(() => {});
        end();
        car.stop();
        car = await world.startCar(car.deviceId);
        await expectPaidOnce(invoice);
      }
    });
  });

  test("the connection to the broker is cut at any message of a payment: it is paid, once", async () => {
    for (let at = 0; at < 6; at++) {
      await untilAtRest(car);
      balanceSat = car.device.balance().balanceSat;
      const invoice = world.toll.invoice(TOLL_MSAT);
      let messages = 0;
      const end = world.onLink(() => {
        if (messages++ !== at) return;
        world.wire.cut();
        world.wire.mend();
      });
      await car.device.pay(invoice);
      end();
      await expectPaidOnce(invoice);
      // A connection that is lost again and again is dialled less and less often.
      await restartCar();
    }
  });

  describe("the bridge", () => {
    test("is away when a payment is asked for, and back for the next", async () => {
      world.bridgeWire.cut();
      const invoice = world.toll.invoice(TOLL_MSAT);
      await expect(car.device.pay(invoice)).rejects.toMatchObject({ code: "bridge-unreachable" });
      world.bridgeWire.mend();
      await expectPaidOnce(invoice);
    });

    test("comes back while a payment waits for it", async () => {
      world.bridgeWire.cut();
      const invoice = world.toll.invoice(TOLL_MSAT);
      const paying = car.device.pay(invoice);
      world.bridgeWire.mend();
      await paying;
      await expectPaidOnce(invoice);
    });

    test("goes away in the middle of a payment and comes back", async () => {
      const invoice = world.toll.invoice(TOLL_MSAT);
      const { outcome } = await payUntilHeld(invoice);
      world.bridgeWire.cut();
      world.toll.claimHeld();
      await waitFor("the claim", () => world.toll.timesPaid(hashOf(invoice)) === 1);
      world.bridgeWire.mend();
      expect(await outcome).toMatchObject({ hash: hashOf(invoice) });
      await expectPaidOnce(invoice);
    });
  });

  describe("bitcoind", () => {
    test("goes away: payments go on, and the chain is followed again when it is back", async () => {
      await world.bitcoind.stop({ keep: true });
      await expectPaidOnce(await paidWithout(world.toll.invoice(TOLL_MSAT)));
      await world.bitcoind.restart();
      await world.bitcoind.mine(1);
      const height = await world.bitcoind.rpc<number>("getblockcount");
      await waitFor("the block", () =>
        world.log.some(line => line.includes(`chain: the chain is followed height=${height}`)),
      );
    });

    test("is away when the gateway starts: the device is let in as soon as it is there", async () => {
      await world.stopGateway();
      await world.bitcoind.stop({ keep: true });
      const starting = world.startGateway();
      await world.nextLine(/broker is open/);
      await restartCarLater();
      const invoice = world.toll.invoice(TOLL_MSAT);
      await expect(car.device.pay(invoice)).rejects.toMatchObject({ code: "gateway-unreachable" });
      await expect(askStatus({ folder: world.ownerFolder, deviceId: car.deviceId })).rejects.toMatchObject({
        code: "device-not-ready",
      });
      await world.bitcoind.restart();
      await starting;
      await car.device.connect();
      await expectPaidOnce(invoice);
    });
  });

  /** A payment made while bitcoind is away. */
  async function paidWithout(invoice: string): Promise<string> {
    await car.device.pay(invoice);
    return invoice;
  }

  /** A car that cannot connect yet. */
  async function restartCarLater(): Promise<void> {
    car.stop();
    car = world.openCar(car.deviceId);
    car.device.connect().catch(() => {});
  }
});

import { randomBytes } from "node:crypto";
import { type EventEmitter, once } from "node:events";
import { afterAll, beforeAll, describe, expect, jest, test } from "@jest/globals";
import mqtt from "mqtt";
import type { PayOptions, Receipt } from "../../device/api.ts";
import { contextOf } from "../../device/board-context.ts";
import { openDevice } from "../../device/device.ts";
import { LightningNode } from "../../gateway/lightning/node.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf } from "../../src/errors.ts";
import { encodeInvoice, type InvoiceFields } from "../../src/lightning/bolt11-write.ts";
import { type Car, untilAtRest, World, waitFor } from "./world.ts";

const BRIDGE_FEE_MSAT = 1000;
const random32 = () => new Uint8Array(randomBytes(32));

/** An invoice of somebody whom nobody knows. */
function strangersInvoice(fields: Partial<InvoiceFields> = {}, curve = nobleCurve): string {
  return encodeInvoice(
    {
      network: "regtest",
      amountMsat: 50_000,
      timestamp: Math.floor(Date.now() / 1000),
      paymentHash: random32(),
      paymentSecret: random32(),
      description: "toll",
      features: [8, 14],
      ...fields,
    },
    random32(),
    curve,
  );
}

describe("what cannot be paid is refused with a stable code, and costs nothing", () => {
  const DEPOSIT_SAT = 300_000;
  const HOUR_MSAT = 150_000_000;
  let world: World;
  let car: Car;

  beforeAll(async () => {
    world = await World.start();
    await world.startGateway();
    car = await world.makeCar("car", DEPOSIT_SAT, {
      payments: 30,
      policy: { perPaymentMsat: 100_000_000, perHourMsat: HOUR_MSAT, perDayMsat: 1e12 },
    });
  });

  afterAll(async () => {
    car?.stop();
    await world?.stop();
  });

  async function pay(
    invoice: string,
    options: PayOptions = {},
  ): Promise<Receipt | { code: string | undefined }> {
    try {
      return await car.device.pay(invoice, options);
    } catch (error) {
      return { code: codeOf(error) };
    }
  }

  /** What left the device while `work` went on. */
  async function sentDuring(work: () => Promise<unknown>): Promise<string[]> {
    const sent: string[] = [];
    const end = world.onLink(({ way, type }) => {
      if (way === "up") sent.push(type);
    });
    await work();
    end();
    return sent;
  }

  describe("before anything is sent", () => {
    test.each<[string, () => string, string]>([
      ["no invoice at all", () => "please", "invoice-malformed"],
      [
        "with a typing mistake",
        () => world.toll.invoice(1000).replace(/.$/, c => (c === "q" ? "p" : "q")),
        "invoice-malformed",
      ],
      ["that is cut off", () => world.toll.invoice(1000).slice(0, -10), "invoice-malformed"],
      ["of another network", () => strangersInvoice({ network: "mainnet" }), "invoice-wrong-network"],
      ["without an amount", () => world.toll.invoice(null), "invoice-amountless"],
      ["that has expired", () => strangersInvoice({ timestamp: 1_700_000_000 }), "invoice-expired"],
      ["over the owner's limit", () => world.toll.invoice(100_000_001), "policy-payment-limit"],
    ])("an invoice %s", async (_, invoice, code) => {
      const before = car.device.balance();
      const text = invoice();
      const sent = await sentDuring(async () => expect(await pay(text)).toEqual({ code }));
      expect(sent).toEqual([]);
      expect(car.device.balance()).toEqual(before);
    });

    test("a fee limit that is no number of millisatoshi", async () => {
      expect(await pay(world.toll.invoice(1000), { maxFeeMsat: -1 })).toEqual({ code: "bad-argument" });
      expect(await pay(world.toll.invoice(1000), { maxFeeMsat: 0.5 })).toEqual({ code: "bad-argument" });
    });
  });

  describe("by the network", () => {
    test.each<[string, () => string, PayOptions, string]>([
      ["a payee to whom no way is known", () => strangersInvoice(), {}, "no-route"],
      [
        "a fee limit below what the bridge takes",
        () => world.toll.invoice(50_000),
        { maxFeeMsat: BRIDGE_FEE_MSAT - 1 },
        "fee-limit-too-low",
      ],
    ])("%s", async (_, invoice, options, code) => {
      const before = car.device.balance();
      expect(await pay(invoice(), options)).toEqual({ code });
      expect(car.device.balance()).toEqual(before);
    });

    test.each([
      ["with an output of its own", 80_000_000],
      ["too small for one", 100_000],
    ])("a payee that does not take a payment %s; asked again, it may take it", async (_, amountMsat) => {
      await untilAtRest(car);
      const { balanceSat, spendableMsat } = car.device.balance();
      const invoice = world.toll.invoice(amountMsat);
      const held = world.toll.hold();
      const paying = pay(invoice);
      await held;
      expect(car.device.balance().spendableMsat).toBeLessThan(spendableMsat);
      world.toll.failHeld();
      expect(await paying).toEqual({ code: "payment-rejected" });
      await waitFor("the balance", () => car.device.balance().balanceSat === balanceSat);
      expect(car.device.balance().spendableMsat).toBe(spendableMsat);
      const again = await pay(invoice, { maxFeeMsat: BRIDGE_FEE_MSAT });
      expect(again).toMatchObject({ amountMsat, feeMsat: BRIDGE_FEE_MSAT });
    });

    test("a failed payment does not use up what the owner allows per hour", async () => {
      await untilAtRest(car);
      // More than half of what is left: twice would be too much.
      const amountMsat = 60_000_000;
      for (let i = 0; i < 3; i++) {
        expect(await pay(strangersInvoice({ amountMsat }))).toEqual({ code: "no-route" });
      }
      expect(await pay(world.toll.invoice(amountMsat))).toMatchObject({ amountMsat });
      expect(await pay(world.toll.invoice(amountMsat))).toEqual({ code: "policy-velocity" });
    });
  });
});

describe("what the gateway alone can see to be wrong it refuses by its name, and the device goes on", () => {
  let world: World;
  let car: Car;
  let channelSat: number;

  beforeAll(async () => {
    world = await World.start();
    await world.startGateway();
    car = await world.makeCar("no curve", 300_000, { payments: 20, policy: { perHourMsat: 1e12 } });
    channelSat = car.device.balance().balanceSat;
    car = withoutCurve(car);
    await car.device.connect();
  });

  afterAll(async () => {
    car?.stop();
    await world?.stop();
  });

  /** The same device on a board that can check no signature. */
  function withoutCurve(car: Car): Car {
    car.device.disconnect();
    const { board } = car;
    const device = openDevice({ ...board, curve: null, preparedKeys: contextOf(board) });
    const stop = () => {
      device.disconnect();
      car.stop();
    };
    return { ...car, device, stop };
  }

  const somebody = nobleCurve.publicKey(random32());
  const forged = () =>
    strangersInvoice(
      { nameThePayee: true },
      { ...nobleCurve, publicKey: () => somebody, recover: () => somebody },
    );

  test("an invoice that is signed by another key than it names: more of them than may be in flight, and then a good one", async () => {
    const before = car.device.balance();
    for (let i = 0; i < 10; i++)
      await expect(car.device.pay(forged())).rejects.toMatchObject({ code: "invoice-malformed" });
    expect(car.device.balance()).toEqual(before);
    expect(car.device.isAtRest()).toBe(true);
    await car.device.pay(world.toll.invoice(50_000));
    await untilAtRest(car);
  });

  test("an invoice on which the gateway fails itself; asked again, it pays", async () => {
    const invoice = world.toll.invoice(50_000);
    const failing = jest.spyOn(LightningNode.prototype, "pay").mockImplementationOnce(() => {
      throw new TypeError("a fault of the program");
    });
    await expect(car.device.pay(invoice)).rejects.toMatchObject({ code: "gateway-failed" });
    failing.mockRestore();
    await car.device.pay(invoice);
    await untilAtRest(car);
  });

  test("and after all of them the channel closes, and pays all but the tolls and the fees", async () => {
    const { txid } = await world.mineUntil(car.device.close());
    const { outputs, feeSat } = await world.minedTransaction(txid);
    // The bridge's tolls are too small for an output.
    expect(outputs).toEqual([{ script: world.closeScript(car.deviceId), sat: channelSat - feeSat }]);
    expect(feeSat).toBeLessThan(2_500);
  });
});

describe("who is refused at the broker", () => {
  test("is one warning in the gateway's log, and then a count", async () => {
    const world = await World.start();
    try {
      const { mqttPort } = await world.startGateway();
      for (let i = 0; i < 5; i++) {
        const client = mqtt.connect({
          host: "127.0.0.1",
          port: mqttPort!,
          username: "qqqqqqqq",
          password: "guessed",
          reconnectPeriod: 0,
        });
        const [error] = (await once(client as unknown as EventEmitter, "error")) as [Error];
        expect(error.message).toMatch(/not authorized/i);
        client.end(true);
      }
      await world.stopGateway();
      const lines = world.log.filter(line => line.includes("code=broker-login"));
      expect(lines).toEqual([
        expect.stringMatching(/ warn {2}gateway: refused code=broker-login subject=qqqqqqqq$/),
        expect.stringMatching(/ warn {2}gateway: refused code=broker-login subject=qqqqqqqq times=4$/),
      ]);
    } finally {
      await world.stop();
    }
  });
});

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { askStatus } from "../../owner/client/channel.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import { type Car, untilAtRest, World, waitFor } from "./world.ts";

/** What the bridge takes for forwarding: LDK's default. */
const BRIDGE_FEE_MSAT = 1000;
const MAX_FEE_MSAT = 5000;
/** Of a payment below the dust limit no commitment shows what it has cost: the receipt says what it may have. */
const toldFeeMsat = (amountMsat: number) => (amountMsat < 354_000 ? MAX_FEE_MSAT : BRIDGE_FEE_MSAT);

describe("a car pays tolls through an unmodified bridge", () => {
  const DEPOSIT_SAT = 500_000;
  let world: World;
  let car: Car;
  let paidMsat = 0;

  beforeAll(async () => {
    world = await World.start();
    await world.startGateway();
    car = await world.makeCar("car", DEPOSIT_SAT, { payments: 20 });
  });

  afterAll(async () => {
    car?.stop();
    await world?.stop();
  });

  test("the channel holds the deposit less the miners' fee", async () => {
    const report = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
    expect(report).toMatchObject({ channel: "ready", online: true, depositSat: 0 });
    const [channel] = (await world.minedTransaction(report.fundingTxid!)).outputs;
    expect(car.device.balance()).toMatchObject({ phase: "open", balanceSat: channel!.sat });
    expect(DEPOSIT_SAT - channel!.sat).toBeLessThan(1000);
  });

  test.each([
    ["of 1,000 sat", 1_000_000],
    ["of a number of msat that is no whole sat", 1_234_567],
    ["of the smallest amount that has an output of its own", 354_000],
    ["too small for an output of its own", 20_000],
    ["of one millisatoshi", 1],
  ])("a payment %s arrives, and the receipt is right", async (_, amountMsat) => {
    const before = car.device.balance().balanceSat;
    const invoice = world.toll.invoice(amountMsat);
    const receipt = await car.device.pay(invoice, { maxFeeMsat: MAX_FEE_MSAT });
    paidMsat += amountMsat + BRIDGE_FEE_MSAT;
    expect(receipt.hash).toBe(toHex(decodeInvoice(invoice, nobleCurve).paymentHash));
    expect(toHex(sha256(fromHex(receipt.preimage)))).toBe(receipt.hash);
    expect(receipt).toMatchObject({ amountMsat, feeMsat: toldFeeMsat(amountMsat) });
    const line = `info  car: paid amountMsat=${amountMsat} feeMsat=${BRIDGE_FEE_MSAT} ms=`;
    expect(world.log.filter(each => each.includes(line) && each.includes(receipt.hash))).toHaveLength(1);
    expect(world.toll.claimed.filter(({ hash }) => hash === receipt.hash)).toEqual([
      { hash: receipt.hash, amountMsat },
    ]);
    const left = before - (amountMsat + BRIDGE_FEE_MSAT) / 1000;
    // Rounded down in each commitment: to the satoshi, and never to what is not there.
    await waitFor("the balance", () => Math.abs(car.device.balance().balanceSat - left) < 1);
  });

  test("several payments at once all arrive", async () => {
    const amounts = [100_000, 700_000, 30_000, 555_000, 1_100_000];
    const receipts = await Promise.all(
      amounts.map(amountMsat => car.device.pay(world.toll.invoice(amountMsat), { maxFeeMsat: MAX_FEE_MSAT })),
    );
    for (const [i, receipt] of receipts.entries()) {
      expect(receipt).toMatchObject({ amountMsat: amounts[i], feeMsat: toldFeeMsat(amounts[i]!) });
      expect(world.toll.timesPaid(receipt.hash)).toBe(1);
      paidMsat += amounts[i]! + BRIDGE_FEE_MSAT;
    }
  });

  test("an invoice that is paid already gives the same receipt, and is not paid again", async () => {
    const invoice = world.toll.invoice(50_000);
    const [first, joined] = await Promise.all([car.device.pay(invoice), car.device.pay(invoice)]);
    expect(joined).toEqual(first);
    expect(await car.device.pay(invoice)).toEqual(first);
    paidMsat += 50_000 + BRIDGE_FEE_MSAT;
    await untilAtRest(car);
    car.stop();
    car = await world.startCar(car.deviceId);
    expect(await car.device.pay(invoice)).toEqual(first);
    expect(world.toll.timesPaid(first.hash)).toBe(1);
  });

  test("six messages lead to a receipt, with nothing in them that can wait; the bridge's last secret follows", async () => {
    const talk = () =>
      world.log.flatMap(line => {
        const found = / car: link way=(up|down) type=(\S+).* about="?(.*?)"?$/.exec(line);
        return found ? [`${found[1]} ${found[2]}: ${found[3]!.replace(/\d+/g, "#")}`] : [];
      });
    await untilAtRest(car);
    await waitFor("the last answer", () => talk().at(-1) === "up stepped: its exit is complete");
    for (let i = 0; i < 2; i++) {
      const before = talk().length;
      await car.device.pay(world.toll.invoice(400_000));
      paidMsat += 400_000 + BRIDGE_FEE_MSAT;
      await waitFor("the bridge's last secret", () =>
        talk().slice(before).includes("down step: bridge revoked #"),
      );
      await waitFor("its answer", () => talk().at(-1) === "up stepped: its exit is complete");
      const said = talk().slice(before);
      // The receipt alone, where the step that follows it was not ready within some milliseconds.
      const receipt = said.findIndex(each => each.includes("preimage"));
      expect(said.slice(0, receipt)).toEqual([
        "up pay: please pay this invoice",
        "down step: sign the bridge's state #",
        "up stepped: # half signature(s)",
        "down step: our state #, signed by the bridge",
        "up stepped: its exit is complete: old state revoked",
      ]);
      expect(said.slice(receipt).filter(each => each.includes("bridge revoked"))).toEqual([
        expect.stringMatching(
          /bridge revoked #; our state #, signed by the bridge; sign the bridge's state #$/,
        ),
        "down step: bridge revoked #",
      ]);
    }
  });

  test("the balance is right to the satoshi after all of them", async () => {
    const report = await askStatus({ folder: world.ownerFolder, deviceId: car.deviceId });
    const [channel] = (await world.minedTransaction(report.fundingTxid!)).outputs;
    const left = Math.floor(channel!.sat - paidMsat / 1000);
    await waitFor("the balance", () => car.device.balance().balanceSat === left);
  });
});

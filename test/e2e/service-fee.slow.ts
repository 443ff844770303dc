/** The service fee, from the toll to the operator's address: real nodes, and books that agree to the msat. */
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { feeNodeId, requestPayout } from "../../gateway/fees/payout-request.ts";
import { type FeeLedger, readFeeBooks } from "../../gateway/fees/service-fees.ts";
import { openStore } from "../../gateway/store/registry.ts";
import type { PeerChannel } from "../../scripts/peer/api.ts";
import { p2wpkh } from "../../src/bitcoin/script.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { type Car, untilAtRest, World, waitFor } from "./world.ts";

const TERMS = { ratePpm: 50_000, baseMsat: 0, settleFromMsat: 1_000_000, creditMsat: 2_000_000 };
/** The operator's. */
const PAYOUT = p2wpkh(nobleCurve.publicKey(new Uint8Array(32).fill(9)));
const POLICY = { perPaymentMsat: 50_000_000, perHourMsat: 500_000_000, perDayMsat: 500_000_000 };
const OWN_CHANNEL_SAT = 100_000;

let world: World;
let car: Car;
beforeAll(async () => {
  world = await World.start({ serviceFee: { terms: TERMS, payoutScript: PAYOUT } });
  await world.startGateway();
  car = await world.makeCar("car", 1_000_000, { payments: 60, policy: POLICY });
});
afterAll(async () => {
  car?.stop();
  await world?.stop();
});

/** What the gateway has stored, read beside it. */
function inStore<T>(read: (store: ReturnType<typeof openStore>) => T): T {
  const store = openStore(world.config.dataDir);
  try {
    return read(store);
  } finally {
    void store.close();
  }
}

function books(): FeeLedger {
  return inStore(store =>
    readFeeBooks(store.openDB<Uint8Array, string>({ name: "payments", encoding: "binary" }), car.deviceId),
  );
}

const owed = ({ earnedMsat, settledMsat }: FeeLedger) => earnedMsat - settledMsat;

/** The bridge's channel to the gateway's own node, from the bridge's side. */
function ownChannel() {
  const nodeId = inStore(feeNodeId);
  return world.bridge.channels().find(({ peer }) => peer === nodeId);
}

let paidMsat = 0;
let feesMsat = 0;
async function toll(amountMsat: number): Promise<void> {
  const invoice = world.toll.invoice(amountMsat);
  const quote = car.device.quote(invoice, { maxFeeMsat: 5_000 });
  expect(quote).toEqual({ amountMsat, maxFeeMsat: 5_000, serviceFeeMsat: Math.floor(amountMsat / 20) });
  const receipt = await car.device.pay(invoice, { maxFeeMsat: 5_000 });
  expect(receipt.serviceFeeMsat).toBe(quote.serviceFeeMsat);
  paidMsat += amountMsat + receipt.feeMsat;
  feesMsat += receipt.serviceFeeMsat;
}

/** What LDK keeps on each side of a channel and does not count as spendable, msat: a hundredth. */
const reserveMsat = ({ sat }: PeerChannel) => Math.floor(sat / 100) * 1000;

/** Both sides' books say the same; and paid is delivered plus routing plus service fees, in the bridge's channels too. */
async function expectSameBooks(): Promise<void> {
  await untilAtRest(car);
  await waitFor("the books to agree", () => owed(books()) === car.device.balance().owedMsat);
  const { earnedMsat, settledMsat, routingMsat } = books();
  expect(earnedMsat).toBe(feesMsat);
  expect(car.device.balance().owedMsat).toBe(feesMsat - settledMsat);
  // The bridge's last revocation may be on its way.
  const others = [world.toll.peer.nodeId, ownChannel()?.peer];
  const inCar = () => world.bridge.channels().find(({ peer }) => !others.includes(peer))!;
  await waitFor(
    "the bridge's balance in the car's channel",
    () => inCar().outboundMsat + reserveMsat(inCar()) === paidMsat + settledMsat,
  );
  const own = ownChannel();
  if (own) expect(own.inboundMsat + reserveMsat(own)).toBe(settledMsat - routingMsat);
}

describe("the service fee", () => {
  test("holds nobody up while the gateway's own node has no channel: what is owed stays owed", async () => {
    for (let i = 0; i < 4; i++) await toll(15_000_000 + i);
    await expectSameBooks();
    expect(car.device.balance().owedMsat).toBe(3_000_000);
    expect(books()).toMatchObject({ settledMsat: 0, settlements: 0 });
  });

  test("is settled as a whole once the bridge has opened a channel to the gateway's own node", async () => {
    const nodeId = fromHex(inStore(feeNodeId)!);
    // Connected already: the gateway's node calls the bridge.
    const opened = world.bridge.open({ nodeId, host: "127.0.0.1", port: 1 }, OWN_CHANNEL_SAT);
    await world.mineUntil(opened);
    await world.bitcoind.mine(1);
    await waitFor("the settlement", () => books().settlements === 1);
    await waitFor("the device to know", () => car.device.balance().owedMsat === 0);
    await expectSameBooks();
    // 3,000 sat, of which the bridge takes 1 for the way.
    expect(books()).toMatchObject({ earnedMsat: 3_000_000, settledMsat: 3_000_000, routingMsat: 1_000 });
  });

  test("is settled again and again, by itself, when it is worth a payment", async () => {
    for (let i = 0; i < 4; i++) await toll(6_000_000);
    await waitFor("the settlement", () => books().settlements === 2);
    await waitFor("the device to know", () => car.device.balance().owedMsat < TERMS.settleFromMsat);
    await expectSameBooks();
    expect(owed(books())).toBe(0);
  });

  test("survives a restart of the gateway and of the device between a payment and its settlement", async () => {
    await toll(19_000_000);
    await world.stopGateway();
    car.stop();
    await world.startGateway();
    car = await world.startCar(car.deviceId);
    expect(car.device.balance().owedMsat).toBe(950_000);
    await toll(3_000_000);
    await waitFor("the settlement", () => books().settlements === 3);
    await expectSameBooks();
    expect(car.device.balance().owedMsat).toBe(feesMsat - books().settledMsat);
  });

  // The gateway ends, as in a power cut, when one of these messages of a settlement has just left or arrived.
  test.each([
    ["is asked for", "settle", 1],
    ["is agreed to", "settling", 1],
    ["is signed on the bridge's side", "stepped", 1],
    ["is signed on the device's side", "stepped", 2],
    ["has arrived", "paid|step", 3],
  ])("survives the gateway's end when the settlement %s", async (_, types, count) => {
    let left: number | undefined;
    let stop = () => {};
    const stopped = new Promise<void>(resolve => {
      stop = () => void world.stopGateway().then(resolve);
    });
    const forget = world.onLink(({ type }) => {
      if (type === "settle") left = count;
      if (left === undefined || !new RegExp(`^(${types})$`).test(type)) return;
      if (--left === 0) stop();
    });
    const before = books().settlements;
    await toll(20_000_000);
    await stopped;
    forget();
    await world.startGateway();
    await waitFor("the settlement", () => books().settlements === before + 1);
    await expectSameBooks();
    expect(car.device.balance().owedMsat).toBe(0);
  });

  test("stops a device that does not settle, at the credit, until it does", async () => {
    // This one does not find it worth a payment, whatever was agreed on.
    const terms = car.board.vault.identity.serviceFee!;
    Object.assign(terms, { settleFromMsat: 1e12 });
    const before = books().settlements;
    for (let i = 0; owed(books()) < TERMS.creditMsat; i++) await toll(12_000_000 + i);
    const refused = world.nextLine(/the device does not settle its service fee: .* code=policy-service-fee/);
    await world.bitcoind.mine(1);
    await refused;
    const invoice = world.toll.invoice(1_000_000);
    await expect(car.device.pay(invoice)).rejects.toMatchObject({ code: "service-fee-due" });
    expect(world.toll.claimed.filter(({ amountMsat }) => amountMsat === 1_000_000)).toEqual([]);
    Object.assign(terms, TERMS);
    await world.bitcoind.mine(1);
    await waitFor("the settlement", () => books().settlements === before + 1);
    await toll(1_000_000);
    await expectSameBooks();
  });

  test("comes to the operator's address when the operator wants it, to the satoshi", async () => {
    await expectSameBooks();
    const { settledMsat, routingMsat } = books();
    const receivedSat = Math.floor((settledMsat - routingMsat) / 1000);
    inStore(requestPayout);
    const coins = async () => {
      const { unspents } = await world.bitcoind.rpc<{ unspents: { txid: string; amount: number }[] }>(
        "scantxoutset",
        ["start", [`raw(${toHex(PAYOUT)})`]],
      );
      return unspents;
    };
    await waitFor("the coins", async () => {
      await world.bitcoind.mine(1);
      await new Promise(resolve => setTimeout(resolve, 100));
      return (await coins()).length > 0;
    });
    const [coin] = await coins();
    const { feeSat } = await world.minedTransaction(coin!.txid);
    expect(Math.round(coin!.amount * 1e8) + feeSat).toBe(receivedSat);
  });
});

import { createHash } from "node:crypto";
import { type AddressInfo, createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, jest, test } from "@jest/globals";
import { PeerSockets } from "../../gateway/lightning/peers/sockets.ts";
import type { Paid, PeerChannel } from "../../scripts/peer/api.ts";
import type { PlainPeer } from "../../scripts/peer/plain-peer.ts";
import { reservePort } from "../../scripts/ports.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf } from "../../src/errors.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import { pause, until, World } from "./world.ts";

let world: World;
let car: PlainPeer;
let bridge: PlainPeer;
let toll: PlainPeer;
let first: PeerChannel;
let second: PeerChannel;

beforeAll(async () => {
  world = await World.start();
  [car, bridge, toll] = [await world.peer("car"), await world.peer("bridge"), await world.peer("toll")];
  first = await world.open(car, bridge, 1_000_000, 200_000);
  second = await world.open(bridge, toll, 1_000_000, 100_000);
});
afterAll(() => world?.stop());

const sha256 = (hex: string) => createHash("sha256").update(fromHex(hex)).digest("hex");

async function unspent(txid: string): Promise<boolean> {
  return (await world.bitcoind.rpc("gettxout", [txid, 0, true])) !== null;
}

async function walletOutputs(txid: string): Promise<number> {
  const { amount } = await world.bitcoind.rpc<{ amount: number }>("gettransaction", [txid]);
  return Math.round(amount * 1e8);
}

async function payAtLast(invoice: string): Promise<Paid> {
  for (let left = 40; ; left--) {
    try {
      return await car.pay(invoice);
    } catch (error) {
      const refusedForNow = ["payment-failed", "no-route"].includes(codeOf(error) ?? "");
      if (!refusedForNow || left === 0) throw error;
      await pause(100);
    }
  }
}

describe("three plain nodes", () => {
  test("a channel has anchors, and its funding was signed last", async () => {
    expect([first.anchors, second.anchors, first.announced]).toEqual([true, true, false]);
    expect(await unspent(first.funding!.split(":")[0]!)).toBe(true);
  });

  test("a payment over two hops brings the preimage, and the bridge its fee", async () => {
    const invoice = toll.invoice(50_000, "toll");
    const paid = await car.pay(invoice);
    expect(sha256(paid.preimage)).toBe(paid.hash);
    expect(paid.hash).toBe(toHex(decodeInvoice(invoice, nobleCurve).paymentHash));
    expect(paid.feeMsat).toBe(1000);
    await until(() => toll.claimedMsat().get(paid.hash) === 50_000, "the claim");
    await until(() => world.events("bridge", "forwarded").some(each => each.feeMsat === 1000), "the fee");
  });

  test("an invoice says how to get there and is dated by the clock, not by the last block", async () => {
    const { routeHints, timestamp, expirySeconds } = decodeInvoice(
      toll.invoice(1_000, "toll", 600),
      nobleCurve,
    );
    expect(routeHints.length).toBeGreaterThan(0);
    const left = timestamp + expirySeconds - Date.now() / 1000;
    expect(Math.abs(left - 600)).toBeLessThan(30);
  });

  test("an invoice is paid once, however often it is asked for", async () => {
    const invoice = toll.invoice(7_000, "toll");
    const paid = await car.pay(invoice);
    const again = await car.pay(invoice);
    expect(again).toEqual({ ...paid, ms: 0 });
    expect(world.events("toll", "claimed").filter(each => each.hash === paid.hash)).toHaveLength(1);
  });

  test("no way within the fee limit, or too little money, is refused by code and nothing is sent", async () => {
    await expect(car.pay(toll.invoice(5_000, "toll"), 10)).rejects.toMatchObject({
      code: "fee-limit-too-low",
    });
    await expect(car.pay(toll.invoice(900_000_000, "toll"))).rejects.toMatchObject({
      code: "balance-too-low",
    });
  });

  test("many payments at once all end, in both directions", async () => {
    const there = Array.from({ length: 8 }, (_, i) => car.pay(toll.invoice(1_000_000 + i, "toll")));
    const back = Array.from({ length: 4 }, (_, i) => toll.pay(car.invoice(2_000_000 + i, "back")));
    const paid = await Promise.all([...there, ...back]);
    expect(new Set(paid.map(each => each.hash)).size).toBe(12);
  });
});

describe("restarts", () => {
  test("each of the three may stop in the middle of a payment and start again from its store", async () => {
    for (const who of ["car", "bridge", "toll"] as const) {
      const invoice = toll.invoice(60_000, who);
      const hash = toHex(decodeInvoice(invoice, nobleCurve).paymentHash);
      const paying = car.pay(invoice).catch(() => {});
      await pause(30);
      if (who === "car") {
        await world.end(car);
        car = await world.peer("car");
      } else if (who === "bridge") {
        await world.end(bridge);
        bridge = await world.peer("bridge");
        await paying;
      } else {
        await world.end(toll);
        toll = await world.peer("toll");
        await paying;
      }
      // A bridge that has just come back may refuse at first: then the same invoice is paid again.
      expect((await payAtLast(invoice)).hash).toBe(hash);
      await until(() => world.events("toll", "claimed").some(each => each.hash === hash), "the claim");
      expect(world.events("toll", "claimed").filter(each => each.hash === hash)).toHaveLength(1);
    }
    for (const name of ["car", "bridge", "toll"]) expect(world.events(name, "channel-closed")).toEqual([]);
  });

  test("a node that slept through blocks is brought forward and pays again", async () => {
    await world.end(car);
    await world.mine(30);
    car = await world.peer("car");
    await until(() => car.channels().every(each => each.usable), "the channel after the sleep");
    expect((await car.pay(toll.invoice(9_000, "toll"))).feeMsat).toBe(1000);
  });
});

describe("the chain's troubles", () => {
  test("a reorg above the channels' funding changes nothing for them", async () => {
    const [tip = ""] = await world.bitcoind.mine(1);
    await world.chain.follower.sync();
    await world.bitcoind.rpc("invalidateblock", [tip]);
    await world.chain.follower.sync();
    await world.mine(3);
    expect((await car.pay(toll.invoice(11_000, "toll"))).feeMsat).toBe(1000);
    expect(car.channels().every(each => each.usable)).toBe(true);
  });

  test("payments go on while bitcoind is away, and a channel opens when it is back", async () => {
    await world.bitcoind.stop({ keep: true });
    expect((await car.pay(toll.invoice(12_000, "toll"))).feeMsat).toBe(1000);
    await world.bitcoind.restart();
    const third = await world.open(car, bridge, 500_000);
    expect(third.anchors).toBe(true);
    await until(() => world.lines.some(line => line.includes("bitcoind does not answer")), "a word about it");
    car.close(third.channelId);
    await until(() => car.channels().length === 1, "the third channel to close");
  });
});

describe("closing", () => {
  test("a mutual close is confirmed, and both sides get their money", async () => {
    const [carSwept, bridgeSwept] = [
      world.events("car", "swept").length,
      world.events("bridge", "swept").length,
    ];
    const fundingTxid = first.funding!.split(":")[0]!;
    car.close(first.channelId);
    await until(async () => !(await unspent(fundingTxid)), "the closing transaction");
    await world.mine(7);
    // The third channel's close is swept here too.
    await until(() => world.events("car", "swept").length >= carSwept + 2, "the car's sweeps");
    await until(() => world.events("bridge", "swept").length > bridgeSwept, "the bridge's sweep");
    expect(car.channels()).toEqual([]);
    const { reason } = world.events("car", "channel-closed").at(-1)!;
    expect(reason).toBe("LocallyInitiatedCooperativeClosure");
    const sweeps = world.events("car", "swept").map(each => walletOutputs(each.txid));
    const swept = Math.max(...(await Promise.all(sweeps)));
    // 800,000 sat to begin with, and what was paid both ways.
    expect(swept).toBeGreaterThan(780_000);
    expect(swept).toBeLessThan(800_000 + 8_000);
  });

  test("after a forced close both sides get theirs, the closer after the delay", async () => {
    const [bridgeSwept, tollSwept] = [
      world.events("bridge", "swept").length,
      world.events("toll", "swept").length,
    ];
    const fundingTxid = second.funding!.split(":")[0]!;
    bridge.close(second.channelId, true);
    await until(async () => !(await unspent(fundingTxid)), "the commitment transaction");
    await world.mine(8);
    await until(() => world.events("toll", "swept").length > tollSwept, "the toll company's sweep");
    expect(world.events("bridge", "swept")).toHaveLength(bridgeSwept);
    await world.mine(150);
    await until(() => world.events("bridge", "swept").length > bridgeSwept, "the bridge's sweep");
    expect(world.events("bridge", "channel-closed").at(-1)!.reason).toBe("HolderForceClosed");
  });
});

test("a contact that breaks off each connection is told once, with its words, and called more rarely", async () => {
  const [caller, moody] = [await world.peer("patient"), await world.peer("moody")];
  let breaks = 0;
  const moods = setInterval(() => {
    if (!moody.node.isConnected(caller.node.nodeId)) return;
    breaks++;
    moody.node.hangUp(caller.node.nodeId);
  }, 50);
  const told = () => world.lines.filter(line => line.includes("breaks off again and again"));
  caller.node.keepConnected(moody.address);
  await until(() => told().length > 0, "a word about it", 60_000);
  const before = breaks;
  await until(() => breaks >= before + 2, "two more calls", 60_000);
  clearInterval(moods);
  expect(told()).toEqual([expect.stringMatching(/warn .*patient: .*code=peer-breaks-off/)]);
  await until(() => moody.node.isConnected(caller.node.nodeId), "a call that lasts", 60_000);
  for (const peer of [caller, moody]) await world.end(peer);
});

test("a contact that takes the call and breaks off the handshake is told as one trouble, however often it is tried", async () => {
  const [caller, gone] = [await world.peer("caller"), await world.peer("gone")];
  const { port } = gone;
  await caller.connect(gone.address);
  await world.end(gone);
  // In its place somebody who does not know its key.
  let calls = 0;
  const stranger = createServer(socket => {
    calls++;
    socket.on("error", () => {}).destroy();
  });
  await new Promise<void>(resolve => stranger.listen(port, "127.0.0.1", resolve));
  await until(() => calls >= 3, "some calls", 60_000);
  const told = world.lines.filter(line => line.includes(`:${port} breaks off the handshake`));
  expect(told).toEqual([expect.stringMatching(/warn .*caller: .*code=peer-unreachable/)]);
  await world.end(caller);
  stranger.close();
});

test("who takes the call and breaks off the handshake is called no more often than who takes none", async () => {
  const caller = await world.peer("patient caller");
  const calls = jest.spyOn(PeerSockets.prototype, "connect");
  const server = createServer(socket => void socket.on("error", () => {}).destroy());
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  const breaking = (server.address() as AddressInfo).port;
  const silent = await reservePort();
  const [one, other] = [toll.node.nodeId, bridge.node.nodeId];
  caller.node.keepConnected({ nodeId: one, host: "127.0.0.1", port: breaking });
  caller.node.keepConnected({ nodeId: other, host: "127.0.0.1", port: silent });
  const callsTo = (port: number) => calls.mock.calls.filter(each => each[2] === port).length;
  await until(() => callsTo(silent) >= 4, "calls in vain");
  const called = callsTo(breaking);
  calls.mockRestore();
  await world.end(caller);
  server.close();
  expect(called).toBeGreaterThan(1);
  expect(called).toBeLessThanOrEqual(5);
});

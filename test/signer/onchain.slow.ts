import { afterEach, describe, expect, test } from "@jest/globals";
import * as ldk from "lightningdevkit";
import {
  parseTransaction,
  type Transaction,
  transactionBytes,
  txidOf,
} from "../../src/bitcoin/transaction.ts";
import { equal, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { type HtlcClaim, htlcClaim } from "./htlc-claim.ts";
import { until, wait } from "./node.ts";
import { OWNER_SCRIPT, World } from "./world.ts";

let world: World;

afterEach(() => world?.stop());

async function start(seed: string): Promise<void> {
  world = await World.start(seed);
  await world.startNode();
  await world.openChannel();
  world.calls.length = 0;
}

/** A payment that hangs at the shop. */
async function payAndHang(amountMsat: number): Promise<Uint8Array> {
  world.shop.holdIncoming = true;
  const before = world.shop.incoming.length;
  const hash = world.startPayment(amountMsat);
  await until("the payment hangs", () => world.shop.incoming.length > before);
  await until("nothing is asked", () => world.book.wants().every(part => part.kind === "revocation"));
  return hash;
}

const callsOf = (name: string) => world.calls.filter(call => call.startsWith(name));

async function isConfirmed(transaction: Transaction): Promise<boolean> {
  const txid = toHex(txidOf(transaction).slice().reverse());
  return (await world.chain.rpc<{ confirmations?: number } | null>("gettxout", [txid, 0])) !== null;
}

/** Mines until something is true, and says how many blocks that took. */
async function mineUntil(what: string, most: number, condition: () => unknown): Promise<void> {
  for (let mined = 0; !condition(); mined += 5) {
    if (mined > most) throw new Error(`mined in vain: ${what}`);
    await world.mine(5);
    await wait(10);
  }
}

function forceClose(): void {
  const { node, bridge } = world;
  const details = node.channelWith(bridge.id)!;
  node.manager.force_close_broadcasting_latest_txn(details.get_channel_id(), bridge.id, "test");
  node.pump();
}

/** Adds a coin of the wallet's that pays the fee, and publishes. */
async function payFeeAndPublish(claim: HtlcClaim): Promise<Transaction> {
  const { chain, node } = world;
  type Coin = { txid: string; vout: number; amount: number; scriptPubKey: string };
  const [coin] = await chain.rpc<Coin[]>("listunspent", [1]);
  const change = { valueSat: Math.round(coin!.amount * 1e8) - 2000, script: fromHex(coin!.scriptPubKey) };
  const unsigned: Transaction = {
    version: 2,
    inputs: [claim.input, { txid: fromHex(coin!.txid).reverse(), vout: coin!.vout, sequence: 0xfffffffd }],
    outputs: [claim.output, change],
    locktime: claim.locktime,
  };
  const { hex } = await chain.rpc<{ hex: string }>("signrawtransactionwithwallet", [
    toHex(transactionBytes(unsigned)),
  ]);
  const signed = parseTransaction(fromHex(hex));
  const [, fee] = signed.inputs;
  const final = { ...unsigned, inputs: [claim.input, fee!] };
  await node.broadcastTransaction(transactionBytes(final));
  return final;
}

describe("a force close", () => {
  test("waits for the device, and its HTLC comes back by a claim that anyone may pay for", async () => {
    await start("force");
    const { node, device } = world;
    const hash = await payAndHang(60_000_000);
    const descriptors: ldk.HTLCDescriptor[] = [];
    node.onEvent = event => {
      if (!(event instanceof ldk.Event_BumpTransaction)) return;
      const bump = event.bump_transaction;
      if (bump instanceof ldk.BumpTransactionEvent_HTLCResolution) descriptors.push(...bump.htlc_descriptors);
    };

    // A connected bridge publishes its own commitment as soon as it hears of the close.
    world.bridge.mute = true;
    device.silent = true;
    const published = node.broadcast.length;
    forceClose();
    await until("the exit is asked for", () => callsOf("sign_holder").length > 0);
    await wait(30);
    expect(world.book.exitAsked).toBe(true);
    expect(node.broadcast.length).toBe(published);

    // Not even a restart makes it forget.
    await until("stored", () => node.stored?.books.size === 1);
    node.kill();
    await wait(20);
    await world.startNode();
    const again = world.node;
    again.onEvent = node.onEvent;
    device.silent = false;
    world.signer.askAgain(world.channel.keysId);
    await until("the commitment is published", () => again.broadcast.length > 0);
    expect(callsOf("sign_holder")[0]).toMatch(/err$/);
    expect(device.asked.flat()).toContain(`exit/${world.book.holderNumber}`);
    await wait(20);
    await world.mine(1);
    const commitment = parseTransaction(fromHex(again.broadcast[0]!));
    expect(await isConfirmed(commitment)).toBe(true);
    // Whatever happens now, no state is signed or revoked any more.
    expect(world.book.wants().filter(part => part.kind === "holder" || part.kind === "counterparty")).toEqual(
      [],
    );

    world.shop.fail(hash);
    await mineUntil("the HTLC can be claimed", 250, () => descriptors.length > 0);
    expect(htlcClaim(world.signer, descriptors[0]!)).toBe(null);
    await until("the device has signed", () => htlcClaim(world.signer, descriptors[0]!));
    const claim = htlcClaim(world.signer, descriptors[0]!)!;
    expect(equal(claim.input.txid, txidOf(commitment))).toBe(true);
    const final = await payFeeAndPublish(claim);
    const asked = device.asked.length;
    await world.mine(1);
    expect(await isConfirmed(final)).toBe(true);
    await mineUntil("LDK has seen it buried", 20, () => again.has("failed", hash));
    // Asked with every block, signed once.
    expect(device.asked.length).toBe(asked);
    expect(world.problems).toEqual([]);
  });

  test("by the bridge: the device claims its timed-out HTLC from the bridge's commitment", async () => {
    await start("bridge-force");
    const { node, bridge, shop } = world;
    const hash = await payAndHang(70_000_000);
    const details = bridge.channelWith(node.id)!;
    bridge.manager.force_close_broadcasting_latest_txn(details.get_channel_id(), node.id, "test");
    bridge.pump();
    await until("the node has noticed", () => node.closed.length > 0);
    await wait(20);
    await world.mine(1);
    shop.fail(hash);
    await mineUntil("the HTLC's claim is asked for", 250, () => callsOf("sign_counterparty-htlc").length > 0);
    expect(callsOf("sign_counterparty-htlc")[0]).toMatch(/err$/);
    await until("answered", () => callsOf("sign_counterparty-htlc").some(call => call.endsWith("ok")));
    await until("published", () => node.broadcast.length > 0);
    await wait(20);
    await mineUntil("LDK has seen it buried", 20, () => node.has("failed", hash));
    const claims = node.broadcast.map(hex => parseTransaction(fromHex(hex)));
    expect(claims.some(claim => equal(claim.outputs[0]!.script, OWNER_SCRIPT))).toBe(true);
    expect(world.problems).toEqual([]);
  });

  test("with a revoked state: the device's revocation key takes everything for the owner", async () => {
    await start("justice");
    const { node } = world;
    for (let i = 0; i < 3; i++) await world.pay(90_000_000);
    const hash = await payAndHang(80_000_000);
    await wait(20);
    const past = world.bridge.stored!;
    world.shop.claim(world.shop.incoming.find(each => equal(each.hash, hash))!.preimage!);
    world.shop.pump();
    await until("paid", () => node.has("sent", hash));
    await world.rest();
    world.shop.holdIncoming = false;
    await world.pay(1_000_000);

    await world.bridgeFromThePast(past);
    const details = world.bridge.channelWith(node.id)!;
    world.bridge.manager.force_close_broadcasting_latest_txn(details.get_channel_id(), node.id, "test");
    world.bridge.pump();
    await until("the old state is published", () => world.bridge.broadcast.length > 0);
    await wait(20);
    await world.mine(1);
    await until("justice is asked for", () => callsOf("sign_justice").length > 0);
    expect(callsOf("sign_justice-output")[0]).toMatch(/err$/);
    expect(callsOf("sign_justice-htlc")[0]).toMatch(/err$/);
    await until("answered", () => node.broadcast.length > 0);
    await wait(20);
    await world.mine(1);
    const { total_amount } = await world.chain.rpc<{ total_amount: number }>("scantxoutset", [
      "start",
      [`raw(${toHex(OWNER_SCRIPT)})`],
    ]);
    // What the bridge had, and the HTLC, less the fee of the justice transactions.
    expect(total_amount * 1e8).toBeGreaterThan(340_000);
    expect(world.problems).toEqual([]);
  });
});

describe("a channel without anchors", () => {
  test("is refused before anything is asked of the device", async () => {
    world = await World.start("static", false);
    await world.startNode();
    await expect(world.openChannel(500)).rejects.toThrow("LDK calls it safe to fund");
    expect(world.book.refusal).toBe("policy-channel-parameters");
    expect(world.problems.map(problem => problem.code)).toEqual(["policy-channel-parameters"]);
    expect(world.device.asked).toEqual([]);
    expect(callsOf("sign_counterparty").every(call => call.endsWith("err"))).toBe(true);
  });
});

/** What happens in a channel's life, each with the power failing in the middle, and how it must end. */
import { toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import { Violation } from "../device/audit.ts";
import type { Plan, World } from "./world.ts";

const BRIDGE_FEE_MSAT = 1000;

function must(holds: unknown, what: string): asserts holds {
  if (!holds) throw new Violation(what);
}

/** A payment of 1,000 sat that arrives, once, whatever fails. */
export async function pays(world: World, plans: readonly Plan[]): Promise<void> {
  const { street, car } = world;
  const amountMsat = 1_000_000;
  const before = car.device.balance().balanceSat;
  const invoice = street.toll.invoice(amountMsat, "toll");
  const { paymentHash } = decodeInvoice(invoice, nobleCurve);
  const hash = toHex(paymentHash);
  world.planCuts(plans);
  const paid = await world.insist("the payment", () => car.device.pay(invoice, { maxFeeMsat: 5000 }));
  must("value" in paid, `the payment failed: ${"failure" in paid && paid.failure}`);
  await world.untilQuiet();
  const times = street.claimed.filter(each => each === hash).length;
  must(times === 1, `the toll company was paid ${times} times`);
  const { balanceSat } = car.device.balance();
  const left = before - (amountMsat + BRIDGE_FEE_MSAT) / 1000;
  must(balanceSat === left, `the balance is ${balanceSat} and not ${left} sat`);
  await world.checkOpen();
}

/** A payment that the payee refuses: nothing is paid, and all of the money is free again. */
export async function isRefused(world: World, plans: readonly Plan[]): Promise<void> {
  const { street, car } = world;
  const before = car.device.balance();
  const invoice = street.toll.invoice(2_000_000, "refused");
  const hash = toHex(decodeInvoice(invoice, nobleCurve).paymentHash);
  street.refused.add(hash);
  world.planCuts(plans);
  const paid = await world.insist("the refusal", () => car.device.pay(invoice, { maxFeeMsat: 5000 }));
  must("failure" in paid, "the payment was refused by the payee, and yet it was paid");
  await world.untilQuiet();
  must(!street.claimed.includes(hash), "the payee has taken what it refuses");
  const { balanceSat, spendableMsat } = car.device.balance();
  must(balanceSat === before.balanceSat, `the balance is ${balanceSat} and not ${before.balanceSat} sat`);
  must(spendableMsat === before.spendableMsat, "not all of the balance can be spent");
  await world.checkOpen();
}

/** A new feerate for the commitments, which both take over. */
export async function changesFeerate(world: World, plans: readonly Plan[]): Promise<void> {
  const feerate = () => world.car.readOut().state.holder?.view.feeratePerKw;
  // In one step: it never more than doubles, and LDK bothers about less only when that is half or less.
  const wanted = feerate() === 1000 ? 2000 : 1000;
  world.planCuts(plans);
  world.changeFeerate(wanted);
  let [looks, next] = [0, 1];
  await world.until("the new feerate", async () => {
    if (feerate() === wanted && world.car.readOut().state.counterparty?.view.feeratePerKw === wanted)
      return true;
    // LDK's clock ticks once a minute: here it is hurried. But with the second tick for which the bridge owes an answer LDK
    // hangs up: so it gets twice as long for each, which is enough in the end however busy the machine is.
    if (++looks < next || !world.node?.channels()[0]?.get_is_usable()) return false;
    next = 2 * looks;
    world.changeFeerate(wanted);
    return false;
  });
  await world.untilQuiet();
  await world.checkOpen();
}

/** From the deposit to a channel that can be used. */
export async function opens(world: World, plans: readonly Plan[]): Promise<void> {
  world.planCuts(plans);
  const opened = world.insist("the channel", () => world.car.device.openChannel().then(() => true));
  const result = await world.street.mineUntil(opened);
  must("value" in result, `no channel: ${"failure" in result && result.failure}`);
  await world.untilQuiet();
  await world.checkOpen();
  const { channel } = world.gateway.status();
  must(channel === "ready", `the gateway says ${channel}`);
}

/** A mutual close: the owner's money arrives at the owner's address, in one transaction without a delay. */
export async function closes(world: World, plans: readonly Plan[]): Promise<void> {
  const { car, street } = world;
  const { balanceSat } = car.device.balance();
  world.planCuts(plans);
  const closed = world.insist("the close", async () => {
    // A device that lost its power meanwhile may have heard of the end before anybody asked it again.
    const { closeTxid } = world.gateway.status();
    if (closeTxid && car.device.balance().phase === "none")
      return { txid: toHex(closeTxid.slice().reverse()) };
    return car.device.close();
  });
  const result = await street.mineUntil(closed);
  must("value" in result, `not closed: ${"failure" in result && result.failure}`);
  const { txid } = result.value;
  const script = toHex(car.identity.shutdownScript);
  const output = await street.bitcoind.rpc<{ value: number; scriptPubKey: { hex: string } } | null>(
    "gettxout",
    [txid, 0],
  );
  const second = await street.bitcoind.rpc<typeof output>("gettxout", [txid, 1]);
  const ours = [output, second].find(each => each?.scriptPubKey.hex === script);
  must(ours, "the close does not pay the owner");
  const sat = Math.round(ours.value * 1e8);
  must(balanceSat - sat < 5000, `the close pays ${sat} of ${balanceSat} sat`);
  world.checkCloses();
  await world.until("the books to be closed", () => car.isOn && car.device.balance().phase === "none");
}

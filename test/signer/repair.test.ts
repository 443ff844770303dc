import { createHash } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { withoutPendingClaims } from "../../gateway/lightning/manager-repair.ts";
import { type Stored, TestNode, until } from "./node.ts";
import { World } from "./world.ts";

let world: World;

beforeAll(async () => {
  world = await World.start("repair");
});

afterAll(() => world?.stop());

/** What the shop has stored each time, with and without its manager's pending claims. */
async function storedDuringPayment(): Promise<Stored[]> {
  const stored: Stored[] = [];
  world.shop.onStore = each => stored.push(each);
  // The bridge pays the shop over their common channel; the claim is completed only after it is stored.
  world.shop.completeClaimsAtOnce = false;
  const invoice = world.shop.invoice(5_000_000);
  const channel = world.bridge.scidWith(world.shop.id);
  world.bridge.pay(invoice, [{ to: world.shop.id, channel, feeMsat: 5_000_000, cltvDelta: 30 }]);
  await until(
    "paid",
    () => world.bridge.has("sent", invoice.hash) && world.shop.has("claimed", invoice.hash),
  );
  await until(
    "settled",
    () => world.shop.channelWith(world.bridge.id)!.get_pending_inbound_htlcs().length === 0,
  );
  world.shop.onStore = () => {};
  return stored;
}

const startFrom = (stored: Stored) =>
  TestNode.start({
    name: "again",
    chain: world.chain,
    seed: new Uint8Array(createHash("sha256").update("repair/shop").digest()),
    stored,
    mute: true,
  });

test("a manager stored in the middle of a claim is read once its half of the claim is taken out", async () => {
  const stored = await storedDuringPayment();
  let repaired = 0;
  for (const each of stored) {
    const node = await startFrom(each);
    expect(node.repaired).toBe(withoutPendingClaims(each.manager) !== null);
    if (node.repaired) {
      repaired++;
      // LDK finds the claim in the monitor, and says again that it is done.
      await until("claimed", () => node.claimed.length === 1);
    }
    node.kill();
  }
  expect(repaired).toBeGreaterThan(0);
});

test("what is no manager stays as it is", () => {
  for (const bytes of [new Uint8Array(0), new Uint8Array(100), new Uint8Array([2, 1, 0])]) {
    expect(withoutPendingClaims(bytes)).toBe(null);
  }
});

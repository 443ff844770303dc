import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { until, wait } from "./node.ts";
import { World } from "./world.ts";

const STEPS = Number(process.env["SIGNER_STRESS_STEPS"] ?? 30);
const SEED = process.env["SIGNER_STRESS_SEED"] ?? "1";

let world: World;

beforeAll(async () => {
  world = await World.start("stress");
  await world.startNode();
  await world.openChannel();
  for (let i = 0; i < 2; i++) await world.pay(80_000_000);
});

afterAll(() => world?.stop());

/** A linear congruential generator: the same steps for the same seed. */
function generator(seed: string): (below: number) => number {
  let state = Number(seed) * 2654435761 + 12345;
  return below => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor((state / 2147483648) * below);
  };
}

test("payments both ways, feerates, cuts, kills and a moody device, all at once, never cost the channel", async () => {
  const pick = generator(SEED);
  const { device, shop } = world;
  const outgoing: Uint8Array[] = [];
  const steps: Record<string, () => Promise<void> | void> = {
    pay: () => {
      if (world.usable()) outgoing.push(world.startPayment(100_000 + pick(3_000_000)));
    },
    payAgain: () => steps["pay"]!(),
    receive: () => {
      if (world.usable() && world.bridge.isUsable(shop.id))
        world.startInboundPayment(100_000 + pick(2_000_000));
    },
    changeFeerate: () => {
      world.node.feerate = 1000 + 100 * pick(4);
      world.node.tick();
    },
    cut: () => world.reconnect(),
    kill: () => world.restartNode(),
    silence: async () => {
      device.silent = true;
      await wait(pick(40));
      device.silent = false;
      world.signer.askAgain(world.channel.keysId);
    },
    slowStore: async () => {
      world.node.holdStore = true;
      await wait(pick(30));
      world.node.holdStore = false;
      world.node.pump();
    },
    slowDevice: () => {
      device.delayMs = pick(25);
    },
    failing: () => {
      shop.failIncoming = pick(3) === 0;
    },
  };
  const names = Object.keys(steps);
  for (let i = 0; i < STEPS; i++) {
    await steps[names[pick(names.length)]!]!();
    await wait(pick(30));
    expect(world.node.closed).toEqual([]);
    expect(world.problems).toEqual([]);
  }
  shop.failIncoming = false;
  device.delayMs = 2;
  await until("usable again", () => world.usable());
  world.signer.askAgain(world.channel.keysId);
  await world.rest();
  // A last payment shows that everything still moves.
  await world.pay(1_000_000);
  expect(world.bridge.closed).toEqual([]);
  expect(world.problems).toEqual([]);
  expect(outgoing.length).toBeGreaterThan(0);
});

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { World } from "./world.ts";

let world: World;

beforeAll(async () => {
  world = await World.start("payments");
});

afterAll(() => world?.stop());

test("a channel is opened by an asynchronous signer, the funding signature last", async () => {
  await world.startNode();
  await world.openChannel();
  console.log(world.calls.join("\n"), world.device.asked, world.problems);
  expect(world.problems).toEqual([]);
});

test("a payment", async () => {
  world.calls.length = 0;
  world.device.asked.length = 0;
  await world.pay(50_000_000);
  console.log(world.calls.join("\n"), world.device.asked, world.problems);
});

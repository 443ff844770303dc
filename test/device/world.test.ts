import { describe, expect, test } from "@jest/globals";
import { LIFE, World } from "./world.ts";

describe("a device, an honest gateway and an honest bridge", () => {
  test("open a channel, pay, fail, change the feerate, refuse an HTLC and close", () => {
    const world = new World().live(LIFE);
    console.log(world.outcome(), world.box.operations + world.box.flash.operations(), world.box.effects, world.box.state.books);
    expect(world.peer.problems).toEqual([]);
  });
});

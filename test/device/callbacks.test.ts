/** No message makes the device's own callbacks throw: on Node the process would end, a board would restart. */
import { expect, test } from "@jest/globals";
import { Host } from "./host.ts";
import { bridgeSecret } from "./peer.ts";
import { Rig } from "./rig.ts";

test("a next point of the bridge's that is none is borne in idle time", () => {
  const rig = new Rig().open();
  rig.step({ counterparty: rig.counterparty(rig.view()) });
  const revoked = { number: 0, secret: bridgeSecret(0), nextPoint: new Uint8Array(33).fill(5) };
  let image = rig.box.flash.image();
  for (let boot = 0; boot < 3; boot++) {
    const host = new Host(image);
    expect(host.device.isConnected()).toBe(true);
    host.say({ type: "step", id: 1, revoked });
    host.pass(100);
    expect(host.heard.at(-1)).toEqual({ type: "stepped", id: 1 });
    expect(host.crashes).toEqual([]);
    image = host.flash.image();
  }
});

test("a gateway that acknowledges nothing may ask as often as it likes", () => {
  const host = new Host(new Rig().open().box.flash.image(), true);
  expect(host.device.isConnected()).toBe(true);
  for (let id = 1; id <= 60; id++) {
    host.say({ type: "step", id });
    host.pass(1);
  }
  expect(host.crashes).toEqual([]);
  expect(host.device.isConnected()).toBe(true);
});

/** `connect()` resolves whenever the device is connected, whatever was before. */
import { expect, test } from "@jest/globals";
import { Host } from "./host.ts";
import { Rig } from "./rig.ts";

const opened = () => new Host(new Rig().open().box.flash.image());

/** Whether the promise of `connect()` has been kept after this. */
async function connects(host: Host, meanwhile: () => void): Promise<boolean> {
  let isKept = false;
  void host.device.connect().then(() => {
    isKept = true;
  });
  meanwhile();
  await Promise.resolve();
  return isKept && host.device.isConnected();
}

test("connect() after disconnect() resolves, each time, with a session of its own", async () => {
  const host = opened();
  for (let time = 2; time <= 4; time++) {
    await host.device.disconnect();
    expect(host.device.isConnected()).toBe(false);
    expect(await connects(host, () => host.pass(10))).toBe(true);
    // In each session the device says first how far it is: what it was told and lost is said again.
    expect(host.heard.filter(({ type }) => type === "hello")).toHaveLength(time);
  }
});

test("connect() while the broker is away resolves when it is back, with the session of before", async () => {
  const host = opened();
  host.lose();
  expect(host.device.isConnected()).toBe(false);
  expect(await connects(host, () => host.regain())).toBe(true);
  expect(host.heard.filter(({ type }) => type === "hello")).toHaveLength(1);
});

test("connect() that is given up by disconnect() says so, and the next one resolves", async () => {
  const host = opened();
  host.lose();
  const given = host.device.connect();
  await host.device.disconnect();
  await expect(given).rejects.toMatchObject({ code: "gateway-unreachable" });
  expect(await connects(host, () => host.pass(10))).toBe(true);
});

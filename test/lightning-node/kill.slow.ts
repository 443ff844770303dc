import { createHash } from "node:crypto";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { build } from "esbuild";
import { type Regtest, startRegtest } from "../../scripts/bitcoind.ts";
import type { Paid, PeerEvent } from "../../scripts/peer/api.ts";
import { PeerProcess } from "../../scripts/peer/process.ts";
import { fromHex } from "../../src/bytes/bytes.ts";
import { codeOf } from "../../src/errors.ts";
import { pause, until } from "./world.ts";

const KILLS = 6;
/** Inside the project, so that the bundle finds its packages. */
const PROGRAM = join(process.cwd(), `node_modules/.cache/lngate/peer-${process.pid}.mjs`);

let bitcoind: Regtest;
let car: PeerProcess;
let bridge: PeerProcess;
let toll: PeerProcess;
const told: { name: string; event: PeerEvent }[] = [];

function start(name: string): Promise<PeerProcess> {
  return PeerProcess.start({
    name,
    dataDir: join(bitcoind.dataDir, "peers", name),
    rpc: bitcoind.rpcOptions,
    command: [process.execPath, PROGRAM],
    args: ["--log", "error"],
    onEvent: event => told.push({ name, event }),
  });
}

beforeAll(async () => {
  mkdirSync(join(PROGRAM, ".."), { recursive: true });
  await build({
    entryPoints: ["scripts/peer/main.ts"],
    outfile: PROGRAM,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    packages: "external",
    logLevel: "error",
  });
  bitcoind = await startRegtest();
  [car, bridge, toll] = await Promise.all([start("car"), start("bridge"), start("toll")]);
  const opened = Promise.all([
    car.open({ peer: bridge.address, sat: 1_000_000 }),
    bridge.open({ peer: toll.address, sat: 1_000_000 }),
  ]);
  let open = false;
  void opened.finally(() => {
    open = true;
  });
  while (!open) {
    await bitcoind.mine(1);
    await pause(100);
  }
  await until(async () => (await toll.channels()).some(each => each.usable), "the toll company's channel");
});
afterAll(async () => {
  for (const peer of [car, bridge, toll]) await peer?.stop();
  await bitcoind?.stop();
  rmSync(PROGRAM, { force: true });
});

/** Asks until it is paid: a payer that was away may find the way closed at first. */
async function payAtLast(invoice: string): Promise<Paid> {
  for (let left = 40; ; left--) {
    try {
      return await car.pay(invoice);
    } catch (error) {
      const refusedForNow = ["payment-failed", "no-route", "channel-not-ready"].includes(codeOf(error) ?? "");
      if (!refusedForNow || left === 0) throw error;
      await pause(100);
    }
  }
}

test(`a payer killed ${KILLS} times in the middle of payments pays each once, and no channel is closed`, async () => {
  const amounts = new Map<string, number>();
  const undisturbed = await car.pay(await toll.invoice(999_999, "undisturbed"));
  amounts.set(undisturbed.hash, 999_999);
  let killedInTheMiddle = 0;
  for (let round = 0; round < KILLS; round++) {
    const amountMsat = 1_000_000 + round;
    const invoice = await toll.invoice(amountMsat, `toll ${round}`);
    let ended = false;
    const paying = car.pay(invoice).then(
      () => {
        ended = true;
      },
      () => {},
    );
    await pause(Math.random() * undisturbed.ms);
    if (!ended) killedInTheMiddle++;
    await car.kill();
    await paying;
    car = await start("car");
    const paid = await payAtLast(invoice);
    expect(createHash("sha256").update(fromHex(paid.preimage)).digest("hex")).toBe(paid.hash);
    amounts.set(paid.hash, amountMsat);
  }
  expect(killedInTheMiddle).toBeGreaterThan(0);
  await until(async () => Object.keys(await toll.claimed()).length === KILLS + 1, "all claims");
  expect(new Map(Object.entries(await toll.claimed()))).toEqual(amounts);
  const claims = told.filter(each => each.event.event === "claimed");
  expect(claims).toHaveLength(KILLS + 1);
  expect(told.filter(each => each.event.event === "channel-closed")).toEqual([]);
  // What the payer has left says the same: everything was paid once, with the bridge's fee.
  const spent = [...amounts.values()].reduce((sum, each) => sum + each + 1000, 0);
  const [channel] = await car.channels();
  expect(channel!.sat * 1000 - 10_000_000 - channel!.outboundMsat).toBe(spent);
});

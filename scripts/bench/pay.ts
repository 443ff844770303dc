/**
 * A payment of ours against one of an ordinary LDK node: same bridge, same destination, same store, same machine, each
 * in processes of their own, taken in turns so that the machine's moods meet both alike.
 */
import { execFileSync } from "node:child_process";
import { atRest, type BridgeKind, Stage } from "../local-network.ts";
import type { Figures } from "./figures.ts";

const PAYMENTS = 50;
const WARM_UP = 3;
/** Above the dust limit, so the HTLC has outputs and signatures of its own. */
const AMOUNT_MSAT = 365_000;
const DEVICES = 10;

const progress = (text: string) => void process.stderr.write(`${text}\n`);
const median = (values: number[]) =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

/** Medians in milliseconds, traffic a payment, memory of the gateway. */
export async function benchPay(bridge: BridgeKind): Promise<Figures> {
  const stage = new Stage();
  try {
    return await measure(stage, bridge);
  } finally {
    await stage.stop();
  }
}

async function measure(stage: Stage, bridge: BridgeKind): Promise<Figures> {
  progress("starting bitcoind, bridge, destination, gateway and the stock payer …");
  await stage.startChain();
  await stage.startPeers(10_000_000, bridge);
  await stage.startGateway();
  const stock = await stage.startPeer("stock");
  await stage.mineUntil(stock.open({ peer: stage.bridge.address, sat: 1_000_000 }));
  const deviceId = await stage.pair("car", "--max-hour", "50000");
  progress(`charging the device for ${PAYMENTS + WARM_UP} payments …`);
  await stage.charge(deviceId, PAYMENTS + WARM_UP + 5);
  await stage.deposit(deviceId, 1_000_000);
  const device = await stage.startDevice(deviceId);

  const ours: number[] = [];
  const theirs: number[] = [];
  let messagesBeforeReceipt = 0;
  let from = await atRest(device);
  for (let i = 0; i < PAYMENTS + WARM_UP; i++) {
    if (i === WARM_UP) from = await atRest(device);
    const before = await device.ask("traffic");
    const mine = await device.ask(`pay ${await stage.toll.invoice(AMOUNT_MSAT, "toll")}`);
    const other = await stock.pay(await stage.toll.invoice(AMOUNT_MSAT, "toll"));
    if (i < WARM_UP) continue;
    ours.push(Number(mine["ms"]));
    const after = await device.ask("traffic");
    messagesBeforeReceipt +=
      Number(after["messagesAtReceipt"]) - Number(before["messagesUp"]) - Number(before["messagesDown"]);
    theirs.push(other.ms);
    if (i % 10 === 0) progress(`payment ${i}: ${mine["ms"]} ms, stock ${Math.round(other.ms)} ms`);
  }
  const to = await atRest(device);
  const per = (name: string) => (Number(to[name]) - Number(from[name])) / PAYMENTS;

  const oneDeviceMb = await restartedRssMb(stage);
  progress(`pairing ${DEVICES - 1} more devices for the memory figures …`);
  for (let i = 1; i < DEVICES; i++) await stage.pair(`car ${i}`);
  const tenDevicesMb = await restartedRssMb(stage);

  const payMs = median(ours);
  const stockLdkMs = median(theirs);
  return {
    payMs: round(payMs),
    stockLdkMs: round(stockLdkMs),
    ratio: round(payMs / stockLdkMs),
    bytesUp: round(per("bytesUp")),
    bytesDown: round(per("bytesDown")),
    bytes: round(per("bytesUp") + per("bytesDown")),
    messages: round(per("messagesUp") + per("messagesDown")),
    messagesBeforeReceipt: round(messagesBeforeReceipt / PAYMENTS),
    gatewayRssMb: round(tenDevicesMb),
    rssPerDeviceMb: round((tenDevicesMb - oneDeviceMb) / (DEVICES - 1)),
  };
}

/** Of a gateway that has just started from its store and settled, the least of a few: the rest is garbage to come. */
async function restartedRssMb(stage: Stage): Promise<number> {
  const seen: number[] = [];
  for (let i = 0; i < 4; i++) {
    await stage.restartGateway();
    await new Promise(resolve => setTimeout(resolve, 3_000));
    seen.push(rssMb(stage.gateway.pid));
  }
  return Math.min(...seen);
}

function rssMb(pid: number): number {
  return Number(execFileSync("ps", ["-o", "rss=", "-p", String(pid)], { encoding: "utf8" })) / 1024;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

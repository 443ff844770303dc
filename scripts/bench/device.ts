/**
 * What a payment costs the device: the bundle for microcontrollers in the real XS engine, against a real gateway, bridge
 * and destination. XS counts its work in computrons, which repeat whatever else the machine does; hashes, cipher and
 * flash, native on a board, are counted apart, and so is the curve; what comes before the receipt is, too.
 */
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { memoryFlash } from "../../device/vault/memory-flash.ts";
import { deviceFolder } from "../../owner/folder/folder.ts";
import type { EngineWork } from "../engines/engine.ts";
import { ensureXsnap } from "../engines/install.ts";
import { missingForCurve } from "../engines/native-curve.ts";
import { type CurveWork, startXs, type XsDevice } from "../engines/xs.ts";
import { Stage } from "../local-network.ts";
import { averageWork, chipFigures, type Work, workBetween, workOf } from "./chip.ts";
import type { Figures } from "./figures.ts";
import { countInstructions } from "./instructions.ts";

const PAYMENTS = 5;
const WARM_UP = 1;
/** Until all that follows a payment is done, preparation for the next one too. */
const REST_MS = 2_000;
/** Above the dust limit: the HTLC has outputs and signatures of its own. */
const AMOUNT_MSAT = 365_000;
const PRELUDE = "scripts/engines/boards/xs-prelude.js";

const say = (text: string) => void process.stderr.write(`${text}\n`);
const sleep = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));

/** Needs what `npm run build:device` makes. */
export async function benchDevice(): Promise<Figures> {
  const worker = await ensureXsnap();
  const signing = await nobleSign(worker);
  say("the native curve's instructions …");
  const counted = missingForCurve() === null ? await countInstructions() : null;
  const stage = new Stage();
  try {
    const xs = await measure(stage, worker);
    const perPayment = xs["xs.computronsPerPayment"] as number;
    return {
      ...xs,
      ...signing,
      "xs.paymentToNobleSign": Number((perPayment / signing["xs.nobleSignComputrons"]!).toFixed(3)),
      ...(counted === null ? {} : { "nativeCurve.esp32c3": counted }),
      "bundles.moddableBytes": statSync("dist/device/moddable/lngate.js").size,
      "bundles.moddableWithoutCurveBytes": statSync("dist/device/measured/moddable-without-curve.js").size,
      "bundles.espruinoBytes": statSync("dist/device/espruino/lngate.js").size,
    };
  } finally {
    await stage.stop();
  }
}

/** One signature of the library, its table of the base point made before. */
async function nobleSign(worker: string): Promise<Record<"xs.nobleSignComputrons", number>> {
  say("one signature of @noble/secp256k1 …");
  const { outputFiles } = await build({
    stdin: {
      contents: `
        import * as noble from "@noble/secp256k1";
        import { hmac } from "@noble/hashes/hmac.js";
        import { sha256 } from "@noble/hashes/sha2.js";
        noble.hashes.sha256 = sha256;
        noble.hashes.hmacSha256 = (key, message) => hmac(sha256, key, message);
        const key = new Uint8Array(32).fill(7);
        globalThis.sign = () => noble.sign(new Uint8Array(32).fill(9), key, { prehash: false });`,
      resolveDir: process.cwd(),
    },
    bundle: true,
    write: false,
    minify: true,
    target: "es2022",
    format: "iife",
  });
  const folder = mkdtempSync(join(tmpdir(), "lngate-noble-"));
  const script = join(folder, "noble.js");
  writeFileSync(script, outputFiles[0]!.text);
  const engine = await startXs(worker, { scripts: [script], flash: memoryFlash(4096, 1) });
  try {
    await engine.evaluate("sign()");
    return { "xs.nobleSignComputrons": await engine.evaluate("sign()") };
  } finally {
    await engine.kill();
    rmSync(folder, { recursive: true });
  }
}

async function measure(stage: Stage, worker: string): Promise<Figures> {
  say("starting bitcoind, bridge, destination and gateway …");
  await stage.startChain();
  await stage.startPeers();
  await stage.startGateway();
  const deviceId = await stage.pair("car");
  await stage.charge(deviceId, PAYMENTS + WARM_UP + 4);
  await stage.deposit(deviceId, 500_000);
  const flash = openFileFlash(deviceFolder(stage.owner, deviceId), { sync: false });
  const device = await startXs(worker, { scripts: [PRELUDE, "dist/device/engines/xs.js"], flash });
  try {
    const empty = await device.emptyMachine();
    const loaded = await device.watchMemory();
    await device.start();
    await device.connect();
    await stage.mineUntil(device.openChannel());
    for (let i = 0; i < WARM_UP; i++) await payAndRest(stage, device);
    const rest = await device.watchMemory();
    say("a payment under the eye of the garbage collector …");
    await payAndRest(stage, device);
    const peak = await device.memorySeen();

    say(`${PAYMENTS} payments …`);
    const before: EngineWork = { ...device.work };
    const curveBefore = await device.curveWork();
    const untilReceipt: Work[] = [];
    const afterReceipt: Work[] = [];
    for (let i = 0; i < PAYMENTS; i++) {
      const parts = await measuredPayment(stage, device);
      untilReceipt.push(parts.until);
      afterReceipt.push(parts.after);
    }
    const until = averageWork(untilReceipt);
    const after = averageWork(afterReceipt);
    const curve = await device.curveWork();
    const calls = (work: CurveWork) =>
      work.publicKey + work.isPoint + work.add + work.combine + work.verify + work.recover;
    const each = (name: keyof EngineWork) => Math.round((device.work[name] - before[name]) / PAYMENTS);
    return {
      "xs.computronsPerPayment": Math.round(until.computrons + after.computrons),
      "xs.exitCheck.computronsPerPayment": Math.round((curve.computrons - curveBefore.computrons) / PAYMENTS),
      "xs.exitCheck.curveCallsPerPayment": (calls(curve) - calls(curveBefore)) / PAYMENTS,
      "xs.codeSlots": loaded.slots - empty.slots,
      "xs.codeChunkBytes": loaded.chunkBytes - empty.chunkBytes,
      "xs.slotsAtRest": rest.slots - loaded.slots,
      "xs.slotsPeak": peak.slots - loaded.slots,
      "xs.chunkBytesAtRest": rest.chunkBytes - loaded.chunkBytes,
      "xs.chunkBytesPeak": peak.chunkBytes - loaded.chunkBytes,
      hashesPerPayment: each("hashes"),
      hashedBytesPerPayment: each("hashedBytes"),
      cipheredBytesPerPayment: each("cipheredBytes"),
      flashWritesPerPayment: each("flashWrites"),
      flashBytesPerPayment: each("flashBytes"),
      flashErasesPerPayment: (device.work.flashErases - before.flashErases) / PAYMENTS,
      messagesUpPerPayment: each("messages"),
      "moddable.untilReceipt": chipFigures(until),
      "moddable.afterReceipt": chipFigures(after),
    };
  } finally {
    await device.kill();
    flash.close();
  }
}

/** Pays, and waits without asking anything: a question would be counted as work. */
async function payAndRest(stage: Stage, device: XsDevice): Promise<void> {
  await device.pay(await stage.toll.invoice(AMOUNT_MSAT, "toll"), { maxFeeMsat: 5_000 });
  await sleep(REST_MS);
}

/** The work of a payment until the application has its receipt, and from there until all is at rest. */
async function measuredPayment(stage: Stage, device: XsDevice): Promise<{ until: Work; after: Work }> {
  const invoice = await stage.toll.invoice(AMOUNT_MSAT, "toll");
  const curveAtStart = await device.curveWork();
  // The turn that answered ends.
  await sleep(100);
  const start = workOf({ ...device.work }, curveAtStart);
  await device.pay(invoice, { maxFeeMsat: 5_000 });
  // The engine waits for an answer to its report here: the counters stand still, but for the turn that has not ended.
  const engine = { ...device.work };
  await sleep(REST_MS);
  const end = { ...device.work };
  const { turnComputrons, curve } = await device.workAtReceipt();
  const receipt = workOf({ ...engine, computrons: engine.computrons + turnComputrons }, curve);
  return {
    until: workBetween(start, receipt),
    after: workBetween(receipt, workOf(end, await device.curveWork())),
  };
}

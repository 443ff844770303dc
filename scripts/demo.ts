/**
 * `npm run demo`: a car pays tolls. Everything is real and a process of its own: bitcoind on regtest, a bridge and a
 * toll company on plain LDK, the gateway, the owner's commands, and the car. `--json` ends with one line of JSON.
 */
import { parseArgs } from "node:util";
import { atRest, Stage } from "./local-network.ts";
import type { Line } from "./program.ts";

const TOLLS_MSAT = [1_500_000, 250_000, 25_000, 2_100_000];
const DEPOSIT_SAT = 200_000;
const PAYMENTS = 12;

const { values } = parseArgs({ options: { json: { type: "boolean" } } });
const say = (text = "") => void (values.json ? process.stderr : process.stdout).write(`${text}\n`);
const colour = process.stdout.isTTY && !values.json && !process.env["NO_COLOR"];
const dim = (text: string) => (colour ? `\x1b[2m${text}\x1b[0m` : text);
const bold = (text: string) => (colour ? `\x1b[1m${text}\x1b[0m` : text);
const green = (text: string) => (colour ? `\x1b[32m${text}\x1b[0m` : text);
const sat = (msat: number) => `${(msat / 1000).toLocaleString("en-US")} sat`;

const started = performance.now();
function step(text: string): void {
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(5);
  say(`${dim(`${seconds} s`)}  ${text}`);
}

interface Message {
  readonly atMs: number;
  readonly way: string;
  readonly type: string;
  readonly bytes: number;
  readonly about: string;
}

/** The gateway's log tells of every message: `… debug car: link way=up type=pay bytes=269 about="…"`. */
function messageIn(line: string): Message | undefined {
  const found =
    /^(\S+ \S+) debug +\S+: link way=(up|down) type=(\S+) bytes=(\d+)(?: about=(".*"|\S+))?$/.exec(line);
  if (!found) return undefined;
  const [, time = "", way = "", type = "", bytes = "", about = ""] = found;
  const atMs = Date.parse(`${time.replace(" ", "T")}Z`);
  return { atMs, way, type, bytes: Number(bytes), about: about.startsWith('"') ? JSON.parse(about) : about };
}

function timeline(messages: readonly Message[]): void {
  const first = messages[0]?.atMs ?? 0;
  for (const { atMs, way, type, bytes, about } of messages) {
    const arrow = way === "up" ? "car ──▶ gateway" : "car ◀── gateway";
    const ms = `${atMs - first} ms`.padStart(8);
    say(`         ${dim(ms)}  ${arrow}  ${type.padEnd(8)} ${String(bytes).padStart(4)} B  ${dim(about)}`);
  }
}

function count(traffic: Line, ...names: string[]): number {
  return names.reduce((sum, name) => sum + Number(traffic[name]), 0);
}

async function demo(stage: Stage): Promise<object> {
  say(bold("A car pays tolls over Lightning, with half a key"));
  say(
    dim(
      "bitcoind, a bridge, a toll company, a gateway and a car, each a process of its own, on this machine",
    ),
  );
  say();

  await stage.startChain();
  step("bitcoind runs on a chain of its own (regtest)");
  await stage.startPeers();
  step("a bridge and a toll company run, plain Lightning nodes, with a channel between them");
  const messages: Message[] = [];
  await stage.startGateway({
    logLevel: "debug",
    onLog(line) {
      const message = messageIn(line);
      if (message) messages.push(message);
    },
  });
  step("the gateway runs: MQTT broker, Lightning node, the other half of every key");
  const deviceId = await stage.pair("car");
  step("the owner has paired the car: its funding key exists nowhere, only in two halves");
  const charged = await stage.charge(deviceId, PAYMENTS);
  step(`the car is charged with presignatures for ${charged["payments"]} payments`);
  const address = await stage.deposit(deviceId, DEPOSIT_SAT);
  step(`the owner has sent ${sat(DEPOSIT_SAT * 1000)} to ${address}`);
  const car = await stage.startDevice(deviceId);
  step("the car has a channel, opened at its request; it held its exit before a coin moved:");
  timeline(messages.splice(0));
  say();

  const payments: object[] = [];
  for (const amountMsat of TOLLS_MSAT) {
    const invoice = await stage.toll.invoice(amountMsat, "toll");
    const before = await atRest(car);
    messages.length = 0;
    const { hash, preimage, ms, feeMsat, serviceFeeMsat } = await car.ask(`pay ${invoice}`);
    const after = await atRest(car);
    const bytes = count(after, "bytesUp", "bytesDown") - count(before, "bytesUp", "bytesDown");
    const fees = `${sat(Number(feeMsat))} routing fee, ${sat(Number(serviceFeeMsat))} for the gateway's service`;
    const fee = `${fees}, ${bytes.toLocaleString("en-US")} bytes over the air`;
    step(`${green("✔")} ${bold(sat(amountMsat))} paid in ${bold(`${ms} ms`)}, ${fee}`);
    timeline(messages);
    say(`                   ${dim(`receipt: preimage ${preimage}`)}`);
    say();
    payments.push({ amountMsat, hash, preimage, ms, bytes, serviceFeeMsat });
  }

  messages.length = 0;
  const { txid } = await stage.mineUntil(car.ask("close"));
  const closing = await stage.bitcoind.rpc<{
    vout: { value: number; scriptPubKey: { address: string } }[];
    confirmations: number;
  }>("getrawtransaction", [txid, true]);
  // The owner's computer names the address that only the seed words can spend from.
  const own = await stage.device(deviceId, "close");
  const output = closing.vout.find(each => each.scriptPubKey.address === own["address"]);
  if (!output || closing.confirmations < 1) throw new Error("the closing transaction does not pay the owner");
  const ownerSat = Math.round(output.value * 1e8);
  step(
    `${green("✔")} the channel is closed: ${bold(sat(ownerSat * 1000))} are at the owner's own address, confirmed`,
  );
  timeline(messages);
  return { ok: true, payments, close: { txid, ownerSat } };
}

const stage = new Stage();
let result: object;
try {
  result = await demo(stage);
} catch (error) {
  process.stderr.write(`\nThe demo failed: ${(error as Error).message}\n`);
  result = { ok: false, error: (error as Error).message };
  process.exitCode = 1;
} finally {
  await stage.stop();
}
if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`);

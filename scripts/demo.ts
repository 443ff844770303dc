/**
 * `npm run demo`: a car pays tolls. Everything is real and a process of its own: bitcoind on regtest, a bridge and a
 * toll company on plain LDK, the gateway, the owner's commands, and the car. `--json` ends with one line of JSON.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startRegtest } from "./bitcoind.ts";
import { PeerProcess } from "./harness-process.ts";
import { type Line, Program } from "./processes.ts";

const TOLLS_MSAT = [1_500_000, 250_000, 25_000, 2_100_000];
const DEPOSIT_SAT = 200_000;
const PAYMENTS = 12;

const { values } = parseArgs({ options: { json: { type: "boolean" }, keep: { type: "boolean" } } });
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

/** What each message of the link is about. */
const MEANING: Readonly<Record<string, string>> = {
  "up open": "please open a channel: here are my first commitment points",
  "up pay": "please pay this invoice, at most this much for routing",
  "up stepped": "checked, signed my half, revoked the old state",
  "up hello": "here I am",
  "up close": "please close the channel",
  "down step": "the next state of the channel: check, sign, revoke",
  "down paid": "the preimage",
  "down failed": "it did not work",
  "down channel": "how the channel stands",
};

interface Message {
  readonly at: number;
  readonly way: string;
  readonly type: string;
  readonly bytes: number;
}

/** The gateway's log tells of every message: `… debug car: link way=up type=pay bytes=269`. */
function messageIn(line: string): Message | undefined {
  const found = /^(\S+ \S+) debug +\S+: link way=(up|down) type=(\S+) bytes=(\d+)/.exec(line);
  if (!found) return undefined;
  const [, time = "", way = "", type = "", bytes = ""] = found;
  return { at: Date.parse(`${time.replace(" ", "T")}Z`), way, type, bytes: Number(bytes) };
}

function timeline(messages: readonly Message[]): void {
  const first = messages[0]?.at ?? 0;
  for (const { at, way, type, bytes } of messages) {
    const arrow = way === "up" ? "car ──▶ gateway" : "car ◀── gateway";
    const ms = `${at - first} ms`.padStart(8);
    say(
      `         ${dim(ms)}  ${arrow}  ${type.padEnd(8)} ${String(bytes).padStart(4)} B  ${dim(MEANING[`${way} ${type}`] ?? "")}`,
    );
  }
}

async function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

const folder = mkdtempSync(join(tmpdir(), "lngate-demo-"));
const running: { stop(): Promise<void> }[] = [];

async function demo(): Promise<object> {
  say(bold("A car pays tolls over Lightning, with half a key"));
  say(
    dim(
      "bitcoind, a bridge, a toll company, a gateway and a car, each a process of its own, on this machine",
    ),
  );
  say();

  const bitcoind = await startRegtest({ extraArgs: ["-txindex"] });
  running.push({ stop: () => bitcoind.stop() });
  step("bitcoind runs on a chain of its own (regtest)");

  const rpc = bitcoind.rpcOptions;
  const peer = (name: string) =>
    PeerProcess.start({ name, dataDir: join(folder, name), rpc, program: "dist/peer.mjs" });
  const bridge = await peer("bridge");
  running.push(bridge);
  const toll = await peer("toll");
  running.push(toll);
  step("a bridge and a toll company run: plain Lightning nodes with their own keys");
  const opened = bridge.open({ peer: toll.address, sat: 2_000_000, pushSat: 500_000, announced: true });
  await mineUntil(opened);
  step("the bridge has a channel to the toll company");

  const gatewayConfig = join(folder, "gateway.conf");
  const owner = join(folder, "owner");
  await lngate(
    "gateway",
    "init",
    "--config",
    gatewayConfig,
    "--network",
    "regtest",
    "--bridge",
    bridge.address,
  );
  const mqttPort = await freePort();
  configure(gatewayConfig, {
    dataDir: join(folder, "gateway"),
    bitcoind: { url: rpc.url, cookieFile: rpc.cookieFile },
    mqtt: { host: "127.0.0.1", port: mqttPort },
    logLevel: "debug",
  });
  const messages: Message[] = [];
  const gateway = new Program(
    "gateway",
    ["dist/lngate.mjs", "gateway", "run", "--config", gatewayConfig, "--json"],
    line => {
      const message = messageIn(line);
      if (message) messages.push(message);
    },
  );
  running.push(gateway);
  await gateway.line(line => line["running"] === true);
  step("the gateway runs: MQTT broker, Lightning node, half of every key");

  await lngate("owner", "init", "--data", owner, "--network", "regtest");
  const { code } = await lngate("gateway", "add-device", "car", "--config", gatewayConfig);
  await lngate("device", "pair", String(code), "--data", owner);
  step("the owner has paired the car: its funding key exists nowhere, only in two halves");
  const charged = await lngate("device", "charge", "--payments", String(PAYMENTS), "--data", owner);
  step(`the car is charged with presignatures for ${charged["payments"]} payments`);

  const { address } = await lngate("device", "fund", "--data", owner);
  await bitcoind.fund(String(address), DEPOSIT_SAT);
  await bitcoind.mine(1);
  step(`the owner has sent ${sat(DEPOSIT_SAT * 1000)} to ${address}`);

  const car = new Program("car", ["dist/lngate.mjs", "device", "run", "--data", owner]);
  running.push(car);
  await mineUntil(car.line(line => line["event"] === "ready"));
  step("the car's channel is open, opened at the car's request; it held its exit before a coin moved:");
  timeline(messages.splice(0));
  say();

  const payments: object[] = [];
  for (const amountMsat of TOLLS_MSAT) {
    const invoice = await toll.invoice(amountMsat, "toll");
    const before = await car.ask("traffic");
    messages.length = 0;
    const receipt = await car.ask(`pay ${invoice}`);
    const after = await atRest(car);
    const bytes = count(after, "bytesUp", "bytesDown") - count(before, "bytesUp", "bytesDown");
    const { hash, preimage, ms } = receipt;
    step(
      `${green("✔")} ${bold(sat(amountMsat))} paid in ${bold(`${ms} ms`)}, ${sat(Number(receipt["feeMsat"]))} routing fee, ${bytes} bytes over the air`,
    );
    timeline(messages);
    say(`                   ${dim(`receipt: preimage ${preimage}`)}`);
    say();
    payments.push({ amountMsat, hash, preimage, ms, bytes });
  }

  messages.length = 0;
  const closing = await mineUntil(car.ask("close"));
  const txid = String(closing["txid"]);
  const raw = await bitcoind.rpc<{
    vout: { value: number; scriptPubKey: { address: string } }[];
    confirmations: number;
  }>("getrawtransaction", [txid, true]);
  // The owner's computer names the address that only the seed words can spend from.
  const own = await lngate("device", "close", "--data", owner);
  const mine = raw.vout.find(output => output.scriptPubKey.address === own["address"]);
  if (!mine || raw.confirmations < 1) throw new Error("the closing transaction does not pay the owner");
  const ownerSat = Math.round(mine.value * 1e8);
  step(
    `${green("✔")} the channel is closed: ${bold(`${ownerSat.toLocaleString("en-US")} sat`)} are at the owner's own address, confirmed`,
  );
  timeline(messages);
  return { ok: true, payments, close: { txid, ownerSat } };

  /** Mines a block now and then until it happens. */
  async function mineUntil<T>(event: Promise<T>): Promise<T> {
    let done = false;
    const watched = event.finally(() => {
      done = true;
    });
    watched.catch(() => {});
    while (!done) {
      await Promise.race([watched.catch(() => {}), new Promise(resolve => setTimeout(resolve, 250))]);
      if (!done && (await bitcoind.rpc<string[]>("getrawmempool")).length > 0) await bitcoind.mine(6);
    }
    return watched;
  }
}

/** Waits until the car's last payment is settled in both commitments. */
async function atRest(car: Program): Promise<Line> {
  let quiet = 0;
  for (let before = ""; ; ) {
    const traffic = await car.ask("traffic");
    quiet = traffic["atRest"] === true && JSON.stringify(traffic) === before ? quiet + 1 : 0;
    // A payment too small for an output of its own leaves no trace in the commitments: silence tells.
    if (quiet === 6) return traffic;
    before = JSON.stringify(traffic);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

function count(traffic: Line, ...names: string[]): number {
  return names.reduce((sum, name) => sum + Number(traffic[name]), 0);
}

/** Runs one command of ours to its end; its result. */
async function lngate(...args: string[]): Promise<Line> {
  const program = new Program(args.slice(0, 2).join(" "), ["dist/lngate.mjs", ...args, "--json"]);
  return program.result();
}

/** Changes settings of a configuration file, comments and all. */
function configure(file: string, settings: object): void {
  const lines = readFileSync(file, "utf8").split("\n");
  const config = JSON.parse(lines.filter(line => !line.trim().startsWith("//")).join("\n")) as object;
  writeFileSync(file, JSON.stringify({ ...config, ...settings }, null, 2));
}

let result: object = { ok: false };
try {
  result = await demo();
} catch (error) {
  process.stderr.write(`\nThe demo failed: ${(error as Error).message}\n`);
  result = { ok: false, error: (error as Error).message };
  process.exitCode = 1;
} finally {
  for (const each of running.reverse()) await each.stop().catch(() => {});
  if (!values.keep) rmSync(folder, { recursive: true, force: true });
}
if (values.json) process.stdout.write(`${JSON.stringify(result)}\n`);

/**
 * A device's way into a board and back, with the commands of the owner. The board is a device of the board `node` that
 * runs from what was written to its flash; esptool and mcconfig are stand-ins that note how they were called and write
 * into a file. Gateway, broker, bridge and payments are real. No chip takes part.
 */
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { Device } from "../../device/api.ts";
import { type NodeBoard, openNodeBoard } from "../../device/boards/node/board.ts";
import { openDevice } from "../../device/device.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { World, waitFor } from "./world.ts";

const VAULT = { address: 0x300000, bytes: 0x100000 };

let world: World;
let deviceId: string;
let tools: string;
let port: string;

interface Outcome {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a command of the owner as built. */
function lngate(args: readonly string[], env: { readonly [name: string]: string } = {}): Promise<Outcome> {
  const child = spawn(
    process.execPath,
    ["dist/lngate.mjs", "device", ...args, "--data", world.ownerFolder, "--device", deviceId],
    { env: { ...process.env, LNGATE_WIFI_SSID: "", ...env } },
  );
  let [out, err] = ["", ""];
  child.stdin.end();
  child.stdout.on("data", chunk => (out += chunk));
  child.stderr.on("data", chunk => (err += chunk));
  return new Promise(resolve => child.on("close", code => resolve({ code, out, err })));
}

const withTools = () => ({
  PATH: `${tools}${delimiter}${process.env["PATH"]}`,
  MODDABLE: tools,
  IDF_PATH: tools,
  LNGATE_WIFI_SSID: "street",
  LNGATE_WIFI_PASSWORD: "very secret",
});
const inFolder = (file: string) => join(world.folderOf(deviceId), file);
const inTools = (file: string) => join(tools, file);

/** A program that notes its arguments, fails if it is to, and writes what esptool would write into the chip. */
function standIn(name: string): void {
  const script = `#!${process.execPath}
const fs = require("fs"), args = process.argv.slice(2);
fs.appendFileSync("${inTools("calls")}", JSON.stringify({ name: "${name}", args, port: process.env.UPLOAD_PORT }) + "\\n");
if (fs.existsSync("${inTools("fail")}")) process.exit(3);
if ("${name}" === "mcconfig") fs.copyFileSync("manifest.json", "${inTools("manifest")}");
const pieces = args.slice(args.indexOf("write_flash") + 1);
const chip = fs.openSync("${inTools("chip")}", "a+");
fs.closeSync(chip);
const [at, size, out] = args.slice(args.indexOf("read_flash") + 1);
if (args.includes("read_flash")) {
  console.log("MAC: 24:6f:28:00:00:01");
  const content = Buffer.alloc(Number(size), 255);
  const file = fs.openSync("${inTools("chip")}", "r");
  fs.readSync(file, content, 0, content.length, Number(at));
  fs.closeSync(file);
  fs.writeFileSync(out, content);
}
for (let i = 0; args.includes("write_flash") && i < pieces.length; i += 2) {
  const file = fs.openSync("${inTools("chip")}", "r+");
  const bytes = fs.readFileSync(pieces[i + 1]);
  fs.writeSync(file, bytes, 0, bytes.length, Number(pieces[i]));
  fs.closeSync(file);
}
`;
  writeFileSync(inTools(name), script);
  chmodSync(inTools(name), 0o755);
}

const calls = () =>
  readFileSync(inTools("calls"), "utf8")
    .trim()
    .split("\n")
    .map(line => JSON.parse(line) as { name: string; args: string[]; port?: string });

function chip(): Uint8Array {
  return new Uint8Array(readFileSync(inTools("chip")).subarray(VAULT.address, VAULT.address + VAULT.bytes));
}

/** Power on: a board with this flash. */
function start(
  content: Uint8Array,
  name: string,
): { board: NodeBoard; device: Device; flash: string; stop(): void } {
  const folder = join(world.folder, name);
  const flash = join(folder, "flash.bin");
  mkdirSync(folder);
  writeFileSync(flash, content);
  const board = openNodeBoard(folder);
  const device = openDevice(board);
  return {
    board,
    device,
    flash,
    stop() {
      device.disconnect();
      board.close();
    },
  };
}

async function pays(device: Device): Promise<void> {
  const { preimage, hash } = await device.pay(world.toll.invoice(400_000), { maxFeeMsat: 5_000 });
  expect(toHex(sha256(fromHex(preimage)))).toBe(hash);
  expect(world.toll.timesPaid(hash)).toBe(1);
  await waitFor("rest", () => device.isAtRest());
}

beforeAll(async () => {
  world = await World.start();
  await world.startGateway();
  deviceId = await world.makeDevice("car", { payments: 14 });
  tools = join(world.folder, "tools");
  mkdirSync(tools);
  for (const name of ["esptool.py", "mcconfig"]) standIn(name);
  port = join(world.folder, "port");
  writeFileSync(port, "");
});

afterAll(() => world.stop());

test("doctor finds what a new device lacks, and says what to do", async () => {
  const { code, out, err } = await lngate(["doctor", "--port", "/dev/no-such-port"]);
  expect(code).toBe(1);
  expect(err).toMatch(/^doctor-found-trouble: 3 of \d+ things need attention/);
  expect(out).toMatch(/✗ port +port-missing\n +→ .*plug the board in/);
  expect(out).toMatch(/✔ broker +127\.0\.0\.1:\d+ is reached/);
  expect(out).toMatch(/✔ gateway +answers in \d+ ms/);
  expect(out).toMatch(/✔ login +the broker lets the device in/);
  expect(out).toMatch(/✔ clocks +this computer's and the gateway's are together/);
  expect(out).toMatch(/✔ charge +the gateway has presignatures for 14 payments/);
  expect(out).toMatch(/✗ device +was never seen, on this computer\n +→ start it: `lngate device run`/);
  expect(out).toMatch(/✗ channel +none yet; 0 sat deposited.*\n +→ `lngate device fund`/);
});

test("without the tools nothing happens, and flash says how to get them", async () => {
  const { code, err } = await lngate(["flash", "--board", "moddable", "--port", port], {
    PATH: "/nowhere",
    MODDABLE: "",
    IDF_PATH: "",
  });
  expect(code).toBe(1);
  expect(err).toMatch(
    /^tools-missing: .*esptool\.py or esptool \(.*apt install esptool.*mcconfig \(.*the variable MODDABLE/,
  );
  expect(existsSync(inFolder("flash.bin"))).toBe(true);
});

test("a dry run shows the commands and does nothing", async () => {
  const args = ["flash", "--board", "moddable", "--port", port, "--dry-run", "--json"];
  const { code, out } = await lngate(args, withTools());
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({
    commands: [
      `cd WORK && UPLOAD_PORT=${port} ${inTools("mcconfig")} -m -p esp32 -t build`,
      `${inTools("esptool.py")} --port ${port} --baud 460800 --after no_reset read_flash 0x300000 0x100000 WORK/held.bin`,
      `${inTools("esptool.py")} --port ${port} --baud 460800 write_flash 0x300000 WORK/image.bin`,
      `cd WORK && UPLOAD_PORT=${port} ${inTools("mcconfig")} -m -p esp32`,
    ],
  });
  expect(existsSync(inFolder("flash.bin"))).toBe(true);
  expect(existsSync(inTools("calls"))).toBe(false);
});

test("a board without a curve gets no device that has no channel, and no device of another size", async () => {
  const { code, err } = await lngate(["image", "--board", "espruino"]);
  expect([code, err]).toEqual([1, expect.stringMatching(/^image-size: .*pair one with --board espruino/)]);
});

test("a flash that fails can be repeated; meanwhile this computer neither runs nor charges the device", async () => {
  await world.deposit(deviceId, 400_000);
  const atHome = await world.startCar(deviceId);
  await world.mineUntil(atHome.device.openChannel());
  atHome.stop();
  const before = readFileSync(inFolder("flash.bin"));

  writeFileSync(inTools("fail"), "");
  const failed = await lngate(["flash", "--board", "moddable", "--port", port], withTools());
  expect([failed.code, failed.err]).toEqual([1, expect.stringContaining("flash-failed: ")]);
  expect(existsSync(inFolder("flash.bin"))).toBe(false);
  expect(readFileSync(inFolder("image.bin")).equals(before)).toBe(true);
  for (const args of [["run"], ["charge"], ["image", "--board", "espruino"]]) {
    const { code, err } = await lngate(args);
    expect([code, err]).toEqual([1, expect.stringMatching(/^device-moved: .*on its way into a board/)]);
  }
  expect(existsSync(inFolder("flash.bin"))).toBe(false);

  rmSync(inTools("fail"));
  const flashing = lngate(["flash", "--board", "moddable", "--port", port, "--json"], withTools());
  await waitFor("the image to be written", () => {
    if (!existsSync(inTools("chip"))) return false;
    return toHex(sha256(chip())) === toHex(sha256(new Uint8Array(before)));
  });
  const board = start(chip(), "board");
  await board.device.connect();
  const { code, out } = await flashing;
  expect([code, JSON.parse(out)]).toEqual([0, { deviceId, board: "moddable", seen: true }]);
  expect(existsSync(inFolder("image.bin"))).toBe(false);

  // The Wi-Fi's password went into the application's configuration, and nowhere that other users see.
  expect(JSON.parse(readFileSync(inTools("manifest"), "utf8"))).toMatchObject({
    config: { ssid: "street", password: "very secret" },
  });
  expect(JSON.stringify(calls())).not.toContain("very secret");
  expect(calls().map(({ name }) => name)).toEqual([
    "mcconfig",
    "mcconfig",
    "esptool.py",
    "esptool.py",
    "mcconfig",
  ]);
  expect(calls()[4]).toMatchObject({ args: ["-m", "-p", "esp32"], port });

  await pays(board.device);
  const healthy = await lngate(["doctor", "--board", "moddable", "--port", port], withTools());
  expect([healthy.code, healthy.err]).toEqual([0, ""]);
  expect(healthy.out).toMatch(/✔ device +is there, in its board \(moddable\)/);
  const again = await lngate(["flash", "--board", "moddable", "--port", port], withTools());
  expect([again.code, again.err]).toEqual([1, expect.stringMatching(/^image-used: /)]);
  board.stop();

  // Somebody has kept the old image.
  const copy = start(new Uint8Array(before), "copy");
  await copy.device.connect();
  await waitFor("the gateway to notice", () =>
    world.log.some(line => line.includes("an old image, or a copy")),
  );
  const invoice = world.toll.invoice(400_000);
  const refusal = copy.device.pay(invoice, { timeoutMs: 1_000 });
  await expect(refusal).rejects.toMatchObject({ code: "vault-rolled-back" });
  const sick = await lngate(["doctor"]);
  expect(sick.code).toBe(1);
  expect(sick.out).toMatch(/✗ device +an older flash than the newest one has turned up/);
  copy.stop();
  expect(world.toll.claimed).toHaveLength(1);

  writeFileSync(join(world.folder, "old"), before);
  const old = await lngate(["image", "--take-back", join(world.folder, "old")]);
  expect([old.code, old.err]).toEqual([1, expect.stringMatching(/^image-outdated: /)]);
  const back = await lngate(["image", "--take-back", board.flash]);
  expect([back.code, back.err]).toEqual([0, ""]);
  const home = await world.startCar(deviceId);
  await pays(home.device);
  home.stop();
});

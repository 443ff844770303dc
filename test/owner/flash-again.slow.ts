/**
 * The gateway says that it has not seen a board that works. The owner gives the same command again, as it is told to; the
 * image of before must not come over a flash that has moved on: the same records, used twice, give the key away.
 */
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { openVault } from "../../device/vault/vault.ts";
import { pairDevice } from "../../owner/client/pair.ts";
import { type GatewayHalf, newOwner, startGatewayHalf } from "./gateway-half.ts";

let gateway: GatewayHalf;
let folder: string;
let deviceId: string;
let tools: string;
const inTools = (file: string) => join(tools, file);

beforeAll(async () => {
  gateway = await startGatewayHalf();
  folder = newOwner();
  ({ deviceId } = await pairDevice({ folder, code: gateway.invite() }));
  tools = mkdtempSync(join(tmpdir(), "lngate-tools-"));
  // The chip's flash is its vault alone. A tool may fail when it has written everything.
  for (const name of ["esptool.py", "mcconfig"]) {
    writeFileSync(
      inTools(name),
      `#!${process.execPath}
const fs = require("fs"), args = process.argv.slice(2), chip = "${inTools("chip")}";
fs.appendFileSync("${inTools("calls")}", (args.find(each => /_flash$/.test(each)) ?? "${name}") + " ");
const [write, read] = ["write_flash", "read_flash"].map(each => args.indexOf(each));
if (write >= 0) fs.copyFileSync(args[write + 2], chip);
if (read >= 0) console.log("MAC: " + fs.readFileSync("${inTools("mac")}"));
if (write >= 0 && fs.existsSync("${inTools("fail")}")) process.exit(1);
if (read >= 0) fs.writeFileSync(args[read + 3], fs.existsSync(chip) ? fs.readFileSync(chip) : Buffer.alloc(Number(args[read + 2]), 255));
`,
    );
    chmodSync(inTools(name), 0o755);
  }
  writeFileSync(inTools("port"), "");
  writeFileSync(inTools("mac"), "24:6f:28:00:00:01");
});
afterAll(async () => {
  await gateway.stop();
  for (const each of [folder, tools]) rmSync(each, { recursive: true });
});

function flash(): Promise<string> {
  const args = ["flash", "--board", "moddable", "--port", inTools("port"), "--wait", "1"];
  const child = spawn(
    process.execPath,
    ["dist/lngate.mjs", "device", ...args, "--data", folder, "--device", deviceId],
    {
      env: {
        ...process.env,
        PATH: `${tools}${delimiter}${process.env["PATH"]}`,
        MODDABLE: tools,
        IDF_PATH: tools,
        LNGATE_WIFI_SSID: "street",
        LNGATE_WIFI_PASSWORD: "very secret",
      },
    },
  );
  let err = "";
  child.stdin.end();
  child.stderr.on("data", chunk => (err += chunk));
  return new Promise(resolve => child.on("close", () => resolve(err)));
}

/** The tools that ran since. */
function calls(): string[] {
  const called = readFileSync(inTools("calls"), "utf8").trim().split(" ");
  rmSync(inTools("calls"));
  return called;
}

const notSeen = () => {
  gateway.answer = answer => {
    if (answer.type !== "status-report") return answer;
    const { seen: _, ...rest } = answer;
    return { ...rest, online: false };
  };
};

test("an image that was written by a tool that then failed goes into no other board", async () => {
  notSeen();
  writeFileSync(inTools("fail"), "");
  expect(await flash()).toMatch(/^flash-failed: /m);
  rmSync(inTools("fail"));
  const first = readFileSync(inTools("chip"));
  rmSync(inTools("chip"));
  writeFileSync(inTools("mac"), "24:6f:28:00:00:02");
  expect(await flash()).toMatch(/^image-used: .*chip 24:6f:28:00:00:01, this is 24:6f:28:00:00:02/m);
  expect(existsSync(inTools("chip"))).toBe(false);
  // The first board, which the tool has left torn.
  writeFileSync(inTools("mac"), "24:6f:28:00:00:01");
  writeFileSync(inTools("chip"), first.fill(0, 0, 8192));
  calls();
});

test("a board that works keeps what it has, whatever the gateway says that it has seen", async () => {
  notSeen();
  expect(await flash()).toMatch(/^board-silent: /m);
  expect(calls()).toEqual(["mcconfig", "read_flash", "write_flash", "mcconfig"]);
  // The board runs: whatever it does is in its flash.
  const image = readFileSync(inTools("chip"));
  const board = inTools("board");
  mkdirSync(board);
  writeFileSync(join(board, "flash.bin"), image);
  const running = openFileFlash(board);
  openVault(running).journal.commit([{ key: 1000, value: new Uint8Array([1]) }]);
  running.close();
  const used = readFileSync(join(board, "flash.bin"));
  expect(used.equals(image)).toBe(false);
  writeFileSync(inTools("chip"), used);

  expect(await flash()).toMatch(/^The device is in this board already[\s\S]*^board-silent: /m);
  expect(calls()).toEqual(["mcconfig", "read_flash", "mcconfig"]);
  expect(readFileSync(inTools("chip")).equals(used)).toBe(true);

  // Another board, or the same after it was erased.
  rmSync(inTools("chip"));
  expect(await flash()).toMatch(/^image-used: /m);
  expect(calls()).toEqual(["mcconfig", "read_flash"]);
  expect(existsSync(inTools("chip"))).toBe(false);
});

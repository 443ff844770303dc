/** `lngate device image`, `flash` and `doctor`: a device's way into a board, and what may be wrong with it there. */
import { spawn, spawnSync } from "node:child_process";
import {
  accessSync,
  constants,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { lngateError } from "../../src/errors.ts";
import { type Command, type Given, type Terminal, usage } from "../../src/node/command.ts";
import { type BoardName, boards, ESPRUINO_STORAGE, type Tool } from "../board/boards.ts";
import { chipIn } from "../board/chip.ts";
import { espruinoStorage } from "../board/espruino-storage.ts";
import { forgetImage, makeImage, movedTo, needsVault, noteWritten, takeBack } from "../board/image.ts";
import { askStatus, type DeviceReport } from "../client/channel.ts";
import { deviceFolder } from "../folder/folder.ts";
import { DEVICE, target } from "./target.ts";

const BOARD = { value: "NAME", help: `the board: ${Object.keys(boards).join(" or ")}` };
/** How long the board may take to start, join the network and reach the gateway. */
const WAIT_SECONDS = 180;
const ASK_AGAIN_MS = 1_000;

/** The board that was named, if one was. Throws `usage` for a name that none has. */
export function boardOf(given: Given): BoardName | undefined {
  const name = given.text("board");
  if (name === undefined || name in boards) return name as BoardName | undefined;
  throw usage(`--board must be one of ${Object.keys(boards).join(", ")}`);
}

export const image: Command = {
  name: "device image",
  summary: "move the device into an image for a board's flash",
  help: `Moves the device from this computer into the file image.bin in its folder, as large as the board's room for it; a board that can compute no keys gets a table of them besides. It is moved, not copied: two devices with one vault use records twice, which gives the key away. From then on this computer neither runs nor charges the device. \`lngate device flash\` does this by itself.

With --take-back the device comes back to this computer: from the file that was read out of the board's flash. The board must not run any more. image.bin itself comes back only while nothing can have written it anywhere: \`lngate device flash\` failed before it came to that.`,
  options: {
    ...DEVICE,
    board: BOARD,
    "take-back": { value: "FILE", help: "the board's flash, read out" },
  },
  async run(given, terminal) {
    const { folder, deviceId } = target(given);
    const path = deviceFolder(folder, deviceId);
    const back = given.text("take-back");
    if (back !== undefined) {
      const { seen } = await askStatus({ folder, deviceId });
      takeBack(path, deviceId, back, seen?.generation ?? 0);
      terminal.say("The device is on this computer again. Never start the board with its old flash.");
      terminal.result({ deviceId, moved: false });
      return;
    }
    const board = boardOf(given) ?? movedTo(path)?.board;
    if (!board) throw usage("--board is missing");
    const made = makeImage(path, board);
    noteWritten(path, "begun");
    const { vaultAddress } = boards[board];
    terminal.say(`The device is in ${made.image} now, and not on this computer any more.`);
    if (made.keys) terminal.say(`The keys of its channel for the board: ${made.keys}`);
    terminal.say(`It goes to address 0x${vaultAddress.toString(16)} of the board's flash.`);
    terminal.say(`Next: lngate device flash --board ${board} --port …`);
    terminal.result({ deviceId, ...made, address: vaultAddress });
  },
};

export const flash: Command = {
  name: "device flash",
  summary: "flash the device into a board, and wait until the gateway has seen it there",
  help: `Checks the tools, moves the device into an image (see \`lngate device image\`), writes runtime, application and image into the board, and waits until the gateway has heard from it. If something fails, give the same command again, with the same board: it reads first what the board holds, and does not write the device over itself. An image that was written into a board is written into no other one.

The name and password of the Wi-Fi come from a file of settings (--settings, JSON: "ssid", "password", and what else the application takes), from LNGATE_WIFI_SSID and LNGATE_WIFI_PASSWORD, or are asked for. They never become arguments of a program.

moddable: builds the application with mcconfig, writes the image with esptool, then has mcconfig put the application into the board. espruino: writes Espruino's Storage (all of it: what else was saved there is gone) and the image with esptool; Espruino itself has to be on the board already.`,
  options: {
    ...DEVICE,
    board: BOARD,
    port: { value: "PORT", help: "where the board is: /dev/ttyUSB0, /dev/cu.usbserial-0001, COM3 …" },
    target: { value: "NAME", help: "moddable: what mcconfig builds for (default: esp32)" },
    app: { value: "DIR", help: "your own application instead of the one that comes along" },
    settings: { value: "FILE", help: "the application's settings, JSON" },
    wait: { value: "SECONDS", help: `how long to wait for the board (default: ${WAIT_SECONDS}; 0: not)` },
    "dry-run": { help: "only show what would be done" },
  },
  async run(given, terminal) {
    const board = boardOf(given);
    const port = given.text("port");
    if (!board) throw usage("--board is missing");
    if (port === undefined) throw usage("--port is missing: where the board is");
    const { folder, deviceId } = target(given);
    const path = deviceFolder(folder, deviceId);
    const wait = given.number("wait", 0, 86_400) ?? WAIT_SECONDS;
    const tools = findTools(board);
    if (given.flag("dry-run")) {
      const { build, read, write } = plan(board, {
        port,
        tools,
        target: given.text("target"),
        folder: "WORK",
      });
      const steps = [...build, read, ...write(true)];
      terminal.say(
        `The device is moved into ${join(path, "image.bin")}; then, in a folder WORK of this moment:`,
      );
      for (const step of steps) terminal.say(`    ${lineOf(step)}`);
      terminal.say("Then the gateway is asked whether it has seen the board.");
      terminal.result({ deviceId, board, commands: steps.map(lineOf) });
      return;
    }
    checkPort(port);
    const before = await askStatus({ folder, deviceId });
    ensureUnused(before, movedTo(path)?.generation);
    const bundle = deviceBundle(board, given.text("app"));
    const settings = await askSettings(given, terminal);
    const made = makeImage(path, board);
    ensureUnused(before, made.generation);
    const work = mkdtempSync(join(tmpdir(), "lngate-flash-"));
    try {
      cpSync(made.image, join(work, "image.bin"));
      if (board === "espruino") {
        const read = (file: string) => new Uint8Array(readFileSync(join(bundle, file)));
        const storage = espruinoStorage(
          {
            lngate: read("lngate.js"),
            "lngate.keys": new Uint8Array(readFileSync(made.keys!)),
            "lngate.json": JSON.stringify(settings),
            ".bootcde": read("app.js"),
          },
          ESPRUINO_STORAGE.bytes,
        );
        writeFileSync(join(work, "storage.bin"), storage, { mode: 0o600 });
      } else {
        cpSync(bundle, work, { recursive: true });
        const manifest = JSON.parse(readFileSync(join(bundle, "manifest.json"), "utf8")) as {
          config?: object;
        };
        const config = { ...manifest.config, ...settings };
        writeFileSync(join(work, "manifest.json"), JSON.stringify({ ...manifest, config }), { mode: 0o600 });
      }
      const { build, read, write } = plan(board, { port, tools, target: given.text("target"), folder: work });
      const run = async (step: Step) => {
        terminal.note(`$ ${lineOf(step)}`);
        return runTool(step, step === read);
      };
      for (const step of build) await run(step);
      const chip = chipIn(await run(read));
      const held = new Uint8Array(readFileSync(join(work, HELD_FILE)));
      const isNeeded = needsVault(path, deviceId, held, chip);
      noteWritten(path, isNeeded ? "begun" : "done", chip);
      if (!isNeeded) terminal.note("The device is in this board already: only the application is written.");
      for (const step of write(isNeeded)) {
        await run(step);
        // The first of them writes the vault, if it is to be written.
        noteWritten(path, "done");
      }
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
    if (wait === 0) {
      terminal.say("Flashed. `lngate device doctor` tells whether the board has reported in.");
      terminal.result({ deviceId, board, seen: false });
      return;
    }
    await untilSeen({ folder, deviceId }, made.generation, wait, terminal);
    forgetImage(path);
    terminal.say("The board is flashed, and the gateway has heard from it: the device lives there now.");
    terminal.result({ deviceId, board, seen: true });
  },
};

/** An image that a board has reported in with must not be flashed again. */
function ensureUnused({ seen, trouble }: DeviceReport, generation: number | undefined): void {
  if (trouble === "rolled-back" || (seen && generation !== undefined && seen.generation > generation))
    throw lngateError(
      "image-used",
      "a board has reported in with this image already; flashed again it would use records twice. Read the board's flash out and take it back with `lngate device image --take-back`",
    );
}

async function untilSeen(
  which: { folder: string; deviceId: string },
  generation: number,
  seconds: number,
  terminal: Terminal,
): Promise<void> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const { online, seen } = await askStatus(which);
    if (online && seen && seen.generation > generation) return;
    const left = Math.ceil((end - Date.now()) / 1000);
    if (left <= 0)
      throw lngateError(
        "board-silent",
        "everything was written, but the gateway has not heard from the board: watch its log (docs/boards.md), try `lngate device doctor`; the same command, with the same board, writes the application again and leaves the device in it alone",
      );
    terminal.progress(`waiting for the board (${left} s) …`);
    await new Promise(resolve => setTimeout(resolve, ASK_AGAIN_MS));
  }
}

// ── tools ────────────────────────────────────────────────────────────────────────────────────────────────

interface Step {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: { readonly [name: string]: string };
  readonly folder?: string;
}

type Found = { readonly [tool: string]: string };

/** Where the board's tools are. Throws `tools-missing`, which says how to get them. */
export function findTools(board: BoardName): Found {
  const { tools, environment } = boards[board];
  const found: { [tool: string]: string } = {};
  const missing: string[] = [];
  for (const [name, tool] of Object.entries(tools) as [string, Tool][]) {
    const path = onPath(tool.names);
    if (path === undefined) missing.push(`${tool.names.join(" or ")} (${tool.get})`);
    else found[name] = path;
  }
  for (const [name, meaning] of Object.entries(environment))
    if (!process.env[name]) missing.push(`the variable ${name}: ${meaning}`);
  if (missing.length === 0) return found;
  throw lngateError("tools-missing", `for the board ${board} there is missing: ${missing.join("; ")}`);
}

function onPath(names: readonly string[]): string | undefined {
  for (const name of names) {
    for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
      for (const suffix of process.platform === "win32" ? [".exe", ".cmd", ""] : [""]) {
        const path = join(folder, name + suffix);
        try {
          accessSync(path, constants.X_OK);
          return path;
        } catch {
          // Not here.
        }
      }
    }
  }
  return undefined;
}

/** What the board holds where the vault goes. */
const HELD_FILE = "held.bin";

interface Plan {
  readonly build: readonly Step[];
  /** Into HELD_FILE. The board does not start afterwards: what was read is what is there when it is written to. */
  readonly read: Step;
  /** The application, and before it the vault: a board does not start with an older one. */
  write(withVault: boolean): readonly Step[];
}

/** The programs to run. */
function plan(
  board: BoardName,
  { port, tools, target, folder }: { port: string; tools: Found; target: string | undefined; folder: string },
): Plan {
  const hex = (number: number) => `0x${number.toString(16)}`;
  const { vaultAddress, vaultPages } = boards[board];
  const esptool = (...args: string[]): Step => ({
    program: tools["esptool"]!,
    args: ["--port", port, "--baud", "460800", ...args],
  });
  const size = hex(vaultPages * 4096);
  const read = esptool("--after", "no_reset", "read_flash", hex(vaultAddress), size, join(folder, HELD_FILE));
  const vault = [hex(vaultAddress), join(folder, "image.bin")];
  if (board === "espruino") {
    const storage = [hex(ESPRUINO_STORAGE.address), join(folder, "storage.bin")];
    return {
      build: [],
      read,
      write: withVault => [esptool("write_flash", ...(withVault ? vault : []), ...storage)],
    };
  }
  const mcconfig = (...more: string[]): Step => ({
    program: tools["mcconfig"]!,
    args: ["-m", "-p", target ?? "esp32", ...more],
    env: { UPLOAD_PORT: port },
    folder,
  });
  return {
    build: [mcconfig("-t", "build")],
    read,
    write: withVault => [...(withVault ? [esptool("write_flash", ...vault)] : []), mcconfig()],
  };
}

function lineOf({ program, args, env = {}, folder }: Step): string {
  const assignments = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const line = [...assignments, program, ...args].join(" ");
  return folder === undefined ? line : `cd ${folder} && ${line}`;
}

/**
 * What a tool says goes to standard error: standard output is for the result. Resolves with it where it is listened to. Throws
 * `flash-failed`.
 */
function runTool({ program, args, env, folder }: Step, listen = false): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = "";
    const child = spawn(program, args, {
      stdio: ["ignore", listen ? "pipe" : 2, 2],
      env: { ...process.env, ...env },
      ...(folder === undefined ? {} : { cwd: folder }),
    });
    const failed = (why: string) =>
      reject(
        lngateError(
          "flash-failed",
          `${program} ${why}; nothing is lost. Is the board at this port, and in its bootloader (hold BOOT while it connects)? Then give the same command again, with the same board`,
        ),
      );
    child.once("error", error => failed(`could not be started (${error.message})`));
    child.stdout?.on("data", (part: Buffer) => {
      process.stderr.write(part);
      said += part.toString("latin1");
    });
    child.once("close", code => (code === 0 ? resolve(said) : failed(`ended with ${code}`)));
  });
}

/** Throws `port-missing`, `port-denied`. */
export function checkPort(port: string): void {
  if (/^COM\d+$/i.test(port)) return;
  if (!existsSync(port))
    throw lngateError(
      "port-missing",
      `there is no ${port}: plug the board in, with a cable that carries data; its port is the one that appears${serialPorts()}`,
    );
  try {
    accessSync(port, constants.R_OK | constants.W_OK);
  } catch {
    throw lngateError(
      "port-denied",
      `you may not use ${port}: \`sudo usermod -aG dialout $USER\`, and log in again`,
    );
  }
}

function serialPorts(): string {
  try {
    const ports = readdirSync("/dev").filter(name => /^(ttyUSB|ttyACM|cu\.(usb|wch|SLAB))/.test(name));
    return ports.length === 0 ? "" : ` (there is ${ports.map(name => `/dev/${name}`).join(", ")})`;
  } catch {
    return "";
  }
}

// ── what is flashed ──────────────────────────────────────────────────────────────────────────────────────

/** The folder with the board's runtime, and the owner's own application in it. Throws `bundle-missing`, `app-missing`. */
function deviceBundle(board: BoardName, app: string | undefined): string {
  const root = join(dirname(fileURLToPath(import.meta.url)), "..");
  const built = join(root, "dist/device", board);
  // A package brings it along; in a clone it is built when it is first needed.
  const builder = join(root, "esbuild.device.mjs");
  if (!existsSync(built) && existsSync(builder))
    spawnSync(process.execPath, [builder], { cwd: root, stdio: ["ignore", 2, 2] });
  if (!existsSync(built))
    throw lngateError(
      "bundle-missing",
      `the runtime for the board is not built: \`npm run build:device\` in ${root}`,
    );
  if (app === undefined) return built;
  const main = board === "espruino" ? "app.js" : "main.js";
  if (!existsSync(join(app, main)) || !existsSync(join(app, "lngate.js")))
    throw lngateError(
      "app-missing",
      `${app} is not an application for ${board}: copy ${built} and change ${main} there`,
    );
  return app;
}

/** Throws `settings-invalid`. */
async function askSettings(given: Given, terminal: Terminal): Promise<{ [name: string]: unknown }> {
  const file = given.text("settings");
  if (file !== undefined) {
    try {
      const read: unknown = JSON.parse(readFileSync(file, "utf8"));
      if (typeof read === "object" && read !== null && !Array.isArray(read)) return { ...read };
    } catch (error) {
      throw lngateError("settings-invalid", `${file} can't be read: ${(error as Error).message}`);
    }
    throw lngateError("settings-invalid", `${file} is not a JSON object`);
  }
  const { LNGATE_WIFI_SSID: ssid, LNGATE_WIFI_PASSWORD: password } = process.env;
  if (ssid !== undefined) return { ssid, password: password ?? "" };
  if (!terminal.interactive || !process.stdin.isTTY)
    throw usage("the Wi-Fi is missing: --settings FILE, or LNGATE_WIFI_SSID and LNGATE_WIFI_PASSWORD");
  return { ssid: await ask("Name of the Wi-Fi: ", false), password: await ask("Its password: ", true) };
}

function ask(question: string, hidden: boolean): Promise<string> {
  const reader = createInterface({ input: process.stdin, output: process.stderr, terminal: true });
  return new Promise(resolve => {
    reader.question(question, answer => {
      if (hidden) process.stderr.write("\n");
      reader.close();
      resolve(answer);
    });
    // What is typed is not shown.
    if (hidden) (reader as unknown as { _writeToOutput(text: string): void })._writeToOutput = () => {};
  });
}

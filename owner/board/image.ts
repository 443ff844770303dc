/**
 * A device's way from the owner's computer into a board, and back. The vault is moved, never copied: two devices that
 * sign from one vault use its records twice, which gives the key away.
 *
 *     flash.bin               the vault is on this computer, which may run, charge and image it
 *     image.bin, moved.json   it is to be flashed, or was; the gateway has not seen the board yet
 *     moved.json              it is in the board
 *
 * That the gateway has not seen the board is its word alone, and by a lie it would have an image written over what the
 * board has signed meanwhile. So before an image is written, `moved.json` says so; from then on the flash of a board
 * decides (`needsVault`, `takeBack`).
 *
 * What this computer forgets to check the gateway does: it signs nothing with a device whose flash is older than one
 * that was there (gateway/device/rollback-guard.ts).
 */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { openFileFlash } from "../../device/boards/node/flash.ts";
import { memoryFlash } from "../../device/vault/memory-flash.ts";
import { openVault, type Vault } from "../../device/vault/vault.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { syncFolder, writeFileAtomic } from "../../src/node/files.ts";
import { FLASH_FILE, readJson, writeJson } from "../folder/folder.ts";
import { type BoardName, boards } from "./boards.ts";
import { makeKeyTable } from "./key-table.ts";

const IMAGE_FILE = "image.bin";
/** Keys for a board that can compute none. */
const KEYS_FILE = "lngate.keys";
const MOVED_FILE = "moved.json";
const PAGE_BYTES = 4096;

/** A device that was moved into an image for a board. */
export interface Moved {
  readonly board: BoardName;
  /** How often the flash had been written when it was moved. */
  readonly generation: number;
  /** The image may be in a board: from before it is written there (`begun`) until a tool says that it is (`done`). */
  readonly written?: "begun" | "done";
  /** The chip whose flash it is written into. */
  readonly chip?: string;
  /** The image, while it is still on this computer; and the table of keys, where the board needs one. */
  readonly image?: string;
  readonly keys?: string;
}

/** Where the vault went; undefined while it is on this computer. Throws `owner-corrupt`. */
export function movedTo(folder: string): Moved | undefined {
  const json = readJson(join(folder, MOVED_FILE));
  if (!json) return undefined;
  const board = json.text("board");
  if (!(board in boards)) throw json.corrupt("board");
  const there = (file: string) => (existsSync(join(folder, file)) ? join(folder, file) : undefined);
  const [image, keys] = [there(IMAGE_FILE), there(KEYS_FILE)];
  const written = json.optional("written");
  const chip = written?.optional("chip")?.text("mac");
  return {
    board: board as BoardName,
    generation: json.number("generation"),
    ...(written ? { written: written.flag("done") ? ("done" as const) : ("begun" as const) } : {}),
    ...(chip === undefined ? {} : { chip }),
    ...(image === undefined ? {} : { image }),
    ...(keys === undefined ? {} : { keys }),
  };
}

/** Before anything that signs from the vault or writes into it. Throws `device-moved`. */
export function ensureVaultHere(folder: string): void {
  const moved = movedTo(folder);
  if (!moved) return;
  throw lngateError(
    "device-moved",
    moved.image
      ? `this device is on its way into a board (${moved.board}); \`lngate device flash\` flashes it, \`lngate device image --take-back\` takes it back`
      : `this device is in its board (${moved.board}); read the board's flash out and give it to \`lngate device image --take-back\``,
  );
}

/**
 * Moves the vault into an image for a board, or says where the image is that was made before. Throws `device-in-use`,
 * `device-moved` (it is in a board already, or on its way into another), `image-size`, `channel-not-open` (a board
 * without a curve needs an open channel).
 */
export function makeImage(folder: string, board: BoardName): Moved & { readonly image: string } {
  const before = movedTo(folder);
  if (before?.board === board && before.image) {
    // A power cut may have come between.
    rmSync(join(folder, FLASH_FILE), { force: true });
    return { ...before, image: before.image };
  }
  ensureVaultHere(folder);
  const { vaultPages, hasCurve } = boards[board];
  const lock = openFileFlash(folder);
  try {
    if (hasCurve ? lock.pageCount > vaultPages : lock.pageCount !== vaultPages)
      throw lngateError(
        "image-size",
        `the device was paired with a flash of ${lock.pageCount} pages, the board ${board} has ${vaultPages}: pair one with --board ${board}`,
      );
    const content = lock.read(0, lock.pageCount * PAGE_BYTES);
    // What the board will find; opening it counts a boot, so on a copy.
    const vault = openCopy(content);
    const keys = hasCurve ? undefined : makeKeyTable(vault);
    const padded = new Uint8Array(vaultPages * PAGE_BYTES).fill(255);
    padded.set(content);
    writeFileAtomic(join(folder, IMAGE_FILE), padded);
    if (keys) writeFileAtomic(join(folder, KEYS_FILE), keys);
    // From here on the image is the device.
    writeJson(join(folder, MOVED_FILE), { version: 1, board, generation: vault.journal.generation - 1 });
  } finally {
    lock.close();
  }
  rmSync(join(folder, FLASH_FILE));
  syncFolder(folder);
  return makeImage(folder, board);
}

/** Before the image is given to anything that may write it into a board (this chip), and when a tool says that it did. */
export function noteWritten(folder: string, written: "begun" | "done", chip?: string): void {
  const moved = movedTo(folder);
  if (!moved || moved.written === "done") return;
  const { board, generation } = moved;
  const mac = moved.chip ?? chip;
  writeJson(join(folder, MOVED_FILE), {
    version: 1,
    board,
    generation,
    written: { done: written === "done", ...(mac === undefined ? {} : { chip: { mac } }) },
  });
}

/**
 * Whether the image has to be written into the board with this chip, in whose flash this is now: not if the device lives there,
 * and has moved on from the image perhaps. A tool that failed may have written all of it: only its chip is tried again then.
 * Throws `image-used` where it may live in another board, or may have lived in this one.
 */
export function needsVault(folder: string, deviceId: string, content: Uint8Array, chip: string): boolean {
  const moved = movedTo(folder);
  const held = heldIn(content);
  if (!moved || (held?.deviceId === deviceId && held.generation >= moved.generation)) return false;
  if (moved.written !== "done" && (moved.chip ?? chip) === chip) return true;
  const where =
    moved.chip === undefined
      ? "into a board already, and it is not in this one"
      : moved.chip === chip
        ? `into this board already (chip ${chip}), and it is not there any more`
        : `into another board (chip ${moved.chip}, this is ${chip})${moved.written === "done" ? "" : ", perhaps wholly: take that one"}`;
  throw lngateError(
    "image-used",
    `this image was written ${where}: written twice it would use records twice, which gives the key away. Flash the board that has it; if that is lost, or was erased, \`lngate owner freeze\` ends the channel`,
  );
}

/** The device in a board's flash, and how often that was written; null if there is none. */
function heldIn(content: Uint8Array): { readonly deviceId: string; readonly generation: number } | null {
  try {
    const { identity, journal } = openCopy(content);
    return { deviceId: identity.deviceId, generation: journal.generation - 1 };
  } catch (error) {
    if (codeOf(error) === undefined) throw error;
    return null;
  }
}

/** The gateway has seen the board: the image on this computer would be an old one. */
export function forgetImage(folder: string): void {
  for (const file of [IMAGE_FILE, KEYS_FILE]) {
    const path = join(folder, file);
    if (!existsSync(path)) continue;
    writeFileAtomic(path, new Uint8Array(0));
    rmSync(path);
  }
  syncFolder(folder);
}

/**
 * Makes what was read out of a board (or the image itself, if it was never written) the vault of this computer again. The
 * board must not run any more. Throws `image-wrong-device`, `image-outdated` for a flash older than `seenGeneration`,
 * the last that the gateway saw, or for the image where that was written, and what `openVault` throws.
 */
export function takeBack(folder: string, deviceId: string, file: string, seenGeneration: number): void {
  const moved = movedTo(folder);
  if (!moved) throw lngateError("device-not-moved", "the device is on this computer already");
  let content: Uint8Array;
  try {
    content = new Uint8Array(readFileSync(file));
  } catch (error) {
    throw lngateError("file-unreadable", `${file} can't be read: ${(error as Error).message}`);
  }
  const { identity, journal } = openCopy(content);
  if (identity.deviceId !== deviceId)
    throw lngateError("image-wrong-device", `${file} is the flash of device ${identity.deviceId}`);
  // A file like the image may be a copy of it: that a board has started shows that it is what the board holds.
  if (moved.written && journal.generation - 1 <= moved.generation)
    throw lngateError(
      "image-outdated",
      `${file} is the image, or older, and the image may have been used in a board since: start the board once, read its flash out then, and take that back`,
    );
  if (journal.generation - 1 < Math.max(seenGeneration, moved.generation))
    throw lngateError(
      "image-outdated",
      `${file} is older than what the gateway has seen of this device: with it records would be used twice. Read the board's flash out again`,
    );
  writeFileAtomic(join(folder, FLASH_FILE), content);
  rmSync(join(folder, MOVED_FILE));
  syncFolder(folder);
  forgetImage(folder);
}

function openCopy(content: Uint8Array): Vault {
  if (content.length === 0 || content.length % PAGE_BYTES !== 0)
    throw lngateError("flash-geometry", `${content.length} bytes are no number of pages`);
  return openVault(memoryFlash(PAGE_BYTES, content.length / PAGE_BYTES, content));
}

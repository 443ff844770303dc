/**
 * Looks at the exit that a device holds, and takes it out: of the node board's folder, of a text that a board has
 * printed (device/exit-text.ts), of an image of a board's flash.
 *
 * An exit is good for publishing only if the device signs and revokes nothing after it. A device that runs here is ended
 * by this program, one that prints its exit has ended itself. An image proves nothing by itself: a channel that is still
 * open in it may have moved on, unless the owner knows that the board never ran again.
 *
 * The highest state that was ever seen of each channel is remembered: by it an old image gives itself away.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { commitmentSecrets, contextOf } from "../../device/board-context.ts";
import { openNodeBoard } from "../../device/boards/node/board.ts";
import { type Exit, exitOf } from "../../device/channel/exiting.ts";
import { transition } from "../../device/channel/machine.ts";
import { type ChannelState, type ChannelSummary, readState } from "../../device/channel/state.ts";
import { openDevice } from "../../device/device.ts";
import { exitTextCodec, exitTextMac } from "../../device/exit-text.ts";
import { derivedKeys } from "../../device/keys/derived.ts";
import type { MemoryFlash } from "../../device/vault/memory-flash.ts";
import { memoryFlash } from "../../device/vault/memory-flash.ts";
import { openVault, type Vault } from "../../device/vault/vault.ts";
import { equal, fromHex } from "../../src/bytes/bytes.ts";
import { decodeValue, type ValueOf } from "../../src/bytes/schema.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { ensureVaultHere } from "../board/image.ts";
import { readDeviceInfo } from "../folder/device-files.ts";
import { chooseDevice, deviceFolder, FLASH_FILE, type Owner, readJson, writeJson } from "../folder/folder.ts";
import { deviceSecrets } from "../folder/seed.ts";
import { type ExitSource, ensurePublishable } from "./exit-file.ts";

const PAGE_BYTES = 4096;
const SEEN_FILE = "seen.json";
const MAC_BYTES = 32;

/** An exit, and the device that it is of. */
export interface HeldExit {
  readonly source: ExitSource;
  readonly exit: Exit;
}

/**
 * The exit in an image of a device's flash (the node board's file, even while the device runs, or one read out of a
 * chip). Throws `exit-none`, `vault-…`, and `exit-not-newest` for an image older than what was seen before.
 */
export function lookAtExit(path: string, image = join(path, FLASH_FILE)): HeldExit {
  const vault = vaultIn(image);
  const { exit } = exitIn(path, vault);
  return { source: sourceOf(vault), exit };
}

/** Every exit in such an image: of the present channel, if it has one, and of those before it that are kept. */
export function lookAtExits(path: string, image = join(path, FLASH_FILE)): HeldExit[] {
  const vault = vaultIn(image);
  const state = readState(vault.journal);
  noteSeen(path, state);
  const { books, parameters, holder, former } = state;
  const indexes = (former ?? []).map(({ index }) => index);
  if (holder !== null && parameters?.funding) indexes.push(books.index);
  const context = contextOf({ vault, curve: nobleCurve, now: () => Date.now(), ticks: () => 0 });
  return indexes.map(index => ({ source: sourceOf(vault), exit: exitOf(state, context, index) }));
}

/**
 * Reads the exit out of the node board in this folder and ends the channel's life on the device: nothing is signed or
 * revoked any more. Again and again it gives the same. Throws `device-in-use`, `exit-none`, `vault-rolled-back`,
 * `exit-not-newest`, `exit-invalid` (the channel then goes on).
 */
export function takeExitOut(path: string, index?: number): HeldExit {
  ensureVaultHere(path);
  const board = openNodeBoard(path);
  try {
    const { vault } = board;
    const { exit, changes } = exitIn(path, vault, index);
    const held = publishable(sourceOf(vault), exit);
    if (changes.length > 0) vault.journal.commit(changes);
    return held;
  } finally {
    board.close();
  }
}

/**
 * The exits in this folder's flash of channels that have ended for the device: each is the last state of its channel, for
 * nothing of it is signed or revoked any more. None where the device is in its board. Throws `vault-…`, `exit-not-newest`.
 */
export function endedExits(path: string): HeldExit[] {
  const image = join(path, FLASH_FILE);
  if (!existsSync(image)) return [];
  const vault = vaultIn(image);
  const { books, holder, parameters, former } = readState(vault.journal);
  const present = hasEnded(books) && holder !== null && parameters?.funding ? [books.index] : [];
  const indices = new Set([...(former ?? []).map(({ index }) => index), ...present]);
  return [...indices].map(index => ({ source: sourceOf(vault), exit: exitIn(path, vault, index).exit }));
}

/** Forgets the exits of channels up to this number on the node board in this folder. Throws `device-in-use`. */
export function forgetExits(path: string, channel: number): void {
  const board = openNodeBoard(path);
  try {
    openDevice(board).forget(channel);
  } finally {
    board.close();
  }
}

/**
 * The exit in an image that was read out of a board. `erased`: the owner's word that the board was erased or destroyed
 * right after, and has not run in between. Throws `exit-not-ended` where that is needed, `vault-missing` where there is no
 * vault in the file, and what `takeExitOut` throws.
 */
export function takeExitFromImage(path: string, image: string, erased: boolean, index?: number): HeldExit {
  const vault = vaultIn(image);
  const { books } = readState(vault.journal);
  const { exit } = exitIn(path, vault, index);
  if (!erased && exit.index === books.index && !hasEnded(books))
    throw lngateError(
      "exit-not-ended",
      `in this image the channel is still open: whatever the board signs from now on makes this exit poison. Have the board print its exit instead (device.exit(), then --from FILE); if it can't run any more, erase it, and say --erased. If it has run since the image was read out, erasing does not help: then only the bridge can close`,
    );
  return publishable(sourceOf(vault), exit);
}

/**
 * The exit that a board has printed when its channel ended (`device.exit()`); what else is in the text does not matter.
 * Throws `exit-damaged`, `exit-none`, `exit-not-newest`, `device-unknown`.
 */
export function takeExitFromText({ folder, keys }: Owner, printed: string, index?: number): HeldExit {
  const damaged = (why: string) => lngateError("exit-damaged", `the exit in this text can't be used: ${why}`);
  // The last one counts. A console may have broken it into lines.
  const [hex] = /lngate-exit:([0-9a-f\s]+)\.(?![\s\S]*lngate-exit:)/.exec(printed)?.slice(1) ?? [];
  if (hex === undefined)
    throw damaged("there is none from “lngate-exit:” up to its final dot; print it again");
  let content: Uint8Array;
  let mac: Uint8Array;
  let text: ValueOf<typeof exitTextCodec>;
  try {
    const bytes = fromHex(hex.replace(/\s/g, ""));
    content = bytes.subarray(0, bytes.length - MAC_BYTES);
    mac = bytes.subarray(bytes.length - MAC_BYTES);
    text = decodeValue(exitTextCodec, content);
  } catch {
    throw damaged("characters are missing or wrong; print it again");
  }
  const { deviceId, values } = text;
  const path = deviceFolder(folder, chooseDevice(folder, deviceId));
  const { network, keys: identity } = readDeviceInfo(path);
  const { commitmentMaster } = deviceSecrets(keys.hotSecret, identity.fundingKey, new Uint8Array(32));
  if (!equal(mac, exitTextMac(commitmentMaster, content)))
    throw damaged(
      "its seal does not fit: characters are missing or wrong, or it is of another owner's device",
    );
  const state = readState({
    keys: () => values.map(({ key }) => key),
    get: key => values.find(each => each.key === key)?.value ?? null,
  });
  const chosen = channelIn(state, index);
  if (chosen === state.books.index && !hasEnded(state.books))
    throw damaged("the device has not ended its channel");
  noteSeen(path, state);
  const secrets = commitmentSecrets(commitmentMaster);
  const exit = exitOf(state, { identity, ...derivedKeys(identity, nobleCurve, secrets) }, chosen);
  return publishable({ network, deviceId, keys: identity, commitmentMaster }, exit);
}

/** Throws `exit-invalid` for an exit that nobody can publish: before a channel is ended for it. */
function publishable(source: ExitSource, exit: Exit): HeldExit {
  ensurePublishable(source, exit);
  return { source, exit };
}

function sourceOf({ identity }: Vault): ExitSource {
  const { network, deviceId, commitmentMaster } = identity;
  return { network, deviceId, keys: identity, commitmentMaster };
}

/** Nothing of the present channel is signed or revoked any more. */
function hasEnded({ phase }: ChannelSummary): boolean {
  return phase === "none" || phase === "exited" || phase === "locked";
}

/** The exit, and what has to be written so that it is the device's last act. */
function exitIn(path: string, vault: Vault, index?: number) {
  const context = contextOf({ vault, curve: nobleCurve, now: () => Date.now(), ticks: () => 0 });
  const state = readState(vault.journal);
  const chosen = channelIn(state, index);
  noteSeen(path, state);
  const { state: ended, effects } = transition(state, context, { type: "exit", index: chosen });
  const changes = effects.flatMap(effect => (effect.type === "persist" ? effect.changes : []));
  return { exit: exitOf(ended, context, chosen), changes };
}

/**
 * Which channel is meant: the latest unless its number is given. One that is closed counts as well: that it is closed is
 * only the gateway's word, and it may have been closed with this very exit. Throws `exit-none`.
 */
function channelIn({ books, parameters, holder, former }: ChannelState, index?: number): number {
  const present = holder !== null && parameters?.funding ? [books.index] : [];
  const held = [...(former ?? []).map(each => each.index).reverse(), ...present];
  const chosen = index ?? held[held.length - 1];
  if (chosen === undefined) throw lngateError("exit-none", "the device holds no channel that could be left");
  if (!held.includes(chosen))
    throw lngateError(
      "exit-none",
      held.length === 0
        ? `the device holds no exit of channel ${chosen}, nor of any other`
        : `the device holds no exit of channel ${chosen}; it holds those of ${held.join(", ")}`,
    );
  return chosen;
}

// ── images ────────────────────────────────────────────────────────────────────────────────────────────────

/** The vault in a file: an image of it alone, or of the whole chip; as bytes, or as text in hex or base64. */
function vaultIn(file: string): Vault {
  const image = bytesIn(contentOf(file));
  let trouble: unknown;
  for (let at = 0; at + PAGE_BYTES <= image.length; at += PAGE_BYTES) {
    try {
      return openVault(flashAt(image, at));
    } catch (error) {
      const code = codeOf(error);
      if (code === undefined) throw error;
      // Any other page than a vault's first is none, as a whole.
      if (code !== "vault-empty" && code !== "vault-corrupt") throw error;
      trouble ??= error;
    }
  }
  throw trouble ?? lngateError("vault-missing", `${file} is too short for an image of a device's flash`);
}

function contentOf(file: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(file));
  } catch (error) {
    throw lngateError("file-unreadable", `${file} can't be read: ${(error as Error).message}`);
  }
}

function flashAt(image: Uint8Array, at: number): MemoryFlash {
  const pages = Math.floor((image.length - at) / PAGE_BYTES);
  return memoryFlash(PAGE_BYTES, pages, image.subarray(at, at + pages * PAGE_BYTES));
}

/** A dump that went over a console is text. */
function bytesIn(content: Uint8Array): Uint8Array {
  const isText =
    content.length > 0 && content.every(byte => (byte >= 32 && byte < 127) || byte === 10 || byte === 13);
  if (!isText) return content;
  const text = new TextDecoder().decode(content).replace(/\s/g, "");
  return new Uint8Array(Buffer.from(text, /^[0-9a-f]*$/i.test(text) ? "hex" : "base64"));
}

/** Throws `exit-not-newest` if a later state was seen before. */
function noteSeen(path: string, { books, holder }: ChannelState): void {
  const [channel, number] = [books.index, holder?.number ?? 0];
  const file = join(path, SEEN_FILE);
  const json = readJson(file);
  const seen = json && { channel: json.number("channel"), number: json.number("state") };
  if (seen && (seen.channel > channel || (seen.channel === channel && seen.number > number)))
    throw lngateError(
      "exit-not-newest",
      `the flash holds state ${number} of channel ${channel}, but state ${seen.number} of channel ${seen.channel} was seen before: an old image was put back. Its exit may be revoked; use the newer image, or have the bridge close the channel (lngate owner freeze)`,
    );
  if (seen?.channel !== channel || seen.number !== number)
    writeJson(file, { version: 1, channel, state: number });
}

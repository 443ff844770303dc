/**
 * Looks at the exit that a device holds, without ending the channel, and verifies it: for boards that can't do so
 * themselves, and to see what leaving would bring. It also remembers the highest state that was ever seen of each
 * channel, by which an old image of a flash gives itself away.
 */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { openNodeBoard } from "../device/boards/node/board.ts";
import type { Exit } from "../device/channel/exiting.ts";
import { transition } from "../device/channel/machine.ts";
import { readState } from "../device/channel/state.ts";
import { contextOf } from "../device/context.ts";
import { memoryFlash } from "../device/vault/memory-flash.ts";
import { openVault, type Vault } from "../device/vault/vault.ts";
import { nobleCurve } from "../src/bytes/curve.ts";
import { lngateError } from "../src/errors.ts";
import { FLASH_FILE, readJson, writeJson } from "./folder.ts";
import type { ExitSource } from "./recover-exit.ts";

const PAGE_BYTES = 4096;
const SEEN_FILE = "seen.json";

export interface HeldExit {
  readonly source: ExitSource;
  readonly exit: Exit;
}

/**
 * The exit in an image of a device's flash (the node board's file, even while the device runs, or one read out of a
 * chip). Throws `exit-none`, `vault-…`, and `exit-not-newest` for an image older than what was seen before.
 */
export function lookAtExit(deviceFolder: string, image = join(deviceFolder, FLASH_FILE)): HeldExit {
  const { size } = statSync(image);
  const flash = memoryFlash(PAGE_BYTES, size / PAGE_BYTES, new Uint8Array(readFileSync(image)));
  const vault = openVault(flash);
  const held = { source: sourceOf(vault), exit: exitIn(vault).exit };
  noteSeen(deviceFolder, held.exit);
  return held;
}

/**
 * Reads the exit out of the node board in this folder and ends the channel's life on the device: nothing is signed or
 * revoked any more. Again and again it gives the same. Throws `device-in-use`, `exit-none`, `vault-rolled-back`,
 * `exit-not-newest`.
 */
export function takeExitOut(deviceFolder: string, index?: number): HeldExit {
  const board = openNodeBoard(deviceFolder);
  try {
    const { vault } = board;
    const { exit, changes } = exitIn(vault, index);
    noteSeen(deviceFolder, exit);
    if (changes.length > 0) vault.journal.commit(changes);
    return { source: sourceOf(vault), exit };
  } finally {
    board.close();
  }
}

function sourceOf({ identity }: Vault): ExitSource {
  const { network, deviceId, commitmentMaster } = identity;
  return { network, deviceId, keys: identity, commitmentMaster };
}

/** The exit, and what has to be written so that it is the device's last act. */
function exitIn(vault: Vault, index?: number) {
  const state = readState(vault.journal);
  const context = contextOf({ vault, curve: nobleCurve, now: () => Date.now() });
  const { phase, index: present } = state.books;
  if (state.holder === null || phase === "opening")
    throw lngateError("exit-none", "the device holds no channel that could be left");
  // Its exit is still there, in case the close never came to the chain: that is only the gateway's word.
  if (phase === "none" && index === undefined)
    throw lngateError(
      "exit-none",
      `the gateway says that channel ${present} is closed; if the chain does not show it, say --channel ${present}`,
    );
  const { effects } = transition(state, context, { type: "exit", index: index ?? present });
  const exit = effects.find(effect => effect.type === "exit");
  if (exit?.type !== "exit") throw lngateError("exit-none", "the device holds no exit");
  const changes = effects.flatMap(effect => (effect.type === "persist" ? effect.changes : []));
  return { exit: exit.exit, changes };
}

/** Throws `exit-not-newest` if a later state of this channel was seen before. */
function noteSeen(deviceFolder: string, { index, number }: Exit): void {
  const file = join(deviceFolder, SEEN_FILE);
  const json = readJson(file);
  const seen = json && json.number("channel") === index ? json.number("state") : -1;
  if (json && (json.number("channel") > index || seen > number))
    throw lngateError(
      "exit-not-newest",
      `the flash holds state ${number} of channel ${index}, but state ${Math.max(seen, 0)} of channel ${json.number("channel")} was seen before: an old image was put back. Its exit may be revoked; use the newer image, or have the bridge close the channel (lngate owner freeze)`,
    );
  if (number > seen) writeJson(file, { version: 1, channel: index, state: number });
}

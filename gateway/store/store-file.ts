/** The gateway's folder as files: that they are whole, before lmdb believes them, and nobody else's to read. */
import { execFile } from "node:child_process";
import { chmodSync, existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { lngateError } from "../../src/errors.ts";

/** What all these sentences end with. */
const REMEDY =
  "Look at the disk. Never bring an old copy back: the channels in it are revoked. If it stays lost, give the gateway another dataDir and have the owners close their channels with `lngate device exit` (docs/recovery.md)";

/** The folder of lmdb's files. */
export function storeFolder(dataDir: string): string {
  return join(dataDir, "store");
}

/**
 * lmdb takes a file that is empty or missing for a new one, and the gateway would forget its channels. Throws
 * `store-damaged` where there was one.
 */
export function ensureStoreFile(dataDir: string): void {
  const file = join(storeFolder(dataDir), "data.mdb");
  const size = statSync(file, { throwIfNoEntry: false })?.size;
  const records = join(dataDir, "records");
  const wasUsed =
    existsSync(storeFolder(dataDir)) || (existsSync(records) && readdirSync(records).length > 0);
  if (size === 0 || (size === undefined && wasUsed))
    throw lngateError(
      "store-damaged",
      `${file} is ${size === 0 ? "empty" : "missing"}, and the folder has been used. ${REMEDY}. If no device was ever paired with this gateway, remove the folder`,
    );
}

/**
 * Reads the whole store in a process of its own, which may die of it. Throws `store-damaged`. `onProcess` gets what
 * ends the reading early.
 */
export async function ensureReadableStore(
  dataDir: string,
  onProcess: (end: () => void) => void = () => {},
): Promise<void> {
  ensureStoreFile(dataDir);
  const folder = storeFolder(dataDir);
  if (!existsSync(folder)) return;
  const trouble = await new Promise<string | undefined>(resolve => {
    const child = execFile(process.execPath, [checkFile(), folder], (error, _out, errors) => {
      if (!error) resolve(undefined);
      else resolve(error.signal ?? /^\w*Error: (.*)$/m.exec(errors)?.[1] ?? error.message);
    });
    onProcess(() => child.kill("SIGKILL"));
  });
  if (trouble !== undefined)
    throw lngateError(
      "store-damaged",
      `${join(folder, "data.mdb")} is damaged (reading it ends with: ${trouble}). ${REMEDY}`,
    );
}

/**
 * Takes from everybody but the owner what they may do with the folder, its folders and its files: keys are in them.
 * Returns what has been changed. Throws what the file system does.
 */
export function closeToOthers(dataDir: string): string[] {
  const changed: string[] = [];
  const close = (path: string) => {
    const { mode } = statSync(path);
    if ((mode & 0o077) === 0) return;
    chmodSync(path, mode & 0o700);
    changed.push(path);
  };
  close(dataDir);
  for (const folder of [storeFolder(dataDir), join(dataDir, "records")]) {
    if (!existsSync(folder)) continue;
    close(folder);
    for (const name of readdirSync(folder)) close(join(folder, name));
  }
  return changed;
}

/** Beside the program that runs, or, from the sources (tests), in dist/. */
function checkFile(): string {
  const here = fileURLToPath(import.meta.url);
  return fileURLToPath(
    new URL(here.endsWith(".ts") ? "../../dist/store-check.mjs" : "./store-check.mjs", import.meta.url),
  );
}

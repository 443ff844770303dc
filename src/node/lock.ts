/**
 * One process at a time. The lock is flock(2)'s: the kernel holds it on the file itself, for as long as the process
 * lives and however it ends. Numbers of processes play no part, so that containers and reboots cannot confuse it, and
 * where a folder is locked there is no file that somebody might clear away.
 *
 * Node has no flock, but such a lock belongs to the open file and not to the process that asked for it: the program
 * flock (util-linux, busybox), or perl where that is missing (macOS), is handed our open file, takes the lock, and
 * ends. There is no weaker fallback: where neither is there, or the file system has no locks, nothing is opened.
 */
import { spawnSync } from "node:child_process";
import { closeSync, constants, openSync, statSync } from "node:fs";
import { lngateError } from "../errors.ts";

/** The argument of flock(2): LOCK_SH 1, LOCK_EX 2, LOCK_NB 4. */
type Operation = 2 | 5 | 6;

const PERL = "open(my $f, '<&=3') or exit 2; exit(flock($f, $ARGV[0]) ? 0 : $!{EWOULDBLOCK} ? 1 : 2)";
const PROGRAMS: readonly [name: string, args: (operation: Operation) => string[]][] = [
  ["flock", operation => [operation & 1 ? "-s" : "-x", ...(operation & 4 ? ["-n"] : []), "3"]],
  ["perl", operation => ["-e", PERL, String(operation)]],
];
/** Somebody who only looks (`isLocked`) is gone after some milliseconds, and a process that was killed soon. */
const PATIENCE_MS = 1_000;

/**
 * Takes a folder, or a file (made if it is missing, and left there), for this process until the function it returns is
 * called or the process has ended. Throws what `busy` makes if another has it, or this one already, and `lock-unavailable`.
 */
export function lockPath(path: string, busy: () => Error): () => void {
  const file = openToLock(path);
  try {
    if (!flock(path, file, 6) && !flock(path, file, 2)) throw busy();
  } catch (error) {
    closeSync(file);
    throw error;
  }
  let held = true;
  return () => {
    if (held) closeSync(file);
    held = false;
  };
}

/** Whether a process has this folder or file; false if it is not there. Throws `lock-unavailable`. */
export function isLocked(path: string): boolean {
  if (!statSync(path, { throwIfNoEntry: false })) return false;
  const file = openToLock(path);
  try {
    return !flock(path, file, 5);
  } finally {
    closeSync(file);
  }
}

/** Node opens files such that programs it starts do not get them: the lock ends with this process alone. */
function openToLock(path: string): number {
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory();
  return openSync(path, isFolder ? constants.O_RDONLY : constants.O_RDWR | constants.O_CREAT, 0o600);
}

/** False if another has the lock; the operation that waits gives up after a moment. */
function flock(path: string, file: number, operation: Operation): boolean {
  for (const [name, args] of PROGRAMS) {
    const { status, signal, error, stderr } = spawnSync(name, args(operation), {
      stdio: ["ignore", "ignore", "pipe", file],
      encoding: "utf8",
      ...(operation & 4 ? {} : { timeout: PATIENCE_MS }),
    });
    if (status === 0) return true;
    if (status === 1 || (signal === "SIGTERM" && !(operation & 4))) return false;
    if ((error as NodeJS.ErrnoException | undefined)?.code === "ENOENT") continue;
    throw lngateError(
      "lock-unavailable",
      `${path} can't be locked (${name}: ${stderr?.trim() || error?.message || `ended with ${status ?? signal}`}): it has to be on a local disk`,
    );
  }
  throw lngateError(
    "lock-unavailable",
    `${path} can't be locked: neither the program flock (package util-linux) nor perl is there; install one of them`,
  );
}

/**
 * One gateway per data folder. Two that run the same channels would publish revoked states and lose the money, so
 * the claim is made in a write transaction of the store, which the operating system serialises between processes.
 */
import { readFileSync } from "node:fs";
import type { Database } from "lmdb";
import { lngateError } from "../src/errors.ts";

/** Says which process it is, and not only its number, which is given out again. */
interface Holder {
  readonly pid: number;
  /** Start time and boot of that process where the system tells (Linux), else empty. */
  readonly birth: string;
}

const KEY = "gateway-process";

/** Claims the folder for this process. Throws `gateway-in-use`. Returns what gives it back. */
export function claimDataFolder(store: Database<unknown, string>, dataDir: string): () => void {
  const self: Holder = { pid: process.pid, birth: birthOf(process.pid) };
  store.transactionSync(() => {
    const holder = store.get(KEY) as Holder | undefined;
    if (holder && isAlive(holder))
      throw lngateError(
        "gateway-in-use",
        `another gateway (process ${holder.pid}) runs on ${dataDir}; two on one folder would lose money`,
      );
    store.putSync(KEY, self);
  });
  let held = true;
  return () => {
    if (held) store.removeSync(KEY);
    held = false;
  };
}

/** The process number of the gateway that runs on this store, if one does. */
export function runningGateway(store: Database<unknown, string>): number | undefined {
  const holder = store.get(KEY) as Holder | undefined;
  return holder && isAlive(holder) ? holder.pid : undefined;
}

function isAlive({ pid, birth }: Holder): boolean {
  if (birth !== "") return birthOf(pid) === birth;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function birthOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // From field 3 on; the second field is a name in parentheses that may contain anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state, start] = [fields[0], fields[19]];
    if (state === "Z") return "ended";
    return `${start} ${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()}`;
  } catch {
    return "";
  }
}

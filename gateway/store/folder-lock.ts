/** One gateway per data folder: two that run the same channels would publish revoked states and lose the money. */
import { mkdirSync } from "node:fs";
import { lngateError } from "../../src/errors.ts";
import { isLocked, lockPath } from "../../src/node/lock.ts";

/** Takes the folder, made if it is missing, for this process. Throws `gateway-in-use`. Returns what gives it back. */
export function claimDataFolder(dataDir: string): () => void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  return lockPath(dataDir, () =>
    lngateError(
      "gateway-in-use",
      `another gateway runs on ${dataDir}; two on one folder would lose money, so stop that one first`,
    ),
  );
}

/** Whether a gateway runs on this folder. */
export function gatewayRuns(dataDir: string): boolean {
  return isLocked(dataDir);
}

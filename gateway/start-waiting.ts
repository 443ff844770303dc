/** A node that waits for the chain goes on starting beside the others, and one that fails stops none of them. */
import type { Log } from "./log.ts";

/**
 * Starts a node (`what`, for the log). Resolves when it has started or `failed` has dealt with that it has not, or as soon as
 * it says that it has to wait for blocks; rejects with what `failed` throws.
 */
export function untilWaiting(
  log: Log,
  what: string,
  start: (onWaiting: () => void) => Promise<void>,
  failed: (error: unknown) => Promise<void>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let isWaiting = false;
    const onWaiting = () => {
      if (!isWaiting)
        log.error(`${what} waits for blocks that bitcoind can't show: it is not served until it can`);
      isWaiting = true;
      resolve();
    };
    start(onWaiting)
      .then(() => {
        if (isWaiting) log.info(`${what} is served again`);
      }, failed)
      .then(resolve, reject);
  });
}

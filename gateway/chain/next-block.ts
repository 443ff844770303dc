/** Waits for bitcoind's next block: as it allows, which differs between its versions and what stands in between. */
import { shownHash } from "../../src/bitcoin/transaction.ts";
import { codeOf } from "../../src/errors.ts";
import { type BitcoinRpc, passes } from "../../src/node/bitcoind-rpc.ts";
import type { BlockPoint } from "./chain-client.ts";

/** How long a wait for a new block lasts at most before bitcoind is asked again. */
const WAIT_MS = 10_000;
const MAX_BROKEN_OFF = 3;
/** How often bitcoind is asked where it can't be waited for. */
const POLL_MS = 1_000;
const PAUSE_MS = 250;

/** For one who waits at a time. */
export class NextBlock {
  private readonly rpc: BitcoinRpc;
  private readonly onPolling: ((error: Error) => void) | undefined;
  private wakeUp: () => void = () => {};
  /** Newer versions compare with a block that we name, some do not wait at all. */
  private way: "named" | "unnamed" | "not at all" = "named";
  /** Waits in a row that broke off although the chain could be read. */
  private brokenOff = 0;

  /** `onPolling`: bitcoind can't be waited for, and is asked again and again instead. */
  constructor(rpc: BitcoinRpc, onPolling: ((error: Error) => void) | undefined) {
    this.rpc = rpc;
    this.onPolling = onPolling;
  }

  /** Returns when there may be a block after this one. Whether bitcoind is in trouble, reading the chain shows, and not this. */
  async after(last: BlockPoint | undefined): Promise<void> {
    if (this.way === "not at all") return this.pause(POLL_MS);
    const isNamed = this.way === "named";
    const known = isNamed && last ? [shownHash(last.hash)] : [];
    // Without a block that we name, one that came in just now would be missed: so not for long.
    const ms = isNamed ? WAIT_MS : POLL_MS;
    try {
      await Promise.race([this.rpc.call("waitfornewblock", [ms, ...known], ms + 30_000), this.woken()]);
      this.brokenOff = 0;
    } catch (error) {
      if (codeOf(error) === undefined) throw error;
      if (isNamed && codeOf(error) === "bitcoind-refused") this.way = "unnamed";
      // Each wait that something in between cuts short keeps one of bitcoind's threads: it has few.
      else if (!passes(error) || ++this.brokenOff >= MAX_BROKEN_OFF) {
        this.way = "not at all";
        this.onPolling?.(error as Error);
      }
      await this.pause(PAUSE_MS);
    }
  }

  /** bitcoind may come back as another version, or with other rules. */
  beginAnew(): void {
    this.way = "named";
    this.brokenOff = 0;
  }

  /** Waits this long, or until `wake`. */
  pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, ms);
      this.wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Ends the wait. */
  wake(): void {
    this.wakeUp();
  }

  private woken(): Promise<void> {
    return new Promise(resolve => {
      this.wakeUp = resolve;
    });
  }
}

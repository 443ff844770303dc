/**
 * Payments that wait for the bridge, or for room in what may be in flight, before LDK is asked. Each payment hash waits once,
 * however often it is asked for meanwhile: of two that wait, one could give up and the other pay what was called failed.
 *
 * Each that waits costs a look at every turn of LDK, in a thread that serves all devices. A device has as many payments under
 * way as its commitments hold HTLCs, and those that have their receipts may still be in them: twice as many wait, at most.
 */
import { toHex } from "../../src/bytes/bytes.ts";
import { MAX_HTLCS, MAX_INCOMING } from "../../src/channel/terms.ts";
import { lngateError } from "../../src/errors.ts";

export const MOST_WAITING = 2 * (MAX_HTLCS - MAX_INCOMING);

export class Waiting {
  private readonly inside = new Set<string>();

  has(paymentHash: Uint8Array): boolean {
    return this.inside.has(toHex(paymentHash));
  }

  /** Until what `begin` returns resolves, or rejects with why it did not begin. Throws `too-many-payments`. */
  async until(paymentHash: Uint8Array, begin: () => Promise<void>): Promise<void> {
    if (this.inside.size >= MOST_WAITING)
      throw lngateError("too-many-payments", `${MOST_WAITING} payments wait to be begun already`);
    const key = toHex(paymentHash);
    this.inside.add(key);
    try {
      await begin();
    } finally {
      this.inside.delete(key);
    }
  }
}

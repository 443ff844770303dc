/**
 * Payments that wait for the bridge, or for room in what may be in flight, before LDK is asked. Each payment hash waits once,
 * however often it is asked for meanwhile: of two that wait, one could give up and the other pay what was called failed.
 */
import { toHex } from "../../src/bytes/bytes.ts";

export class Waiting {
  private readonly inside = new Set<string>();

  has(paymentHash: Uint8Array): boolean {
    return this.inside.has(toHex(paymentHash));
  }

  /** Until `began` resolves, or rejects with why it did not begin. */
  async until(paymentHash: Uint8Array, began: Promise<void>): Promise<void> {
    const key = toHex(paymentHash);
    this.inside.add(key);
    try {
      await began;
    } finally {
      this.inside.delete(key);
    }
  }
}

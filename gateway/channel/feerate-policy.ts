/** What feerates LDK may use for a device's channel: for its commitments, and for a mutual close. */
import type { FeeEstimator } from "../chain/fees.ts";
import type { LightningNode } from "../lightning/node.ts";
import {
  commitmentFeerate,
  type DeviceBounds,
  ensureFeerate,
  mostForClosing,
  type RecordsLeft,
} from "./bounds.ts";
import type { BridgeWords } from "./bridge.ts";
import type { DeviceChannel } from "./channel.ts";

/** How long a channel's feerate rests after it has risen above what every peer takes: peers average theirs over some time. */
const RISE_AGAIN_MS = 600_000;
/** Lightest mutual close, weight units: a fee above the most that this may pay is above LDK's most. */
const LIGHTEST_CLOSING = 670;

/** What `FeeratePolicy` depends on. */
export interface FeeratePolicyOptions {
  readonly channel: DeviceChannel;
  readonly words: BridgeWords;
  readonly fees: FeeEstimator;
  /** What LDK has; undefined until it runs. */
  node(): LightningNode | undefined;
  /** What the device signs; undefined as long as it has not said. */
  bounds(): DeviceBounds | undefined;
  recordsLeft(): RecordsLeft;
}

/** See the head of this file. All feerates: sat per 1000 weight units. */
export class FeeratePolicy {
  private readonly options: FeeratePolicyOptions;
  /** The least that a mutual close pays: another one is another transaction to sign. */
  private leastForClosing = 0;
  /** The bridge names fees for a close without saying what else it would take: LDK's most is the device's. */
  private closesTheOldWay = false;
  /** By performance.now(). */
  private roseAt = performance.now();

  constructor(options: FeeratePolicyOptions) {
    this.options = options;
  }

  /** The one that LDK may give the channel's commitments; `present`: what it has, undefined for a new one. */
  commitment(present: number | undefined): number {
    const { fees, bounds, node, recordsLeft } = this.options;
    const chosen = commitmentFeerate(
      fees.feerate(present === undefined ? "opening" : "commitment"),
      bounds(),
      present,
      node()?.pendingPayments() ?? 0,
      recordsLeft(),
      performance.now() - this.roseAt >= RISE_AGAIN_MS,
      fees.feerate("minimum"),
    );
    if (present === undefined || chosen > present) this.roseAt = performance.now();
    return chosen;
  }

  /** Throws `feerates-apart` if no channel should be opened with the feerates that the device signs. */
  ensureForOpening(): void {
    const { fees, bounds } = this.options;
    ensureFeerate(fees.feerate("opening"), fees.feerate("minimum"), bounds());
  }

  /** Between what mempools take and what brings it into the next two blocks, and never more than the device signs. */
  closing(): { readonly least: number; readonly most: number } {
    const { fees, bounds } = this.options;
    const minimum = fees.feerate("minimum");
    if (this.leastForClosing < minimum)
      this.leastForClosing = this.leastForClosing === 0 ? minimum : Math.ceil(minimum * 1.25);
    const allowed = mostForClosing(bounds());
    const wanted =
      this.closesTheOldWay && allowed < Number.POSITIVE_INFINITY ? allowed : fees.feerate("urgent");
    const least = Math.min(this.leastForClosing, allowed);
    return { least, most: Math.max(least, Math.min(wanted, allowed)) };
  }

  /**
   * A bridge that names one fee and no range takes no other: LDK would close by force if it is above its most. So its most
   * becomes what the device would sign, with which the close begins again. What is above that as well LDK does not get to see:
   * then this is false.
   */
  closeOffered(feeSat: number): boolean {
    const { channel, words } = this.options;
    const node = this.options.node();
    const { bridge } = channel;
    if (!node || !bridge) return true;
    if (feeSat * 1000 <= this.closing().most * LIGHTEST_CLOSING) return true;
    if (this.closesTheOldWay)
      words.heard(`(a fee of ${feeSat} sat for the mutual close, which is more than the device signs)`);
    else {
      this.closesTheOldWay = true;
      node.hangUp(bridge.nodeId);
    }
    return false;
  }
}

/** How much one identity may say on its link: so much a second, and some seconds' worth at once. */

/** A device that pays sends some ten packets a payment, an owner's computer that charges some large ones a second. */
const PACKETS_PER_SECOND = 200;
/** Packets of full length. */
const FULL_PACKETS_PER_SECOND = 64;
/** What may come at once, after a pause. */
const BURST_SECONDS = 2;
/** Whoever is above it for so long, without a pause, floods. */
const PATIENCE_MS = 10_000;
/** How long nothing is heard of one that was dropped. */
const PENALTY_MS = 10_000;

export class Budget {
  private readonly bytesPerSecond: number;
  private readonly now: () => number;
  /** May fall below zero by one packet, and by a penalty. */
  private packets = PACKETS_PER_SECOND * BURST_SECONDS;
  private bytes: number;
  private at: number;
  /** Since when it has been spent again and again, without ever having been whole. */
  private spentSince: number | undefined;
  /** Packets since then. */
  private count = 0;

  /** `maxPacketBytes`: the longest packet; `now`: milliseconds that only grow. */
  constructor(maxPacketBytes: number, now: () => number = () => performance.now()) {
    this.bytesPerSecond = FULL_PACKETS_PER_SECOND * maxPacketBytes;
    this.bytes = this.bytesPerSecond * BURST_SECONDS;
    this.now = now;
    this.at = now();
  }

  /** A packet, and its bytes as soon as they are known. */
  take(packets: number, bytes: number): void {
    this.refill();
    this.packets -= packets;
    this.bytes -= bytes;
    this.count += packets;
    if (this.packets <= 0 || this.bytes <= 0) this.spentSince ??= this.at;
  }

  /** How long nothing more may be taken, ms; 0: no time at all. */
  get waitMs(): number {
    this.refill();
    if (this.packets > 0 && this.bytes > 0) return 0;
    const seconds = Math.max(-this.packets / PACKETS_PER_SECOND, -this.bytes / this.bytesPerSecond);
    // Not for every packet by itself.
    return Math.ceil(seconds * 1000) + 100;
  }

  /** The packets since it was whole, if it has been spent for so long that this is a flood; begins the penalty. */
  flood(): number | undefined {
    this.refill();
    if (this.spentSince === undefined || this.at - this.spentSince < PATIENCE_MS) return undefined;
    const { count } = this;
    this.packets = (-PACKETS_PER_SECOND * PENALTY_MS) / 1000;
    this.spentSince = this.at + PENALTY_MS;
    this.count = 0;
    return count;
  }

  /** Nothing of it is spent: it may be forgotten. */
  get isWhole(): boolean {
    this.refill();
    return this.spentSince === undefined && this.count === 0;
  }

  private refill(): void {
    const now = this.now();
    const seconds = (now - this.at) / 1000;
    this.at = now;
    this.packets = Math.min(this.packets + seconds * PACKETS_PER_SECOND, PACKETS_PER_SECOND * BURST_SECONDS);
    this.bytes = Math.min(this.bytes + seconds * this.bytesPerSecond, this.bytesPerSecond * BURST_SECONDS);
    const isWhole =
      this.packets === PACKETS_PER_SECOND * BURST_SECONDS &&
      this.bytes === this.bytesPerSecond * BURST_SECONDS;
    if (!isWhole) return;
    this.spentSince = undefined;
    this.count = 0;
  }
}

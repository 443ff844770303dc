/** Feerates, in satoshis per 1000 weight units: estimated by bitcoind, remembered, and kept within bounds. */
import { type BitcoinRpc, passes } from "../../src/node/bitcoind-rpc.ts";

/**
 * What feerates are for.
 * urgent, normal   to be in one of the next 2, or 12, blocks
 * minimum          what mempools take at all, now
 * maximum          beyond every reason
 * commitment       our channels' commitments
 * opening          the first one of a new channel
 */
export type FeePurpose = "urgent" | "normal" | "minimum" | "maximum" | "commitment" | "opening";

/** Answers in satoshis per 1000 weight units. */
export interface FeeEstimator {
  /** Always answers at once, from memory. */
  feerate(purpose: FeePurpose): number;
  /** Asks bitcoind again if the last answer is old; never throws. */
  refresh(): Promise<void>;
}

/** Where estimates come from; feerates in satoshis per 1000 weight units. */
export interface FeeOptions {
  readonly rpc: BitcoinRpc;
  /**
   * The feerate of our channels' commitment transactions. Without it the estimate decides, in steps: a peer
   * that finds an update_fee out of its range disconnects for ever, and every change costs a device a signature.
   */
  readonly commitmentFeerate?: number;
  /** What to assume while bitcoind has no estimate. */
  readonly fallbackFeerate?: number;
  readonly now?: () => number;
  /** bitcoind could not be asked, or could (null); the last answers serve meanwhile. */
  readonly onTrouble?: (error: unknown) => void;
}

/** BOLT #3's smallest feerate that relays, 1 sat/vB rounded up. */
export const MIN_FEERATE = 253;
const MAX_FEERATE = 50_000;
/** What every peer takes, whatever it estimates itself. */
export const FEERATE_TAKEN_BY_ALL = 2_500;
/**
 * Ample in normal times. Above what all take the mempool's minimum decides alone: below it a commitment does not get into
 * the chain, and a peer that finds it there for a day closes by force.
 */
const COMMITMENT_STEPS = [1_000, 1_600, FEERATE_TAKEN_BY_ALL, 4_000, 6_400, 10_000, 16_000, 25_000];
/** Peers want at least half of what they estimate for a far block; the estimate for a near one is never less. */
const OPENING_SHARE = 0.6;
const REFRESH_MS = 60_000;
/** Blocks until confirmation. */
const TARGETS = { urgent: 2, normal: 12 } as const;

/** Knows the fallback only, before its first `refresh`. */
export function createFeeEstimator(options: FeeOptions): FeeEstimator {
  const { rpc, now = Date.now } = options;
  const fallback = options.fallbackFeerate ?? 1_000;
  const estimates = { urgent: fallback, normal: fallback, minimum: MIN_FEERATE };
  let commitment = COMMITMENT_STEPS[0]!;
  let refreshedAt = Number.NEGATIVE_INFINITY;

  const clamped = (feerate: number) => Math.round(Math.min(Math.max(feerate, MIN_FEERATE), MAX_FEERATE));
  /** bitcoind speaks of bitcoin per 1000 virtual bytes. */
  const perKw = (btcPerKvb: number) => (btcPerKvb * 1e8) / 4;

  function stepCommitment(): void {
    const wanted = Math.max(Math.min(estimates.normal, FEERATE_TAKEN_BY_ALL), estimates.minimum);
    const needed = COMMITMENT_STEPS.find(step => step >= wanted) ?? COMMITMENT_STEPS.at(-1)!;
    // Up at once, down only when it has become far too much.
    if (needed > commitment || needed * 2 <= commitment) commitment = needed;
  }

  return {
    feerate(purpose) {
      const step = options.commitmentFeerate ?? commitment;
      if (purpose === "commitment") return clamped(Math.max(step, estimates.minimum));
      if (purpose === "opening")
        return clamped(Math.max(step, estimates.minimum, estimates.normal * OPENING_SHARE));
      if (purpose === "maximum") return Math.max(MAX_FEERATE, estimates.urgent);
      return estimates[purpose];
    },
    async refresh() {
      if (now() - refreshedAt < REFRESH_MS) return;
      try {
        const { mempoolminfee } = await rpc.call<{ mempoolminfee: number }>("getmempoolinfo");
        const minimum = clamped(perKw(mempoolminfee));
        const found = { minimum, urgent: minimum, normal: minimum };
        for (const purpose of ["urgent", "normal"] as const) {
          const mode = purpose === "urgent" ? "conservative" : "economical";
          const { feerate } = await rpc.call<{ feerate?: number }>("estimatesmartfee", [
            TARGETS[purpose],
            mode,
          ]);
          found[purpose] = Math.max(minimum, clamped(feerate === undefined ? fallback : perKw(feerate)));
        }
        // All at once: a channel that saw half of it would change its feerate twice, which costs the device signatures.
        Object.assign(estimates, found);
        stepCommitment();
        refreshedAt = now();
        options.onTrouble?.(null);
      } catch (error) {
        // That bitcoind is away is told by who follows it.
        if (!passes(error)) options.onTrouble?.(error);
      }
    },
  };
}

/** Feerates, in satoshis per 1000 weight units: estimated by bitcoind, remembered, and kept within bounds. */
import { type BitcoinRpc, passes } from "./rpc.ts";

/** What feerates are for. */
export type FeePurpose = "urgent" | "normal" | "background" | "minimum" | "maximum" | "commitment";

export interface FeeEstimator {
  /** Always answers at once, from memory. */
  feerate(purpose: FeePurpose): number;
  /** Asks bitcoind again if the last answer is old; never throws. */
  refresh(): Promise<void>;
}

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
/** Ample in normal times, and far below the ten times its own estimate that a peer refuses. */
const COMMITMENT_STEPS = [1_000, 2_000, 4_000];
const REFRESH_MS = 60_000;
/** Blocks until confirmation. */
const TARGETS = { urgent: 2, normal: 12, background: 144, minimum: 1008 } as const;

export function createFeeEstimator(options: FeeOptions): FeeEstimator {
  const { rpc, now = Date.now } = options;
  const fallback = options.fallbackFeerate ?? 1_000;
  const estimates = { urgent: fallback, normal: fallback, background: fallback, minimum: MIN_FEERATE };
  let commitment = COMMITMENT_STEPS[0]!;
  let refreshedAt = Number.NEGATIVE_INFINITY;

  const clamped = (feerate: number) => Math.round(Math.min(Math.max(feerate, MIN_FEERATE), MAX_FEERATE));
  /** bitcoind speaks of bitcoin per 1000 virtual bytes. */
  const perKw = (btcPerKvb: number) => (btcPerKvb * 1e8) / 4;

  function stepCommitment(): void {
    const needed = COMMITMENT_STEPS.find(step => step >= estimates.normal) ?? COMMITMENT_STEPS.at(-1)!;
    // Up at once, down only when it has become far too much.
    if (needed > commitment || needed * 4 <= commitment) commitment = needed;
  }

  return {
    feerate(purpose) {
      if (purpose === "commitment") return clamped(options.commitmentFeerate ?? commitment);
      if (purpose === "maximum") return Math.max(MAX_FEERATE, estimates.urgent);
      return estimates[purpose];
    },
    async refresh() {
      if (now() - refreshedAt < REFRESH_MS) return;
      try {
        const { mempoolminfee } = await rpc.call<{ mempoolminfee: number }>("getmempoolinfo");
        const floor = clamped(perKw(mempoolminfee));
        for (const purpose of ["urgent", "normal", "background", "minimum"] as const) {
          const mode = purpose === "urgent" ? "conservative" : "economical";
          const { feerate } = await rpc.call<{ feerate?: number }>("estimatesmartfee", [
            TARGETS[purpose],
            mode,
          ]);
          const unknown = purpose === "minimum" ? MIN_FEERATE : fallback;
          estimates[purpose] = Math.max(floor, clamped(feerate === undefined ? unknown : perKw(feerate)));
        }
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

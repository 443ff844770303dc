/** A bridge that does not open a channel: what its words may mean, and when it is asked again. */

/** Some seconds at first: a bridge that is a block behind refuses everybody. */
const FIRST_PAUSE_MS = 5_000;
const LONGEST_PAUSE_MS = 3_600_000;

/** How long to wait after this many refusals in a row. */
export function pauseAfter(refusals: number): number {
  return Math.min(FIRST_PAUSE_MS * 2 ** Math.min(refusals - 1, 20), LONGEST_PAUSE_MS);
}

/** "… is below min chan size of 0.001 BTC", "invalid funding_satoshis=50000 (min=100000 max=…)" */
const LEAST = /\b(?:min|minimum|below|at least)\b\D{0,30}?(\d+(?:\.\d+)?)\s*(btc|sat|msat)?/gi;
/** Nobody wants more of a channel that is not called large. */
const MOST_SAT = 16_777_215;

/**
 * The least channel that a refusal of one of `refusedSat` asks for, as far as its words say so. They are the bridge's: the
 * worst that they can do is that this bridge gets no channel.
 */
export function leastChannelIn(words: string, refusedSat: number): number | undefined {
  const found = [...words.matchAll(LEAST)].map(([, number, unit]) => {
    const inSat = { btc: 1e8, msat: 1e-3 }[unit?.toLowerCase() ?? ""] ?? 1;
    return Math.ceil(Math.round(Number(number) * inSat * 1000) / 1000);
  });
  return found.find(sat => sat > refusedSat && sat <= MOST_SAT);
}

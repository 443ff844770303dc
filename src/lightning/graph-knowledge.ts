/** How much of the network a node knows, and whether that is enough. */

/** How many channels are known, and since when nothing new has come, Unix seconds (0: never). */
export interface GraphKnowledge {
  readonly channels: number;
  readonly changedAt: number;
}

/** The network is never still for so long. */
const OLD_SECONDS = 24 * 3600;

/** What is wrong with it, in a sentence; undefined if nothing is. `now`: Unix seconds. */
export function graphTrouble({ channels, changedAt }: GraphKnowledge, now: number): string | undefined {
  if (channels === 0)
    return "the gateway knows no channel of the network: only the bridge, and payees whose invoices name the way, can be paid";
  const hours = Math.floor((now - changedAt) / 3600);
  return now - changedAt > OLD_SECONDS
    ? `the bridge has told the gateway nothing new of the network for ${hours} h: payments may fail`
    : undefined;
}

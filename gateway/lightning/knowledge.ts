/** How much of the network the gateway knows, for who does not want to load LDK for it. */
import type { NodeStore } from "./store.ts";

/** How many channels are known, and since when nothing new has come, Unix seconds (0: never). */
export interface GraphKnowledge {
  readonly channels: number;
  readonly changedAt: number;
}

/** The row beside the graph. */
export const KNOWLEDGE = "graph-knowledge";
/** The network is never still for so long. */
const OLD_SECONDS = 24 * 3600;

export function encodeKnowledge(knowledge: GraphKnowledge): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(knowledge));
}

/** What was known of the network when it was stored last. */
export function readKnowledge(store: NodeStore | undefined): GraphKnowledge | undefined {
  const stored = store?.get(KNOWLEDGE);
  return stored && (JSON.parse(new TextDecoder().decode(stored)) as GraphKnowledge);
}

/** What is wrong with it, in a sentence; undefined if nothing is. `now`: Unix seconds. */
export function graphTrouble({ channels, changedAt }: GraphKnowledge, now: number): string | undefined {
  if (channels === 0)
    return "the gateway knows no channel of the network: only the bridge, and payees whose invoices name the way, can be paid";
  const hours = Math.floor((now - changedAt) / 3600);
  return now - changedAt > OLD_SECONDS
    ? `the bridge has told the gateway nothing new of the network for ${hours} h: payments may fail`
    : undefined;
}

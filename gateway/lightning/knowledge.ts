/** How much of the network the gateway knows, for who does not want to load LDK for it. */
import type { GraphKnowledge } from "../../src/lightning/graph-knowledge.ts";
import type { NodeStore } from "./store.ts";

/** The row beside the graph. */
export const KNOWLEDGE = "graph-knowledge";

/** As the row holds it. */
export function encodeKnowledge(knowledge: GraphKnowledge): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(knowledge));
}

/** What was known of the network when it was stored last. */
export function readKnowledge(store: NodeStore | undefined): GraphKnowledge | undefined {
  const stored = store?.get(KNOWLEDGE);
  return stored && (JSON.parse(new TextDecoder().decode(stored)) as GraphKnowledge);
}

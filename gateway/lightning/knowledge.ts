/** How much of the network the gateway knows, for who does not want to load LDK for it. */
import type { GraphKnowledge } from "../../src/lightning/graph-knowledge.ts";
import { decodeLearnt } from "../store/values.ts";
import type { NodeStore } from "./store.ts";

/** The row beside the graph. */
export const KNOWLEDGE = "graph-knowledge";

/** What was known of the network when it was stored last. */
export function readKnowledge(store: NodeStore | undefined): GraphKnowledge | undefined {
  return decodeLearnt(store?.get(KNOWLEDGE));
}

/** What the operator's commands and a gateway that runs tell each other of the gateway's own node, through the store. */
import type { Database } from "lmdb";

const NODE_ID = "own-node-id";
const PAYOUT = "own-node-payout";

/** So that it can be shown without starting LDK. */
export function noteFeeNode(store: Database<unknown, string>, nodeId: Uint8Array): void {
  store.putSync(NODE_ID, Buffer.from(nodeId).toString("hex"));
}

/** Public key of the gateway's own node, hex; undefined before it has run for the first time. */
export function feeNodeId(store: Database<unknown, string>): string | undefined {
  return store.get(NODE_ID) as string | undefined;
}

/** The operator wants the earnings: the gateway closes its own channels at the next block. */
export function requestPayout(store: Database<unknown, string>): void {
  store.putSync(PAYOUT, true);
}

export function payoutIsRequested(store: Database<unknown, string>): boolean {
  return store.get(PAYOUT) === true;
}

export function forgetPayout(store: Database<unknown, string>): void {
  store.removeSync(PAYOUT);
}

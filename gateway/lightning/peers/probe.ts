/** Whether a Lightning node is who it should be: connects under a node id made for the occasion, and leaves again. */
import { randomBytes } from "node:crypto";
import * as ldk from "lightningdevkit";
import { equal } from "../../../src/bytes/bytes.ts";
import { lngateError } from "../../../src/errors.ts";
import { startLdk } from "../runtime.ts";
import type { Peer } from "./contacts.ts";
import { PeerSockets } from "./sockets.ts";

/** What a node says of itself in `init`. */
export interface PeerFindings {
  /** It opens anchors channels, as it says. */
  readonly hasAnchors: boolean;
}

const HANDSHAKE_MS = 10_000;
const LOOK_MS = 20;

/**
 * Does BOLT #8's handshake, which only the owner of the node's key can answer, and exchanges `init`. Throws
 * `peer-unreachable`, also for a node that is another one.
 */
export async function probePeer({ nodeId, host, port }: Peer): Promise<PeerFindings> {
  await startLdk();
  const now = Math.floor(Date.now() / 1000);
  const keys = ldk.KeysManager.constructor_new(new Uint8Array(randomBytes(32)), BigInt(now), 0);
  const ignoring = ldk.IgnoringMessageHandler.constructor_new();
  const peers = ldk.PeerManager.constructor_new(
    ldk.ErroringMessageHandler.constructor_new().as_ChannelMessageHandler(),
    ignoring.as_RoutingMessageHandler(),
    ignoring.as_OnionMessageHandler(),
    ignoring.as_CustomMessageHandler(),
    now,
    new Uint8Array(randomBytes(32)),
    ldk.Logger.new_impl({ log: () => {} }),
    keys.as_NodeSigner(),
  );
  const sockets = new PeerSockets(peers, work => {
    work();
    setImmediate(() => peers.process_events());
  });
  try {
    const socket = await sockets.connect(nodeId, host, port);
    for (let waited = 0; waited < HANDSHAKE_MS; waited += LOOK_MS) {
      const peer = peers.list_peers().find(each => equal(each.get_counterparty_node_id(), nodeId));
      if (peer) return { hasAnchors: peer.get_init_features().supports_anchors_zero_fee_htlc_tx() };
      if (socket.destroyed) break;
      await new Promise(resolve => setTimeout(resolve, LOOK_MS));
    }
    throw lngateError(
      "peer-unreachable",
      `what answers at ${host}:${port} does not prove to be the node with this public key: is the key right?`,
    );
  } finally {
    sockets.close();
    peers.disconnect_all_peers();
  }
}

/** What a plain peer is started with, and what it tells: for its process and for who leads one. */
import type * as ldk from "lightningdevkit";
import type { Chain } from "../../gateway/chain/chain.ts";
import type { NodeOptions } from "../../gateway/lightning/node-options.ts";
import type { LightningRuntime } from "../../gateway/lightning/runtime.ts";
import type { Log } from "../../gateway/log.ts";
import type { Network } from "../../src/bitcoin/network.ts";
import type { RpcOptions } from "../../src/node/bitcoind-rpc.ts";

/** What a plain peer is started with. */
export interface PlainPeerOptions {
  readonly dataDir: string;
  readonly network: Network;
  readonly rpc: RpcOptions;
  /** bitcoind's wallet. */
  readonly wallet: string;
  readonly log: Log;
  /** Port to listen on, on 127.0.0.1; 0: any. */
  readonly port: number;
  readonly forwardingFee?: { readonly baseMsat: number; readonly proportionalMillionths: number };
  /** Confirmations that a channel needs which is opened to this node. */
  readonly minimumDepth?: number;
  /** sat per 1000 weight. */
  readonly commitmentFeerate?: number;
  readonly onEvent?: (event: PeerEvent) => void;
  /** As in NodeOptions; for tests that stop in the middle of a payment. */
  readonly holdsPayment?: (event: ldk.Event_PaymentClaimable) => boolean;
  /** False: it forwards nothing and takes no channels, as a device's node. */
  readonly routing?: boolean;
  /** As in NodeOptions; for tests of what other implementations do. */
  readonly behaviour?: Pick<NodeOptions, "messages" | "gossip" | "closingFeerates" | "inFlightPercent">;
  /** For several peers in one process: what they can share. */
  readonly shared?: { readonly chain: Chain; readonly runtime: LightningRuntime };
}

/** What a peer tells of its own accord. Ids and hashes in hex, txids as explorers show them. */
export type PeerEvent =
  | { readonly event: "channel-pending" | "channel-ready"; readonly channelId: string; readonly peer: string }
  | { readonly event: "channel-closed"; readonly channelId: string; readonly reason: string }
  | { readonly event: "held"; readonly hash: string; readonly ms: number }
  | { readonly event: "claimed"; readonly hash: string; readonly amountMsat: number }
  | { readonly event: "forwarded"; readonly feeMsat: number }
  | { readonly event: "swept"; readonly txid: string }
  | { readonly event: "log"; readonly line: string };

/** A channel as the peer sees it. */
export interface PeerChannel {
  readonly channelId: string;
  readonly peer: string;
  readonly sat: number;
  readonly ready: boolean;
  readonly usable: boolean;
  readonly announced: boolean;
  readonly anchors: boolean;
  readonly outboundMsat: number;
  readonly inboundMsat: number;
  readonly funding: string | null;
}

/** A payment that has come about. */
export interface Paid {
  readonly hash: string;
  readonly preimage: string;
  readonly feeMsat: number;
  /** From the call to the preimage; 0 if it was paid before. */
  readonly ms: number;
}

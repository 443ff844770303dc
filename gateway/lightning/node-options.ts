/** What a Lightning node is started with. */
import type * as ldk from "lightningdevkit";
import type { Log } from "../log.ts";
import type { LightningRuntime } from "./runtime.ts";
import type { NodeStore } from "./store.ts";

/** Where a node has its keys: a signer of ours, or LDK's own. */
export interface NodeKeys {
  readonly entropySource: ldk.EntropySource;
  readonly nodeSigner: ldk.NodeSigner;
  readonly signerProvider: ldk.SignerProvider;
}

/** What a remote signer needs of the node that asks it. */
export interface AttachedNode {
  readonly manager: ldk.ChannelManager;
  readonly monitor: ldk.ChainMonitor;
  /** LDK may have something to say, to store or to handle. */
  wake(): void;
}

/** What a node is made of, and what it asks and tells whoever runs it. */
export interface NodeOptions {
  readonly runtime: LightningRuntime;
  readonly keys: NodeKeys;
  readonly store: NodeStore;
  readonly log: Log;
  /** Takes channels and forwards payments, as a bridge does. Otherwise nothing comes in but from our own channels. */
  readonly routing: boolean;
  /** A node that routes nothing takes channels from this peer all the same, to be paid through them. */
  readonly channelsFrom?: Uint8Array;
  /** LDK's events that are not this node's own business. */
  onEvent(event: ldk.Event): void;
  /** Rows of the caller's that are to be stored in the same transaction. */
  extraRows?(): ReadonlyMap<string, Uint8Array | null>;
  /**
   * The feerate for the commitments of our own channels, sat per 1000 weight units, asked before LDK may change it (`present`:
   * the channel's, undefined if there is none). Absent: the estimate of the day.
   */
  commitmentFeerate?(present: number | undefined): number;
  /**
   * What a mutual close may pay, sat per 1000 weight units, asked by LDK whenever it begins to negotiate: it proposes the
   * least and takes what is below the most. Must not call LDK. Absent: the runtime's.
   */
  closingFeerates?(): { readonly least: number; readonly most: number };
  /** A peer says something about a channel, or about all, that LDK makes nothing of. Its words may be anything. */
  onWarning?(words: string): void;
  /** True while LDK's timer must stand still (a closing signature is awaited). */
  holdTicks?(): boolean;
  /** Puts something between LDK's peers and its channels. */
  messages?(manager: ldk.ChannelManager): ldk.ChannelMessageHandler;
  /** In the place of what asks peers for the network graph, or tells it to them. */
  gossip?(graph: ldk.NetworkGraph, logger: ldk.Logger): ldk.RoutingMessageHandler;
  /** Whether a payment that LDK has given up may be tried again with what was learnt from its failure; always by default. */
  mayPayAgain?(): boolean;
  /** It was to be tried again, and can't be. Unless told this is one more failure on the way. */
  onPaymentRefused?(failed: ldk.Event_PaymentFailed, error: Error): void;
  /** Called once: manager and monitors are there and up with the chain, nothing has been handled or sent yet. */
  attach?(node: AttachedNode): void;
  /** Confirmations that a channel needs which is opened to this node. */
  readonly minimumDepth?: number;
  /** How much of a channel a peer may have in flight to this node; all of it by default. */
  readonly inFlightPercent?: number;
  /** What forwarding a payment costs; LDK's own fee by default. */
  readonly forwardingFee?: { readonly baseMsat: number; readonly proportionalMillionths: number };
  /** True: the caller decides itself, later, whether this payment is claimed or failed. */
  holdsPayment?(event: ldk.Event_PaymentClaimable): boolean;
  /** The chain can't be followed from where this node was, and its start waits until it can. */
  onWaiting?: (() => void) | undefined;
  /** LDK is broken beyond repair: the process must be started again. */
  onFatal(error: unknown): void;
}

/**
 * One Lightning node: LDK's ChannelManager, ChainMonitor and PeerManager with a store, a place in the chain and
 * peers. The gateway runs one per device with the device's remote signer; a plain node has LDK's own keys.
 *
 * Here its parts are put together, and it is said what a turn does: LDK's events are handled, then what is new begins to be
 * stored (persistence.ts says why in this order), then messages are sent. turns.ts says when.
 */
import * as ldk from "lightningdevkit";
import type { Outpoint } from "../../src/bitcoin/transaction.ts";
import { lngateError } from "../../src/errors.ts";
import type { Invoice } from "../../src/lightning/bolt11.ts";
import { ChainPlace, catchUp, chainClientOf } from "./chain-place.ts";
import { ChannelFeerates, channelConfig } from "./channel-config.ts";
import {
  answerOpenRequest,
  closeChannel,
  createChannel,
  hasAnchors,
  negotiatesClose,
  provideFunding,
} from "./channels.ts";
import { newManager, readManager } from "./manager.ts";
import type { AttachedNode, NodeOptions } from "./node-options.ts";
import { claimOrFail, createInvoice, type InvoiceRequest } from "./payments/invoices.ts";
import { PAYMENT_RETRIES, Payments } from "./payments/payments.ts";
import type { PaymentLimits } from "./payments/route.ts";
import type { Peer } from "./peers/contacts.ts";
import { NodePeers } from "./peers/peers.ts";
import { Persistence } from "./persistence.ts";
import { Turns } from "./turns.ts";

const CHANNEL_TICK_MS = 60_000;
const PEER_TICK_MS = 10_000;
const REBROADCAST_MS = 30_000;

/** A node from its start to its end. What is asked of it before it has started fails. */
export class LightningNode implements AttachedNode {
  private readonly options: NodeOptions;
  private readonly turns: Turns;
  private readonly persistence: Persistence;
  private readonly place = new ChainPlace();
  private readonly feerates: ChannelFeerates;
  /** LDK's own; who calls it does so in a turn or before a `wake`. */
  manager!: ldk.ChannelManager;
  monitor!: ldk.ChainMonitor;
  private peers!: NodePeers;
  private payments!: Payments;
  private readonly events: ldk.Event[] = [];
  private handler!: ldk.EventHandler;
  private futureCallback!: ldk.FutureCallback;
  /** It learns the network from its peers, for all nodes of the process. */
  takesGossip = false;
  /** LDK holds what is passed to it weakly. */
  private readonly kept: unknown[] = [];
  /** How many objects LDK's binding keeps for its own, needed for as long as they live. */
  private readonly lengths = new Map<object, number>();

  private constructor(options: NodeOptions) {
    this.options = options;
    this.turns = new Turns({
      log: options.log,
      turn: () => this.turn(),
      onFatal: error => options.onFatal(error),
    });
    this.persistence = new Persistence(options, this.turns);
    this.feerates = new ChannelFeerates(options);
  }

  /** Starts a node, from its store if there is one. Throws `store-damaged`. */
  static async start(options: NodeOptions): Promise<LightningNode> {
    const node = new LightningNode(options);
    try {
      await node.build();
    } catch (error) {
      await node.stop();
      throw error;
    }
    return node;
  }

  get nodeId(): Uint8Array {
    return this.manager.get_our_node_id();
  }

  /** Of the best block. */
  get height(): number {
    return this.manager.current_best_block().get_height();
  }

  /** Ends the node at once, as a power cut would; resolves when a write that was under way is through. */
  async stop(): Promise<void> {
    this.turns.stop();
    this.options.runtime.leaveGossip(this);
    this.place.leave();
    // Undefined if building it has failed.
    (this.peers as NodePeers | undefined)?.stop();
    await this.persistence.stop();
  }

  // ── turns ─────────────────────────────────────────────────────────────────────────────────────────────

  /** LDK may have something to say, to store or to handle. */
  wake(): void {
    this.turns.wake();
  }

  /** Resolves when the test holds after some turn (whatever changes it has to lead to one). Throws `code` if it takes too long. */
  until(code: string, test: () => boolean, ms?: number): Promise<void> {
    return this.turns.until(code, test, ms);
  }

  /** Stores within a moment, although no monitor has changed: also for rows of the caller's. */
  storeSoon(): void {
    this.persistence.storeSoon();
  }

  /** Does this once all that LDK has said and done so far is durable. */
  whenStored(work: () => void): void {
    this.persistence.whenStored(work);
  }

  /**
   * Takes what LDK tells now, to be handled with the next turn. Until LDK is asked for the event of a payment that has arrived,
   * it holds the channel's next revocation back, and LDK 0.1.2 panics when a channel is closed meanwhile: its own close then
   * counts in the update that was never made (rust-lightning #3857, mended in 0.1.5, of which there is no binding).
   */
  takeEvents(): void {
    this.manager.as_EventsProvider().process_pending_events(this.handler);
  }

  /** What LDK does once a minute. */
  tick(): void {
    // After two ticks of negotiating LDK closes by force, whatever it waits for.
    if (this.options.holdTicks?.() || this.negotiatesClose()) return;
    this.feerates.choose(this.manager);
    this.manager.timer_tick_occurred();
  }

  // ── peers ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Listens for peers; the port. Throws `peer-address`. */
  listen(host: string, port: number): Promise<number> {
    return this.peers.listen(host, port);
  }

  /** Stays connected to this peer from now on. */
  keepConnected(address: Peer): void {
    this.peers.keepConnected(address);
  }

  /** Somebody waits for this peer: it is dialled at once, and from then on as if it had just gone. */
  connectSoon(nodeId: Uint8Array): void {
    this.peers.connectSoon(nodeId);
  }

  /** Connects once; resolves when the handshake is through. Throws `peer-unreachable`. */
  connect(address: Peer): Promise<void> {
    return this.peers.connect(address);
  }

  /** Breaks the connection off, once what is to be said is said. One that is to be kept begins again within a second. */
  hangUp(nodeId: Uint8Array): void {
    this.peers.hangUp(nodeId);
  }

  /** How many are connected. */
  get peerCount(): number {
    return this.peers.count;
  }

  isConnected(nodeId: Uint8Array): boolean {
    return this.peers.isConnected(nodeId);
  }

  // ── channels ──────────────────────────────────────────────────────────────────────────────────────────

  channels(): ldk.ChannelDetails[] {
    return this.manager.list_channels();
  }

  /** Asks a connected peer for a channel, unannounced by default. Throws `channel-refused`. */
  createChannel(
    nodeId: Uint8Array,
    sat: number,
    pushMsat: number,
    userChannelId: bigint,
    announced = false,
  ): void {
    this.feerates.choose(this.manager);
    const request = { nodeId, sat, pushMsat, userChannelId };
    createChannel(this.manager, request, channelConfig(this.options, announced));
    this.wake();
  }

  /**
   * Answers Event_FundingGenerationReady with the outpoint of a transaction that is not signed yet; all its inputs
   * are segwit, so its id is final. Event_FundingTxBroadcastSafe says when it may be signed and sent.
   * Throws `funding-refused`.
   */
  provideFunding(event: ldk.Event_FundingGenerationReady, funding: Outpoint): void {
    provideFunding(this.manager, event, funding);
    this.wake();
  }

  /** Publishes our newest commitment, or gives up a channel that is not funded yet; at once, or when nothing is being written. */
  forceClose(channelId: ldk.ChannelId, nodeId: Uint8Array): void {
    const { writing } = this.persistence;
    if (writing) {
      // What one channel of a forwarding node waits for may be another one's update (see takeEvents).
      void writing.then(() => this.turns.guarded(() => this.forceClose(channelId, nodeId)));
      return;
    }
    this.manager.force_close_broadcasting_latest_txn(channelId, nodeId, "closed by its owner");
    this.wake();
  }

  /** A mutual close has come to the fee, and to no end yet. */
  negotiatesClose(): boolean {
    return negotiatesClose(this.manager);
  }

  /** Begins a mutual close; at once, or when the write that is under way is through. Throws `close-refused`. */
  closeChannel(channelId: ldk.ChannelId, nodeId: Uint8Array): void {
    const { writing } = this.persistence;
    if (writing) {
      // LDK refuses while a monitor update waits for the store.
      void writing.then(() => this.turns.guarded(() => this.closeChannel(channelId, nodeId)));
      return;
    }
    closeChannel(this.manager, channelId, nodeId);
    this.wake();
  }

  // ── payments ──────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Begins a payment over this node's channels; the events tell how it ends. LDK tries other ways by itself, at most
   * `retries`, within the limits: what routing may cost, and for how many blocks money may be locked (its own limit unless
   * told). What no single way carries goes in parts, where the limits allow it; if one of them fails, so does the payment.
   * Throws `payment-expired`, `already-paying`, and what `whyNoRoute` finds.
   */
  pay(
    invoice: Invoice,
    text: string,
    paymentId: Uint8Array,
    limits: PaymentLimits,
    retries = PAYMENT_RETRIES,
  ): void {
    this.payments.pay(invoice, text, paymentId, limits, retries);
  }

  /** How many payments are under way. */
  pendingPayments(): number {
    return this.payments.pending();
  }

  /** Whether LDK knows this payment: its events tell how it ends, or have told a short while ago. */
  hasPayment(paymentId: Uint8Array): boolean {
    return this.payments.isKnown(paymentId);
  }

  /** The text of a new invoice; a payment to it is taken when it comes. Throws `invoice-refused`. */
  createInvoice(request: InvoiceRequest): string {
    const text = createInvoice(this.manager, request, Math.floor(Date.now() / 1000));
    this.wake();
    return text;
  }

  // ── building ──────────────────────────────────────────────────────────────────────────────────────────

  private async build(): Promise<void> {
    const { options, turns, persistence } = this;
    const { runtime, keys } = options;
    const { broadcaster, graph, logger, scorer } = runtime;
    const { filter } = this.place;
    const feeEstimator = this.feerates.estimator;
    this.monitor = ldk.ChainMonitor.constructor_new(
      ldk.Option_FilterZ.constructor_some(filter),
      broadcaster,
      logger,
      feeEstimator,
      persistence.persister,
    );
    const defaultRouter = ldk.DefaultRouter.constructor_new(
      graph,
      logger,
      keys.entropySource,
      scorer.as_LockableScore(),
      ldk.ProbabilisticScoringFeeParameters.constructor_default(),
    );
    const router = defaultRouter.as_Router();
    const defaultMessageRouter = ldk.DefaultMessageRouter.constructor_new(graph, keys.entropySource);
    const messageRouter = defaultMessageRouter.as_MessageRouter();
    this.kept.push(defaultRouter, router, defaultMessageRouter, messageRouter);
    const parts = {
      runtime,
      keys,
      feeEstimator,
      monitor: this.monitor,
      router,
      messageRouter,
      config: channelConfig(options),
    };
    const stored = persistence.storedManager();
    const monitors = stored ? persistence.readMonitors(keys, runtime) : [];
    this.manager = stored
      ? readManager(parts, stored, monitors)
      : newManager(parts, await runtime.chain.follower.currentTip());
    for (const monitor of monitors) monitor.load_outputs_to_watch(filter, logger);
    this.payments = new Payments(this.manager, router, options, turns);
    const ignoring = ldk.IgnoringMessageHandler.constructor_new();
    this.peers = new NodePeers({
      runtime,
      keys,
      log: options.log,
      turns,
      messages: options.messages?.(this.manager) ?? this.manager.as_ChannelMessageHandler(),
      gossip: this.gossipHandler(ignoring),
      ignoring,
      onWarning: words => options.onWarning?.(words),
    });
    this.handler = ldk.EventHandler.new_impl({
      handle_event: event => {
        this.events.push(event);
        return ldk.Result_NoneReplayEventZ.constructor_ok();
      },
    });
    this.futureCallback = ldk.FutureCallback.new_impl({
      call: () => {
        setImmediate(() =>
          turns.guarded(() => {
            this.arm();
            turns.take();
          }),
        );
      },
    });
    await this.joinChain(monitors);
    options.attach?.(this);
    this.arm();
    this.startTimers();
    if (stored) {
      this.monitor.archive_fully_resolved_channel_monitors();
      this.monitor.rebroadcast_pending_claims();
      this.monitor.signer_unblocked(null);
    }
    this.wake();
  }

  /** What asks peers for the network graph, or tells it to them, or does neither. */
  private gossipHandler(ignoring: ldk.IgnoringMessageHandler): ldk.RoutingMessageHandler {
    const { options } = this;
    const { runtime, routing } = options;
    const { graph, logger } = runtime;
    const taken = routing
      ? undefined
      : runtime.takeGossip(this, {
          wake: () => this.wake(),
          isConnected: nodeId => this.isConnected(nodeId),
          run: work => this.turns.guarded(work),
        });
    this.takesGossip = routing || taken !== undefined;
    if (options.gossip) return options.gossip(graph, logger);
    if (!routing) return taken?.handler ?? ignoring.as_RoutingMessageHandler();
    return ldk.P2PGossipSync.constructor_new(
      graph,
      ldk.Option_UtxoLookupZ.constructor_none(),
      logger,
    ).as_RoutingMessageHandler();
  }

  /** Brings manager and stored monitors to the tip, each from where it is; only then LDK watches by the monitors. */
  private async joinChain(monitors: readonly ldk.ChannelMonitor[]): Promise<void> {
    const { runtime, onWaiting } = this.options;
    const { follower } = runtime.chain;
    const watching = this.place.join(follower, chainClientOf(this.manager, this.monitor, this.turns));
    let failure: unknown;
    const catchingUp = monitors.map(monitor =>
      catchUp(monitor, runtime, error => {
        failure ??= error;
      }),
    );
    try {
      await follower.patientSync([watching, ...catchingUp], onWaiting);
    } finally {
      for (const each of catchingUp) each.leave();
    }
    if (failure !== undefined) throw failure;
    for (const monitor of monitors) {
      const watched = this.monitor.as_Watch().watch_channel(monitor.get_funding_txo().get_a(), monitor);
      if (!watched.is_ok()) throw lngateError("store-damaged", "a channel in the store can't be watched");
    }
  }

  private startTimers(): void {
    const { turns, manager, monitor, peers } = this;
    turns.every(CHANNEL_TICK_MS, () => this.tick());
    for (const object of [manager, monitor, peers.manager])
      this.lengths.set(object, argumentsOf(object).length);
    turns.every(PEER_TICK_MS, () => {
      peers.manager.timer_tick_occurred();
      this.forgetArguments();
    });
    peers.start();
    turns.every(REBROADCAST_MS, () => monitor.rebroadcast_pending_claims());
  }

  /** LDK's binding keeps everything that a method was ever called with: what came after building is let go. */
  private forgetArguments(): void {
    for (const [object, length] of this.lengths) argumentsOf(object).length = length;
  }

  // ── what a turn does ──────────────────────────────────────────────────────────────────────────────────

  private turn(): void {
    this.handleEvents();
    this.persistence.storeWhatIsNew(this.manager, this.monitor);
    this.peers.manager.process_events();
  }

  private arm(): void {
    this.manager.get_event_or_persistence_needed_future().register_callback_fn(this.futureCallback);
  }

  private handleEvents(): void {
    do {
      for (const event of this.events.splice(0)) this.turns.guarded(() => this.handle(event));
      this.manager.as_EventsProvider().process_pending_events(this.handler);
      this.monitor.as_EventsProvider().process_pending_events(this.handler);
    } while (this.events.length > 0);
  }

  private handle(event: ldk.Event): void {
    const { manager, options } = this;
    if (event instanceof ldk.Event_PendingHTLCsForwardable) manager.process_pending_htlc_forwards();
    else if (event instanceof ldk.Event_OpenChannelRequest) answerOpenRequest(manager, options, event);
    else if (event instanceof ldk.Event_PaymentClaimable) {
      if (!options.holdsPayment?.(event)) claimOrFail(manager, event);
    } else if (
      event instanceof ldk.Event_FundingGenerationReady &&
      !hasAnchors(manager, event.temporary_channel_id)
    )
      this.forceClose(event.temporary_channel_id, event.counterparty_node_id);
    else {
      if (this.payments.learn(event)) return;
      options.onEvent(event);
    }
    this.wake();
  }
}

/** What LDK's binding keeps for an object: all that its methods were called with. */
function argumentsOf(object: object): unknown[] {
  return Reflect.get(object, "ptrs_to") as unknown[];
}

/**
 * One Lightning node: LDK's ChannelManager, ChainMonitor and PeerManager with a store, a place in the chain and
 * peers. The gateway runs one per device with the device's remote signer; a plain node has LDK's own keys.
 *
 * LDK's callbacks only take notes; everything they lead to happens in `turn`, later, outside of LDK. A throw
 * inside LDK, or a call into it from a callback, would leave its locks held for ever.
 *
 * What LDK wants stored goes to the store in one transaction: the manager, what has changed of the monitors, the
 * caller's own rows. Only then LDK may go on: a manager older than its monitor would mean a forced close at the
 * next start. Of a monitor only the updates are stored, and the whole every now and then: it grows for ever.
 * Events are handled in the turn that takes them from LDK, before the manager that has forgotten them is stored.
 */
import { randomBytes } from "node:crypto";
import * as ldk from "lightningdevkit";
import type { Outpoint } from "../../src/bitcoin/transaction.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import type { Invoice } from "../../src/lightning/bolt11.ts";
import { MAX_INCOMING } from "../../src/link/messages.ts";
import type {
  BlockPoint,
  ChainClient,
  ConfirmedTransaction,
  IndexedTransaction,
  Watching,
} from "../chain/follower.ts";
import { type Log, lastingTrouble } from "../log.ts";
import type { Gossip } from "./gossip.ts";
import { withoutPendingClaims } from "./manager-repair.ts";
import { claimOrFail, createInvoice, type InvoiceRequest } from "./node-invoices.ts";
import { learnFrom } from "./node-routes.ts";
import {
  isRouteNotFound,
  MAX_BLOCKS,
  type PaymentLimits,
  routeInParts,
  routeTo,
  whyNoRoute,
} from "./payment-route.ts";
import { PaymentTries } from "./payment-tries.ts";
import { type LightningRuntime, ldkNetwork } from "./runtime.ts";
import { PeerSockets } from "./sockets.ts";
import type { NodeStore } from "./store.ts";

export type { NodeStore } from "./store.ts";

export interface NodeKeys {
  readonly entropySource: ldk.EntropySource;
  readonly nodeSigner: ldk.NodeSigner;
  readonly signerProvider: ldk.SignerProvider;
}

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
  /** Whether a payment that LDK has given up may be tried again with what was learnt from its failure; always unless told. */
  mayPayAgain?(): boolean;
  /** It was to be tried again, and can't be. Unless told this is one more failure on the way. */
  onPaymentRefused?(failed: ldk.Event_PaymentFailed, error: Error): void;
  /** Called once: manager and monitors are there and up with the chain, nothing has been handled or sent yet. */
  attach?(node: LightningNode): void;
  /** Confirmations that a channel needs which is opened to this node. */
  readonly minimumDepth?: number;
  /** How much of a channel a peer may have in flight to this node; all of it unless told. */
  readonly inFlightPercent?: number;
  /** What forwarding a payment costs; LDK's own fee unless told. */
  readonly forwardingFee?: { readonly baseMsat: number; readonly proportionalMillionths: number };
  /** True: the caller decides itself, later, whether this payment is claimed or failed. */
  holdsPayment?(event: ldk.Event_PaymentClaimable): boolean;
  /** The chain can't be followed from where this node was, and its start waits until it can. */
  onWaiting?: (() => void) | undefined;
  /** LDK is broken beyond repair: the process must be started anew. */
  onFatal(error: unknown): void;
}

export interface Peer {
  readonly nodeId: Uint8Array;
  readonly host: string;
  readonly port: number;
}

/** A peer to stay connected to. */
interface Contact {
  readonly address: Peer;
  /** The pause after a call that comes to nothing: longer each time, until a Lightning handshake succeeds. */
  delay: number;
  /** By performance.now(). */
  nextAt: number;
  connecting: boolean;
  /** By performance.now(): since when it is connected, as far as was noticed. */
  upSince: number | undefined;
  /** How often in a row the peer has broken the connection off soon. */
  breaks: number;
  readonly trouble: (error: unknown) => void;
}

const MANAGER = "manager";
const MONITOR = "monitor/";
const UPDATE = "update/";
/** Updates after which the whole monitor is stored again: about ten payments. */
const UPDATES_PER_MONITOR = 50;
const STORE_WITHIN_MS = 40;
const CHANNEL_TICK_MS = 60_000;
const PEER_TICK_MS = 10_000;
const REBROADCAST_MS = 30_000;
const RECONNECT_MS = 1_000;
const LONGEST_RECONNECT_MS = 60_000;
/** A peer that breaks off so often, each time so soon, does it because of what it is told: it is called ever more rarely. */
const MANY_BREAKS = 5;
const SOON_MS = 30_000;
/** Longest words of a peer's that are passed on. */
const MAX_WORDS = 150;

export class LightningNode {
  private readonly options: NodeOptions;
  manager!: ldk.ChannelManager;
  monitor!: ldk.ChainMonitor;
  private peers!: ldk.PeerManager;
  private router!: ldk.Router;
  private sockets!: PeerSockets;
  private watching: Watching | undefined;
  /** Watched before the node has joined the chain. */
  private readonly early: ((watching: Watching) => void)[] = [];
  /** How many objects LDK's binding keeps for its own, needed for as long as they live. */
  private readonly lengths = new Map<object, number>();
  /** LDK holds what is passed to it weakly. */
  private readonly kept: unknown[] = [];
  /** Rows to be stored with the next manager. */
  private readonly dirty = new Map<string, Uint8Array | null>();
  /** For each monitor, the rows of the updates that came after its own. */
  private readonly updates = new Map<string, string[]>();
  private readonly events: ldk.Event[] = [];
  private writing: Promise<void> | undefined;
  /** When the manager must be stored, by performance.now(). */
  private storeBefore = Number.POSITIVE_INFINITY;
  private storeTimer: NodeJS.Timeout | undefined;
  /** What waits for the next manager to be durable. */
  private readonly afterStore: (() => void)[] = [];
  private pending: { outpoint: ldk.OutPoint; id: bigint }[] = [];
  private readonly timers: NodeJS.Timeout[] = [];
  private handler!: ldk.EventHandler;
  private futureCallback!: ldk.FutureCallback;
  private turnDue = false;
  /** What LDK is told when it asks: it can't be asked anything itself meanwhile. */
  private feerate = 0;
  private stopped = false;
  private lastWarning: string | undefined;
  /** It learns the network from its peers, for all nodes of the process. */
  takesGossip = false;
  private readonly contacts = new Map<string, Contact>();
  private readonly tries: PaymentTries;
  private readonly waiting: { test: () => boolean; resolve: () => void }[] = [];

  private constructor(options: NodeOptions) {
    this.options = options;
    this.tries = new PaymentTries(options.runtime);
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

  private keep<T>(value: T): T {
    this.kept.push(value);
    return value;
  }

  // ── building ──────────────────────────────────────────────────────────────────────────────────────────

  private async build(): Promise<void> {
    const { runtime, keys, store } = this.options;
    const { follower } = runtime.chain;
    const { logger, broadcaster, graph, scorer } = runtime;
    const feeEstimator = this.keep(
      ldk.FeeEstimator.new_impl({
        get_est_sat_per_1000_weight: target => this.ownFeerate(target) ?? runtime.feerate(target),
      }),
    );
    const filter = this.keep(
      ldk.Filter.new_impl({
        register_tx: txid => this.watch(watching => watching.transaction(txid.slice())),
        register_output: output => {
          const outpoint = output.get_outpoint();
          const txid = outpoint.get_txid();
          const vout = outpoint.get_index();
          this.watch(watching => watching.spendOf(txid, vout));
        },
      }),
    );
    const persister = this.keep(
      ldk.Persist.new_impl({
        persist_new_channel: (outpoint, monitor) => this.monitorChanged(outpoint, null, monitor),
        update_persisted_channel: (outpoint, update, monitor) =>
          // For "no update" the binding makes an object around a null pointer.
          this.monitorChanged(outpoint, Reflect.get(update, "ptr") === 0n ? null : update, monitor),
        archive_persisted_channel: outpoint => {
          const key = outpointText(outpoint);
          this.forgetUpdates(key);
          this.dirty.set(MONITOR + key, null);
          this.wake();
        },
      }),
    );
    this.monitor = ldk.ChainMonitor.constructor_new(
      ldk.Option_FilterZ.constructor_some(filter),
      broadcaster,
      logger,
      feeEstimator,
      persister,
    );
    this.router = this.keep(
      ldk.DefaultRouter.constructor_new(
        graph,
        logger,
        keys.entropySource,
        scorer.as_LockableScore(),
        ldk.ProbabilisticScoringFeeParameters.constructor_default(),
      ),
    ).as_Router();
    const messageRouter = this.keep(
      ldk.DefaultMessageRouter.constructor_new(graph, keys.entropySource),
    ).as_MessageRouter();
    const config = this.config();
    const monitors: ldk.ChannelMonitor[] = [];
    const stored = store.get(MANAGER);
    if (stored) {
      monitors.push(...store.keys(MONITOR).map(key => this.readMonitor(key)));
      const readManager = (serialized: Uint8Array) =>
        ldk.UtilMethods.constructor_C2Tuple_ThirtyTwoBytesChannelManagerZ_read(
          serialized,
          keys.entropySource,
          keys.nodeSigner,
          keys.signerProvider,
          feeEstimator,
          this.monitor.as_Watch(),
          broadcaster,
          this.router,
          messageRouter,
          logger,
          config,
          monitors,
        );
      let read = readManager(stored);
      if (!read.is_ok()) read = readManager(withoutPendingClaims(stored) ?? stored);
      if (!(read instanceof ldk.Result_C2Tuple_ThirtyTwoBytesChannelManagerZDecodeErrorZ_OK)) {
        throw lngateError("store-damaged", "the Lightning node's state in the store can't be read");
      }
      this.manager = read.res.get_b();
      for (const monitor of monitors) monitor.load_outputs_to_watch(filter, logger);
    } else {
      const tip = await follower.currentTip();
      this.manager = ldk.ChannelManager.constructor_new(
        feeEstimator,
        this.monitor.as_Watch(),
        broadcaster,
        this.router,
        messageRouter,
        logger,
        keys.entropySource,
        keys.nodeSigner,
        keys.signerProvider,
        config,
        ldk.ChainParameters.constructor_new(
          ldkNetwork(runtime.network),
          ldk.BestBlock.constructor_new(tip.hash, tip.height),
        ),
        Math.floor(Date.now() / 1000),
      );
    }
    const messages = this.options.messages?.(this.manager) ?? this.manager.as_ChannelMessageHandler();
    const taken = this.options.routing ? undefined : this.takeGossip();
    this.takesGossip = this.options.routing || taken !== undefined;
    const ignoring = this.keep(ldk.IgnoringMessageHandler.constructor_new());
    const gossip =
      this.options.gossip?.(graph, logger) ??
      (this.options.routing
        ? ldk.P2PGossipSync.constructor_new(
            graph,
            ldk.Option_UtxoLookupZ.constructor_none(),
            logger,
          ).as_RoutingMessageHandler()
        : (taken?.handler ?? ignoring.as_RoutingMessageHandler()));
    this.peers = ldk.PeerManager.constructor_new(
      this.keep(messages),
      this.keep(gossip),
      ignoring.as_OnionMessageHandler(),
      ignoring.as_CustomMessageHandler(),
      Math.floor(Date.now() / 1000),
      new Uint8Array(randomBytes(32)),
      this.peerLogger(),
      keys.nodeSigner,
    );
    this.sockets = new PeerSockets(this.peers, work => {
      this.guarded(work);
      this.wake();
    });
    this.handler = ldk.EventHandler.new_impl({
      handle_event: event => {
        this.events.push(event);
        return ldk.Result_NoneReplayEventZ.constructor_ok();
      },
    });
    this.futureCallback = ldk.FutureCallback.new_impl({
      call: () => {
        setImmediate(() => this.guarded(() => this.turn(true)));
      },
    });

    this.watching = follower.join(this.chainClient());
    for (const watch of this.early.splice(0)) watch(this.watching);
    let failure: unknown;
    const catchingUp = monitors.map(monitor =>
      this.catchUp(monitor, error => {
        failure ??= error;
      }),
    );
    try {
      await follower.patientSync([this.watching, ...catchingUp], this.options.onWaiting);
    } finally {
      for (const watching of catchingUp) watching.leave();
    }
    if (failure !== undefined) throw failure;
    for (const monitor of monitors) {
      const watched = this.monitor.as_Watch().watch_channel(monitor.get_funding_txo().get_a(), monitor);
      if (!watched.is_ok()) throw lngateError("store-damaged", "a channel in the store can't be watched");
    }
    this.options.attach?.(this);
    this.arm();
    this.every(CHANNEL_TICK_MS, () => this.tick());
    for (const object of [this.manager, this.monitor, this.peers])
      this.lengths.set(object, argumentsOf(object).length);
    this.every(PEER_TICK_MS, () => {
      this.peers.timer_tick_occurred();
      this.forgetArguments();
    });
    const reconnecting = setInterval(() => this.guarded(() => this.reconnect()), RECONNECT_MS);
    reconnecting.unref();
    this.timers.push(reconnecting);
    this.every(REBROADCAST_MS, () => this.monitor.rebroadcast_pending_claims());
    if (stored) {
      this.monitor.archive_fully_resolved_channel_monitors();
      this.monitor.rebroadcast_pending_claims();
      this.monitor.signer_unblocked(null);
    }
    this.wake();
  }

  /** What LDK is told of feerates that are a matter of this node's; undefined: it is told the runtime's. */
  private ownFeerate(target: ldk.ConfirmationTarget): number | undefined {
    switch (target) {
      case ldk.ConfirmationTarget.LDKConfirmationTarget_AnchorChannelFee:
        return this.feerate > 0 ? this.feerate : undefined;
      case ldk.ConfirmationTarget.LDKConfirmationTarget_ChannelCloseMinimum:
        return this.options.closingFeerates?.().least;
      // Channels of that kind are not opened: LDK asks for it to know the most that a close may pay.
      case ldk.ConfirmationTarget.LDKConfirmationTarget_NonAnchorChannelFee:
        return this.options.closingFeerates?.().most;
      default:
        return undefined;
    }
  }

  /** LDK hands a peer's warnings to nobody but its log. */
  private peerLogger(): ldk.Logger {
    const { runtime, onWarning } = this.options;
    return this.keep(
      ldk.Logger.new_impl({
        log: record => {
          if (record.get_level() !== ldk.Level.LDKLevel_Debug) runtime.logRecord(record);
          else {
            const words = /^Got warning message from [0-9a-f]+: (.*)$/s.exec(record.get_args())?.[1];
            if (words === undefined) return;
            this.lastWarning = words.slice(0, MAX_WORDS);
            onWarning?.(words);
          }
        },
      }),
    );
  }

  private takeGossip(): Gossip | undefined {
    return this.options.runtime.takeGossip(this, {
      wake: () => this.wake(),
      isConnected: nodeId => this.isConnected(nodeId),
      run: work => this.guarded(work),
    });
  }

  private config(): ldk.UserConfig {
    const { routing, channelsFrom } = this.options;
    const config = ldk.UserConfig.constructor_default();
    const handshake = config.get_channel_handshake_config();
    handshake.set_negotiate_anchors_zero_fee_htlc_tx(true);
    const { minimumDepth = this.options.runtime.network === "regtest" ? 1 : 3 } = this.options;
    handshake.set_minimum_depth(minimumDepth);
    handshake.set_our_to_self_delay(144);
    handshake.set_announce_for_forwarding(false);
    handshake.set_commit_upfront_shutdown_pubkey(true);
    // A bridge that counts what may be in flight towards us as the channel's size would find a tenth of it too small.
    handshake.set_max_inbound_htlc_value_in_flight_percent_of_channel(this.options.inFlightPercent ?? 100);
    if (!routing && !channelsFrom) handshake.set_our_max_accepted_htlcs(MAX_INCOMING);
    config.set_channel_handshake_config(handshake);
    const limits = config.get_channel_handshake_limits();
    // A bridge may want public or private channels; what the peer does is its own matter here.
    limits.set_force_announced_channel_preference(false);
    config.set_channel_handshake_limits(limits);
    const { forwardingFee } = this.options;
    const channel = config.get_channel_config();
    // Nothing is added to the most that a close may pay: there are peers that always take it.
    channel.set_force_close_avoidance_max_fee_satoshis(0n);
    config.set_channel_config(channel);
    if (forwardingFee) {
      channel.set_forwarding_fee_base_msat(forwardingFee.baseMsat);
      channel.set_forwarding_fee_proportional_millionths(forwardingFee.proportionalMillionths);
      config.set_channel_config(channel);
    }
    config.set_manually_accept_inbound_channels(true);
    config.set_accept_forwards_to_priv_channels(routing);
    return config;
  }

  private readMonitor(key: string): ldk.ChannelMonitor {
    const { keys, store, runtime } = this.options;
    const damaged = () => lngateError("store-damaged", "a channel's monitor in the store can't be read");
    const read = ldk.UtilMethods.constructor_C2Tuple_ThirtyTwoBytesChannelMonitorZ_read(
      store.get(key)!,
      keys.entropySource,
      keys.signerProvider,
    );
    if (!(read instanceof ldk.Result_C2Tuple_ThirtyTwoBytesChannelMonitorZDecodeErrorZ_OK)) throw damaged();
    const monitor = read.res.get_b();
    const outpoint = key.slice(MONITOR.length);
    const updateKeys = store.keys(`${UPDATE}${outpoint}/`);
    for (const updateKey of updateKeys) {
      const update = ldk.ChannelMonitorUpdate.constructor_read(store.get(updateKey)!);
      if (!(update instanceof ldk.Result_ChannelMonitorUpdateDecodeErrorZ_OK)) throw damaged();
      const { broadcaster, feeEstimator, logger } = runtime;
      // An error here is one of the update itself, which LDK met before, and not of its order or reading.
      monitor.update_monitor(update.res, broadcaster, feeEstimator, logger);
    }
    this.updates.set(outpoint, updateKeys);
    return monitor;
  }

  /** A stored monitor may be some blocks behind its manager: it is brought forward alone, before LDK watches by it. */
  private catchUp(monitor: ldk.ChannelMonitor, failed: (error: unknown) => void): Watching {
    const { broadcaster, feeEstimator, logger, chain } = this.options.runtime;
    const tools = [broadcaster, feeEstimator, logger] as const;
    const watching = chain.follower.join({
      tip: () => blockPoint(monitor.current_best_block()),
      confirmed: () => monitor.get_relevant_txids().map(confirmedTransaction),
      transactionsConfirmed: (header, transactions, height) => {
        const watch = monitor.transactions_confirmed(header, indexed(transactions), height, ...tools);
        for (const each of watch)
          for (const output of each.get_b()) watching.spendOf(each.get_a(), output.get_a());
      },
      transactionUnconfirmed: txid => monitor.transaction_unconfirmed(txid, ...tools),
      bestBlock: (header, height) => void monitor.best_block_updated(header, height, ...tools),
      failed,
    });
    for (const each of monitor.get_outputs_to_watch()) {
      watching.transaction(each.get_a());
      for (const output of each.get_b()) watching.spendOf(each.get_a(), output.get_a());
    }
    return watching;
  }

  // ── turns ─────────────────────────────────────────────────────────────────────────────────────────────

  /** LDK may have something to say, to store or to handle. */
  wake(): void {
    if (this.turnDue || this.stopped) return;
    this.turnDue = true;
    setImmediate(() => this.guarded(() => this.turn(false)));
  }

  private turn(rearm: boolean): void {
    this.turnDue = false;
    if (this.stopped) return;
    if (rearm) this.arm();
    this.handleEvents();
    this.persist();
    this.peers.process_events();
    for (const entry of [...this.waiting]) {
      if (!entry.test()) continue;
      this.waiting.splice(this.waiting.indexOf(entry), 1);
      entry.resolve();
    }
  }

  /** Stores within a moment, although no monitor has changed: also for rows of the caller's. */
  storeSoon(): void {
    if (this.storeTimer || this.stopped) return;
    this.storeBefore = performance.now() + STORE_WITHIN_MS;
    this.storeTimer = setTimeout(() => this.wake(), STORE_WITHIN_MS + 1);
  }

  /** Does this once all that LDK has said and done so far is durable. */
  whenStored(work: () => void): void {
    this.afterStore.push(work);
    this.wake();
  }

  /**
   * Takes what LDK tells now, to be handled with the next turn. Until LDK is asked for the event of a payment that has arrived,
   * it holds the channel's next revocation back, and LDK 0.1.2 panics when a channel is closed meanwhile: its own close then
   * counts in the update that was never made (rust-lightning #3857, mended in 0.1.5, of which there is no binding).
   */
  takeEvents(): void {
    this.manager.as_EventsProvider().process_pending_events(this.handler);
  }

  private handleEvents(): void {
    do {
      for (const event of this.events.splice(0)) this.guarded(() => this.handle(event));
      this.manager.as_EventsProvider().process_pending_events(this.handler);
      this.monitor.as_EventsProvider().process_pending_events(this.handler);
    } while (this.events.length > 0);
  }

  private arm(): void {
    this.manager.get_event_or_persistence_needed_future().register_callback_fn(this.futureCallback);
  }

  private monitorChanged(
    outpoint: ldk.OutPoint,
    update: ldk.ChannelMonitorUpdate | null,
    monitor: ldk.ChannelMonitor,
  ): ldk.ChannelMonitorUpdateStatus {
    const key = outpointText(outpoint);
    const since = this.updates.get(key) ?? [];
    if (update && since.length < UPDATES_PER_MONITOR) {
      const row = `${UPDATE}${key}/${update.get_update_id().toString().padStart(20, "0")}`;
      this.dirty.set(row, update.write());
      this.updates.set(key, [...since, row]);
    } else {
      this.forgetUpdates(key);
      this.dirty.set(MONITOR + key, monitor.write());
    }
    this.pending.push({ outpoint, id: update?.get_update_id() ?? monitor.get_latest_update_id() });
    this.wake();
    return ldk.ChannelMonitorUpdateStatus.LDKChannelMonitorUpdateStatus_InProgress;
  }

  private forgetUpdates(key: string): void {
    for (const row of this.updates.get(key) ?? []) this.dirty.set(row, null);
    this.updates.delete(key);
  }

  /**
   * Begins to store what is new; LDK hears of it when it is durable. One write at a time. What is new in the manager
   * alone can wait for the next monitor, or a moment: nobody does, and a write at once would be in the way of theirs.
   */
  private persist(): void {
    if (this.writing) return;
    if (this.manager.get_and_clear_needs_persistence()) this.storeSoon();
    const isDue = performance.now() >= this.storeBefore || this.afterStore.length > 0;
    if (this.dirty.size === 0 && !isDue) return;
    clearTimeout(this.storeTimer);
    this.storeTimer = undefined;
    this.storeBefore = Number.POSITIVE_INFINITY;
    const rows = new Map(this.dirty);
    for (const [key, value] of this.options.extraRows?.() ?? []) rows.set(key, value);
    rows.set(MANAGER, this.manager.write());
    const { pending } = this;
    const afterStore = this.afterStore.splice(0);
    this.pending = [];
    this.dirty.clear();
    this.writing = this.options.store.write(rows).then(
      () => {
        this.writing = undefined;
        this.guarded(() => {
          for (const { outpoint, id } of pending) this.monitor.channel_monitor_updated(outpoint, id);
          for (const work of afterStore) work();
          this.turn(false);
        });
      },
      error =>
        this.fail(
          lngateError("store-write-failed", `the store can't be written: ${(error as Error).message}`),
        ),
    );
  }

  private guarded(work: () => void): void {
    if (this.stopped) return;
    try {
      work();
    } catch (error) {
      // Our own refusals have a code; anything else has come out of LDK and leaves its locks held.
      if (codeOf(error) === undefined || codeOf(error) === "store-damaged") this.fail(error);
      else this.options.log.error((error as Error).message, { code: codeOf(error) });
    }
  }

  private fail(error: unknown): void {
    if (this.stopped) return;
    this.stopped = true;
    this.options.onFatal(error);
  }

  private every(ms: number, work: () => void): void {
    const timer = setInterval(() => {
      this.guarded(work);
      this.wake();
    }, ms);
    timer.unref();
    this.timers.push(timer);
  }

  /** LDK's binding keeps everything that a method was ever called with: what came after building is let go. */
  private forgetArguments(): void {
    for (const [object, length] of this.lengths) argumentsOf(object).length = length;
  }

  /** What LDK does once a minute. */
  tick(): void {
    // After two ticks of negotiating LDK closes by force, whatever it waits for.
    if (this.options.holdTicks?.() || this.negotiatesClose()) return;
    this.chooseFeerate();
    this.manager.timer_tick_occurred();
  }

  private chooseFeerate(): void {
    const present = this.channels()[0]?.get_feerate_sat_per_1000_weight();
    this.feerate =
      this.options.commitmentFeerate?.(present instanceof ldk.Option_u32Z_Some ? present.some : undefined) ??
      0;
  }

  private handle(event: ldk.Event): void {
    if (event instanceof ldk.Event_PendingHTLCsForwardable) this.manager.process_pending_htlc_forwards();
    else if (event instanceof ldk.Event_OpenChannelRequest) this.channelRequested(event);
    else if (event instanceof ldk.Event_PaymentClaimable) {
      if (!this.options.holdsPayment?.(event)) claimOrFail(this.manager, event);
    } else if (
      event instanceof ldk.Event_FundingGenerationReady &&
      !this.hasAnchors(event.temporary_channel_id)
    )
      this.forceClose(event.temporary_channel_id, event.counterparty_node_id);
    else {
      learnFrom(event, this.options.runtime, Math.floor(Date.now() / 1000));
      if (event instanceof ldk.Event_PaymentPathFailed) this.tries.note(event);
      else if (
        event instanceof ldk.Event_PaymentSent &&
        event.payment_id instanceof ldk.Option_ThirtyTwoBytesZ_Some
      )
        void this.tries.over(event.payment_id.some, true);
      else if (event instanceof ldk.Event_PaymentFailed && this.triesAgain(event)) return;
      this.options.onEvent(event);
    }
    this.wake();
  }

  /** Whether a payment that LDK has given up may be tried again; if that comes to nothing, it is told later. */
  private triesAgain(event: ldk.Event_PaymentFailed): boolean {
    const { reason } = event;
    const { LDKPaymentFailureReason_RouteNotFound, LDKPaymentFailureReason_RetriesExhausted } =
      ldk.PaymentFailureReason;
    const isFinal =
      !(reason instanceof ldk.Option_PaymentFailureReasonZ_Some) ||
      (reason.some !== LDKPaymentFailureReason_RouteNotFound &&
        reason.some !== LDKPaymentFailureReason_RetriesExhausted);
    const over = this.tries.over(event.payment_id, isFinal);
    if (!over) return false;
    const tell = (error?: Error) =>
      this.guarded(() => {
        if (error && this.options.onPaymentRefused) this.options.onPaymentRefused(event, error);
        else this.options.onEvent(event);
      });
    over.then(
      isOver => isOver && tell(),
      (error: Error) => (codeOf(error) === undefined ? this.fail(error) : tell(error)),
    );
    return true;
  }

  /** A peer can make LDK propose the older kind of channel, by refusing the first proposal with an error. */
  private hasAnchors(id: ldk.ChannelId): boolean {
    const details = this.manager.list_channels().find(each => each.get_channel_id().eq(id));
    return Boolean(details?.get_channel_type().supports_anchors_zero_fee_htlc_tx());
  }

  private channelRequested(event: ldk.Event_OpenChannelRequest): void {
    const { routing, channelsFrom } = this.options;
    const welcome =
      routing ||
      (channelsFrom !== undefined &&
        equal(event.counterparty_node_id, channelsFrom) &&
        this.channels().length < MAX_TAKEN_CHANNELS);
    if (welcome && event.channel_type.supports_anchors_zero_fee_htlc_tx()) {
      const id = randomBytes(16).readBigUInt64BE();
      this.manager.accept_inbound_channel(event.temporary_channel_id, event.counterparty_node_id, id);
      return;
    }
    this.manager.force_close_without_broadcasting_txn(
      event.temporary_channel_id,
      event.counterparty_node_id,
      welcome ? "only anchors channels" : "no channels are accepted here",
    );
  }

  // ── chain ─────────────────────────────────────────────────────────────────────────────────────────────

  private watch(what: (watching: Watching) => void): void {
    if (this.watching) what(this.watching);
    else this.early.push(what);
  }

  private chainClient(): ChainClient {
    const confirms = () => [this.monitor.as_Confirm(), this.manager.as_Confirm()];
    return {
      tip: () => blockPoint(this.manager.current_best_block()),
      confirmed: () =>
        confirms()
          .flatMap(confirm => confirm.get_relevant_txids())
          .map(confirmedTransaction),
      transactionsConfirmed: (header, transactions, height) => {
        this.guarded(() => {
          for (const confirm of confirms())
            confirm.transactions_confirmed(header, indexed(transactions), height);
        });
        this.wake();
      },
      transactionUnconfirmed: txid => {
        this.guarded(() => {
          for (const confirm of confirms()) confirm.transaction_unconfirmed(txid);
        });
        this.wake();
      },
      bestBlock: (header, height) => {
        this.guarded(() => {
          for (const confirm of confirms()) confirm.best_block_updated(header, height);
        });
        this.wake();
      },
      failed: error => this.fail(error),
    };
  }

  // ── peers ─────────────────────────────────────────────────────────────────────────────────────────────

  listen(host: string, port: number): Promise<number> {
    return this.sockets.listen(host, port);
  }

  /** Stays connected to this peer from now on. */
  keepConnected(address: Peer): void {
    const { log } = this.options;
    const known = this.contacts.get(toHex(address.nodeId))?.address;
    if (known?.host === address.host && known.port === address.port) return;
    const trouble = lastingTrouble(error => {
      if (error) log.warn(error.message, { code: codeOf(error) });
      else log.info("connected to the bridge again");
    });
    const contact = {
      address,
      delay: RECONNECT_MS,
      nextAt: 0,
      connecting: false,
      upSince: undefined,
      breaks: 0,
      trouble,
    };
    this.contacts.set(toHex(address.nodeId), contact);
    this.reconnect();
  }

  private reconnect(): void {
    for (const contact of this.contacts.values()) {
      this.noteBreak(contact);
      const due = !contact.connecting && performance.now() >= contact.nextAt;
      if (due && !this.isConnected(contact.address.nodeId)) void this.call(contact);
    }
  }

  private noteBreak(contact: Contact): void {
    const now = performance.now();
    const lasted = contact.upSince === undefined ? undefined : now - contact.upSince;
    if (this.isConnected(contact.address.nodeId)) {
      contact.upSince ??= now;
      if (contact.breaks > 0 && lasted !== undefined && lasted > SOON_MS) {
        contact.breaks = 0;
        contact.trouble(null);
      }
      return;
    }
    contact.upSince = undefined;
    if (lasted === undefined || lasted > SOON_MS) return;
    contact.breaks++;
    if (contact.breaks < MANY_BREAKS) return;
    const pause = RECONNECT_MS * 2 ** (contact.breaks - MANY_BREAKS + 1);
    contact.nextAt = now + Math.min(pause, LONGEST_RECONNECT_MS);
    const { host, port } = contact.address;
    const said = this.lastWarning === undefined ? "" : `; it says: ${this.lastWarning}`;
    contact.trouble(
      lngateError("peer-breaks-off", `the node at ${host}:${port} breaks off again and again${said}`),
    );
  }

  /** Somebody waits for this peer: it is dialled at once, and from then on as if it had just gone. */
  connectSoon(nodeId: Uint8Array): void {
    const contact = this.contacts.get(toHex(nodeId));
    if (!contact || this.isConnected(nodeId)) return;
    contact.delay = RECONNECT_MS;
    contact.nextAt = 0;
    this.reconnect();
  }

  private async call(contact: Contact): Promise<void> {
    const { nodeId, host, port } = contact.address;
    contact.connecting = true;
    try {
      contact.delay = Math.min(2 * contact.delay, LONGEST_RECONNECT_MS);
      const socket = await this.sockets.connect(nodeId, host, port);
      await this.until("peer-unreachable", () => this.isConnected(nodeId) || socket.destroyed);
      if (!this.isConnected(nodeId))
        throw lngateError(
          "peer-unreachable",
          `the node at ${host}:${port} breaks off the handshake: is its public key ${toHex(nodeId)}?`,
        );
      contact.delay = RECONNECT_MS;
      contact.upSince = performance.now();
      if (contact.breaks < MANY_BREAKS) contact.trouble(null);
    } catch (error) {
      if (this.stopped) return;
      contact.trouble(error);
    } finally {
      contact.connecting = false;
      contact.nextAt = performance.now() + contact.delay;
    }
    this.wake();
  }

  async connect(address: Peer): Promise<void> {
    if (!this.isConnected(address.nodeId)) {
      await this.sockets.connect(address.nodeId, address.host, address.port);
      await this.until("peer-unreachable", () => this.isConnected(address.nodeId));
    }
  }

  /** Breaks the connection off, once what is to be said is said. One that is to be kept begins anew within a second. */
  hangUp(nodeId: Uint8Array): void {
    setImmediate(() =>
      this.guarded(() => {
        this.peers.process_events();
        this.peers.disconnect_by_node_id(nodeId);
        const contact = this.contacts.get(toHex(nodeId));
        if (contact) contact.upSince = undefined;
        this.wake();
      }),
    );
  }

  /** How many are connected. */
  get peerCount(): number {
    return this.peers.list_peers().length;
  }

  isConnected(nodeId: Uint8Array): boolean {
    return this.peers.list_peers().some(peer => equal(peer.get_counterparty_node_id(), nodeId));
  }

  /** Resolves when the test holds after some turn (whatever changes it has to lead to one). Throws `code` if it takes too long. */
  async until(code: string, test: () => boolean, ms = 15_000): Promise<void> {
    if (test()) return;
    await new Promise<void>((resolve, reject) => {
      const entry = {
        test,
        resolve: () => {
          clearTimeout(timer);
          resolve();
        },
      };
      const timer = setTimeout(() => {
        this.waiting.splice(this.waiting.indexOf(entry), 1);
        reject(lngateError(code, "the Lightning peer did not answer in time"));
      }, ms);
      timer.unref();
      this.waiting.push(entry);
    });
  }

  // ── channels and payments ─────────────────────────────────────────────────────────────────────────────

  channels(): ldk.ChannelDetails[] {
    return this.manager.list_channels();
  }

  /** Asks a connected peer for a channel, unannounced unless told. Throws `channel-refused`. */
  createChannel(
    nodeId: Uint8Array,
    sat: number,
    pushMsat: number,
    userChannelId: bigint,
    announced = false,
  ): void {
    this.chooseFeerate();
    const config = this.config();
    const handshake = config.get_channel_handshake_config();
    handshake.set_announce_for_forwarding(announced);
    config.set_channel_handshake_config(handshake);
    const created = this.manager.create_channel(
      nodeId,
      BigInt(sat),
      BigInt(pushMsat),
      userChannelId,
      null,
      config,
    );
    if (!(created instanceof ldk.Result_ChannelIdAPIErrorZ_OK)) {
      throw lngateError("channel-refused", `LDK does not ask for the channel: ${apiError(created)}`);
    }
    this.wake();
  }

  /**
   * Answers Event_FundingGenerationReady with the outpoint of a transaction that is not signed yet; all its inputs
   * are segwit, so its id is final. Event_FundingTxBroadcastSafe says when it may be signed and sent.
   * Throws `funding-refused`.
   */
  provideFunding(event: ldk.Event_FundingGenerationReady, funding: Outpoint): void {
    const provided = this.manager.unsafe_manual_funding_transaction_generated(
      event.temporary_channel_id,
      event.counterparty_node_id,
      ldk.OutPoint.constructor_new(funding.txid, funding.vout),
    );
    if (!provided.is_ok())
      throw lngateError("funding-refused", `LDK does not take the funding: ${apiError(provided)}`);
    this.wake();
  }

  /** Publishes our newest commitment, or gives up a channel that is not funded yet; at once, or when nothing is being written. */
  forceClose(channelId: ldk.ChannelId, nodeId: Uint8Array): void {
    if (this.writing) {
      // What one channel of a forwarding node waits for may be another one's update (see takeEvents).
      void this.writing.then(() => this.guarded(() => this.forceClose(channelId, nodeId)));
      return;
    }
    this.manager.force_close_broadcasting_latest_txn(channelId, nodeId, "closed by its owner");
    this.wake();
  }

  /** A mutual close has come to the fee, and to no end yet. */
  negotiatesClose(): boolean {
    return this.channels().some(each => {
      const state = each.get_channel_shutdown_state();
      return (
        state instanceof ldk.Option_ChannelShutdownStateZ_Some &&
        state.some === ldk.ChannelShutdownState.LDKChannelShutdownState_NegotiatingClosingFee
      );
    });
  }

  /** Begins a mutual close; at once, or when the write that is under way is through. Throws `close-refused`. */
  closeChannel(channelId: ldk.ChannelId, nodeId: Uint8Array): void {
    if (this.writing) {
      // LDK refuses while a monitor update waits for the store.
      void this.writing.then(() => this.guarded(() => this.closeChannel(channelId, nodeId)));
      return;
    }
    const closed = this.manager.close_channel(channelId, nodeId);
    if (!closed.is_ok())
      throw lngateError("close-refused", `LDK does not close the channel now: ${apiError(closed)}`);
    this.wake();
  }

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
    const { maxBlocks = MAX_BLOCKS } = limits;
    const { onion, route } = routeTo(text, limits);
    let sent = this.manager.send_payment(
      invoice.paymentHash,
      onion,
      paymentId,
      route,
      // A later try is bound to as many blocks from then on: where there are few, it might expire too late.
      ldk.Retry.constructor_attempts(maxBlocks < 2 * MAX_BLOCKS ? 0 : retries),
    );
    const inParts = isRouteNotFound(sent) ? routeInParts(this.manager, this.router, text, limits) : undefined;
    if (inParts)
      sent = this.manager.send_payment_with_route(
        inParts,
        invoice.paymentHash,
        routeTo(text, limits).onion,
        paymentId,
      );
    else if (isRouteNotFound(sent))
      throw whyNoRoute(this.manager, this.router, this.options.runtime.graph, text, limits);
    if (!(sent instanceof ldk.Result_NoneRetryableSendFailureZ_OK)) throw sendFailure(sent);
    this.tries.begun(paymentId, () => {
      if (this.stopped || (this.options.mayPayAgain && !this.options.mayPayAgain())) return false;
      this.pay(invoice, text, paymentId, limits, retries);
      return true;
    });
    this.wake();
  }

  /** The text of a new invoice; a payment to it is taken when it comes. Throws `invoice-refused`. */
  createInvoice(request: InvoiceRequest): string {
    const text = createInvoice(this.manager, request, Math.floor(Date.now() / 1000));
    this.wake();
    return text;
  }

  /** Of the best block. */
  get height(): number {
    return this.manager.current_best_block().get_height();
  }

  /** How many payments are under way. */
  pendingPayments(): number {
    const isPending = (each: object) => each instanceof ldk.RecentPaymentDetails_Pending;
    return this.manager.list_recent_payments().filter(isPending).length;
  }

  /** Whether LDK knows this payment: its events tell how it ends, or have told a short while ago. */
  hasPayment(paymentId: Uint8Array): boolean {
    if (this.tries.isLearning(paymentId)) return true;
    const known = [
      ldk.RecentPaymentDetails_Pending,
      ldk.RecentPaymentDetails_Fulfilled,
      ldk.RecentPaymentDetails_Abandoned,
    ];
    return this.manager
      .list_recent_payments()
      .some(each => known.some(kind => each instanceof kind && equal(each.payment_id, paymentId)));
  }

  /** Ends the node at once, as a power cut would; resolves when a write that was under way is through. */
  async stop(): Promise<void> {
    this.stopped = true;
    for (const timer of this.timers) clearInterval(timer);
    clearTimeout(this.storeTimer);
    this.options.runtime.leaveGossip(this);
    this.watching?.leave();
    // Undefined if building it has failed.
    (this.sockets as PeerSockets | undefined)?.close();
    await this.writing;
  }
}

/** Channels that a node which routes nothing takes at most. */
const MAX_TAKEN_CHANNELS = 8;
/** How often LDK looks for another way when a payment fails on its way. */
export const PAYMENT_RETRIES = 5;

function argumentsOf(object: object): unknown[] {
  return Reflect.get(object, "ptrs_to") as unknown[];
}

function outpointText(outpoint: ldk.OutPoint): string {
  return `${toHex(outpoint.get_txid())}:${outpoint.get_index()}`;
}

function blockPoint(best: ldk.BestBlock): BlockPoint {
  return { hash: best.get_block_hash(), height: best.get_height() };
}

function confirmedTransaction(
  relevant: ldk.ThreeTuple_ThirtyTwoBytesu32COption_ThirtyTwoBytesZZ,
): ConfirmedTransaction {
  const hash = relevant.get_c();
  return {
    txid: relevant.get_a(),
    height: relevant.get_b(),
    ...(hash instanceof ldk.Option_ThirtyTwoBytesZ_Some ? { blockHash: hash.some } : {}),
  };
}

/** A new list for every call: LDK takes what it is given. */
function indexed(transactions: readonly IndexedTransaction[]): ldk.TwoTuple_usizeTransactionZ[] {
  return transactions.map(({ index, transaction }) =>
    ldk.TwoTuple_usizeTransactionZ.constructor_new(index, transaction.raw),
  );
}

function apiError(result: object): string {
  const error = (result as { err?: ldk.APIError }).err;
  if (error instanceof ldk.APIError_APIMisuseError || error instanceof ldk.APIError_ChannelUnavailable)
    return error.err;
  return error?.constructor.name ?? "no reason given";
}

function sendFailure(result: object): Error {
  switch ((result as { err?: ldk.RetryableSendFailure }).err) {
    case ldk.RetryableSendFailure.LDKRetryableSendFailure_PaymentExpired:
      return lngateError("payment-expired", "the invoice has expired");
    case ldk.RetryableSendFailure.LDKRetryableSendFailure_DuplicatePayment:
      return lngateError("already-paying", "this payment is under way already");
    default:
      return lngateError("no-route", "no way to the payee was found within the fee limit");
  }
}

/**
 * A Lightning node for the signer's tests: LDK with either its stock signer or a RemoteSigner, on a regtest
 * bitcoind, over TCP, stored atomically in memory, without graph or router (routes are given by hop).
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { connect as connectTcp, createServer, type Server, type Socket } from "node:net";
import * as cbor from "cbor-x";
import * as ldk from "lightningdevkit";
import { withoutPendingClaims } from "../../gateway/lightning/manager-repair.ts";
import { watchedMessages } from "../../gateway/signer/messages.ts";
import type { RemoteSigner } from "../../gateway/signer/remote-signer.ts";
import type { StoredSigningState } from "../../gateway/signer/stored-state.ts";
import type { Regtest } from "../../scripts/bitcoind.ts";
import { equal, fromHex, toHex } from "../../src/bytes/bytes.ts";

let started: Promise<void> | undefined;

/** LDK announces itself on the console; nobody needs that in a test's output. */
export function startLdk(): Promise<void> {
  started ??= (async () => {
    const wasm = createRequire(import.meta.url).resolve("lightningdevkit/liblightningjs.wasm");
    const { log } = console;
    console.log = () => {};
    await ldk.initializeWasmFromBinary(readFileSync(wasm));
    console.log = log;
  })();
  return started;
}

/** What a node has on disk, always of one moment. */
export interface Stored {
  readonly manager: Uint8Array;
  readonly monitors: ReadonlyMap<string, Uint8Array>;
  readonly books: ReadonlyMap<string, Buffer>;
  /** Preimages of payments to be claimed: LDK says only once that they came in. */
  readonly claims: ReadonlyMap<string, Uint8Array>;
}

export interface NodeOptions {
  readonly name: string;
  readonly chain: Regtest;
  readonly seed: Uint8Array;
  readonly anchors?: boolean;
  /** The remote signer; without it LDK's own. */
  readonly signer?: RemoteSigner;
  readonly stored?: Stored;
  /** Publishes nothing. */
  readonly mute?: boolean;
}

export interface Claimable {
  readonly hash: Uint8Array;
  readonly preimage: Uint8Array | null;
}

/** Hops of a route: each by the node it leads to. */
export interface Hop {
  readonly to: Uint8Array;
  readonly channel: bigint;
  readonly feeMsat: number;
  readonly cltvDelta: number;
}

export const wait = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));

/** Waits for something to become true; says what, if it does not. */
export async function until(what: string, condition: () => unknown, ms = 300_000): Promise<void> {
  const end = Date.now() + ms;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await wait(3);
  }
}

const reversed = (bytes: Uint8Array) => bytes.slice().reverse();

export class TestNode {
  readonly name: string;
  readonly chain: Regtest;
  readonly signer: RemoteSigner | undefined;
  /** Feerate estimate for everything, sat per 1000 weight. */
  feerate = 1000;
  /** LDK's timer is suspended while a closing signature is awaited. */
  ticksHeld = 0;
  readonly sent: Uint8Array[] = [];
  readonly failed: Uint8Array[] = [];
  readonly claimed: Uint8Array[] = [];
  readonly closed: string[] = [];
  readonly broadcast: string[] = [];
  readonly log: string[] = [];
  /** Publishes nothing. */
  mute = false;
  /** Resolves when bitcoind has answered to everything that was published. */
  sends: Promise<void> = Promise.resolve();
  /** What it was started from could not be read as it was. */
  repaired = false;
  /** What bitcoind said to transactions it did not take. */
  readonly notTaken: string[] = [];
  /** Fails instead of claiming the payments that come in. */
  failIncoming = false;
  /** Neither claims nor fails what comes in. */
  holdIncoming = false;
  readonly incoming: Claimable[] = [];
  /** Called for events that a test wants to handle itself. */
  onEvent: (event: ldk.Event) => void = () => {};
  stored: Stored | undefined;
  manager!: ldk.ChannelManager;
  monitor!: ldk.ChainMonitor;
  peers!: ldk.PeerManager;
  private readonly keep: unknown[] = [];
  private readonly monitors = new Map<string, Uint8Array>();
  private readonly books = new Map<string, Buffer>();
  private pending: { outpoint: ldk.OutPoint; id: bigint }[] = [];
  private readonly claims = new Map<string, Uint8Array>();
  private readonly seed: Uint8Array;
  private readonly anchors: boolean;
  private pumping = false;
  private claiming = false;
  /** See `claim`. */
  completeClaimsAtOnce = true;
  /** Told of everything that is stored, before LDK goes on. */
  onStore: (stored: Stored) => void = () => {};
  private dead = false;
  private height = 0;
  private server: Server | undefined;
  private readonly sockets = new Set<Socket>();
  private socketCount = 0n;
  private futureCallback!: ldk.FutureCallback;
  private handler!: ldk.EventHandler;
  /** Storing is what LDK waits for; a test may hold it back. */
  holdStore = false;

  private constructor(options: NodeOptions) {
    this.name = options.name;
    this.chain = options.chain;
    this.seed = options.seed;
    this.signer = options.signer;
    this.anchors = options.anchors ?? true;
    this.stored = options.stored;
    this.mute = options.mute ?? false;
  }

  static async start(options: NodeOptions): Promise<TestNode> {
    await startLdk();
    const node = new TestNode(options);
    await node.build();
    return node;
  }

  get id(): Uint8Array {
    return this.manager.get_our_node_id();
  }

  private async build(): Promise<void> {
    const keep = <T>(value: T): T => {
      this.keep.push(value);
      return value;
    };
    const feeEstimator = keep(
      ldk.FeeEstimator.new_impl({
        get_est_sat_per_1000_weight: target =>
          // The lowest feerate that is taken from others stays low, whatever ours is.
          target === ldk.ConfirmationTarget.LDKConfirmationTarget_MinAllowedAnchorChannelRemoteFee ||
          target === ldk.ConfirmationTarget.LDKConfirmationTarget_MinAllowedNonAnchorChannelRemoteFee
            ? 253
            : target === ldk.ConfirmationTarget.LDKConfirmationTarget_MaximumFeeEstimate
              ? 50_000
              : this.feerate,
      }),
    );
    const logger = keep(
      ldk.Logger.new_impl({
        log: record => {
          if (record.get_level() >= ldk.Level.LDKLevel_Debug) this.log.push(record.get_args());
        },
      }),
    );
    const broadcaster = keep(
      ldk.BroadcasterInterface.new_impl({
        broadcast_transactions: transactions => {
          for (const transaction of transactions) this.send(toHex(transaction));
        },
      }),
    );
    const persister = keep(
      ldk.Persist.new_impl({
        persist_new_channel: (outpoint, monitor) => this.persist(outpoint, monitor),
        update_persisted_channel: (outpoint, _update, monitor) => this.persist(outpoint, monitor),
        archive_persisted_channel: () => {},
      }),
    );
    const none = ldk.Option_FilterZ.constructor_none();
    this.monitor = ldk.ChainMonitor.constructor_new(none, broadcaster, logger, feeEstimator, persister);
    const router = keep(
      ldk.Router.new_impl({
        find_route: () => noRoute(),
        find_route_with_id: () => noRoute(),
        create_blinded_payment_paths: () => ldk.Result_CVec_BlindedPaymentPathZNoneZ.constructor_err(),
      }),
    );
    const messageRouter = keep(
      ldk.MessageRouter.new_impl({
        find_path: () => ldk.Result_OnionMessagePathNoneZ.constructor_err(),
        create_blinded_paths: () => ldk.Result_CVec_BlindedMessagePathZNoneZ.constructor_err(),
        create_compact_blinded_paths: () => ldk.Result_CVec_BlindedMessagePathZNoneZ.constructor_err(),
      }),
    );
    const now = Date.now();
    const keys = this.signer?.keys ?? ldk.KeysManager.constructor_new(this.seed, BigInt(now), 0);
    keep(keys);
    const signerProvider = this.signer?.signerProvider ?? keys.as_SignerProvider();
    const config = ldk.UserConfig.constructor_default();
    const handshake = config.get_channel_handshake_config();
    handshake.set_negotiate_anchors_zero_fee_htlc_tx(this.anchors);
    handshake.set_minimum_depth(1);
    handshake.set_our_to_self_delay(144);
    config.set_channel_handshake_config(handshake);
    config.set_manually_accept_inbound_channels(true);
    config.set_accept_forwards_to_priv_channels(true);

    const best = await this.chain.rpc<{ bestblockhash: string; blocks: number }>("getblockchaininfo");
    if (this.stored) {
      const read: ldk.ChannelMonitor[] = [];
      for (const [key, bytes] of this.stored.monitors) {
        const result = ldk.UtilMethods.constructor_C2Tuple_ThirtyTwoBytesChannelMonitorZ_read(
          bytes,
          keys.as_EntropySource(),
          signerProvider,
        );
        if (!(result instanceof ldk.Result_C2Tuple_ThirtyTwoBytesChannelMonitorZDecodeErrorZ_OK)) {
          throw new Error("a stored monitor is not readable");
        }
        read.push(result.res.get_b());
        this.monitors.set(key, bytes);
      }
      for (const [key, bytes] of this.stored.books) this.books.set(key, bytes);
      for (const [key, preimage] of this.stored.claims) this.claims.set(key, preimage);
      const readManager = (serialized: Uint8Array) =>
        ldk.UtilMethods.constructor_C2Tuple_ThirtyTwoBytesChannelManagerZ_read(
          serialized,
          keys.as_EntropySource(),
          keys.as_NodeSigner(),
          signerProvider,
          feeEstimator,
          this.monitor.as_Watch(),
          broadcaster,
          router,
          messageRouter,
          logger,
          config,
          read,
        );
      let result = readManager(this.stored.manager);
      this.repaired = !result.is_ok();
      if (this.repaired)
        result = readManager(withoutPendingClaims(this.stored.manager) ?? this.stored.manager);
      if (!(result instanceof ldk.Result_C2Tuple_ThirtyTwoBytesChannelManagerZDecodeErrorZ_OK)) {
        throw new Error("the stored manager is not readable");
      }
      this.manager = result.res.get_b();
      const watch = this.monitor.as_Watch();
      for (const each of read) watch.watch_channel(each.get_funding_txo().get_a(), each);
      this.height = this.manager.current_best_block().get_height();
    } else {
      this.height = best.blocks;
      const parameters = ldk.ChainParameters.constructor_new(
        ldk.Network.LDKNetwork_Regtest,
        ldk.BestBlock.constructor_new(reversed(fromHex(best.bestblockhash)), best.blocks),
      );
      this.manager = ldk.ChannelManager.constructor_new(
        feeEstimator,
        this.monitor.as_Watch(),
        broadcaster,
        router,
        messageRouter,
        logger,
        keys.as_EntropySource(),
        keys.as_NodeSigner(),
        signerProvider,
        config,
        parameters,
        Math.floor(now / 1000),
      );
    }
    const ignoring = keep(ldk.IgnoringMessageHandler.constructor_new());
    this.peers = ldk.PeerManager.constructor_new(
      this.signer ? watchedMessages(this.manager, this.signer) : this.manager.as_ChannelMessageHandler(),
      ignoring.as_RoutingMessageHandler(),
      ignoring.as_OnionMessageHandler(),
      ignoring.as_CustomMessageHandler(),
      Math.floor(now / 1000),
      new Uint8Array(32).fill(this.name.length),
      logger,
      keys.as_NodeSigner(),
    );
    this.handler = ldk.EventHandler.new_impl({
      handle_event: event => {
        // Handled after the callback: LDK holds locks while it calls.
        this.note(event);
        setImmediate(() => {
          if (!this.dead) this.handle(event);
        });
        return ldk.Result_NoneReplayEventZ.constructor_ok();
      },
    });
    this.futureCallback = ldk.FutureCallback.new_impl({
      call: () => {
        setImmediate(() => {
          if (this.dead) return;
          this.pump();
          this.arm();
        });
      },
    });
    this.arm();
    this.signer?.attach({
      channelManager: this.manager,
      chainMonitor: this.monitor,
      wake: () => this.pump(),
    });
    await this.sync();
    for (const preimage of this.claims.values()) this.claim(preimage);
  }

  private arm(): void {
    this.manager.get_event_or_persistence_needed_future().register_callback_fn(this.futureCallback);
  }

  private persist(outpoint: ldk.OutPoint, monitor: ldk.ChannelMonitor): ldk.ChannelMonitorUpdateStatus {
    this.monitors.set(`${toHex(outpoint.get_txid())}:${outpoint.get_index()}`, monitor.write());
    if (this.claiming) return ldk.ChannelMonitorUpdateStatus.LDKChannelMonitorUpdateStatus_Completed;
    this.pending.push({ outpoint, id: monitor.get_latest_update_id() });
    setImmediate(() => this.pump());
    return ldk.ChannelMonitorUpdateStatus.LDKChannelMonitorUpdateStatus_InProgress;
  }

  /** Manager, monitors and books of one moment; only then LDK goes on. */
  private store(): void {
    const pending = this.pending;
    this.pending = [];
    for (const { keysId, book } of this.signer?.changedBooks() ?? []) {
      this.books.set(toHex(keysId), cbor.encode(book));
    }
    this.stored = {
      manager: this.manager.write(),
      monitors: new Map(this.monitors),
      books: new Map(this.books),
      claims: new Map(this.claims),
    };
    this.onStore(this.stored);
    for (const { outpoint, id } of pending) this.monitor.channel_monitor_updated(outpoint, id);
  }

  /**
   * A manager that is stored while a claim waits for its monitor cannot be read again (LDK 0.1): the claim is in
   * both, and reading takes that for corruption. So a claim is complete at once, and stored before anything is sent.
   */
  claim(preimage: Uint8Array): void {
    this.claiming = this.completeClaimsAtOnce;
    this.manager.claim_funds(preimage);
    this.claiming = false;
    this.store();
  }

  pump(): void {
    if (this.pumping || this.dead) return;
    this.pumping = true;
    setImmediate(() => {
      this.pumping = false;
      if (this.dead) return;
      this.manager.as_EventsProvider().process_pending_events(this.handler);
      this.monitor.as_EventsProvider().process_pending_events(this.handler);
      if (!this.holdStore && (this.pending.length > 0 || this.manager.get_and_clear_needs_persistence())) {
        this.store();
        this.manager.as_EventsProvider().process_pending_events(this.handler);
      }
      this.peers.process_events();
    });
  }

  /** One minute passes. */
  tick(): void {
    if (this.signer?.closingPending) {
      this.ticksHeld++;
      return;
    }
    this.manager.timer_tick_occurred();
    this.pump();
  }

  private send(hex: string): void {
    if (this.mute) return;
    this.broadcast.push(hex);
    const sent = this.chain
      .rpc("sendrawtransaction", [hex, 0])
      .then(() => {})
      .catch(error => void this.notTaken.push(String(error.message)));
    this.sends = this.sends.then(() => sent);
  }

  broadcastTransaction(transaction: Uint8Array): Promise<string> {
    this.broadcast.push(toHex(transaction));
    return this.chain.rpc<string>("sendrawtransaction", [toHex(transaction), 0]);
  }

  /** What must not be forgotten, since LDK takes an event that was handed over as handled. */
  private note(event: ldk.Event): void {
    if (event instanceof ldk.Event_PaymentClaimable) {
      const { purpose, payment_hash: hash } = event;
      const preimage =
        purpose instanceof ldk.PaymentPurpose_Bolt11InvoicePayment &&
        purpose.payment_preimage instanceof ldk.Option_ThirtyTwoBytesZ_Some
          ? purpose.payment_preimage.some
          : null;
      this.incoming.push({ hash, preimage });
      if (preimage) this.claims.set(toHex(hash), preimage);
    }
    if (event instanceof ldk.Event_PaymentClaimed) this.claims.delete(toHex(event.payment_hash));
  }

  fail(hash: Uint8Array): void {
    this.claims.delete(toHex(hash));
    this.manager.fail_htlc_backwards(hash);
    this.pump();
  }

  private handle(event: ldk.Event): void {
    if (event instanceof ldk.Event_PendingHTLCsForwardable) {
      this.manager.process_pending_htlc_forwards();
    } else if (event instanceof ldk.Event_OpenChannelRequest) {
      this.manager.accept_inbound_channel(event.temporary_channel_id, event.counterparty_node_id, 7n);
    } else if (event instanceof ldk.Event_PaymentClaimable) {
      const preimage = this.claims.get(toHex(event.payment_hash));
      if (this.failIncoming) this.fail(event.payment_hash);
      else if (!this.holdIncoming && preimage) this.claim(preimage);
    } else if (event instanceof ldk.Event_PaymentClaimed) {
      this.claimed.push(event.payment_hash);
    } else if (event instanceof ldk.Event_PaymentSent) {
      this.sent.push(event.payment_hash);
    } else if (event instanceof ldk.Event_PaymentFailed) {
      if (event.payment_hash instanceof ldk.Option_ThirtyTwoBytesZ_Some)
        this.failed.push(event.payment_hash.some);
    } else if (event instanceof ldk.Event_ChannelClosed) {
      this.closed.push(event.reason.constructor.name);
    }
    this.onEvent(event);
    this.pump();
  }

  // ── chain ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Reads the blocks that are new to this node. */
  private async sync(): Promise<void> {
    const tip = await this.chain.rpc<number>("getblockcount");
    while (this.height < tip) {
      const hash = await this.chain.rpc<string>("getblockhash", [this.height + 1]);
      this.connectBlock(fromHex(await this.chain.rpc<string>("getblock", [hash, 0])));
    }
  }

  connectBlock(block: Uint8Array): void {
    if (this.dead) return;
    this.height++;
    this.monitor.as_Listen().block_connected(block, this.height);
    this.manager.as_Listen().block_connected(block, this.height);
    this.pump();
  }

  // ── peers ─────────────────────────────────────────────────────────────────────────────────────────────

  private descriptor(socket: Socket): ldk.SocketDescriptor {
    const id = this.socketCount++;
    this.sockets.add(socket);
    let closedByUs = false;
    const descriptor = ldk.SocketDescriptor.new_impl({
      send_data: data => {
        if (data.length > 0 && !socket.destroyed) socket.write(data);
        return data.length;
      },
      disconnect_socket: () => {
        closedByUs = true;
        socket.destroy();
      },
      eq: other => other.hash() === id,
      hash: () => id,
    });
    this.keep.push(descriptor);
    socket.setNoDelay(true);
    socket.on("data", data => {
      if (this.dead || closedByUs) return;
      const result = this.peers.read_event(descriptor, new Uint8Array(data));
      if (!result.is_ok()) {
        closedByUs = true;
        socket.destroy();
      }
      this.pump();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.sockets.delete(socket);
      if (this.dead || closedByUs) return;
      this.peers.socket_disconnected(descriptor);
      this.pump();
    });
    return descriptor;
  }

  listen(): Promise<number> {
    return new Promise(resolve => {
      this.server = createServer(socket => {
        if (this.dead) return socket.destroy();
        this.peers.new_inbound_connection(
          this.descriptor(socket),
          ldk.Option_SocketAddressZ.constructor_none(),
        );
        return undefined;
      });
      this.server.listen(0, "127.0.0.1", () => {
        const address = this.server!.address();
        resolve(typeof address === "object" && address ? address.port : 0);
      });
    });
  }

  async connect(id: Uint8Array, port: number): Promise<void> {
    const socket = connectTcp(port, "127.0.0.1");
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    const descriptor = this.descriptor(socket);
    const first = this.peers.new_outbound_connection(
      id,
      descriptor,
      ldk.Option_SocketAddressZ.constructor_none(),
    );
    if (!(first instanceof ldk.Result_CVec_u8ZPeerHandleErrorZ_OK)) throw new Error("no connection");
    socket.write(first.res);
    await until(`${this.name} is connected`, () => this.isConnected(id));
  }

  disconnect(): void {
    this.peers.disconnect_all_peers();
    this.pump();
  }

  isConnected(id: Uint8Array): boolean {
    return this.peers.list_peers().some(peer => equal(peer.get_counterparty_node_id(), id));
  }

  // ── channels and payments ─────────────────────────────────────────────────────────────────────────────

  channelWith(id: Uint8Array): ldk.ChannelDetails | undefined {
    return this.manager.list_channels().find(each => equal(each.get_counterparty().get_node_id(), id));
  }

  isUsable(id: Uint8Array): boolean {
    return Boolean(this.channelWith(id)?.get_is_usable());
  }

  /** A short channel id by which the *other* side or we forward over the channel with this peer. */
  scidWith(id: Uint8Array): bigint {
    const details = this.channelWith(id)!;
    const scid = details.get_short_channel_id();
    if (!(scid instanceof ldk.Option_u64Z_Some)) throw new Error("the channel has no short channel id yet");
    return scid.some;
  }

  /** An invoice's essentials. */
  invoice(amountMsat: number): { hash: Uint8Array; secret: Uint8Array; amountMsat: number } {
    const result = this.manager.create_inbound_payment(
      ldk.Option_u64Z.constructor_some(BigInt(amountMsat)),
      3600,
      ldk.Option_u16Z.constructor_none(),
    );
    if (!(result instanceof ldk.Result_C2Tuple_ThirtyTwoBytesThirtyTwoBytesZNoneZ_OK))
      throw new Error("no invoice");
    return { hash: result.res.get_a(), secret: result.res.get_b(), amountMsat };
  }

  pay(invoice: { hash: Uint8Array; secret: Uint8Array; amountMsat: number }, hops: readonly Hop[]): void {
    const path = ldk.Path.constructor_new(
      hops.map(hop =>
        ldk.RouteHop.constructor_new(
          hop.to,
          ldk.NodeFeatures.constructor_empty(),
          hop.channel,
          ldk.ChannelFeatures.constructor_empty(),
          BigInt(hop.feeMsat),
          hop.cltvDelta,
          false,
        ),
      ),
      null,
    );
    const parameters = ldk.RouteParameters.constructor_from_payment_params_and_value(
      ldk.PaymentParameters.constructor_from_node_id(hops[hops.length - 1]!.to, 80),
      BigInt(invoice.amountMsat),
    );
    const result = this.manager.send_payment_with_route(
      ldk.Route.constructor_new([path], parameters),
      invoice.hash,
      ldk.RecipientOnionFields.constructor_secret_only(invoice.secret),
      invoice.hash,
    );
    if (!result.is_ok()) throw new Error("LDK does not send this payment");
    this.pump();
  }

  has(list: "sent" | "failed" | "claimed", hash: Uint8Array): boolean {
    return this[list].some(each => equal(each, hash));
  }

  /** As a power cut would: nothing of what is in memory is stored any more. */
  kill(): Stored {
    this.dead = true;
    for (const socket of this.sockets) socket.destroy();
    this.server?.close();
    return this.stored!;
  }
}

/** ChannelSummary as they come out of a store. */
export function readBook(stored: Stored, keysId: Uint8Array): StoredSigningState {
  return cbor.decode(stored.books.get(toHex(keysId))!) as StoredSigningState;
}

function noRoute(): ldk.Result_RouteLightningErrorZ {
  return ldk.Result_RouteLightningErrorZ.constructor_err(
    ldk.LightningError.constructor_new("routes are given here", ldk.ErrorAction.constructor_ignore_error()),
  );
}

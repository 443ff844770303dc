/**
 * A plain Lightning node: LDK with its stock KeysManager and none of our signing code. It serves as bridge and as
 * payee in demo and tests, and as the payer that ours is compared with: same node code, same store, LDK's signer.
 * bitcoind's wallet pays for its channels and receives what it gets back.
 */

import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import * as ldk from "lightningdevkit";
import { type Database, open, type RootDatabase } from "lmdb";
import { type Chain, createChain } from "../../gateway/chain/chain.ts";
import { LightningNode, type NodeOptions, type NodeStore, type Peer } from "../../gateway/lightning/node.ts";
import { type LightningRuntime, startRuntime } from "../../gateway/lightning/runtime.ts";
import { openNodeStore } from "../../gateway/lightning/store.ts";
import type { Log } from "../../gateway/log.ts";
import type { Network } from "../../src/bitcoin/network.ts";
import { parseTransaction, txidOf } from "../../src/bitcoin/transaction.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import { type BitcoinRpc, connectRpc, type RpcOptions } from "../../src/node/bitcoind-rpc.ts";
import { reservePort } from "../ports.ts";

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
  | { readonly event: "claimed"; readonly hash: string; readonly amountMsat: number }
  | { readonly event: "forwarded"; readonly feeMsat: number }
  | { readonly event: "swept"; readonly txid: string };

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

export interface Paid {
  readonly hash: string;
  readonly preimage: string;
  readonly feeMsat: number;
  /** From the call to the preimage; 0 if it was paid before. */
  readonly ms: number;
}

const OWN = "own/";
const FUNDING = `${OWN}funding/`;
const PAID = `${OWN}paid/`;
const SPENDABLE = `${OWN}spendable/`;
const CONTACT = `${OWN}contact/`;
const PORT = `${OWN}port`;

export class PlainPeer {
  readonly node: LightningNode;
  readonly port: number;
  private readonly life: Life;

  private constructor(node: LightningNode, port: number, life: Life) {
    this.node = node;
    this.port = port;
    this.life = life;
  }

  static async start(options: PlainPeerOptions): Promise<PlainPeer> {
    const life = await Life.begin(options);
    const node = await life.startNode();
    return new PlainPeer(node, await life.listen(node), life);
  }

  get nodeId(): string {
    return toHex(this.node.nodeId);
  }

  get address(): Peer {
    return { nodeId: this.node.nodeId, host: "127.0.0.1", port: this.port };
  }

  /** Opens a channel; resolves when it can be used (somebody has to mine). */
  async open(
    peer: Peer,
    sat: number,
    options: { pushSat?: number; announced?: boolean } = {},
  ): Promise<PeerChannel> {
    await this.connect(peer);
    const userChannelId = BigInt(`0x${randomBytes(15).toString("hex")}`);
    const opened = this.life.untilOpened(userChannelId);
    const { pushSat = 0, announced = false } = options;
    this.node.createChannel(peer.nodeId, sat, pushSat * 1000, userChannelId, announced);
    const channelId = await opened;
    return this.channels().find(channel => channel.channelId === channelId)!;
  }

  /** Connects, and stays connected, after a restart too. */
  async connect(peer: Peer): Promise<void> {
    await this.node.connect(peer);
    this.life.remember(peer);
  }

  channels(): PeerChannel[] {
    return this.node.channels().map(details => {
      const funding = details.get_funding_txo();
      const pending = Reflect.get(funding, "ptr") === 0n;
      return {
        channelId: toHex(details.get_channel_id().get_a()),
        peer: toHex(details.get_counterparty().get_node_id()),
        sat: Number(details.get_channel_value_satoshis()),
        ready: Boolean(details.get_is_channel_ready()),
        usable: Boolean(details.get_is_usable()),
        announced: Boolean(details.get_is_announced()),
        anchors: !pending && Boolean(details.get_channel_type().supports_anchors_zero_fee_htlc_tx()),
        outboundMsat: Number(details.get_outbound_capacity_msat()),
        inboundMsat: Number(details.get_inbound_capacity_msat()),
        funding: pending ? null : `${toHex(funding.get_txid().reverse())}:${funding.get_index()}`,
      };
    });
  }

  invoice(amountMsat: number | null, description: string, expirySeconds = 3600): string {
    return this.node.createInvoice({ amountMsat, description, expirySeconds });
  }

  /** Pays an invoice, once for ever. Throws `payment-failed` and the node's own refusals. */
  pay(invoice: string, maxFeeMsat = 100_000): Promise<Paid> {
    return this.life.pay(this.node, invoice, maxFeeMsat);
  }

  claimedMsat(): ReadonlyMap<string, number> {
    return this.life.claimed;
  }

  /** What forwarding through the channels that there are costs from now on, and their HTLCs' difference in blocks. */
  setPolicy(baseMsat: number, proportionalMillionths: number, cltvDelta: number): void {
    const update = ldk.ChannelConfigUpdate.constructor_new(
      ldk.Option_u32Z.constructor_some(proportionalMillionths),
      ldk.Option_u32Z.constructor_some(baseMsat),
      ldk.Option_u16Z.constructor_some(cltvDelta),
      ldk.Option_MaxDustHTLCExposureZ.constructor_none(),
      ldk.Option_u64Z.constructor_none(),
    );
    for (const details of this.node.channels()) {
      const peer = details.get_counterparty().get_node_id();
      const changed = this.node.manager.update_partial_channel_config(
        peer,
        [details.get_channel_id()],
        update,
      );
      if (!changed.is_ok()) throw lngateError("bad-command", "LDK does not take this policy");
    }
    this.node.wake();
  }

  /** Closes a channel, together with the peer or alone. Throws `no-channel`, `close-refused`. */
  close(channelId: string, force = false): void {
    const details = this.node.channels().find(each => toHex(each.get_channel_id().get_a()) === channelId);
    if (!details) throw lngateError("no-channel", `there is no channel ${channelId}`);
    const id = details.get_channel_id();
    const peer = details.get_counterparty().get_node_id();
    if (force) this.node.forceClose(id, peer);
    else this.node.closeChannel(id, peer);
  }

  async stop(): Promise<void> {
    await this.node.stop();
    await this.life.end();
  }
}

/** Everything a peer consists of beside its Lightning node. */
class Life {
  readonly claimed = new Map<string, number>();
  private readonly options: PlainPeerOptions;
  private readonly chain: Chain;
  private readonly runtime: LightningRuntime;
  private readonly environment: RootDatabase<unknown, string>;
  private readonly table: Database<Uint8Array, string>;
  private readonly store: NodeStore;
  private readonly keys: ldk.KeysManager;
  private readonly wallet: BitcoinRpc;
  /** Rows of our own that go to the store with LDK's next state. */
  private readonly rows = new Map<string, Uint8Array | null>();
  /** All rows of our own since the start, written or not. */
  private readonly current = new Map<string, Uint8Array | null>();
  private readonly openings = new Map<string, { resolve(id: string): void; reject(error: Error): void }>();
  private readonly payments = new Map<string, { resolve(paid: PaidRow): void; reject(error: Error): void }>();
  private readonly spendable = new Map<string, ldk.SpendableOutputDescriptor>();
  private sweeping: Promise<void> = Promise.resolve();
  private node!: LightningNode;
  private leaveChain: () => void = () => {};

  private constructor(
    options: PlainPeerOptions,
    chain: Chain,
    runtime: LightningRuntime,
    environment: RootDatabase<unknown, string>,
    table: Database<Uint8Array, string>,
  ) {
    this.options = options;
    this.chain = chain;
    this.runtime = runtime;
    this.environment = environment;
    this.table = table;
    this.store = openNodeStore(this.table, "node");
    this.wallet = connectRpc({ ...options.rpc, url: `${options.rpc.url}/wallet/${options.wallet}` });
    let seed = this.table.get("seed");
    if (!seed) {
      seed = randomBytes(32);
      this.table.putSync("seed", seed);
    }
    const now = Date.now();
    this.keys = ldk.KeysManager.constructor_new(
      new Uint8Array(seed),
      BigInt(Math.floor(now / 1000)),
      (now % 1000) * 1e6,
    );
  }

  static async begin(options: PlainPeerOptions): Promise<Life> {
    const { dataDir, network, log, rpc, commitmentFeerate } = options;
    const chain =
      options.shared?.chain ??
      createChain({ rpc, network, log, ...(commitmentFeerate === undefined ? {} : { commitmentFeerate }) });
    if (!options.shared) await chain.start();
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    const environment = open<unknown, string>({ path: join(dataDir, "store"), overlappingSync: false });
    const table = environment.openDB<Uint8Array, string>({ name: "lightning", encoding: "binary" });
    const runtime =
      options.shared?.runtime ?? (await startRuntime(chain, log, openNodeStore(table, "shared")));
    return new Life(options, chain, runtime, environment, table);
  }

  async startNode(): Promise<LightningNode> {
    const { store } = this;
    for (const key of store.keys(SPENDABLE)) this.noteSpendable(store.get(key)!);
    this.node = await LightningNode.start({
      runtime: this.runtime,
      keys: {
        entropySource: this.keys.as_EntropySource(),
        nodeSigner: this.keys.as_NodeSigner(),
        signerProvider: this.keys.as_SignerProvider(),
      },
      store,
      log: this.options.log,
      routing: this.options.routing ?? true,
      ...this.options.behaviour,
      ...(this.options.minimumDepth ? { minimumDepth: this.options.minimumDepth } : {}),
      ...(this.options.forwardingFee ? { forwardingFee: this.options.forwardingFee } : {}),
      onEvent: event => this.event(event),
      ...(this.options.holdsPayment ? { holdsPayment: this.options.holdsPayment } : {}),
      extraRows: () => {
        const rows = new Map(this.rows);
        this.rows.clear();
        return rows;
      },
      onPaymentRefused: ({ payment_hash: hash }, error) => {
        if (!(hash instanceof ldk.Option_ThirtyTwoBytesZ_Some)) return;
        this.payments.get(toHex(hash.some))?.reject(error);
        this.payments.delete(toHex(hash.some));
      },
      onFatal: error => {
        // LDK is as good as gone; whoever started this process starts another.
        setImmediate(() => {
          throw error;
        });
      },
    });
    const { follower } = this.chain;
    const tip = await follower.currentTip();
    this.leaveChain = follower.join({
      tip: () => tip,
      confirmed: () => [],
      transactionsConfirmed() {},
      transactionUnconfirmed() {},
      bestBlock: () => void this.sweep(),
    }).leave;
    void this.sweep();
    return this.node;
  }

  /** The port of the last time, if none is asked for: others know it. */
  async listen(node: LightningNode): Promise<number> {
    const { store } = this;
    const stored = store.get(PORT);
    const wanted =
      this.options.port || (stored ? Number(new TextDecoder().decode(stored)) : await reservePort());
    const port = await node.listen("127.0.0.1", wanted);
    this.put(PORT, new TextEncoder().encode(String(port)));
    for (const key of store.keys(CONTACT)) {
      const { host, port } = JSON.parse(new TextDecoder().decode(store.get(key))) as {
        host: string;
        port: number;
      };
      node.keepConnected({ nodeId: fromHex(key.slice(CONTACT.length)), host, port });
    }
    return port;
  }

  remember({ nodeId, host, port }: Peer): void {
    this.put(CONTACT + toHex(nodeId), new TextEncoder().encode(JSON.stringify({ host, port })));
    this.node.keepConnected({ nodeId, host, port });
  }

  async end(): Promise<void> {
    this.leaveChain();
    await this.sweeping;
    this.wallet.close();
    if (!this.options.shared) {
      await this.runtime.stop();
      await this.chain.stop();
    }
    await this.environment.close();
  }

  private tell(event: PeerEvent): void {
    this.options.onEvent?.(event);
  }

  /** What was put, or stored before. */
  private row(key: string): Uint8Array | undefined {
    return this.current.get(key) ?? this.store.get(key);
  }

  private put(key: string, value: Uint8Array | null): void {
    this.rows.set(key, value);
    this.current.set(key, value);
    this.node.storeSoon();
  }

  private event(event: ldk.Event): void {
    if (event instanceof ldk.Event_FundingGenerationReady) void this.fund(event);
    else if (event instanceof ldk.Event_FundingTxBroadcastSafe) void this.signFunding(event);
    else if (event instanceof ldk.Event_ChannelPending || event instanceof ldk.Event_ChannelReady) {
      const ready = event instanceof ldk.Event_ChannelReady;
      const channelId = toHex(event.channel_id.get_a());
      if (ready) this.openings.get(idOf(event.user_channel_id))?.resolve(channelId);
      this.tell({
        event: ready ? "channel-ready" : "channel-pending",
        channelId,
        peer: toHex(event.counterparty_node_id),
      });
    } else if (event instanceof ldk.Event_ChannelClosed) {
      const reason = event.reason.constructor.name.replace(/^ClosureReason_/, "");
      const why = event.reason instanceof ldk.ClosureReason_ProcessingError ? `: ${event.reason.err}` : "";
      this.openings
        .get(idOf(event.user_channel_id))
        ?.reject(lngateError("channel-refused", `the channel did not come about: ${reason}${why}`));
      this.tell({
        event: "channel-closed",
        channelId: toHex(event.channel_id.get_a()),
        reason: reason + why,
      });
    } else if (event instanceof ldk.Event_PaymentClaimed) {
      const hash = toHex(event.payment_hash);
      this.claimed.set(hash, Number(event.amount_msat));
      this.tell({ event: "claimed", hash, amountMsat: Number(event.amount_msat) });
    } else if (event instanceof ldk.Event_PaymentForwarded) {
      const fee = event.total_fee_earned_msat;
      this.tell({ event: "forwarded", feeMsat: fee instanceof ldk.Option_u64Z_Some ? Number(fee.some) : 0 });
    } else if (event instanceof ldk.Event_PaymentSent) {
      const hash = toHex(event.payment_hash);
      const fee = event.fee_paid_msat;
      const feeMsat = fee instanceof ldk.Option_u64Z_Some ? Number(fee.some) : 0;
      const row: PaidRow = { preimage: toHex(event.payment_preimage), feeMsat };
      this.put(PAID + hash, new TextEncoder().encode(JSON.stringify(row)));
      this.payments.get(hash)?.resolve(row);
      this.payments.delete(hash);
    } else if (event instanceof ldk.Event_PaymentFailed) {
      if (!(event.payment_hash instanceof ldk.Option_ThirtyTwoBytesZ_Some)) return;
      const hash = toHex(event.payment_hash.some);
      const reason =
        event.reason instanceof ldk.Option_PaymentFailureReasonZ_Some ? event.reason.some : undefined;
      const name = reason === undefined ? "no reason" : ldk.PaymentFailureReason[reason];
      this.payments.get(hash)?.reject(lngateError("payment-failed", `LDK gave up the payment: ${name}`));
      this.payments.delete(hash);
    } else if (event instanceof ldk.Event_SpendableOutputs) {
      for (const descriptor of event.outputs) {
        const bytes = descriptor.write();
        this.put(SPENDABLE + this.noteSpendable(bytes), bytes);
      }
      void this.sweep();
    } else if (event instanceof ldk.Event_BumpTransaction) {
      const bump = event.bump_transaction;
      // On regtest the commitment's own feerate suffices; nothing else is bumped here.
      if (bump instanceof ldk.BumpTransactionEvent_ChannelClose)
        this.chain.broadcaster.broadcast([bump.commitment_tx]);
    }
  }

  // ── opening ───────────────────────────────────────────────────────────────────────────────────────────

  untilOpened(userChannelId: bigint): Promise<string> {
    const id = idOf(userChannelId);
    return new Promise<string>((resolve, reject) => this.openings.set(id, { resolve, reject })).finally(() =>
      this.openings.delete(id),
    );
  }

  /** The peer has accepted: the wallet builds the funding transaction and keeps its signature for later. */
  private async fund(event: ldk.Event_FundingGenerationReady): Promise<void> {
    const refuse = (error: unknown) => {
      this.options.log.error(`the channel is not funded: ${(error as Error).message}`);
      this.node.forceClose(event.temporary_channel_id, event.counterparty_node_id);
    };
    try {
      const { address } = await this.wallet.call<{ address: string }>("decodescript", [
        toHex(event.output_script),
      ]);
      const amount = Number(event.channel_value_satoshis) / 1e8;
      const raw = await this.wallet.call<string>("createrawtransaction", [[], [{ [address]: amount }]]);
      const options = { fee_rate: 2, changePosition: 1, change_type: "bech32", lockUnspents: true };
      const { hex } = await this.wallet.call<{ hex: string }>("fundrawtransaction", [raw, options]);
      const txid = txidOf(parseTransaction(fromHex(hex)));
      this.put(FUNDING + toHex(txid), fromHex(hex));
      this.node.provideFunding(event, { txid, vout: 0 });
    } catch (error) {
      refuse(error);
    }
  }

  /** We hold a commitment that brings the money back: the funding transaction may be signed now. */
  private async signFunding(event: ldk.Event_FundingTxBroadcastSafe): Promise<void> {
    const key = FUNDING + toHex(event.funding_txo.get_txid());
    try {
      const unsigned = this.row(key);
      if (!unsigned) throw lngateError("no-funding", "the funding transaction is not in the store");
      const signed = await this.wallet.call<{ hex: string }>("signrawtransactionwithwallet", [
        toHex(unsigned),
      ]);
      this.chain.broadcaster.broadcast([fromHex(signed.hex)]);
    } catch (error) {
      this.options.log.error(`the funding transaction is not signed: ${(error as Error).message}`);
    }
  }

  // ── paying ────────────────────────────────────────────────────────────────────────────────────────────

  async pay(node: LightningNode, text: string, maxFeeMsat: number): Promise<Paid> {
    const begin = performance.now();
    const invoice = decodeInvoice(text, nobleCurve);
    const hash = toHex(invoice.paymentHash);
    const stored = this.row(PAID + hash);
    if (stored) return { hash, ...(JSON.parse(new TextDecoder().decode(stored)) as PaidRow), ms: 0 };
    if (this.payments.has(hash)) throw lngateError("already-paying", "this payment is under way already");
    await node.until("channel-not-ready", () => node.channels().some(each => each.get_is_usable()));
    const ended = new Promise<PaidRow>((resolve, reject) => this.payments.set(hash, { resolve, reject }));
    try {
      node.pay(invoice, text, invoice.paymentHash, { maxFeeMsat });
    } catch (error) {
      // After a restart LDK may have it under way: then its events tell the rest.
      if (codeOf(error) !== "already-paying") {
        this.payments.delete(hash);
        throw error;
      }
    }
    const row = await ended;
    return { hash, ...row, ms: performance.now() - begin };
  }

  // ── getting back what the chain holds ─────────────────────────────────────────────────────────────────

  private noteSpendable(bytes: Uint8Array): string {
    const read = ldk.SpendableOutputDescriptor.constructor_read(bytes);
    if (!(read instanceof ldk.Result_SpendableOutputDescriptorDecodeErrorZ_OK))
      throw lngateError("store-damaged", "an output to be swept can't be read");
    const outpoint = read.res.spendable_outpoint();
    const key = `${toHex(outpoint.get_txid().reverse())}:${outpoint.get_index()}`;
    this.spendable.set(key, read.res);
    return key;
  }

  /** Sends every output that LDK has given us to the wallet; a row goes when its output is spent in a block. */
  private sweep(): Promise<void> {
    this.sweeping = this.sweeping.then(() => this.sweepAll());
    return this.sweeping;
  }

  private async sweepAll(): Promise<void> {
    try {
      for (const [key, descriptor] of [...this.spendable]) {
        const [txid, vout] = key.split(":");
        if ((await this.wallet.call("gettxout", [txid, Number(vout), false])) === null) {
          this.spendable.delete(key);
          this.put(SPENDABLE + key, null);
          continue;
        }
        if ((await this.wallet.call("gettxout", [txid, Number(vout), true])) === null) continue;
        const address = await this.wallet.call<string>("getnewaddress", ["", "bech32"]);
        const { scriptPubKey } = await this.wallet.call<{ scriptPubKey: string }>("getaddressinfo", [
          address,
        ]);
        const spent = this.keys
          .as_OutputSpender()
          .spend_spendable_outputs(
            [descriptor],
            [],
            fromHex(scriptPubKey),
            this.chain.fees.feerate("normal"),
            ldk.Option_u32Z.constructor_none(),
          );
        if (!(spent instanceof ldk.Result_TransactionNoneZ_OK)) continue;
        const swept = await this.chain.broadcaster.send(spent.res);
        this.tell({ event: "swept", txid: swept });
      }
    } catch (error) {
      this.options.log.warn(`sweeping waits: ${(error as Error).message}`);
    }
  }
}

interface PaidRow {
  readonly preimage: string;
  readonly feeMsat: number;
}

/** LDK's binding gives a u128 back with its bytes reversed. */
function idOf(userChannelId: bigint): string {
  const hex = userChannelId.toString(16).padStart(32, "0");
  const reversed = hex.match(/../g)!.reverse().join("");
  return [hex, reversed].sort()[0]!;
}

/** What a plain peer consists of beside its Lightning node: chain, store, keys and wallet, and what it does by itself. */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import * as ldk from "lightningdevkit";
import { type Database, open, type RootDatabase } from "lmdb";
import { type Chain, createChain } from "../../gateway/chain/chain.ts";
import { LightningNode } from "../../gateway/lightning/node.ts";
import type { Peer } from "../../gateway/lightning/peers/contacts.ts";
import { type LightningRuntime, startRuntime } from "../../gateway/lightning/runtime.ts";
import { type NodeStore, openNodeStore } from "../../gateway/lightning/store.ts";
import { fromHex, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { decodeInvoice } from "../../src/lightning/bolt11.ts";
import { type BitcoinRpc, connectRpc } from "../../src/node/bitcoind-rpc.ts";
import { reservePort } from "../ports.ts";
import type { Paid, PeerEvent, PlainPeerOptions } from "./api.ts";
import { type FundingOptions, fundChannel, signFunding } from "./funding.ts";
import { OwnRows } from "./rows.ts";
import { Sweeper } from "./sweeper.ts";

const PAID = "paid/";
const CONTACT = "contact/";
const PORT = "port";

/** Everything a peer consists of beside its Lightning node. */
export class Life {
  readonly claimed = new Map<string, number>();
  private readonly options: PlainPeerOptions;
  private readonly chain: Chain;
  private readonly runtime: LightningRuntime;
  private readonly environment: RootDatabase<unknown, string>;
  private readonly table: Database<Uint8Array, string>;
  private readonly store: NodeStore;
  private readonly keys: ldk.KeysManager;
  private readonly wallet: BitcoinRpc;
  private readonly rows: OwnRows;
  private readonly sweeper: Sweeper;
  private readonly openings = new Map<string, { resolve(id: string): void; reject(error: Error): void }>();
  private readonly payments = new Map<string, { resolve(paid: PaidRow): void; reject(error: Error): void }>();
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
    const { keys, wallet } = this;
    this.rows = new OwnRows(this.store, () => this.node.storeSoon());
    this.sweeper = new Sweeper({
      keys,
      wallet,
      chain,
      rows: this.rows,
      log: options.log,
      onSwept: txid => this.tell({ event: "swept", txid }),
    });
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
      extraRows: () => this.rows.takeChanged(),
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
      bestBlock: () => void this.sweeper.sweep(),
    }).leave;
    void this.sweeper.sweep();
    return this.node;
  }

  /** The port of the last time, if none is asked for: others know it. */
  async listen(node: LightningNode): Promise<number> {
    const { rows } = this;
    const stored = rows.get(PORT);
    const wanted =
      this.options.port || (stored ? Number(new TextDecoder().decode(stored)) : await reservePort());
    const port = await node.listen("127.0.0.1", wanted);
    rows.put(PORT, new TextEncoder().encode(String(port)));
    for (const name of rows.stored(CONTACT)) {
      const { host, port } = JSON.parse(new TextDecoder().decode(rows.get(name))) as {
        host: string;
        port: number;
      };
      node.keepConnected({ nodeId: fromHex(name.slice(CONTACT.length)), host, port });
    }
    return port;
  }

  remember({ nodeId, host, port }: Peer): void {
    this.rows.put(CONTACT + toHex(nodeId), new TextEncoder().encode(JSON.stringify({ host, port })));
    this.node.keepConnected({ nodeId, host, port });
  }

  async end(): Promise<void> {
    this.leaveChain();
    await this.sweeper.rest();
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

  private event(event: ldk.Event): void {
    if (event instanceof ldk.Event_FundingGenerationReady)
      void fundChannel(this.fundingOptions(), this.node, event);
    else if (event instanceof ldk.Event_FundingTxBroadcastSafe)
      void signFunding(this.fundingOptions(), event);
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
      this.rows.put(PAID + hash, new TextEncoder().encode(JSON.stringify(row)));
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
    } else if (event instanceof ldk.Event_SpendableOutputs) this.sweeper.add(event.outputs);
    else if (event instanceof ldk.Event_BumpTransaction) {
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

  private fundingOptions(): FundingOptions {
    const { wallet, chain, rows } = this;
    return { wallet, chain, rows, log: this.options.log };
  }

  // ── paying ────────────────────────────────────────────────────────────────────────────────────────────

  async pay(node: LightningNode, text: string, maxFeeMsat: number): Promise<Paid> {
    const begin = performance.now();
    const invoice = decodeInvoice(text, nobleCurve);
    const hash = toHex(invoice.paymentHash);
    const before = this.paid(hash);
    if (before) return before;
    if (this.payments.has(hash)) throw lngateError("already-paying", "this payment is under way already");
    await node.until("channel-not-ready", () => node.channels().some(each => each.get_is_usable()));
    // After a restart LDK may have told its end meanwhile, which it does once.
    const meanwhile = this.paid(hash);
    if (meanwhile) return meanwhile;
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

  /** What an earlier payment of this hash has come to, if it was paid. */
  private paid(hash: string): Paid | undefined {
    const row = this.rows.get(PAID + hash);
    return row && { hash, ...(JSON.parse(new TextDecoder().decode(row)) as PaidRow), ms: 0 };
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

/**
 * The gateway's own Lightning node, to which devices pay the service fee: LDK with its stock keys, money of the
 * operator's. It takes channels from the bridge and is paid through them; it opens none and pays nothing. What comes
 * back to the chain when a channel ends goes to the operator's address.
 */

import { randomBytes } from "node:crypto";
import * as ldk from "lightningdevkit";
import { shownHash } from "../../src/bitcoin/transaction.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { LightningNode } from "../lightning/node.ts";
import type { Peer } from "../lightning/peers/contacts.ts";
import type { LightningRuntime } from "../lightning/runtime.ts";
import type { NodeStore } from "../lightning/store.ts";
import { type Log, lastingTrouble } from "../log.ts";
import { decodeLearnt, encodeStored } from "../store/values.ts";
import type { FeeReceiver } from "./service-fees.ts";

export interface FeeNodeOptions {
  readonly runtime: LightningRuntime;
  readonly store: NodeStore;
  readonly bridge: Peer;
  /** scriptPubKey of the operator's address; absent: what comes back to the chain waits for one. */
  readonly payoutScript?: Uint8Array;
  readonly log: Log;
  onFatal(error: unknown): void;
  /** As in NodeOptions. */
  onWaiting?(): void;
}

const SEED = "seed";
const SPENDABLE = "own/spendable/";
/** Where a bridge was reached, by its node id. */
const BRIDGE = "own/bridge/";
/** What a forwarding node takes if its channel does not say (it has not been told yet), msat: LDK's and CLN's. */
const USUAL_FEE_MSAT = 1_000;

export class FeeNode implements FeeReceiver {
  private readonly options: FeeNodeOptions;
  private readonly keys: ldk.KeysManager;
  private node!: LightningNode;
  /** Outputs of ours in the chain, by outpoint, until their spend is in a block. */
  private readonly spendable = new Map<string, ldk.SpendableOutputDescriptor>();
  /** Rows that go to the store with LDK's next state. */
  private rows = new Map<string, Uint8Array | null>();
  private sweeping: Promise<void> = Promise.resolve();
  /** Why the earnings do not get to the operator. */
  private readonly trouble: (error: unknown) => void;

  private constructor(options: FeeNodeOptions, seed: Uint8Array) {
    this.options = options;
    this.trouble = lastingTrouble(error => {
      if (error) options.log.warn(`the earnings wait: ${error.message}`, { code: codeOf(error) });
    });
    const now = Date.now();
    this.keys = ldk.KeysManager.constructor_new(seed, BigInt(Math.floor(now / 1000)), (now % 1000) * 1e6);
  }

  /** From the store, if it was there before. Throws `store-damaged`. */
  static async start(options: FeeNodeOptions): Promise<FeeNode> {
    const { store } = options;
    let seed = store.get(SEED);
    if (!seed) {
      seed = new Uint8Array(randomBytes(32));
      await store.write(new Map([[SEED, seed]]));
    }
    const own = new FeeNode(options, seed);
    await own.run();
    return own;
  }

  get nodeId(): Uint8Array {
    return this.node.nodeId;
  }

  async stop(): Promise<void> {
    await this.node.stop();
    await this.sweeping;
  }

  // ── the fee receiver ──────────────────────────────────────────────────────────────────────────────────────────

  canReceive(amountMsat: number): boolean {
    return this.node
      .channels()
      .some(channel => channel.get_is_usable() && Number(channel.get_inbound_capacity_msat()) >= amountMsat);
  }

  routingMsat(amountMsat: number): number {
    const fees = this.node
      .channels()
      .filter(channel => channel.get_is_usable())
      .map(channel => {
        const info = channel.get_counterparty().get_forwarding_info();
        if (Reflect.get(info, "ptr") === 0n) return USUAL_FEE_MSAT;
        return (
          info.get_fee_base_msat() + Math.ceil((amountMsat / 1e6) * info.get_fee_proportional_millionths())
        );
      });
    return Math.max(0, ...fees);
  }

  invoice(amountMsat: number, description: string, expirySeconds: number): string {
    return this.node.createInvoice({ amountMsat, description, expirySeconds });
  }

  // ── channels and what comes of them ───────────────────────────────────────────────────────────────────

  /** Begins to close all channels: what is ours in them goes to the operator's address. False if that is not possible now. */
  payOut(): boolean {
    const { log } = this.options;
    try {
      for (const channel of this.node.channels()) {
        const state = channel.get_channel_shutdown_state();
        const begun =
          state instanceof ldk.Option_ChannelShutdownStateZ_Some &&
          state.some !== ldk.ChannelShutdownState.LDKChannelShutdownState_NotShuttingDown;
        if (begun) continue;
        this.node.closeChannel(channel.get_channel_id(), channel.get_counterparty().get_node_id());
        log.info("closing the gateway's own channel: the earnings go to the operator's address");
      }
      return true;
    } catch (error) {
      if (codeOf(error) !== "close-refused") throw error;
      this.trouble(
        lngateError("close-refused", `the earnings are not paid out yet: ${(error as Error).message}`),
      );
      return false;
    }
  }

  newBlock(): void {
    this.sweeping = this.sweeping.then(() => this.sweep());
  }

  private async run(): Promise<void> {
    const { runtime, store, bridge, log, onFatal } = this.options;
    for (const key of store.keys(SPENDABLE)) this.note(store.get(key)!);
    this.node = await LightningNode.start({
      runtime,
      keys: {
        entropySource: this.keys.as_EntropySource(),
        nodeSigner: this.keys.as_NodeSigner(),
        signerProvider: this.keys.as_SignerProvider(),
      },
      store,
      log,
      routing: false,
      channelsFrom: bridge.nodeId,
      onEvent: event => this.event(event),
      extraRows: () => {
        const { rows } = this;
        this.rows = new Map();
        return rows;
      },
      onFatal,
      onWaiting: this.options.onWaiting,
    });
    this.node.keepConnected(bridge);
    this.put(BRIDGE + toHex(bridge.nodeId), encodeStored({ host: bridge.host, port: bridge.port }));
    this.stayWithBridges();
    this.newBlock();
  }

  /** Channels stay with the nodes that opened them, whatever bridge the configuration names by now. */
  private stayWithBridges(): void {
    const { store, bridge, log } = this.options;
    const former = new Map<string, Uint8Array>();
    for (const channel of this.node.channels()) {
      const nodeId = channel.get_counterparty().get_node_id();
      if (!equal(nodeId, bridge.nodeId)) former.set(toHex(nodeId), nodeId);
    }
    for (const [key, nodeId] of former) {
      const place = decodeLearnt<{ host: string; port: number }>(store.get(BRIDGE + key));
      if (!place) {
        log.error(`its channel is with ${key}, and nobody knows where that is`, { code: "bridge-unknown" });
        continue;
      }
      const { host, port } = place;
      log.warn(`its channel stays with ${key}@${host}:${port}`, { code: "bridge-changed" });
      this.node.keepConnected({ nodeId, host, port });
    }
  }

  private event(event: ldk.Event): void {
    const { log, runtime } = this.options;
    if (event instanceof ldk.Event_ChannelReady) {
      log.info("the gateway's own channel is ready: service fees can be settled");
    } else if (event instanceof ldk.Event_ChannelClosed) {
      const reason = event.reason.constructor.name.replace(/^ClosureReason_/, "");
      log.info("the gateway's own channel is closed", { reason });
    } else if (event instanceof ldk.Event_PaymentClaimed) {
      log.info("a service fee has arrived", { amountMsat: Number(event.amount_msat) });
    } else if (event instanceof ldk.Event_SpendableOutputs) {
      for (const descriptor of event.outputs) {
        const bytes = descriptor.write();
        this.put(SPENDABLE + this.note(bytes), bytes);
      }
      this.newBlock();
    } else if (event instanceof ldk.Event_BumpTransaction) {
      // The bridge has funded the channel, so that the commitment pays its own fee; there is no coin here to add.
      const { bump_transaction: bump } = event;
      if (bump instanceof ldk.BumpTransactionEvent_ChannelClose)
        runtime.chain.broadcaster.broadcast([bump.commitment_tx]);
    }
  }

  private put(key: string, value: Uint8Array | null): void {
    this.rows.set(key, value);
    this.node.storeSoon();
  }

  private note(bytes: Uint8Array): string {
    const read = ldk.SpendableOutputDescriptor.constructor_read(bytes);
    if (!(read instanceof ldk.Result_SpendableOutputDescriptorDecodeErrorZ_OK))
      throw lngateError("store-damaged", "an output of the gateway's own node can't be read");
    const outpoint = read.res.spendable_outpoint();
    const key = `${shownHash(outpoint.get_txid())}:${outpoint.get_index()}`;
    this.spendable.set(key, read.res);
    return key;
  }

  /** Sends what the chain holds for us to the operator's address; a row goes when its output is spent in a block. */
  private async sweep(): Promise<void> {
    const { payoutScript, runtime, log, onFatal } = this.options;
    const { rpc, broadcaster, fees } = runtime.chain;
    try {
      for (const [key, descriptor] of [...this.spendable]) {
        const [txid, vout] = key.split(":");
        const unspent = (mempool: boolean) => rpc.call("gettxout", [txid, Number(vout), mempool]);
        if ((await unspent(false)) === null) {
          // Not yet in a block, or spent in one.
          if ((await unspent(true)) !== null) continue;
          this.spendable.delete(key);
          this.put(SPENDABLE + key, null);
          continue;
        }
        if ((await unspent(true)) === null) continue;
        if (!payoutScript) {
          this.trouble(
            lngateError(
              "config-invalid",
              'earnings wait in the chain for your own address: "serviceFee.address" is missing in the configuration',
            ),
          );
          continue;
        }
        const spent = this.keys
          .as_OutputSpender()
          .spend_spendable_outputs(
            [descriptor],
            [],
            payoutScript,
            fees.feerate("normal"),
            ldk.Option_u32Z.constructor_none(),
          );
        if (!(spent instanceof ldk.Result_TransactionNoneZ_OK)) continue;
        log.info("the earnings go to the operator's address", { txid: await broadcaster.send(spent.res) });
        this.trouble(null);
      }
    } catch (error) {
      if (codeOf(error) === undefined) onFatal(error);
      else this.trouble(error);
    }
  }
}

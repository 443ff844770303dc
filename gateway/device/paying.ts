/**
 * Asks LDK to pay over the device's channel, if the device will sign what comes of it: a state that LDK is in and the device
 * refuses can't be taken back. What can't be begun at this moment waits a little: for the bridge, and for room in the channel.
 */

import { MAX_HTLCS, MAX_INCOMING } from "../../src/channel/terms.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import type { Invoice } from "../../src/lightning/bolt11.ts";
import { areEnoughFor, blocksAllowed, clockBehind, type RecordsLeft } from "../channel/bounds.ts";
import { type DeviceChannel, LDK_DUST_LIMIT_SAT, stuckSentence } from "../channel/channel.ts";
import { BRIDGE_WAIT_MS } from "../channel/opening.ts";
import type { LightningNode } from "../lightning/node.ts";
import { PAYMENT_RETRIES } from "../lightning/payments/payments.ts";
import { MAX_BLOCKS } from "../lightning/payments/route.ts";
import { channelNotReady, type PaymentLimits } from "./payments.ts";
import type { DeviceSession } from "./session.ts";

/** How long a payment waits for what is in flight, where the bridge lets no more of it be. */
const ROOM_WAIT_MS = 10_000;
/** Records of kind B that a payment takes on one way, there and back. */
const RECORDS_PER_WAY = 4;
/** In how many parts a payment may go: each of them costs the device what a payment costs. */
const MAX_PARTS = 4;
/** HTLCs of ours that a device's commitments hold beside those of the bridge. */
const MAX_OUTGOING = MAX_HTLCS - MAX_INCOMING;

/** What `Paying` depends on. */
export interface PayingOptions {
  readonly session: DeviceSession;
  readonly channel: DeviceChannel;
  /** What LDK has; undefined until it runs. */
  node(): LightningNode | undefined;
  recordsLeft(): RecordsLeft;
  /** Of a payment that waited: whether it is still to be made. Throws `already-paying` if it is not, and what limits say. */
  ensureStill(paymentHash: Uint8Array, paymentId: Uint8Array): void;
  /** It is to wait: `begin` resolves when LDK was asked, and rejects with why it was not. Rejects with what has no code. */
  waits(paymentHash: Uint8Array, paymentId: Uint8Array, begin: () => Promise<void>): Promise<void>;
  /** For what is a fault of this program or of LDK. */
  onFatal(error: unknown): void;
}

/** See the head of this file. */
export class Paying {
  private readonly options: PayingOptions;
  /** Payments that wait for the bridge wait together. */
  private bridgeWait: Promise<void> | undefined;

  constructor(options: PayingOptions) {
    this.options = options;
  }

  /**
   * Asks LDK to pay, now or in some seconds. Throws `vault-rolled-back`, `channel-not-ready`, `channel-stuck` and what
   * `payWithin` throws; what goes wrong later is told to `waits`.
   */
  start(invoice: Invoice, text: string, paymentId: Uint8Array, limits: PaymentLimits): void {
    const { session, channel, ensureStill, waits, onFatal } = this.options;
    const node = this.options.node();
    const opened = () => node?.channels()[0];
    const isUsable = () => Boolean(opened()?.get_is_usable());
    session.ensureNewest();
    if (channel.row?.stage !== "ready" || !node) throw channelNotReady();
    const { stuck } = channel;
    if (stuck !== null) throw lngateError("channel-stuck", `${stuckSentence(stuck)}: it has to be closed`);
    const pay = () => {
      if (!this.isServed) throw channelNotReady();
      this.payWithin(node, invoice, text, paymentId, limits);
    };
    if (isUsable()) {
      try {
        pay();
        return;
      } catch (error) {
        if (codeOf(error) !== "in-flight-limit" || this.htlcs === 0) throw error;
      }
    } else {
      // The bridge is away, or was a moment ago.
      const peer = opened()?.get_counterparty().get_node_id();
      if (peer) node.connectSoon(peer);
    }
    const { paymentHash } = invoice;
    const payIfStill = () => {
      ensureStill(paymentHash, paymentId);
      pay();
    };
    waits(paymentHash, paymentId, () => this.payLater(node, isUsable, payIfStill))
      // What is not an error of ours has come out of LDK: nothing else is called here.
      .catch(error => onFatal(error));
  }

  /** A payment that LDK has given up may be tried again with what was learnt from its failure. */
  get mayPayAgain(): boolean {
    if (!this.isServed) return false;
    const pending = this.options.node()?.pendingPayments() ?? 0;
    return areEnoughFor(pending + 1, this.options.recordsLeft());
  }

  /** Somebody may wait for a receipt, or for what a payment leaves to be signed. */
  get isBusy(): boolean {
    return (this.options.node()?.pendingPayments() ?? 0) > 0 || this.htlcs > 0;
  }

  /** Payments may be begun. */
  private get isServed(): boolean {
    const { channel, session } = this.options;
    return (
      channel.row?.stage === "ready" && channel.stuck === null && !channel.isFrozen && !session.isRolledBack
    );
  }

  /** HTLCs of ours in the channel: paid or failed ones, too, until both commitments are without them. */
  private get htlcs(): number {
    return this.options.node()?.channels()[0]?.get_pending_outbound_htlcs().length ?? 0;
  }

  /**
   * Asks LDK to pay within what the device allows. Throws `records-used-up`, `in-flight-limit`, `device-clock-behind`,
   * `policy-htlc-expiry`, and what LDK says at once.
   */
  private payWithin(
    node: LightningNode,
    invoice: Invoice,
    text: string,
    paymentId: Uint8Array,
    { maxFeeMsat, maxCltvExpiry }: PaymentLimits,
  ): void {
    const recordsLeft = this.options.recordsLeft();
    if (!areEnoughFor(node.pendingPayments() + 1, recordsLeft))
      throw lngateError("records-used-up", "too few presignatures are left: charge the device");
    // Payments in parts take more room in the device's commitments than it knows when it begins the next.
    if (this.htlcs >= MAX_OUTGOING)
      throw lngateError("in-flight-limit", `${this.htlcs} HTLCs are in flight, and the device holds no more`);
    // Another way costs as many records as the first: they must not run out in the middle of a payment.
    const spare = Math.floor(recordsLeft.B / RECORDS_PER_WAY) - 1;
    const retries = Math.max(0, Math.min(PAYMENT_RETRIES, spare - node.pendingPayments()));
    const { height } = node;
    const maxBlocks = maxCltvExpiry === undefined ? undefined : blocksAllowed(maxCltvExpiry, height);
    try {
      if (maxBlocks === 0) throw lngateError("route-too-long", "no HTLC could expire in time");
      node.pay(invoice, text, paymentId, { maxFeeMsat, maxBlocks, parts: this.partsFor(node) }, retries);
    } catch (error) {
      if (codeOf(error) !== "route-too-long") throw error;
      // Then it is LDK's limit, and not the device's.
      if (maxBlocks === undefined || maxBlocks >= MAX_BLOCKS)
        throw lngateError("policy-htlc-expiry", (error as Error).message);
      const { seen } = this.options.session;
      const behind = seen && clockBehind(seen.clock, seen.at);
      const limit = `the device signs nothing that is locked beyond block ${maxCltvExpiry}, and this is block ${height}`;
      // With its clock right it would allow more.
      if (behind)
        throw lngateError("device-clock-behind", `the device's clock is ${behind} behind: ${limit}`);
      throw lngateError("policy-htlc-expiry", limit);
    }
  }

  /**
   * In how many parts a payment may go: as the device's commitments hold them, and as long as its records last. It asks for
   * as many for each state of a payment in parts as for that many payments, and each part may bring a state that adds it and
   * one that takes it out. A part without an output of its own it would refuse.
   */
  private partsFor(node: LightningNode): { readonly most: number; readonly leastMsat: number } {
    const { channel, recordsLeft } = this.options;
    const pending = Math.max(this.htlcs, node.pendingPayments());
    const left = recordsLeft();
    let most = Math.min(MAX_PARTS, MAX_OUTGOING - pending);
    while (most > 1 && !areEnoughFor(pending + 2 * most + 1, left)) most--;
    const dustSat = Math.max(LDK_DUST_LIMIT_SAT, channel.row?.counterpartyDustLimitSat ?? 0);
    return { most, leastMsat: 1000 * dustSat };
  }

  /** Pays when the bridge is there, and when what is in flight leaves room for it. */
  private async payLater(node: LightningNode, isUsable: () => boolean, pay: () => void): Promise<void> {
    this.bridgeWait ??= node.until("bridge-unreachable", isUsable, BRIDGE_WAIT_MS).finally(() => {
      this.bridgeWait = undefined;
    });
    await this.bridgeWait;
    const until = performance.now() + ROOM_WAIT_MS;
    for (;;) {
      const limitMsat = () => node.channels()[0]?.get_next_outbound_htlc_limit_msat() ?? 0n;
      const [before, htlcsBefore] = [limitMsat(), this.htlcs];
      try {
        pay();
        return;
      } catch (error) {
        const left = until - performance.now();
        if (codeOf(error) !== "in-flight-limit" || this.htlcs === 0 || left <= 0) throw error;
        await node
          .until("in-flight-limit", () => limitMsat() > before || this.htlcs < htlcsBefore, left)
          .catch(() => {
            throw error;
          });
      }
    }
  }
}

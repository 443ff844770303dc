/**
 * One device on the gateway: its Lightning node, its signer over the link, its channel and its payments. A device
 * that is silent keeps nothing waiting but itself.
 */

import { randomBytes } from "node:crypto";
import * as cbor from "cbor-x";
import * as ldk from "lightningdevkit";
import type { Database } from "lmdb";
import type { Network } from "../../src/bitcoin/network.ts";
import { p2wsh } from "../../src/bitcoin/script.ts";
import { strippedBytes, type Transaction, transactionBytes, txidOf } from "../../src/bitcoin/transaction.ts";
import { equal, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { cutTo } from "../../src/bytes/utf8.ts";
import { type DeviceKeys, depositScriptOf } from "../../src/channel/device-keys.ts";
import type { ServiceFee } from "../../src/channel/service-fee.ts";
import { MAX_HTLCS, MAX_INCOMING, type Proposal } from "../../src/channel/terms.ts";
import { fundingOf } from "../../src/channel/transactions.ts";
import { codeOf, type LngateError, lngateError } from "../../src/errors.ts";
import { type Invoice, paymentHashIn } from "../../src/lightning/bolt11.ts";
import { buildFunding, FUNDING_VOUT, signedFunding } from "../../src/lightning/funding.ts";
import { type ToDevice, type ToGateway, toDevice, toGateway } from "../../src/messages/device.ts";
import type { SpendingLimits } from "../../src/messages/owner.ts";
import type { RecordStore } from "../../src/threshold/records.ts";
import { ServiceFees, type Till } from "../fees/service-fees.ts";
import { LightningNode, type NodeStore, PAYMENT_RETRIES, type Peer } from "../lightning/node.ts";
import { MAX_BLOCKS } from "../lightning/payment-route.ts";
import type { LightningRuntime } from "../lightning/runtime.ts";
import { type Counted, counted, type Log, lastingTrouble } from "../log.ts";
import { RemoteSigner, userChannelIdOf } from "../signer/ldk.ts";
import { type AcceptedChannel, watchedMessages } from "../signer/messages.ts";
import type { PlainBook, SigningPart } from "../signer/state.ts";
import {
  bridgeOf,
  type ChannelRow,
  forgetChannelRow,
  freezeChannels,
  isFrozen,
  readChannelRow,
  retireChannelRow,
  retiredChannelRows,
  writeChannelRow,
} from "../store/channel-row.ts";
import {
  areEnoughFor,
  blocksAllowed,
  clockBehind,
  commitmentFeerate,
  mostForClosing,
  needFeerate,
  type RecordsLeft,
} from "./bounds.ts";
import { type Deposits, depositsToSpend, leastDepositSat } from "./deposits.ts";
import { DeviceSigner } from "./device-signer.ts";
import type { Openings } from "./openings.ts";
import { channelNotReady, type PaymentLimits, Payments } from "./payments.ts";
import { leastChannelIn, pauseAfter } from "./refusals.ts";
import { lastSighting, noteSighting, type Sighting } from "./rollback-guard.ts";

/** Confirmations a deposit needs before it is spent into a channel. */
export const DEPOSIT_CONFIRMATIONS = 1;
/** Largest channel without option_support_large_channel (BOLT #2). */
const MAX_CHANNEL_SAT = 16_777_215;
/** LDK's own dust limit, fixed for anchors channels. */
const LDK_DUST_LIMIT_SAT = 354;
/** A change smaller than this is left to the miners. */
const MIN_CHANGE_SAT = 1_000;
/** What keeps a channel from being opened for the moment: it is tried again with every block. */
const OPENING_WAITS_FOR: ReadonlySet<string> = new Set([
  "deposit-missing",
  "bridge-unreachable",
  "feerates-apart",
]);
/** How long a payment waits for a bridge that is away. */
const BRIDGE_WAIT_MS = 3_000;
/** How long a payment waits for what is in flight, where the bridge lets no more of it be. */
const ROOM_WAIT_MS = 10_000;
/** How long after a payment the service fee is asked for. */
const FEE_AFTER_MS = 1_000;
/** Records of kind B that a payment takes on one way, there and back. */
const RECORDS_PER_WAY = 4;
/** In how many parts a payment may go: each of them costs the device what a payment costs. */
const MAX_PARTS = 4;
/** HTLCs of ours that a device's commitments hold beside those of the bridge. */
const MAX_OUTGOING = MAX_HTLCS - MAX_INCOMING;
/** How often the rows of its payments are looked through, at most. */
const PRUNE_MS = 24 * 3600 * 1000;
/** …but after so many payments at the latest. */
const PRUNE_PAYMENTS = 200;
/** How soon a mutual close is tried again that LDK cannot begin now. */
const CLOSE_AGAIN_MS = 1_000;
/** How often it is looked whether an end comes to its end. */
const ENDING_MS = 20_000;
/** How soon and how often a bridge is called again that was told to close, and has not. */
const FIRST_INSIST_MS = 1_000;
const INSIST_MS = 60_000;
/** How long a channel's feerate rests after it has risen above what every peer takes: peers average theirs over some time. */
const RISE_AGAIN_MS = 600_000;
/** Lightest mutual close, weight units: a fee above the most that this may pay is above LDK's most. */
const LIGHTEST_CLOSING = 670;
/** Longest words of the bridge's that are passed on, bytes. */
const MAX_WORDS = 150;

export interface DeviceGatewayOptions {
  readonly deviceId: string;
  readonly network: Network;
  readonly keys: DeviceKeys;
  readonly records: RecordStore;
  readonly deposits: Deposits;
  readonly channels: Database<Uint8Array, string>;
  readonly payments: Database<Uint8Array, string>;
  readonly sightings: Database<Uint8Array, string>;
  /** What its owner allows it to spend, as it is now; undefined if the owner has never said. */
  limits(): SpendingLimits | undefined;
  /** What this device pays for the service; absent: nothing. */
  readonly serviceFee?: ServiceFee;
  /** Where it pays it. */
  readonly till?: Till;
  readonly log: Log;
  readonly runtime: LightningRuntime;
  readonly store: NodeStore;
  readonly bridge: Peer;
  /** The smallest channel that is opened, sat. */
  readonly leastChannelSat: number;
  /** Shared by all devices. */
  readonly openings: Openings;
  /** An online message of the device's did not become a signature: what that means for its key. */
  wrongAnswer(error: Error): void;
  /** LDK can't go on: the process has to be started anew. */
  onFatal(error: unknown): void;
  /** Bytes to the device; false if there is no session. */
  send(message: Uint8Array): boolean;
}

export class DeviceGateway {
  readonly id: string;
  private readonly options: DeviceGatewayOptions;
  private readonly signer: RemoteSigner;
  private readonly deviceSigner: DeviceSigner;
  readonly payments: Payments;
  private readonly fees: ServiceFees;
  /** A device can cause them at will. */
  private readonly problems: Counted;
  /** Why no channel is opened. */
  private readonly openingTrouble: (error: unknown) => void;
  private row: ChannelRow | undefined;
  /** What LDK has, once it runs. */
  private node: LightningNode | undefined;
  private online = false;
  /** It has said where it stands, and is asked for signatures. */
  private greeting = false;
  /** The device in this session has an older flash than one that was here before. */
  private rolledBack = false;
  /** The device's wish for a channel, while the deposit is awaited. */
  private wish: { readonly index: number; readonly points: readonly Uint8Array[] } | undefined;
  private opening = false;
  /** How often in a row the bridge did not open the channel; not asked again before then (performance.now()). */
  private refusal: { readonly times: number; readonly until: number } | undefined;
  private openTimer: NodeJS.Timeout | undefined;
  /** The smallest channel that this bridge opens, as it has said. */
  private learntLeastSat = 0;
  /** Books of channels that never were, to be taken out of the store. */
  private readonly deadBooks: string[] = [];
  /** The owner has said that the device is lost or stolen. */
  private frozen: boolean;
  /** Records of kind H that the device has left. */
  private noncesLeft = 0;
  /** What the log has said of a channel that is stuck. */
  private stuckSaid: string | undefined;
  private closeTimer: NodeJS.Timeout | undefined;
  private endingTimer: NodeJS.Timeout | undefined;
  private insistTimer: NodeJS.Timeout | undefined;
  /** By performance.now(): when the bridge was last called again to make it close. */
  private insistedAt = Number.NEGATIVE_INFINITY;
  /** The channel has ended here, and not on the chain. */
  private awaitsBridge = false;
  /** It had ended here when it was last looked at: a close that is just being sent is not waited for. */
  private hadEnded = false;
  /** The mutual close was being negotiated when it was last looked at. */
  private negotiated = false;
  private closeStalled = false;
  private feeratesApart = false;
  private readonly closeTrouble: (error: unknown) => void;
  /** What the bridge said last about a channel of this device's. */
  private words: string | undefined;
  /** The least that a mutual close pays: another one is another transaction to sign. */
  private leastForClosing = 0;
  /** The bridge names fees for a close without saying what else it would take: LDK's most is the device's. */
  private closesTheOldWay = false;
  private feerateRoseAt = performance.now();
  private feeTimer: NodeJS.Timeout | undefined;
  /** By performance.now(). */
  private prunedAt: number | undefined;
  private askedSince = 0;
  /** Payments that wait for the bridge wait together. */
  private bridgeWait: Promise<void> | undefined;

  constructor(options: DeviceGatewayOptions, nodeSeed: Uint8Array) {
    this.id = options.deviceId;
    this.options = options;
    this.row = readChannelRow(options.channels, this.id);
    this.frozen = isFrozen(options.channels, this.id);
    this.openingTrouble = lastingTrouble(error => {
      if (error) options.log.warn(error.message, { code: codeOf(error) });
    });
    this.closeTrouble = lastingTrouble(error => {
      if (error) options.log.warn(error.message, { code: codeOf(error) });
    });
    this.problems = counted((text, fields) => options.log.error(text, fields));
    this.signer = new RemoteSigner({
      nodeSeed,
      shutdownScript: options.keys.shutdownScript,
      peer: { ask: (keysId, parts) => this.ask(keysId, parts) },
      theirDustLimitSat: keysId => this.rows().find(each => equal(each.keysId, keysId))?.theirDustLimitSat,
      problem: (keysId, code, sentence) =>
        this.problems.note(sentence, { code, channel: toHex(keysId.subarray(0, 4)) }),
    });
    this.deviceSigner = new DeviceSigner({
      keys: options.keys,
      records: options.records,
      proposal: keysId => this.proposal(keysId),
      send: step => this.send(step),
      answer: (keysId, answers) => {
        this.signer.answer(keysId, answers);
        this.finishFunding();
        this.noteStuck();
      },
      problem: (code, sentence) => this.problems.note(sentence, { code }),
      wrongAnswer: error => options.wrongAnswer(error),
    });
    this.fees = new ServiceFees({
      deviceId: this.id,
      ...(options.serviceFee ? { terms: options.serviceFee } : {}),
      ...(options.till ? { till: options.till } : {}),
      table: options.payments,
      log: options.log,
      send: message => this.send(message),
      soon: work => {
        clearTimeout(this.feeTimer);
        this.feeTimer = setTimeout(() => {
          if (this.isOnline && this.row?.stage === "ready") this.guarded(work);
        }, FEE_AFTER_MS);
      },
      now: () => Date.now(),
    });
    this.payments = new Payments({
      deviceId: this.id,
      fees: this.fees,
      limits: () => options.limits(),
      log: options.log,
      network: options.network,
      table: options.payments,
      failed: (paymentHash, code, sentence) => {
        // The revocations go first: with them the device can tell that the HTLC is gone for good.
        if (this.row) this.signer.tell(this.row.keysId);
        this.send({ type: "failed", paymentHash, code, sentence });
        // What the device did not close because of this payment it may close now.
        if (this.row?.stage === "closing" && this.isOnline) this.signer.askAgain(this.row.keysId);
        // With that the device can believe that a closed channel has ended.
        if (this.row?.stage === "closed") this.tellChannel();
      },
      paid: preimage => this.deviceSigner.paid(preimage),
      start: (invoice, text, paymentId, limits) => this.startPayment(invoice, text, paymentId, limits),
      underWay: paymentId => this.node?.hasPayment(paymentId) ?? false,
      now: () => Date.now(),
    });
    options.deposits.watch(this.id, p2wsh(depositScriptOf(options.keys)));
    this.watchFunding();
  }

  /**
   * Brings the device's node up, from the store if it was there before. `onWaiting`: that will take its time, since bitcoind
   * can't show what was mined meanwhile.
   */
  async start(onWaiting?: () => void): Promise<void> {
    const { options, signer } = this;
    const { row } = this;
    for (const each of this.rows()) {
      const book = options.store.get(bookKey(each.keysId));
      this.announce(each, book ? (cbor.decode(book) as PlainBook) : each.points);
    }
    this.node = await LightningNode.start({
      runtime: options.runtime,
      keys: {
        entropySource: signer.keys.as_EntropySource(),
        nodeSigner: signer.keys.as_NodeSigner(),
        signerProvider: signer.signerProvider,
      },
      store: options.store,
      log: options.log,
      routing: false,
      onEvent: event => this.event(event),
      extraRows: () =>
        new Map<string, Uint8Array | null>([
          ...signer.changedBooks().map(({ keysId, book }) => [bookKey(keysId), cbor.encode(book)] as const),
          ...this.deadBooks.splice(0).map(key => [key, null] as const),
        ]),
      holdTicks: () => signer.closingPending,
      commitmentFeerate: present => this.commitmentFeerate(present),
      closingFeerates: () => this.closingFeerates(),
      onWarning: words => this.bridgeSays(words),
      messages: manager =>
        watchedMessages(manager, signer, {
          accepted: limits => this.accepted(limits),
          fellBehind: () => this.fellBehind(),
          closeOffered: feeSat => this.closeOffered(feeSat),
          refused: words => this.bridgeSays(words),
        }),
      attach: node =>
        signer.attach({ channelManager: node.manager, chainMonitor: node.monitor, wake: () => node.wake() }),
      mayPayAgain: () =>
        this.isServed && areEnoughFor((this.node?.pendingPayments() ?? 0) + 1, this.recordsLeft),
      onPaymentRefused: ({ payment_hash: hash, payment_id: id }, error) => {
        if (hash instanceof ldk.Option_ThirtyTwoBytesZ_Some) this.payments.gaveUp(hash.some, id, error);
      },
      onFatal: error => options.onFatal(error),
      onWaiting,
    });
    // LDK keeps nothing of a channel for which the bridge has signed nothing.
    if (row?.stage === "opening" && this.node.channels().length === 0) this.abandon();
    else if (row?.stage === "opening") this.signFunding();
    if (row?.stage !== "closed") this.broadcastFunding();
    if (this.row?.stage === "opening" || this.row?.stage === "funded") this.enterOpenings();
    // A bridge has only so many places for peers without a channel; one of ours learns the network for all.
    if (this.node.takesGossip || (await this.needsBridge())) this.node.keepConnected(options.bridge);
    this.stayWithBridge();
    if (this.frozen) this.leaveToBridge();
    else if (row?.stage === "closing") this.closeSoon();
    this.noteStuck();
    this.endingTimer = setInterval(() => this.guarded(() => this.watchEnding()), ENDING_MS);
    this.endingTimer.unref();
  }

  /** A channel stays with the node that it was opened to, whatever bridge the configuration names by now. */
  private stayWithBridge(): void {
    const { row, node, options } = this;
    const channel = node?.channels()[0];
    if (!row || !node || !channel) return;
    const { log } = options;
    const nodeId = channel.get_counterparty().get_node_id();
    const bridge = bridgeOf(row, options.bridge);
    if (!equal(bridge.nodeId, nodeId)) {
      const code = "bridge-unknown";
      log.error(
        `the channel is with ${toHex(nodeId)}, and nobody knows where that is: name it as "lightning.bridge" until the channel is closed`,
        { code },
      );
    } else if (bridge !== options.bridge) {
      const code = "bridge-changed";
      log.warn(
        `the channel stays with ${toHex(nodeId)}@${bridge.host}:${bridge.port}; the bridge in the configuration gets the next one`,
        { code },
      );
      node.keepConnected(bridge);
    } else if (row.bridge?.host !== bridge.host || row.bridge.port !== bridge.port)
      this.put({ ...row, bridge });
  }

  /** Ends the node; resolves when it has stored what it was storing. */
  async stop(): Promise<void> {
    clearTimeout(this.closeTimer);
    clearTimeout(this.feeTimer);
    clearTimeout(this.insistTimer);
    clearTimeout(this.openTimer);
    clearInterval(this.endingTimer);
    await this.node?.stop();
    this.problems.flush();
  }

  /** For what no caller waits for: one device's fault is not to become another's. */
  private guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (codeOf(error) === undefined) this.options.onFatal(error);
      else this.options.log.error((error as Error).message, { code: codeOf(error) });
    }
  }

  get isOnline(): boolean {
    return this.online && this.greeting;
  }

  get isRolledBack(): boolean {
    return this.rolledBack;
  }

  /** Why the present channel can do nothing any more but be closed: a code; null if it can. */
  get stuck(): string | null {
    const { row } = this;
    if (!row || row.stage === "closed") return null;
    return this.signer.book(row.keysId)?.stuck ?? null;
  }

  /** The channel has ended here, and the bridge, which has to close it, has not done so yet. */
  get isAwaitingBridge(): boolean {
    return this.awaitsBridge;
  }

  /** A mutual close is being negotiated for longer than it should. */
  get isCloseStalled(): boolean {
    return this.closeStalled;
  }

  /** No channel is opened: the feerates that the device signs are not those that make sense. */
  get areFeeratesApart(): boolean {
    return this.feeratesApart;
  }

  /** What the bridge said last about the channel, or one that it did not open. */
  get bridgeWords(): string | undefined {
    return this.words;
  }

  get closeTxid(): Uint8Array | undefined {
    return this.row?.closeTxid;
  }

  /** What the owner has to know to collect from our newest commitment. */
  get held(): { readonly proposal: Proposal; readonly number: number } | undefined {
    const { row } = this;
    if (!row?.proposal) return undefined;
    return { proposal: row.proposal, number: Math.max(0, this.signer.book(row.keysId)?.holderNumber ?? 0) };
  }

  get fundingTxid(): Uint8Array | undefined {
    const { row } = this;
    return row?.proposal && row.stage !== "opening"
      ? fundingOf(this.options.keys, row.proposal).txid
      : undefined;
  }

  /** Our side of the channel as LDK counts it, HTLCs in flight not included, sat. */
  get balanceSat(): number | undefined {
    const channel = this.node?.channels()[0];
    return channel && Math.floor(Number(channel.get_outbound_capacity_msat()) / 1000);
  }

  /** Most that may be in flight in the channel, sat, where the bridge has said so. */
  get inFlightSat(): number | undefined {
    const { row } = this;
    const msat = row?.stage === "closed" ? undefined : row?.inFlightMsat;
    return msat === undefined ? undefined : Math.floor(msat / 1000);
  }

  /** There is a new block: a deposit may have been confirmed. What was asked in vain is asked again. */
  newBlock(): void {
    this.openSoon(false);
    if (this.isOnline && this.row?.stage === "closing") this.signer.askAgain(this.row.keysId);
    if (this.isOnline && this.row?.stage === "ready") this.fees.askSoon();
  }

  // ── the link ──────────────────────────────────────────────────────────────────────────────────────────

  /** A session with the device began, or was given up. */
  session(state: "up" | "lost"): void {
    if (state === "lost" && this.isOnline) this.options.log.info("the device is gone: it does not answer");
    this.online = state === "up" && !this.frozen;
    this.greeting = false;
    this.deviceSigner.restart();
    if (this.online) this.tellChannel();
  }

  /** A message of the device. Throws `message-…` for what is none. */
  received(encoded: Uint8Array): void {
    if (!this.online) return;
    const message = toGateway.decode(encoded);
    this.options.log.debug("link", {
      way: "up",
      type: message.type,
      bytes: encoded.length,
      about: aboutUp(message),
    });
    try {
      this.take(message);
    } catch (error) {
      this.refuse(message, error);
    }
  }

  private take(message: ToGateway): void {
    switch (message.type) {
      case "hello":
        this.greeted(message);
        return;
      case "open":
        this.needNewest();
        this.wish = { index: message.index, points: message.points };
        this.openSoon(true);
        return;
      case "pay":
        this.payments.asked(message.invoice, message, message.attempt ?? 0);
        // Also in a session that lasts for months.
        this.pruneSometimes(this.seen?.at ?? 0);
        return;
      case "settling":
        if (message.refused) this.fees.refused(message.refused.code, message.refused.sentence);
        else this.payments.settling(message.paymentHash, message.maxCltvExpiry);
        return;
      case "stepped":
        this.noncesLeft -= message.signed?.htlcSignatures?.length ?? 0;
        this.deviceSigner.stepped(message);
        return;
      case "close":
        this.needNewest();
        this.requestClose();
        return;
    }
  }

  private greeted(hello: Extract<ToGateway, { type: "hello" }>): void {
    const { log, sightings } = this.options;
    const { generation, clock, bounds } = hello;
    const at = Math.floor(Date.now() / 1000);
    const before = lastSighting(sightings, this.id);
    this.rolledBack =
      this.knowsMoreThan(hello) ||
      !noteSighting(sightings, this.id, {
        at,
        generation,
        ...(clock ? { clock } : {}),
        ...(bounds ? { bounds } : {}),
      });
    if (this.rolledBack) {
      log.error(`${ROLLED_BACK}; nothing is signed with it`, { generation });
      this.needNewest();
    }
    this.deviceSigner.greeted(hello);
    const [a = 0, b = 0, h = 0] = hello.recordsLeft;
    this.noncesLeft = h;
    const behind = clockBehind(clock, at);
    if (behind) log.warn(`the device's clock is ${behind} behind`, { code: "device-clock-behind" });
    log.info("the device is here", {
      phase: hello.phase,
      channel: hello.index,
      recordsA: a,
      recordsB: b,
      recordsH: h,
    });
    this.greeting = true;
    this.pruneSometimes(before?.at ?? 0);
    // Also for channels that have ended: their money may still be on its way home.
    for (const { keysId } of this.rows()) {
      this.signer.askAgain(keysId);
      this.signer.tell(keysId);
    }
    if (this.row?.stage === "ready") this.fees.askSoon();
  }

  /** `seenAt`: when the device could ask for what it misses, Unix seconds. */
  private pruneSometimes(seenAt: number): void {
    const isRecent = this.prunedAt !== undefined && performance.now() - this.prunedAt < PRUNE_MS;
    if (isRecent && ++this.askedSince < PRUNE_PAYMENTS) return;
    this.prunedAt = performance.now();
    this.askedSince = 0;
    this.payments.prune(seenAt * 1000).then(
      rows => rows > 0 && this.options.log.debug("payments of long ago are forgotten", { rows }),
      error => this.options.log.warn(`payments of long ago are kept: ${(error as Error).message}`),
    );
  }

  /** The device has answered for a later state of its channel than it remembers. */
  private knowsMoreThan(hello: Extract<ToGateway, { type: "hello" }>): boolean {
    const { row } = this;
    const reached = row && this.signer.book(row.keysId)?.deviceReached;
    if (!row || !reached || Math.max(reached.holder, reached.counterparty) < 0) return false;
    if (hello.index !== row.index) return hello.index < row.index;
    return (
      (hello.holderNumber ?? -1) < reached.holder || (hello.counterpartyNumber ?? -1) < reached.counterparty
    );
  }

  private ask(keysId: Uint8Array, parts: readonly SigningPart[]): void {
    // Of a channel that was there before the present one, only what is collected says which channel it belongs to.
    const isPresent = this.row !== undefined && equal(this.row.keysId, keysId);
    const asked = isPresent ? parts : parts.filter(({ kind }) => kind === "spend");
    if (this.online && this.greeting && asked.length > 0) this.deviceSigner.ask(keysId, asked);
  }

  private send(message: ToDevice): boolean {
    if (!this.online) return false;
    const encoded = toDevice.encode(message);
    this.options.log.debug("link", {
      way: "down",
      type: message.type,
      bytes: encoded.length,
      about: aboutDown(message),
    });
    return this.options.send(encoded);
  }

  /** Where there is no channel, the last one has ended: for the device, one that was given up is closed as well. */
  private tellChannel(): void {
    const { row } = this;
    const index = row?.index ?? Math.max(0, ...this.rows().map(each => each.index));
    this.send({
      type: "channel",
      index,
      state: row || index === 0 ? this.state() : "closed",
      ...(row?.closeTxid ? { closeTxid: row.closeTxid } : {}),
      ...(row?.inFlightMsat ? { inFlightMsat: row.inFlightMsat } : {}),
    });
  }

  /** Throws `vault-rolled-back` if the device in this session is not the newest one. */
  private needNewest(): void {
    if (this.rolledBack) throw lngateError("vault-rolled-back", ROLLED_BACK);
  }

  /**
   * A request that can't be served is answered with why, and with what it was about: a device can't end what it can't
   * tell. What is no error of ours is a fault of this program (or of LDK, which then has to be started anew).
   */
  private refuse(request: ToGateway, error: unknown): void {
    const { log, onFatal } = this.options;
    const code = codeOf(error);
    if (isBrokenLdk(error)) {
      onFatal(error);
      return;
    }
    if (code === undefined) {
      log.error(`a request failed: ${(error as Error).message}`, { request: request.type });
      log.debug((error as Error).stack ?? "", { request: request.type });
    } else if (request.type !== "pay") this.problems.note((error as Error).message, { code });
    const subject = this.subjectOf(request);
    // What LDK has begun is not called failed because something else went wrong.
    if (!subject || (subject.paymentHash && this.payments.mayBeUnderWay(subject.paymentHash))) return;
    const sentence = code === undefined ? "the gateway failed; its log says how" : (error as Error).message;
    this.refused(subject, code ?? "gateway-failed", sentence);
  }

  private refused(subject: Subject, code: string, sentence: string): void {
    this.send({ type: "failed", ...subject, code, sentence });
  }

  /** What a request is about; undefined for one that nobody waits for. */
  private subjectOf(request: ToGateway): Subject | undefined {
    switch (request.type) {
      case "pay": {
        const paymentHash = paymentHashIn(request.invoice);
        return paymentHash ? { paymentHash } : undefined;
      }
      case "settling":
        return { paymentHash: request.paymentHash };
      case "hello":
      case "open":
        return { index: request.index };
      case "close":
        return { index: this.row?.index ?? 0 };
      case "stepped":
        return undefined;
    }
  }

  // ── the channel ───────────────────────────────────────────────────────────────────────────────────────

  /** `none`, `opening`, `ready`, `closing` or `closed`. */
  state(): string {
    const stage = this.row?.stage ?? "none";
    return stage === "funded" ? "opening" : stage;
  }

  private openSoon(asked: boolean): void {
    this.openIfPossible(asked).catch(error => this.options.onFatal(error));
  }

  /** Opens the channel that the device wishes for, if its deposit is confirmed. */
  private async openIfPossible(asked: boolean): Promise<void> {
    const { wish, node, refusal } = this;
    if (!wish || !node || this.opening || this.frozen) return;
    if (this.row && this.row.stage !== "closed") {
      if (asked) this.tellChannel();
      return;
    }
    // It was told so, and waits: the channel may open after all.
    if (refusal && performance.now() < refusal.until) return;
    this.opening = true;
    try {
      await this.open(wish, node);
      this.openingTrouble(null);
    } catch (error) {
      const code = codeOf(error);
      if (code === undefined) throw error;
      if (this.row?.stage !== "opening") this.options.openings.leave(this.id);
      const isChain = code.startsWith("bitcoind-");
      const passes = isChain || OPENING_WAITS_FOR.has(code);
      if (!passes) this.wish = undefined;
      if (code !== "deposit-missing") this.openingTrouble(error);
      // What is wrong with bitcoind is the operator's to know; for a device it is away.
      const subject = { index: wish.index };
      if (asked && isChain)
        this.refused(subject, "bitcoind-unreachable", "the gateway's bitcoind does not answer now");
      else if (asked || !passes) this.refused(subject, code, (error as Error).message);
    } finally {
      this.opening = false;
    }
  }

  private async open(wish: NonNullable<DeviceGateway["wish"]>, node: LightningNode): Promise<void> {
    const { deposits, keys, log } = this.options;
    this.checkFeerates();
    const confirmed = (await deposits.of(this.id)).filter(
      each => each.confirmations >= DEPOSIT_CONFIRMATIONS,
    );
    const feerate = this.options.runtime.chain.fees.feerate("normal");
    const maxFeeSat = this.seen?.bounds?.maxCloseFeeSat;
    const usable = depositsToSpend(confirmed, depositScriptOf(keys), feerate, maxFeeSat);
    const wholeSat = usable.valueSat - usable.feeSat;
    if (wholeSat < this.leastChannelSat) {
      throw lngateError(
        "deposit-missing",
        `the confirmed deposits that are worth their fee hold ${usable.valueSat} sat: for a channel of ${this.leastChannelSat} sat at least, ${this.leastDepositSat} are needed`,
      );
    }
    const changeSat = wholeSat - MAX_CHANNEL_SAT >= MIN_CHANGE_SAT ? wholeSat - MAX_CHANNEL_SAT : 0;
    const channelSat = Math.min(wholeSat, MAX_CHANNEL_SAT);
    if (!this.enterOpenings()) return;
    this.words = undefined;
    const { nodeId } = this.options.bridge;
    node.keepConnected(this.options.bridge);
    await node.until("bridge-unreachable", () => node.isConnected(nodeId), BRIDGE_WAIT_MS);
    const row: ChannelRow = {
      stage: "opening",
      index: wish.index,
      keysId: new Uint8Array(randomBytes(32)),
      points: wish.points,
      deposits: usable.deposits,
      channelSat,
      changeSat,
      bridge: this.options.bridge,
    };
    // Throws for points that are none, before anything is stored.
    this.announce(row, wish.points);
    if (this.row) retireChannelRow(this.options.channels, this.id, this.row);
    this.put(row);
    log.info("opening a channel", { sat: channelSat, channel: wish.index });
    try {
      node.createChannel(this.options.bridge.nodeId, channelSat, 0, userChannelIdOf(row.keysId));
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** Throws `feerates-apart`. */
  private checkFeerates(): void {
    const { fees } = this.options.runtime.chain;
    this.feeratesApart = true;
    needFeerate(fees.feerate("opening"), fees.feerate("minimum"), this.seen?.bounds);
    this.feeratesApart = false;
  }

  /** Nothing came of the channel that was being opened: the deposit is where it was, and the device may ask again. */
  private abandon(why?: LngateError): void {
    const { row, options } = this;
    if (row?.stage !== "opening") return;
    options.openings.leave(this.id);
    if (row.proposal) {
      retireChannelRow(options.channels, this.id, row);
      // The device may have accepted it under this number: it has to name another.
      this.wish = undefined;
    } else {
      // Nobody has signed anything of it, and LDK has forgotten it: a bridge may refuse for years.
      forgetChannelRow(options.channels, this.id);
      this.signer.removeChannel(row.keysId);
      this.deadBooks.push(bookKey(row.keysId));
    }
    this.row = undefined;
    // Whatever becomes of the telling, it is over. Why comes first: a device that hears only that would ask again at once.
    if (why) this.refused({ index: row.index }, why.code, why.message);
    this.tellChannel();
  }

  /** Makes a channel known to the signer. */
  private announce(row: ChannelRow, from: PlainBook | readonly Uint8Array[]): void {
    const { keys } = this.options;
    this.signer.addChannel(
      {
        keysId: row.keysId,
        fundingSat: row.channelSat,
        bridge: bridgeOf(row, this.options.bridge).nodeId,
        publicKeys: {
          funding: keys.fundingKey,
          basepoints: {
            revocation: keys.revocationBasepoint,
            payment: keys.paymentBasepoint,
            delayed: keys.delayedPaymentBasepoint,
            htlc: keys.htlcBasepoint,
          },
        },
        destinationScript: keys.shutdownScript,
      },
      from,
    );
  }

  /** All channels of the device, the present one last. */
  private rows(): ChannelRow[] {
    const { row, options } = this;
    return [...retiredChannelRows(options.channels, this.id), ...(row ? [row] : [])];
  }

  /** What the device is asked to agree to; complete once LDK knows the bridge's keys. */
  private proposal(keysId: Uint8Array): Proposal {
    const { row } = this;
    if (!row || !equal(row.keysId, keysId)) {
      const former = this.rows().find(each => equal(each.keysId, keysId));
      if (former?.proposal) return former.proposal;
      throw lngateError("unknown-channel", "no channel with this keys id is known");
    }
    if (row.proposal) return row.proposal;
    const channel = this.signer.parameters(keysId);
    if (!channel) throw lngateError("unknown-channel", "the bridge's keys are not known yet");
    const { theirs, ours } = channel;
    const proposal: Proposal = {
      index: row.index,
      fundingKey: theirs.fundingPubkey,
      revocationBasepoint: theirs.basepoints.revocation,
      paymentBasepoint: theirs.basepoints.payment,
      delayedPaymentBasepoint: theirs.basepoints.delayed,
      htlcBasepoint: theirs.basepoints.htlc,
      deposits: row.deposits,
      channelSat: row.channelSat,
      changeSat: row.changeSat,
      ourDelay: ours.toLocalDelay,
      theirDelay: theirs.toLocalDelay,
      ourDustLimitSat: LDK_DUST_LIMIT_SAT,
      theirDustLimitSat: row.theirDustLimitSat ?? LDK_DUST_LIMIT_SAT,
      reserveSat: row.reserveSat ?? 0,
    };
    this.put({ ...row, proposal });
    return proposal;
  }

  private put(row: ChannelRow): void {
    const before = this.state();
    this.row = row;
    writeChannelRow(this.options.channels, this.id, row);
    if (row.stage !== "opening" && row.stage !== "funded") this.options.openings.leave(this.id);
    if (this.state() !== before) this.tellChannel();
  }

  // ── LDK's events ──────────────────────────────────────────────────────────────────────────────────────

  /** Handles one event of this device's node. */
  private event(event: ldk.Event): void {
    if (event instanceof ldk.Event_FundingGenerationReady) this.buildFunding(event);
    else if (event instanceof ldk.Event_FundingTxBroadcastSafe) this.signFunding();
    else if (event instanceof ldk.Event_ChannelReady) this.ready();
    else if (event instanceof ldk.Event_ChannelClosed) this.closed(event);
    else if (event instanceof ldk.Event_BumpTransaction) this.bump(event.bump_transaction);
    else if (event instanceof ldk.Event_PaymentSent) {
      const fee = event.fee_paid_msat;
      const feeMsat = fee instanceof ldk.Option_u64Z_Some ? Number(fee.some) : 0;
      const id = event.payment_id;
      const paymentId = id instanceof ldk.Option_ThirtyTwoBytesZ_Some ? id.some : undefined;
      this.payments.sent(event.payment_hash, event.payment_preimage, feeMsat, paymentId);
    } else if (event instanceof ldk.Event_PaymentFailed) {
      const hash = event.payment_hash;
      if (hash instanceof ldk.Option_ThirtyTwoBytesZ_Some)
        this.payments.failed(
          hash.some,
          event.payment_id,
          failureCode(event.reason),
          failureSentence(event.reason),
        );
    }
  }

  /**
   * LDK wants fees paid by a coin. There is none here, and none is needed for a commitment, which pays its own; what
   * timed out in it is collected by the owner's computer.
   */
  private bump(bump: ldk.BumpTransactionEvent): void {
    if (bump instanceof ldk.BumpTransactionEvent_ChannelClose) this.broadcast(bump.commitment_tx);
  }

  /** The bridge's limits, for the proposal. */
  private accepted({ dustLimitSat, reserveSat, inFlightMsat: most }: AcceptedChannel): void {
    const { row } = this;
    if (row?.stage !== "opening") return;
    const inFlightMsat = Math.min(Number(most), 1000 * row.channelSat);
    this.put({ ...row, theirDustLimitSat: dustLimitSat, reserveSat, inFlightMsat });
  }

  /** The bridge has accepted: the funding transaction is fixed, unsigned; its id is final all the same. */
  private buildFunding(event: ldk.Event_FundingGenerationReady): void {
    const { row, node } = this;
    if (row?.stage !== "opening" || !node) return;
    const { transaction } = buildFunding(
      row.deposits,
      depositScriptOf(this.options.keys),
      new Uint8Array(0),
      row.channelSat,
      row.changeSat,
      row.index,
    );
    const [channelOutput, ...change] = transaction.outputs;
    const outputs = [{ ...channelOutput!, script: event.output_script }, ...change];
    const outpoint = ldk.OutPoint.constructor_new(txidOf({ ...transaction, outputs }), FUNDING_VOUT);
    node.manager.unsafe_manual_funding_transaction_generated(
      event.temporary_channel_id,
      event.counterparty_node_id,
      outpoint,
    );
  }

  /** The bridge has signed our commitment 0: once the device holds it, it may sign the funding transaction. */
  private signFunding(): void {
    const { row } = this;
    if (row?.stage !== "opening" || !row.proposal) return;
    const witnessScript = depositScriptOf(this.options.keys);
    this.signer.askFunding(row.keysId, {
      transaction: strippedBytes(fundingOf(this.options.keys, row.proposal).transaction),
      inputs: row.deposits.map(({ valueSat }, index) => ({ index, amountSat: valueSat, witnessScript })),
    });
    this.finishFunding();
  }

  /**
   * The funding transaction leaves when it is durable that LDK holds the bridge's signature: an LDK that remembers less and
   * finds the transaction in a block never starts again ("Funding transaction broadcast … before it should have").
   */
  private finishFunding(): void {
    const { row, node } = this;
    const signatures = row && this.signer.book(row.keysId)?.fundingSignatures;
    if (row?.stage !== "opening" || !row.proposal || !signatures) return;
    const signed = transactionBytes(signedFunding(fundingOf(this.options.keys, row.proposal), signatures));
    node?.whenStored(() => this.sendFunding(signed));
  }

  private sendFunding(signed: Uint8Array): void {
    const { row } = this;
    if (row?.stage !== "opening") return;
    this.put({ ...row, stage: "funded", fundingTransaction: signed });
    this.options.log.info("the channel is funded", { sat: row.channelSat, txid: shown(this.fundingTxid) });
    this.broadcast(signed);
    this.watchFunding();
  }

  private ready(): void {
    const { row } = this;
    if (row?.stage !== "funded" && row?.stage !== "opening") return;
    this.wish = undefined;
    this.refusal = undefined;
    this.words = undefined;
    this.put({ ...row, stage: "ready" });
    const { channelSat, inFlightMsat } = row;
    const { log } = this.options;
    log.info("the channel is ready", { sat: channelSat });
    if (inFlightMsat !== undefined && inFlightMsat < 900 * channelSat)
      log.warn(
        "the bridge lets only a part of the channel be in flight at a time: no payment can be larger",
        {
          sat: Math.floor(inFlightMsat / 1000),
        },
      );
  }

  private closed(event: ldk.Event_ChannelClosed): void {
    const { row } = this;
    if (!row || !isUserChannelId(event.user_channel_id, row.keysId)) return;
    this.broadcastFunding();
    const reason = event.reason.constructor.name.replace(/^ClosureReason_/, "");
    this.options.log.info("LDK has closed the channel", { reason, stage: row.stage });
    if (row.stage === "opening") {
      const why =
        event.reason instanceof ldk.ClosureReason_DisconnectedPeer
          ? lngateError("bridge-unreachable", "the bridge went away while the channel was being opened")
          : this.openRefused(row, peerWords(event.reason) ?? this.words ?? reason);
      this.abandon(why);
    } else if (row.stage !== "closed") this.put({ ...row, stage: "closing" });
  }

  /** It is asked again after a while, longer each time; what would be refused again is not. */
  private openRefused(row: ChannelRow, words: string): LngateError {
    this.words = oneLine(words);
    const times = (this.refusal?.times ?? 0) + 1;
    const pause = pauseAfter(times);
    const error = lngateError("channel-refused", `the bridge does not open the channel: ${this.words}`);
    this.refusal = { times, until: performance.now() + pause };
    this.learntLeastSat = leastChannelIn(this.words, row.channelSat) ?? this.learntLeastSat;
    this.openingTrouble(error);
    clearTimeout(this.openTimer);
    this.openTimer = setTimeout(() => this.openSoon(false), pause + 10);
    this.openTimer.unref();
    return error;
  }

  /** The smallest channel that is opened, sat. */
  private get leastChannelSat(): number {
    return Math.max(this.options.leastChannelSat, this.learntLeastSat);
  }

  /** The smallest deposit of which one can be made now, sat. */
  get leastDepositSat(): number {
    const { keys, runtime } = this.options;
    return leastDepositSat(this.leastChannelSat, depositScriptOf(keys), runtime.chain.fees.feerate("normal"));
  }

  private enterOpenings(): boolean {
    return this.options.openings.enter(this.id, () => this.openSoon(false));
  }

  /** There is a channel, or money for one. */
  private async needsBridge(): Promise<boolean> {
    if ((this.row && this.row.stage !== "closed") || (this.node?.channels().length ?? 0) > 0) return true;
    try {
      return (await this.options.deposits.of(this.id)).length > 0;
    } catch (error) {
      // bitcoind is away: whoever opens a channel connects then.
      if (codeOf(error) === undefined) throw error;
      return false;
    }
  }

  /** A reorg may have taken it out of the chain, and then nothing that spends it is taken either. */
  private broadcastFunding(): void {
    const transaction = this.row?.fundingTransaction;
    if (transaction) this.broadcast(transaction);
  }

  private broadcast(transaction: Uint8Array): void {
    this.options.runtime.chain.broadcaster.broadcast([transaction]);
  }

  /** The transaction that spends the channel's output ends it; after a reorg that may be another one. */
  private watchFunding(): void {
    const { row } = this;
    if (!row?.proposal || row.stage === "opening") return;
    const { txid } = fundingOf(this.options.keys, row.proposal);
    this.options.deposits.onSpent({ txid, vout: FUNDING_VOUT }, spend =>
      this.guarded(() => this.ended(row.keysId, spend)),
    );
  }

  private ended(keysId: Uint8Array, spend: Transaction): void {
    const { row } = this;
    const closeTxid = txidOf(spend);
    if (!row || !equal(row.keysId, keysId) || (row.closeTxid && equal(row.closeTxid, closeTxid))) return;
    this.options.log.info("the channel is closed", { txid: shown(closeTxid) });
    this.put({ ...row, stage: "closed", closeTxid });
  }

  /** Asks the bridge for a mutual close, now or as soon as that is possible. Throws `close-state`. */
  requestClose(): void {
    const { row } = this;
    if (row?.stage === "closing" || row?.stage === "closed") {
      this.tellChannel();
      this.noteStuck();
      return;
    }
    if (row?.stage !== "ready") throw lngateError("close-state", "there is no channel that could be closed");
    this.put({ ...row, stage: "closing" });
    this.closeSoon();
  }

  /**
   * The device is lost or stolen: from now on, and after every restart, nothing is co-signed, and what it says is not
   * heard. The bridge is made to close with its newest state, which pays the owner's cold key.
   */
  freeze(): void {
    freezeChannels(this.options.channels, this.id);
    this.frozen = true;
    this.session("lost");
    this.options.log.warn("frozen by its owner: nothing is signed any more, the bridge is to close");
    this.leaveToBridge();
  }

  /** The bridge knows states that this gateway does not: its folder was put back from an old copy. */
  private fellBehind(): void {
    this.options.log.error(
      "this gateway's data is older than the channel: an old copy was put back. Nothing of it is published; the bridge is to close",
      { code: "gateway-rolled-back" },
    );
    this.leaveToBridge();
  }

  /** Told by a peer: whatever it says is one line of limited length. */
  private bridgeSays(words: string): void {
    this.words = oneLine(words);
    this.problems.note(`the bridge says: ${this.words}`, { code: "bridge-refuses" });
  }

  /** Ends the channel for LDK without publishing anything, and tells the bridge so: then it publishes its newest. */
  private leaveToBridge(): void {
    const { node } = this;
    for (const channel of node?.channels() ?? []) {
      node?.manager.force_close_without_broadcasting_txn(
        channel.get_channel_id(),
        channel.get_counterparty().get_node_id(),
        "closed by its owner: publish your newest commitment",
      );
    }
    node?.wake();
    this.hadEnded = true;
    clearTimeout(this.insistTimer);
    this.insistTimer = setTimeout(() => this.guarded(() => this.watchEnding()), FIRST_INSIST_MS);
  }

  /**
   * Sees to it that an end comes to its end. A bridge that was told to close need not do so (LND keeps the channel); when it
   * is called again it hears that nobody here knows the channel, and then it does. A mutual close that is stuck begins anew.
   */
  private watchEnding(): void {
    const { node, row } = this;
    if (!node) return;
    const bridge = row && bridgeOf(row, this.options.bridge).nodeId;
    const negotiates = node.negotiatesClose() && !this.signer.closingPending;
    if (bridge && negotiates && this.negotiated) {
      const said = this.words === undefined ? "" : `; the bridge says: ${this.words}`;
      this.closeTrouble(
        lngateError("close-stalled", `the bridge does not end the mutual close, it is tried again${said}`),
      );
      this.closeStalled = true;
      node.hangUp(bridge);
    } else if (!negotiates) {
      this.closeStalled = false;
      this.closeTrouble(null);
    }
    this.negotiated = negotiates;
    this.insist(node).catch(error => this.options.onFatal(error));
  }

  /** Calls the bridge again as long as the channel has ended for LDK alone. */
  private async insist(node: LightningNode): Promise<void> {
    const { row, fundingTxid, options } = this;
    const { hadEnded } = this;
    this.hadEnded = row?.stage === "closing" && node.channels().length === 0;
    if (!this.hadEnded) this.awaitsBridge = false;
    if (!row || !this.hadEnded || !hadEnded || !fundingTxid) return;
    let isSpent: boolean;
    try {
      const output = [shown(fundingTxid), FUNDING_VOUT, true];
      isSpent = (await options.runtime.chain.rpc.call("gettxout", output)) === null;
    } catch (error) {
      // bitcoind is away, which is told elsewhere.
      if (codeOf(error) === undefined) throw error;
      return;
    }
    if (this.awaitsBridge && isSpent) options.log.info("the bridge has closed the channel");
    if (!this.awaitsBridge && !isSpent)
      options.log.warn("the bridge has not closed the channel yet: it is called again until it has", {
        code: "bridge-keeps-channel",
      });
    this.awaitsBridge = !isSpent;
    if (isSpent || performance.now() - this.insistedAt < INSIST_MS) return;
    this.insistedAt = performance.now();
    node.hangUp(bridgeOf(row, options.bridge).nodeId);
  }

  /** The feerate that LDK may give the channel's commitments; `present`: what it has, undefined for a new one. */
  private commitmentFeerate(present: number | undefined): number {
    const { fees } = this.options.runtime.chain;
    const chosen = commitmentFeerate(
      fees.feerate(present === undefined ? "opening" : "commitment"),
      this.seen?.bounds,
      present,
      this.node?.pendingPayments() ?? 0,
      this.recordsLeft,
      performance.now() - this.feerateRoseAt >= RISE_AGAIN_MS,
      fees.feerate("minimum"),
    );
    if (present === undefined || chosen > present) this.feerateRoseAt = performance.now();
    return chosen;
  }

  /** Between what mempools take and what brings it into the next two blocks, and never more than the device signs. */
  private closingFeerates(): { least: number; most: number } {
    const { fees } = this.options.runtime.chain;
    const minimum = fees.feerate("minimum");
    if (this.leastForClosing < minimum)
      this.leastForClosing = this.leastForClosing === 0 ? minimum : Math.ceil(minimum * 1.25);
    const allowed = mostForClosing(this.seen?.bounds);
    const wanted =
      this.closesTheOldWay && allowed < Number.POSITIVE_INFINITY ? allowed : fees.feerate("urgent");
    const least = Math.min(this.leastForClosing, allowed);
    return { least, most: Math.max(least, Math.min(wanted, allowed)) };
  }

  /**
   * A bridge that names one fee and no range takes no other: LDK would close by force if it is above its most. So its most
   * becomes what the device would sign, with which the close begins anew. What is above that as well LDK does not get to see.
   */
  private closeOffered(feeSat: number): boolean {
    const { node, row } = this;
    if (!node || !row) return true;
    if (feeSat * 1000 <= this.closingFeerates().most * LIGHTEST_CLOSING) return true;
    if (this.closesTheOldWay)
      this.bridgeSays(`(a fee of ${feeSat} sat for the mutual close, which is more than the device signs)`);
    else {
      this.closesTheOldWay = true;
      node.hangUp(bridgeOf(row, this.options.bridge).nodeId);
    }
    return false;
  }

  /**
   * The device has refused what the channel can't do without, for good. An owner who has asked for a close need not wait for
   * it: the bridge ends the channel with its newest state, which needs no signature of ours. One that is being opened ends
   * the same way, and another may be opened.
   */
  private noteStuck(): void {
    const { stuck, row } = this;
    if (stuck === null || !row) return;
    // LDK has nothing to store for it: after a restart at once a payment would be put on top of what can't be signed.
    if (stuck !== this.stuckSaid) this.node?.storeSoon();
    if (row.stage === "opening" || row.stage === "closing") this.leaveToBridge();
    else if (stuck !== this.stuckSaid)
      this.options.log.error(`${stuckSentence(stuck)}: \`lngate device close\` has the bridge close it`, {
        code: "channel-stuck",
      });
    this.stuckSaid = stuck;
  }

  /** LDK begins no close while the bridge is away or a payment is just being sent. */
  private closeSoon(): void {
    const { node, row } = this;
    if (row?.stage !== "closing") return;
    if (this.stuck !== null) {
      this.leaveToBridge();
      return;
    }
    const channel = node?.channels()[0];
    const state = channel?.get_channel_shutdown_state();
    const begun =
      !(state instanceof ldk.Option_ChannelShutdownStateZ_Some) ||
      state.some !== ldk.ChannelShutdownState.LDKChannelShutdownState_NotShuttingDown;
    if (!node || !channel || begun) return;
    try {
      node.closeChannel(channel.get_channel_id(), channel.get_counterparty().get_node_id());
    } catch (error) {
      if (codeOf(error) !== "close-refused") throw error;
      this.options.log.debug((error as Error).message);
      clearTimeout(this.closeTimer);
      this.closeTimer = setTimeout(() => this.guarded(() => this.closeSoon()), CLOSE_AGAIN_MS);
    }
  }

  /** The device's last `hello`. */
  private get seen(): Sighting | undefined {
    return lastSighting(this.options.sightings, this.id);
  }

  private get recordsLeft(): RecordsLeft {
    const { records } = this.options;
    return { A: records.remaining("A"), B: records.remaining("B"), H: this.noncesLeft };
  }

  /**
   * Asks LDK to pay, if the device will sign what comes of it: a state that LDK is in and the device refuses can't be taken
   * back. Throws `records-used-up`, `device-clock-behind`, `policy-htlc-expiry`, and what LDK says at once.
   */
  private payWithin(
    node: LightningNode,
    invoice: Invoice,
    text: string,
    paymentId: Uint8Array,
    { maxFeeMsat, maxCltvExpiry }: PaymentLimits,
  ): void {
    if (!areEnoughFor(node.pendingPayments() + 1, this.recordsLeft))
      throw lngateError("records-used-up", "too few presignatures are left: charge the device");
    // Payments in parts take more room in the device's commitments than it knows when it begins the next.
    if (this.htlcs >= MAX_OUTGOING)
      throw lngateError("in-flight-limit", `${this.htlcs} HTLCs are in flight, and the device holds no more`);
    // Another way costs as many records as the first: they must not run out in the middle of a payment.
    const spare = Math.floor(this.options.records.remaining("B") / RECORDS_PER_WAY) - 1;
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
      const { seen } = this;
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
    const pending = Math.max(this.htlcs, node.pendingPayments());
    let most = Math.min(MAX_PARTS, MAX_OUTGOING - pending);
    while (most > 1 && !areEnoughFor(pending + 2 * most + 1, this.recordsLeft)) most--;
    const dustSat = Math.max(LDK_DUST_LIMIT_SAT, this.row?.theirDustLimitSat ?? 0);
    return { most, leastMsat: 1000 * dustSat };
  }

  private startPayment(invoice: Invoice, text: string, paymentId: Uint8Array, limits: PaymentLimits): void {
    const { node } = this;
    const channel = () => node?.channels()[0];
    const isUsable = () => Boolean(channel()?.get_is_usable());
    this.needNewest();
    if (this.row?.stage !== "ready" || !node) throw channelNotReady();
    const { stuck } = this;
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
      const peer = channel()?.get_counterparty().get_node_id();
      if (peer) node.connectSoon(peer);
    }
    const { paymentHash } = invoice;
    const payIfStill = () => {
      this.payments.needStill(paymentHash, paymentId);
      pay();
    };
    this.payments
      .waits(paymentHash, paymentId, this.payLater(node, isUsable, payIfStill))
      // What is no error of ours has come out of LDK: nothing else is called here.
      .catch(error => this.options.onFatal(error));
  }

  /** Payments may be begun. */
  private get isServed(): boolean {
    return this.row?.stage === "ready" && this.stuck === null && !this.frozen && !this.rolledBack;
  }

  /** HTLCs of ours in the channel: paid or failed ones, too, until both commitments are without them. */
  private get htlcs(): number {
    return this.node?.channels()[0]?.get_pending_outbound_htlcs().length ?? 0;
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

/** What a refusal is about: a payment, or a channel. */
type Subject =
  | { readonly paymentHash: Uint8Array }
  | { readonly paymentHash?: never; readonly index: number };

const ROLLED_BACK = "this device's flash is older than one that was here: an old image, or a copy";

function stuckSentence(code: string): string {
  return code === "device-answer-wrong"
    ? "the channel can't go on, since the device's half of a signature is wrong and it keeps to it"
    : `the channel can't go on, since the device refuses a state of it (${code})`;
}

/** The words of whoever wants to say something: one line of limited length. */
function oneLine(words: string): string {
  return cutTo(words.replace(/[\p{Cc}\p{Cs}]/gu, " "), MAX_WORDS);
}

/** What LDK says of the other side's, or its own, reason. */
function peerWords(reason: ldk.ClosureReason): string | undefined {
  if (reason instanceof ldk.ClosureReason_CounterpartyForceClosed) return reason.peer_msg.get_a();
  if (reason instanceof ldk.ClosureReason_ProcessingError) return reason.err;
  return undefined;
}

/** A trap inside LDK's WebAssembly leaves its locks held. */
function isBrokenLdk(error: unknown): boolean {
  return error instanceof Error && error.name === "RuntimeError";
}

/** What a message is about, in a few words and without a secret, for the log. */
function aboutUp(message: ToGateway): string {
  switch (message.type) {
    case "stepped": {
      const { secret, signed, refused } = message;
      const done = [
        ...(secret ? ["its exit is complete: old state revoked"] : []),
        ...(signed ? [`${signed.partials.length} half signature(s)`] : []),
        ...(message.own ? ["a complete signature"] : []),
        ...(refused ? [`REFUSED: ${refused.code}`] : []),
      ];
      return done.join(", ") || "its exit is complete";
    }
    case "pay":
      return "please pay this invoice";
    case "open":
      return "please open a channel; first commitment points";
    case "close":
      return "please close the channel";
    case "hello":
      return message.phase;
    case "settling":
      return message.refused ? `REFUSED: ${message.refused.code}` : "the service fee may be paid";
  }
}

function aboutDown(message: ToDevice): string {
  switch (message.type) {
    case "step": {
      const { paid, revoked, proposal, holder, counterparty, fund, close } = message;
      const parts = [
        ...(paid ? ["preimage"] : []),
        ...(revoked ? [`bridge revoked ${revoked.number}`] : []),
        ...(proposal ? ["terms of the channel"] : []),
        ...(holder ? [`our state ${holder.number}, signed by the bridge`] : []),
        ...(counterparty ? [`sign the bridge's state ${counterparty.number}`] : []),
        ...(fund ? ["sign the funding transaction"] : []),
        ...(close ? ["sign the mutual close"] : []),
        ...(message.leave === undefined ? [] : ["hand out the exit: a forced close"]),
        ...(message.spend ? ["sign what is collected from the bridge's close"] : []),
      ];
      return parts.join("; ");
    }
    case "paid":
      return "preimage";
    case "failed":
      return message.code;
    case "channel":
      return `channel ${message.state}`;
    case "settle":
      return "please pay the service fee that is owed";
  }
}

/** LDK's binding may give a u128 back with its bytes reversed. */
function isUserChannelId(id: bigint, keysId: Uint8Array): boolean {
  const bytes = fromHex(id.toString(16).padStart(32, "0"));
  const expected = userChannelIdOf(keysId);
  return id === expected || BigInt(`0x${toHex(bytes.reverse())}`) === expected;
}

/** A txid as explorers show it. */
function shown(txid: Uint8Array | undefined): string | undefined {
  return txid && toHex(txid.slice().reverse());
}

function bookKey(keysId: Uint8Array): string {
  return `book/${toHex(keysId)}`;
}

/** LDK's reasons as our codes. */
function failureCode(reason: ldk.Option_PaymentFailureReasonZ): string {
  if (!(reason instanceof ldk.Option_PaymentFailureReasonZ_Some)) return "payment-failed";
  switch (reason.some) {
    case ldk.PaymentFailureReason.LDKPaymentFailureReason_RecipientRejected:
      return "payment-rejected";
    case ldk.PaymentFailureReason.LDKPaymentFailureReason_PaymentExpired:
      return "payment-expired";
    default:
      return "payment-failed";
  }
}

function failureSentence(reason: ldk.Option_PaymentFailureReasonZ): string | undefined {
  const { LDKPaymentFailureReason_RouteNotFound } = ldk.PaymentFailureReason;
  return reason instanceof ldk.Option_PaymentFailureReasonZ_Some &&
    reason.some === LDKPaymentFailureReason_RouteNotFound
    ? "the payment failed on its way, and there is no other way within the limits"
    : undefined;
}

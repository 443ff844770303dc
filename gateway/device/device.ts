/**
 * One device on the gateway: its Lightning node, its signer over the link, its channel and its payments are joined here. A
 * device that is silent keeps nothing waiting but itself.
 */
import * as ldk from "lightningdevkit";
import type { Database } from "lmdb";
import type { Network } from "../../src/bitcoin/network.ts";
import { p2wsh } from "../../src/bitcoin/script.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import { type DeviceKeys, depositScriptOf } from "../../src/channel/device-keys.ts";
import type { ServiceFee } from "../../src/channel/service-fee.ts";
import type { Proposal } from "../../src/channel/terms.ts";
import { codeOf } from "../../src/errors.ts";
import type { ToGateway } from "../../src/messages/device.ts";
import type { SpendingLimits, ToldChannel } from "../../src/messages/owner.ts";
import type { RecordStore } from "../../src/threshold/records.ts";
import { BridgeWords, stayWithBridge } from "../channel/bridge.ts";
import { DeviceChannel } from "../channel/channel.ts";
import type { Deposits } from "../channel/deposits.ts";
import { ChannelEnding } from "../channel/ending.ts";
import { FeeratePolicy } from "../channel/feerate-policy.ts";
import { ChannelFunding } from "../channel/funding.ts";
import { type ChannelParts, onChannelEvent } from "../channel/ldk-events.ts";
import { ChannelOpening } from "../channel/opening.ts";
import type { Openings } from "../channel/openings.ts";
import { type FeeReceiver, ServiceFees } from "../fees/service-fees.ts";
import { LightningNode } from "../lightning/node.ts";
import type { Peer } from "../lightning/peers/contacts.ts";
import type { LightningRuntime } from "../lightning/runtime.ts";
import type { NodeStore } from "../lightning/store.ts";
import { type Counted, counted, type Log } from "../log.ts";
import { DeviceSigner } from "../signer/device-signer.ts";
import { watchedMessages } from "../signer/messages.ts";
import { RemoteSigner } from "../signer/remote-signer.ts";
import { Paying } from "./paying.ts";
import { onPaymentEvent } from "./payment-events.ts";
import { Payments } from "./payments.ts";
import { DeviceSession, type Hello, subjectOf } from "./session.ts";
import { type DeviceReport, deviceReport } from "./status-report.ts";

/** How long after a payment the service fee is asked for. */
const FEE_AFTER_MS = 1_000;

/** What a device needs of the gateway. */
export interface DeviceGatewayOptions {
  readonly deviceId: string;
  readonly network: Network;
  readonly keys: DeviceKeys;
  readonly records: RecordStore;
  readonly deposits: Deposits;
  readonly channels: Database<Uint8Array, string>;
  readonly payments: Database<Uint8Array, string>;
  readonly rollbackGuard: Database<Uint8Array, string>;
  /** What its owner allows it to spend, as it is now; undefined if the owner has never said. */
  limits(): SpendingLimits | undefined;
  /** What this device pays for the service; absent: nothing. */
  readonly serviceFee?: ServiceFee;
  /** Where it pays it. */
  readonly feeReceiver?: FeeReceiver;
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
  /** LDK can't go on: the process has to be started again. */
  onFatal(error: unknown): void;
  /** Bytes to the device; false if there is no session. */
  send(message: Uint8Array): boolean;
}

/** See the head of this file. */
export class DeviceGateway {
  readonly id: string;
  private readonly options: DeviceGatewayOptions;
  private readonly link: DeviceSession;
  private readonly signer: RemoteSigner;
  private readonly deviceSigner: DeviceSigner;
  private readonly channel: DeviceChannel;
  private readonly words: BridgeWords;
  private readonly feerates: FeeratePolicy;
  private readonly funding: ChannelFunding;
  private readonly opening: ChannelOpening;
  private readonly ending: ChannelEnding;
  private readonly fees: ServiceFees;
  private readonly payments: Payments;
  private readonly paying: Paying;
  /** A device can cause them at will. */
  private readonly problems: Counted;
  /** What LDK has, once it runs. */
  private node: LightningNode | undefined;
  private feeTimer: NodeJS.Timeout | undefined;

  /** `nodeSeed`: 32 secret bytes of its Lightning node. Its money is watched from now on, its node runs from `start` on. */
  constructor(options: DeviceGatewayOptions, nodeSeed: Uint8Array) {
    const { deviceId, keys, records, deposits, openings, bridge, log } = options;
    const { chain } = options.runtime;
    this.id = deviceId;
    this.options = options;
    this.problems = counted((text, fields) => log.error(text, fields));
    const node = () => this.node;
    const onFatal = (error: unknown) => options.onFatal(error);
    const guarded = (work: () => void) => this.guarded(work);

    const link = new DeviceSession({
      deviceId,
      rollbackGuard: options.rollbackGuard,
      log,
      send: message => options.send(message),
    });
    this.link = link;
    const recordsLeft = () => ({
      A: records.remaining("A"),
      B: records.remaining("B"),
      H: link.noncesLeft,
    });

    this.signer = new RemoteSigner({
      nodeSeed,
      shutdownScript: keys.shutdownScript,
      peer: { ask: (keysId, parts) => this.deviceSigner.ask(keysId, parts) },
      counterpartyDustLimitSat: keysId => this.channel.counterpartyDustLimitSat(keysId),
      tellsAhead: () => this.deviceSigner.derivesKeys,
      isPaying: () => this.paying.isBusy,
      guarded,
      problem: (keysId, code, sentence) =>
        this.problems.note(sentence, { code, channel: toHex(keysId.subarray(0, 4)) }),
    });
    const { signer } = this;
    const channel = new DeviceChannel({
      deviceId,
      table: options.channels,
      keys,
      bridge,
      openings,
      signer,
      send: message => link.send(message),
    });
    this.channel = channel;
    this.deviceSigner = new DeviceSigner({
      keys,
      records,
      channels: channel,
      link,
      answer: (keysId, answers) => {
        signer.answer(keysId, answers);
        this.funding.finish();
        this.ending.noteStuck();
      },
      problem: (code, sentence) => this.problems.note(sentence, { code }),
      wrongAnswer: error => options.wrongAnswer(error),
    });

    const words = new BridgeWords((sentence, code) => this.problems.note(sentence, { code }));
    this.words = words;
    const bounds = () => link.seen?.bounds;
    this.feerates = new FeeratePolicy({ channel, words, fees: chain.fees, node, bounds, recordsLeft });
    this.funding = new ChannelFunding({
      channel,
      keys,
      signer,
      deposits,
      log,
      node,
      broadcast: transaction => this.broadcast(transaction),
      guarded,
    });
    this.opening = new ChannelOpening({
      deviceId,
      channel,
      keys,
      bridge,
      words,
      deposits,
      fees: chain.fees,
      leastChannelSat: options.leastChannelSat,
      openings,
      log,
      node,
      maxFeeSat: () => bounds()?.maxCloseFeeSat,
      ensureFeerate: () => this.feerates.ensureForOpening(),
      refuse: (index, code, sentence) => link.refuse({ index }, code, sentence),
      onFatal,
    });
    this.ending = new ChannelEnding({ channel, words, signer, rpc: chain.rpc, log, node, guarded, onFatal });

    this.fees = new ServiceFees({
      deviceId,
      ...(options.serviceFee ? { terms: options.serviceFee } : {}),
      ...(options.feeReceiver ? { feeReceiver: options.feeReceiver } : {}),
      table: options.payments,
      log,
      send: message => link.send(message),
      soon: work => this.settleSoon(work),
      now: () => Date.now(),
    });
    this.paying = new Paying({
      session: link,
      channel,
      node,
      recordsLeft,
      ensureStill: (...payment) => this.payments.ensureStill(...payment),
      waits: (...payment) => this.payments.waits(...payment),
      onFatal,
    });
    this.payments = new Payments({
      deviceId,
      fees: this.fees,
      limits: () => options.limits(),
      log,
      network: options.network,
      table: options.payments,
      failed: (paymentHash, code, sentence) => this.paymentFailed(paymentHash, code, sentence),
      paid: preimage => this.deviceSigner.paid(preimage, () => this.tellEndAgain()),
      start: (...payment) => this.paying.start(...payment),
      underWay: paymentId => this.node?.hasPayment(paymentId) ?? false,
      now: () => Date.now(),
    });

    deposits.watch(deviceId, p2wsh(depositScriptOf(keys)));
    this.funding.watch();
  }

  /**
   * Brings the device's node up, from the store if it was there before. `onWaiting`: that will take its time, since bitcoind
   * can't show what was mined meanwhile.
   */
  async start(onWaiting?: () => void): Promise<void> {
    const { options, signer, channel, opening, funding, feerates, words } = this;
    const { row } = channel;
    channel.announceAll(options.store);
    const parts: ChannelParts = {
      channel,
      opening,
      funding,
      words,
      log: options.log,
      broadcast: transaction => this.broadcast(transaction),
    };
    const node = await LightningNode.start({
      runtime: options.runtime,
      keys: {
        entropySource: signer.keys.as_EntropySource(),
        nodeSigner: signer.keys.as_NodeSigner(),
        signerProvider: signer.signerProvider,
      },
      store: options.store,
      log: options.log,
      routing: false,
      onEvent: event => {
        onChannelEvent(event, parts);
        onPaymentEvent(event, this.payments);
      },
      extraRows: () => channel.changedBooks(),
      holdTicks: () => signer.closingPending,
      commitmentFeerate: present => feerates.commitment(present),
      closingFeerates: () => feerates.closing(),
      onWarning: said => words.heard(said),
      messages: manager =>
        watchedMessages(manager, signer, {
          accepted: limits => opening.accepted(limits),
          fellBehind: () => this.ending.fellBehind(),
          closeOffered: feeSat => feerates.closeOffered(feeSat),
          fulfilled: () => this.node?.takeEvents(),
          refused: said => words.heard(said),
        }),
      attach: node =>
        signer.attach({ channelManager: node.manager, chainMonitor: node.monitor, wake: () => node.wake() }),
      mayPayAgain: () => this.paying.mayPayAgain,
      onPaymentRefused: ({ payment_hash: hash, payment_id: id }, error) => {
        if (hash instanceof ldk.Option_ThirtyTwoBytesZ_Some) this.payments.gaveUp(hash.some, id, error);
      },
      onFatal: error => options.onFatal(error),
      onWaiting,
    });
    this.node = node;
    // LDK keeps nothing of a channel for which the bridge has signed nothing.
    if (row?.stage === "opening" && node.channels().length === 0) opening.abandon();
    else if (row?.stage === "opening") funding.sign();
    if (row?.stage !== "closed") funding.broadcast();
    if (channel.row?.stage === "opening" || channel.row?.stage === "funded") opening.takePlace();
    // A bridge has only so many places for peers without a channel; one of ours learns the network for all.
    if (node.takesGossip || (await opening.needsBridge())) node.keepConnected(options.bridge);
    stayWithBridge(channel, node, options.bridge, options.log);
    this.ending.start();
  }

  /** Ends the node; resolves when it has stored what it was storing. */
  async stop(): Promise<void> {
    clearTimeout(this.feeTimer);
    this.signer.stop();
    this.opening.stop();
    this.ending.stop();
    await this.node?.stop();
    this.problems.flush();
  }

  // ── the link ──────────────────────────────────────────────────────────────────────────────────────────

  /** A session with the device began, or was given up. */
  session(state: "up" | "lost"): void {
    this.link.changed(state === "up" && !this.channel.isFrozen);
    this.deviceSigner.restart();
    if (this.link.isUp) this.channel.tellDevice();
  }

  /** A message of the device. Throws `message-…` for what is none. */
  received(encoded: Uint8Array): void {
    if (!this.link.isUp) return;
    const message = this.link.read(encoded);
    try {
      this.take(message);
    } catch (error) {
      this.refuse(message, error);
    }
  }

  private take(message: ToGateway): void {
    const { link, payments, fees } = this;
    switch (message.type) {
      case "hello":
        this.greeted(message);
        return;
      case "open":
        link.ensureNewest();
        this.opening.asked(message.index, message.points);
        return;
      case "pay":
        payments.asked(message.invoice, message, message.attempt ?? 0);
        // Also in a session that lasts for months.
        payments.pruneSometimes(link.seen?.at ?? 0);
        return;
      case "settling":
        if (message.refused) fees.refused(message.refused.code, message.refused.sentence);
        else payments.settling(message.paymentHash, message.maxCltvExpiry);
        return;
      case "stepped":
        link.noncesLeft -= message.signed?.htlcSignatures?.length ?? 0;
        this.deviceSigner.stepped(message);
        return;
      case "close":
        link.ensureNewest();
        this.ending.requestClose();
        return;
    }
  }

  private greeted(hello: Hello): void {
    const { channel, signer } = this;
    const before = this.link.greeted(hello, channel.knowsMoreThan(hello));
    this.deviceSigner.greeted(hello);
    this.payments.pruneSometimes(before?.at ?? 0);
    // Also for channels that have ended: their money may still be on its way home.
    for (const { keysId } of channel.rows()) {
      signer.askAgain(keysId);
      signer.tell(keysId);
    }
    if (channel.row?.stage === "ready") this.fees.askSoon();
  }

  /**
   * A request that can't be served is answered with why, and with what it was about: a device can't end what it can't
   * tell. What is not an error of ours is a fault of this program (or of LDK, which then has to be started again).
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
    const subject = subjectOf(request, this.channel.row?.index ?? 0);
    // What LDK has begun is not called failed because something else went wrong.
    if (!subject || (subject.paymentHash && this.payments.mayBeUnderWay(subject.paymentHash))) return;
    const sentence = code === undefined ? "the gateway failed; its log says how" : (error as Error).message;
    this.link.refuse(subject, code ?? "gateway-failed", sentence);
  }

  private paymentFailed(paymentHash: Uint8Array, code: string, sentence: string): void {
    const { channel, signer, link } = this;
    // The revocations go first: with them the device can tell that the HTLC is gone for good.
    if (channel.row) signer.tell(channel.row.keysId);
    link.send({ type: "failed", paymentHash, code, sentence });
    // What the device did not close because of this payment it may close now.
    if (channel.row?.stage === "closing" && link.isThere) signer.askAgain(channel.row.keysId);
    this.tellEndAgain();
  }

  /** With what became of a payment the device may believe that a closed channel has ended. */
  private tellEndAgain(): void {
    if (this.channel.row?.stage === "closed") this.channel.tellDevice();
  }

  // ── the gateway and the owner ─────────────────────────────────────────────────────────────────────────

  /** How the device and its channel stand. */
  status(): DeviceReport {
    return deviceReport(this.link, this.channel, this.opening, this.ending, this.words, this.node);
  }

  /** What the owner is told of the present channel. */
  get held(): { readonly proposal: Proposal; readonly number: number } | undefined {
    return this.channel.held;
  }

  /** What the owner is told of all channels. */
  get toldChannels(): readonly ToldChannel[] {
    return this.channel.told;
  }

  /** The smallest deposit of which a channel can be made now, sat. */
  get leastDepositSat(): number {
    return this.opening.leastDepositSat;
  }

  /** There is a new block: a deposit may have been confirmed. What was asked in vain is asked again. */
  newBlock(): void {
    const { channel, link } = this;
    this.opening.tryAgain();
    if (link.isThere && channel.row?.stage === "closing") this.signer.askAgain(channel.row.keysId);
    if (link.isThere && channel.row?.stage === "ready") this.fees.askSoon();
  }

  /** Asks the bridge for a mutual close, now or as soon as that is possible. Throws `close-state`. */
  requestClose(): void {
    this.ending.requestClose();
  }

  /**
   * The device is lost or stolen: from now on, and after every restart, nothing is co-signed, and what it says is not
   * heard. The bridge is made to close with its newest state, which pays the owner's cold key.
   */
  freeze(): void {
    this.channel.freeze();
    this.session("lost");
    this.options.log.warn("frozen by its owner: nothing is signed any more, the bridge is to close");
    this.ending.forceCloseByBridge();
  }

  // ── for its parts ─────────────────────────────────────────────────────────────────────────────────────

  /**
   * Settles the service fee in a moment, if the device can then: once, however often it is asked for. Asking again puts
   * nothing off: a device that says something all the time is asked, too.
   */
  private settleSoon(work: () => void): void {
    this.feeTimer ??= setTimeout(() => {
      this.feeTimer = undefined;
      if (this.link.isThere && this.channel.row?.stage === "ready") this.guarded(work);
    }, FEE_AFTER_MS);
  }

  private broadcast(transaction: Uint8Array): void {
    this.options.runtime.chain.broadcaster.broadcast([transaction]);
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
}

/** A trap inside LDK's WebAssembly leaves its locks held. */
function isBrokenLdk(error: unknown): boolean {
  return error instanceof Error && error.name === "RuntimeError";
}

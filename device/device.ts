/**
 * The device: what an application on the board calls. It carries out the effects of the channel's state machine
 * (channel/machine.ts) in their order, keeps the link alive and joins requests with their outcome.
 *
 *     const device = openDevice(board);
 *     device.connect().then(() => device.pay(invoice, { maxFeeMsat: 3000 })).then(receipt => openTheGate());
 */
import { equal, toHex } from "../src/bytes/bytes.ts";
import { serviceFeeMsat } from "../src/channel/service-fee.ts";
import { codeOf, lngateError } from "../src/errors.ts";
import { checkPayable, decodeInvoice, type Invoice } from "../src/lightning/bolt11.ts";
import { type LinkEffect, linkClient } from "../src/link/session.ts";
import { linkTopic } from "../src/link/topics.ts";
import {
  MAX_MESSAGE_BYTES,
  type Step,
  type ToDevice,
  type ToGateway,
  toDevice,
  toGateway,
} from "../src/messages/device.ts";
import type { Board, MqttConnection } from "./board.ts";
import type { Effect } from "./channel/context.ts";
import { latestChannel } from "./channel/exiting.ts";
import { type Input, transition } from "./channel/machine.ts";
import { POINTS_AHEAD } from "./channel/normal.ts";
import {
  CHANNEL_ENDED,
  channelEnded,
  highestExpiry,
  inFlightMsat,
  knownPayment,
  type PaymentOrder,
  spendableMsat,
} from "./channel/paying.ts";
import { type ChannelState, type Payment, readState } from "./channel/state.ts";
import { contextOf } from "./context.ts";
import { exitText } from "./exit-text.ts";
import { RECORD_KINDS } from "./vault/records.ts";

export interface Receipt {
  /** Payment hash and preimage, hex: SHA256(preimage) = hash proves the payment. */
  readonly hash: string;
  readonly preimage: string;
  readonly amountMsat: number;
  /** Routing fee paid on top. */
  readonly feeMsat: number;
  /** The gateway's fee for its service: owed from now on, and settled later. */
  readonly serviceFeeMsat: number;
  /** From `pay()` to the preimage. */
  readonly ms: number;
}

export interface PayOptions {
  /** Most that routing may cost; default: 1 % of the amount, at least 3,000 msat. */
  readonly maxFeeMsat?: number;
  /** When to give up waiting (`payment-pending`); the payment itself goes on, and `pay()` again joins it. */
  readonly timeoutMs?: number;
}

/** What a payment may cost at most: `amountMsat + maxFeeMsat + serviceFeeMsat`. */
export interface Quote {
  readonly amountMsat: number;
  readonly maxFeeMsat: number;
  readonly serviceFeeMsat: number;
}

export interface Balance {
  /** Ours in the channel at rest, before the commitment fee, sat. */
  readonly balanceSat: number;
  /** What can be paid now, fees included, msat: also by what the bridge lets be in flight at a time. */
  readonly spendableMsat: number;
  /** Service fees of payments that have arrived, less what is settled; kept aside, msat. */
  readonly owedMsat: number;
  readonly phase: string;
  /** What the exits would pay of channels that have ended, sat. That they have is the gateway's word: the chain shows it. */
  readonly formerSat: number;
  readonly recordsLeft: { readonly A: number; readonly B: number; readonly H: number };
  /** Answers of the gateway's that were wrong: an alarm, as an honest one gives none. The third has locked the device. */
  readonly wrongAnswers: number;
}

interface Waiter<T> {
  resolve(value: T): void;
  reject(error: Error): void;
}

/** A `pay()` that has not ended. */
interface Paying {
  readonly hash: Uint8Array;
  readonly waiter: Waiter<Receipt>;
  /** Null once it is begun. */
  order: PaymentOrder | null;
  /** Why it could not be begun yet. */
  full?: Error;
  /** The gateway's sentence, if it has said that it failed. */
  why?: string;
}

const LONGEST_TICK_MS = 60000;
/** How long `pay()` waits for its outcome if not told otherwise. */
const PAY_TIMEOUT_MS = 60000;
/** How long `disconnect()` waits for what a receipt has begun. */
const LEAVE_MS = 2000;
/** How often `open` is asked for again while one of these is in the way. */
const OPEN_AGAIN_MS = 20000;
const WILL_PASS = ["deposit-missing", "bridge-unreachable", "bitcoind-unreachable", "channel-refused"];

/** What an application on the board calls. */
export interface Device {
  readonly id: string;
  /** Connects to the gateway and stays connected. Resolves with the first session. */
  connect(): Promise<void>;
  isConnected(): boolean;
  /**
   * Resolves when all that was paid is settled and the gateway has confirmed it (half a second after the receipt, if nothing
   * is slow): from then on the power may be cut. Without it the bridge closes the channel before the payment expires.
   */
  settled(): Promise<void>;
  /**
   * Asks for a channel funded from the deposit, and waits until it can be used. Asks again until the deposit is
   * there and the bridge opens it; why it does not is the owner's to see. Errors: `gateway-unreachable`,
   * `records-used-up`, `exits-kept`.
   */
  openChannel(): Promise<void>;
  /**
   * Pays a BOLT #11 invoice. Idempotent by payment hash: paid before, it resolves with the same receipt; under
   * way, it joins. Rejects with a stable code: `invoice-…` (malformed, wrong-network, amountless, expired, …),
   * `policy-…` (the owner's limits), `balance-too-low`, `records-used-up`, `gateway-unreachable`,
   * `channel-not-open`, `payment-…` and `no-route` (the gateway's word), `payment-pending` (not decided yet).
   */
  pay(invoice: string, options?: PayOptions): Promise<Receipt>;
  /** What `pay()` with the same arguments would cost. Throws `invoice-…` for what is no invoice. */
  quote(invoice: string, options?: PayOptions): Quote;
  /** No payment is in flight, and both commitments say so. */
  isAtRest(): boolean;
  balance(): Balance;
  /** Asks for a mutual close to the owner's address. Resolves with the closing transaction's id when it is confirmed. */
  close(): Promise<{ txid: string }>;
  /**
   * The owner leaves without the gateway: the channel ends on this device for good, and its last state is given as text
   * (exit-text.ts) for `lngate device exit --from`. Again and again it gives the same. Throws `policy-close-state` where
   * there is no channel, `vault-rolled-back`.
   */
  exit(): string;
  /**
   * Forgets the exits of channels up to this number, which somebody has seen closed on the chain. Only the owner can know:
   * an exit that is forgotten while the gateway has lied leaves the money to its mercy.
   */
  forget(index: number): void;
  /**
   * Ends the connection, and resolves when it has ended: as soon as what was paid is settled, after two seconds at the latest,
   * and at once if it is called again. What is under way goes on at the next `connect()`; who waits for it here is told that
   * it is not decided (`payment-pending`), or `gateway-unreachable`.
   */
  disconnect(): Promise<void>;
}

/** Opens the device that lives in the board's vault. */
export function openDevice(board: Board): Device {
  let channel = readState(board.vault.journal);
  // Clears the bits of records that were used when the power failed before they were cleared.
  const { cursors } = channel.books;
  for (const kind of RECORD_KINDS) board.vault.records.erase(kind, cursors[kind]);
  const context = contextOf(board);
  const newLink = () =>
    linkClient({
      crypto: { aes256Ctr: board.aes256Ctr, random: length => board.vault.drbg.generate(length) },
      linkKey: board.vault.identity.linkKey,
      maxMessageBytes: MAX_MESSAGE_BYTES,
    });
  let link = newLink();
  let mqtt: MqttConnection | null = null;
  /** The broker is reached; whether the gateway is, the link knows. */
  let online = false;
  let offlineBecause = "";
  let cancelTick: () => void = () => {};
  const inbox: ToDevice[] = [];
  /** The application has its turn before the rest of a step is worked on. */
  let resting = false;
  let cancelRest: () => void = () => {};
  /** What the gateway last said of the channel. */
  let channelState = "unknown";
  let closeTxid: Uint8Array | null = null;
  /** Most that the bridge lets be in flight, as the gateway says; what is more it refuses (`in-flight-limit`). */
  let mostInFlightMsat = Number.POSITIVE_INFINITY;
  const connecting: Waiter<void>[] = [];
  let paying: Paying[] = [];
  const readying: Waiter<void>[] = [];
  const closing: Waiter<{ txid: string }>[] = [];
  const settling: Waiter<void>[] = [];
  const leaving: (() => void)[] = [];
  let cancelLeave: () => void = () => {};
  let cancelOpen: () => void = () => {};

  function connect(): Promise<void> {
    if (leaving.length > 0) leave();
    if (mqtt === null) {
      const { identity } = board.vault;
      mqtt = board.mqtt({
        url: identity.brokerUrl,
        username: identity.deviceId,
        password: identity.brokerPassword,
        publishTopic: linkTopic(identity.deviceId, "up"),
        subscribeTopic: linkTopic(identity.deviceId, "down"),
        onOpen: () => {
          online = true;
          linked(link.connected(board.ticks()));
          // Where a session has outlived the connection no other one begins.
          connected();
        },
        onMessage: payload => linked(link.receive(payload, board.ticks())),
        onClose: reason => {
          online = false;
          offlineBecause = ` (${reason})`;
        },
      });
    }
    if (isConnected()) return Promise.resolve();
    return new Promise((resolve, reject) => connecting.push({ resolve, reject }));
  }

  function isConnected(): boolean {
    return online && link.isUp() && leaving.length === 0;
  }

  function connected(): void {
    if (isConnected()) settleAll(connecting.splice(0), waiter => waiter.resolve());
  }

  /** Nothing that was paid is still in a commitment. */
  function isSettled(): boolean {
    return inbox.length === 0 && !resting && channel.payments.every(p => !p?.preimage || p.settled === true);
  }

  function settled(): Promise<void> {
    return new Promise((resolve, reject) => {
      settling.push({ resolve, reject });
      ended();
    });
  }

  /** A step may have ended, and the gateway may have confirmed what it was told of it. */
  function ended(): void {
    if (!isSettled()) return;
    if (mqtt !== null && link.nextTick() !== Number.POSITIVE_INFINITY) return;
    settleAll(settling.splice(0), waiter => waiter.resolve());
    if (leaving.length > 0) leave();
  }

  function openChannel(): Promise<void> {
    const { phase } = channel.books;
    if (phase === "open" && channelState === "ready") return Promise.resolve();
    return new Promise((resolve, reject) => {
      readying.push({ resolve, reject });
      askToOpen();
    });
  }

  function pay(invoice: string, options: PayOptions = {}): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const order = orderOf(invoice, options);
      const known = knownPayment(channel, order.paymentHash);
      if (known?.preimage) return resolve(receiptOf(known));
      if (!known || known.settled) {
        checkPayable(order.decoded, board.vault.identity.network, Math.floor(board.now() / 1000));
        needConnection();
      }
      const cancel = board.after(options.timeoutMs || PAY_TIMEOUT_MS, () => {
        paying = paying.filter(each => each !== entry);
        reject(entry.full || undecided());
      });
      const entry: Paying = {
        hash: order.paymentHash,
        order: known && !known.settled ? null : order,
        waiter: {
          resolve: receipt => {
            cancel();
            resolve(receipt);
          },
          reject: error => {
            cancel();
            reject(error);
          },
        },
      };
      paying.push(entry);
      begin(entry);
    });
  }

  /**
   * Begins a payment that waits to be begun. One for which there is no room waits on, while others that have their receipts
   * are still in the commitments: that takes some hundred milliseconds.
   */
  function begin(entry: Paying): void {
    const { order } = entry;
    if (order === null) return;
    entry.order = null;
    const known = knownPayment(channel, entry.hash);
    // Begun meanwhile, by another call.
    if (known && !known.settled) return;
    try {
      run({ type: "pay", order });
    } catch (error) {
      if (
        codeOf(error) === "too-many-payments" &&
        channel.payments.some(each => each?.preimage && !each.settled)
      ) {
        entry.order = order;
        entry.full = error as Error;
        return;
      }
      paying = paying.filter(each => each !== entry);
      entry.waiter.reject(error as Error);
    }
  }

  function quote(invoice: string, options: PayOptions = {}): Quote {
    const { amountMsat, maxFeeMsat } = orderOf(invoice, options);
    return { amountMsat, maxFeeMsat, serviceFeeMsat: serviceFeeOn(amountMsat) };
  }

  function isAtRest(): boolean {
    const { books, payments, holder, counterparty } = channel;
    const views = books.phase === "none" ? [] : [holder?.view, counterparty?.view];
    return (
      payments.every(p => !p || p.settled === true) && views.every(view => !view || view.htlcs.length === 0)
    );
  }

  function balance(): Balance {
    const { books, former, parameters, holder } = channel;
    let formerSat = books.phase === "none" && parameters?.funding && holder ? holder.view.ourSat : 0;
    for (const each of former || []) formerSat += each.holder.view.ourSat;
    const left = (kind: "A" | "B" | "H") => context.records.left(kind, books.cursors[kind]);
    return {
      balanceSat: books.phase === "none" ? 0 : books.baseSat,
      spendableMsat: Math.max(
        0,
        Math.min(spendableMsat(channel, board.vault.identity), mostInFlightMsat - inFlightMsat(channel)),
      ),
      owedMsat: books.owedMsat,
      phase: books.phase,
      formerSat,
      recordsLeft: { A: left("A"), B: left("B"), H: left("H") },
      wrongAnswers: books.wrongAnswers,
    };
  }

  function close(): Promise<{ txid: string }> {
    return new Promise((resolve, reject) => {
      needConnection();
      closing.push({ resolve, reject });
      askToClose();
    });
  }

  function exit(): string {
    const { journal, identity } = board.vault;
    run({ type: "exit", index: latestChannel(channel) });
    return exitText(journal, identity);
  }

  function forget(index: number): void {
    if (!(index >= 1 && Math.floor(index) === index)) {
      throw lngateError("bad-argument", "forget() takes the number of a channel");
    }
    run({ type: "forget", index });
  }

  function disconnect(): Promise<void> {
    return new Promise(resolve => {
      leaving.push(resolve);
      if (mqtt === null || isSettled() || leaving.length > 1) leave();
      else cancelLeave = board.after(LEAVE_MS, () => leave());
    });
  }

  function leave(): void {
    cancelLeave();
    cancelTick();
    cancelOpen();
    cancelRest();
    resting = false;
    if (mqtt !== null) mqtt.close();
    mqtt = null;
    online = false;
    // What came and was not worked on is gone: in another session the gateway says it again.
    link = newLink();
    inbox.length = 0;
    const gone = lngateError("gateway-unreachable", "the device was disconnected");
    settleAll(connecting.splice(0), waiter => waiter.reject(gone));
    settleAll(readying.splice(0), waiter => waiter.reject(gone));
    settleAll(closing.splice(0), waiter => waiter.reject(gone));
    settleAll(settling.splice(0), waiter => waiter.reject(gone));
    settleAll(paying.splice(0), ({ waiter, order }) => waiter.reject(order === null ? undecided() : gone));
    settleAll(leaving.splice(0), resolve => resolve());
  }

  function orderOf(invoice: string, options: PayOptions): PaymentOrder & { readonly decoded: Invoice } {
    const { identity } = board.vault;
    const decoded = decodeInvoice(invoice, board.curve);
    const amountMsat = decoded.amountMsat || 0;
    const asked = options.maxFeeMsat;
    if (asked !== undefined && !(asked >= 0 && asked <= 1e15 && Math.floor(asked) === asked)) {
      throw lngateError("bad-argument", "maxFeeMsat is a whole number of msat");
    }
    return {
      decoded,
      paymentHash: decoded.paymentHash,
      amountMsat,
      maxFeeMsat: asked === undefined ? Math.max(3000, Math.ceil(amountMsat / 100)) : asked,
      // Whoever has no curve has not checked that it was this node who signed.
      payee: board.curve === null ? null : decoded.payee,
      maxCltvExpiry: highestExpiry(identity, board.now()),
      expiresAt: decoded.timestamp + decoded.expirySeconds,
      invoice: decoded.packed,
    };
  }

  function needConnection(): void {
    if (isConnected()) return;
    const why = online ? "" : offlineBecause;
    throw lngateError(
      "gateway-unreachable",
      `there is no connection to the gateway, and nothing was done${why}`,
    );
  }

  function askToOpen(): void {
    cancelOpen();
    if (readying.length === 0) return;
    cancelOpen = board.after(OPEN_AGAIN_MS, () => askToOpen());
    const { phase } = channel.books;
    // One that is being opened is waited for; the gateway says if it fails.
    if (!isConnected() || channelState === "opening") return;
    if (phase !== "none" && phase !== "opening") return;
    try {
      run({ type: "open" });
    } catch (error) {
      settleAll(readying.splice(0), waiter => waiter.reject(error as Error));
    }
  }

  function askToClose(): void {
    try {
      run({ type: "close" });
    } catch (error) {
      settleAll(closing.splice(0), waiter => waiter.reject(error as Error));
    }
  }

  /** Carries out what the link asks for, and sees to its clock. */
  function linked(effects: readonly LinkEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === "send") {
        if (mqtt !== null) mqtt.publish(effect.bytes);
      } else if (effect.kind === "up") {
        run({ type: "connected", generation: board.vault.journal.generation });
        connected();
        if (closing.length > 0) askToClose();
      } else if (effect.kind === "deliver") {
        take(effect.message);
      }
    }
    cancelTick();
    ended();
    const due = link.nextTick();
    if (due === Number.POSITIVE_INFINITY || mqtt === null) return;
    const wait = Math.max(0, Math.min(due - board.ticks(), LONGEST_TICK_MS));
    cancelTick = board.after(wait, () => linked(link.tick(board.ticks())));
  }

  function take(encoded: Uint8Array): void {
    let message: ToDevice;
    try {
      message = toDevice.decode(encoded);
    } catch (error) {
      // A gateway that talks nonsense gets no answer; it is authentic, so repeating would not help.
      if (codeOf(error) === undefined) throw error;
      return;
    }
    inbox.push(message);
    work();
  }

  /** Takes one message at a time; a receipt in a step resolves its `pay()` before the rest of the step is worked on. */
  function work(): void {
    while (inbox.length > 0 && !resting) {
      const message = inbox.shift()!;
      if (message.type === "step" && message.paid !== undefined) {
        for (const preimage of message.paid) run({ type: "message", message: { type: "paid", preimage } });
        resting = true;
        cancelRest = board.after(0, () => {
          resting = false;
          // Disconnected meanwhile: the gateway says it again.
          if (mqtt === null) return;
          finish(message);
          work();
        });
      } else {
        finish(message);
      }
    }
    ended();
  }

  function finish(message: ToDevice): void {
    if (message.type === "failed" && message.paymentHash !== undefined) {
      for (const entry of paying) if (equal(entry.hash, message.paymentHash)) entry.why = message.sentence;
    }
    run({ type: "message", message });
    if (message.type === "channel") {
      channelState = message.state;
      closeTxid = message.closeTxid || null;
      mostInFlightMsat = message.inFlightMsat || Number.POSITIVE_INFINITY;
      noticed();
    } else if (message.type === "step") {
      const step = message;
      for (const entry of paying.slice()) begin(entry);
      board.after(0, () => prepare(step));
    }
  }

  /** Runs a transition and carries out its effects in their order. */
  function run(input: Input): void {
    const { state, effects } = transition(channel, context, input);
    for (const effect of effects) carryOut(effect, state);
    channel = state;
  }

  function carryOut(effect: Effect, state: ChannelState): void {
    const { vault } = board;
    switch (effect.type) {
      case "persist":
        vault.journal.commit(effect.changes);
        channel = state;
        return;
      case "erase":
        vault.records.erase(effect.kind, effect.below);
        return;
      case "send":
        // What cannot be sent now is sent again when a session begins, or asked for again.
        if (link.isUp()) tell(effect.message);
        return;
      case "decided":
        decided(effect.payment);
        return;
      case "notice":
        if (effect.failure) failed(effect.failure);
        return;
    }
  }

  /** A gateway that acknowledges nothing is told no more: what it wants to know it asks again. */
  function tell(message: ToGateway): void {
    let effects: readonly LinkEffect[];
    try {
      effects = link.send(toGateway.encode(message), board.ticks());
    } catch (error) {
      if (codeOf(error) !== "link-busy") throw error;
      return;
    }
    linked(effects);
  }

  function decided(payment: Payment): void {
    const mine = paying.filter(entry => equal(entry.hash, payment.paymentHash));
    paying = paying.filter(entry => mine.indexOf(entry) < 0);
    for (const { waiter, why } of mine) {
      if (payment.preimage) waiter.resolve(receiptOf(payment));
      else waiter.reject(failureOf(payment, why));
    }
  }

  function failureOf({ failure }: Payment, why: string | undefined): Error {
    if (failure === CHANNEL_ENDED) return channelEnded();
    const error = lngateError(failure || "payment-failed", "the payment failed; nothing was paid");
    // The gateway's own words, on boards, too: it alone knows by how much a limit was too low.
    if (why) error.message = why;
    return error;
  }

  function receiptOf(payment: Payment): Receipt {
    return {
      hash: toHex(payment.paymentHash),
      preimage: toHex(payment.preimage!),
      amountMsat: payment.amountMsat,
      feeMsat: payment.feeMsat || 0,
      serviceFeeMsat: serviceFeeOn(payment.amountMsat),
      ms: payment.ms || 0,
    };
  }

  function serviceFeeOn(amountMsat: number): number {
    return serviceFeeMsat(board.vault.identity.serviceFee, amountMsat);
  }

  function failed(failure: { code: string; sentence: string }): void {
    const error = lngateError(failure.code, failure.sentence);
    // What will pass is waited for.
    if (WILL_PASS.indexOf(failure.code) >= 0) return;
    const { phase } = channel.books;
    // A channel that is signed and not yet usable can be dropped, too: then nobody has asked for its close.
    const isOpening = phase === "none" || phase === "opening" || closing.length === 0;
    const waiters: { reject(error: Error): void }[] = (isOpening ? readying : closing).splice(0);
    settleAll(waiters, waiter => waiter.reject(error));
  }

  function noticed(): void {
    if (channelState === "none" || channelState === "closed") askToOpen();
    if (channelState === "ready") settleAll(readying.splice(0), waiter => waiter.resolve());
    if (channelState === "closed" && closeTxid !== null) {
      const txid = toHex(closeTxid.slice().reverse());
      settleAll(closing.splice(0), waiter => waiter.resolve({ txid }));
    }
  }

  /** In idle time: the points and keys that the next step will need. */
  function prepare(step: Step): void {
    const { books, holder, parameters } = channel;
    if (board.curve === null || parameters === null) return;
    if (step.holder && holder !== null) {
      context.pointOf(books.index, holder.number + 1 + POINTS_AHEAD);
      context.keysFor(parameters.proposal, true, context.pointOf(books.index, holder.number + 1));
    }
    const next = channel.counterparty?.nextPoint;
    try {
      if (step.revoked && next) context.keysFor(parameters.proposal, false, next);
    } catch (error) {
      // A point of the bridge's that is none: the commitment that it is for will be refused.
      if (codeOf(error) === undefined) throw error;
    }
  }

  return {
    id: board.vault.identity.deviceId,
    connect,
    isConnected,
    settled,
    openChannel,
    pay,
    quote,
    isAtRest,
    balance,
    close,
    exit,
    forget,
    disconnect,
  };
}

function undecided(): Error {
  return lngateError("payment-pending", "the payment is not decided yet: pay() again tells how it ended");
}

function settleAll<T>(waiters: readonly T[], settle: (waiter: T) => void): void {
  for (const waiter of waiters) settle(waiter);
}

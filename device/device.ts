/**
 * The device: what an application on the board calls. It carries out the effects of the channel's state machine
 * (channel/machine.ts) in their order, keeps the link alive and joins requests with their outcome.
 *
 *     const device = openDevice(board);
 *     device.connect().then(() => device.pay(invoice, { maxFeeMsat: 1000 })).then(receipt => openTheGate());
 */
import { equal, toHex } from "../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../src/errors.ts";
import { checkPayable, decodeInvoice } from "../src/lightning/bolt11.ts";
import { type Step, type ToDevice, toDevice, toGateway } from "../src/link/messages.ts";
import { serviceFeeMsat } from "../src/link/service-fee.ts";
import { type LinkClient, type LinkEffect, linkClient } from "../src/link/session.ts";
import { linkTopic } from "../src/link/topics.ts";
import type { Board, MqttConnection } from "./board.ts";
import type { Context, Effect } from "./channel/context.ts";
import { type Input, transition } from "./channel/machine.ts";
import { POINTS_AHEAD } from "./channel/normal.ts";
import { highestExpiry, knownPayment, spendableMsat } from "./channel/paying.ts";
import { type ChannelState, type Payment, readState } from "./channel/state.ts";
import { contextOf } from "./context.ts";
import { exitText } from "./exit-text.ts";
import { RECORD_KINDS } from "./vault/records.ts";

/** Longest message on a device's link. */
export const MAX_MESSAGE_BYTES = 4096;

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
  /** Most that routing may cost; default: 1 % of the amount, at least 1 sat. */
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
  /** What can be paid now, fees included, msat. */
  readonly spendableMsat: number;
  /** Service fees of payments that have arrived, less what is settled; kept aside, msat. */
  readonly owedMsat: number;
  readonly phase: string;
  /** What the exits would pay of channels that have ended, sat. That they have is the gateway's word: the chain shows it. */
  readonly formerSat: number;
  readonly recordsLeft: { readonly A: number; readonly B: number; readonly H: number };
}

interface Waiter<T> {
  resolve(value: T): void;
  reject(error: Error): void;
}

const LONGEST_TICK_MS = 60000;
/** How long `pay()` waits for its outcome if not told otherwise. */
const PAY_TIMEOUT_MS = 60000;
/** How often `open` is asked for again while one of these is in the way. */
const OPEN_AGAIN_MS = 20000;
const WILL_PASS = ["deposit-missing", "bridge-unreachable", "bitcoind-unreachable"];

/** Opens the device that lives in the board's vault. */
export function openDevice(board: Board): Device {
  return new Device(board);
}

export class Device {
  private readonly board: Board;
  private readonly context: Context;
  private state: ChannelState;
  private readonly link: LinkClient;
  private mqtt: MqttConnection | null = null;
  /** The broker is reached; whether the gateway is, the link knows. */
  private online = false;
  private offlineBecause = "";
  private cancelTick: () => void = () => {};
  private readonly inbox: ToDevice[] = [];
  /** The application has its turn before the rest of a step is worked on. */
  private resting = false;
  private cancelRest: () => void = () => {};
  /** What the gateway last said of the channel. */
  private channelState = "unknown";
  private closeTxid: Uint8Array | null = null;
  private connecting: Waiter<void>[] = [];
  private paying: { hash: Uint8Array; waiter: Waiter<Receipt> }[] = [];
  private readying: Waiter<void>[] = [];
  private closing: Waiter<{ txid: string }>[] = [];
  private cancelOpen: () => void = () => {};

  constructor(board: Board) {
    this.board = board;
    this.state = readState(board.vault.journal);
    // Clears the bits of records that were used when the power failed before they were cleared.
    const { cursors } = this.state.books;
    for (const kind of RECORD_KINDS) board.vault.records.erase(kind, cursors[kind]);
    this.context = contextOf(board);
    this.link = linkClient({
      crypto: { aes256Ctr: board.aes256Ctr, random: length => board.vault.drbg.generate(length) },
      linkKey: board.vault.identity.linkKey,
      maxMessageBytes: MAX_MESSAGE_BYTES,
    });
  }

  get id(): string {
    return this.board.vault.identity.deviceId;
  }

  /** Connects to the gateway and stays connected. Resolves with the first session. */
  connect(): Promise<void> {
    if (this.mqtt === null) {
      const { identity } = this.board.vault;
      this.mqtt = this.board.mqtt({
        url: identity.brokerUrl,
        username: identity.deviceId,
        password: identity.brokerPassword,
        publishTopic: linkTopic(identity.deviceId, "up"),
        subscribeTopic: linkTopic(identity.deviceId, "down"),
        onOpen: () => {
          this.online = true;
          this.linked(this.link.connected(this.board.ticks()));
        },
        onMessage: payload => this.linked(this.link.receive(payload, this.board.ticks())),
        onClose: reason => {
          this.online = false;
          this.offlineBecause = ` (${reason})`;
        },
      });
    }
    if (this.isConnected()) return Promise.resolve();
    return new Promise((resolve, reject) => this.connecting.push({ resolve, reject }));
  }

  isConnected(): boolean {
    return this.online && this.link.isUp();
  }

  /**
   * Asks for a channel funded from the deposit, and waits until it can be used. Asks again until the deposit is
   * there. Errors: `gateway-unreachable`, `records-used-up`, `exits-kept`.
   */
  openChannel(): Promise<void> {
    const { phase } = this.state.books;
    if (phase === "open" && this.channelState === "ready") return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.readying.push({ resolve, reject });
      this.askToOpen();
    });
  }

  /**
   * Pays a BOLT #11 invoice. Idempotent by payment hash: paid before, it resolves with the same receipt; under
   * way, it joins. Rejects with a stable code: `invoice-…` (malformed, wrong-network, amountless, expired, …),
   * `policy-…` (the owner's limits), `balance-too-low`, `records-used-up`, `gateway-unreachable`,
   * `channel-not-open`, `payment-…` and `no-route` (the gateway's word), `payment-pending` (not decided yet).
   */
  pay(invoice: string, options: PayOptions = {}): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const order = this.orderOf(invoice, options);
      const known = knownPayment(this.state, order.paymentHash);
      if (known?.preimage) return resolve(this.receiptOf(known));
      if (!known || known.settled) {
        checkPayable(order.decoded, this.board.vault.identity.network, Math.floor(this.board.now() / 1000));
        this.needConnection();
      }
      const cancel = this.board.after(options.timeoutMs || PAY_TIMEOUT_MS, () => {
        this.paying = this.paying.filter(entry => entry.waiter !== waiter);
        reject(undecided());
      });
      const waiter: Waiter<Receipt> = {
        resolve: receipt => {
          cancel();
          resolve(receipt);
        },
        reject: error => {
          cancel();
          reject(error);
        },
      };
      this.paying.push({ hash: order.paymentHash, waiter });
      if (known && !known.settled) return;
      try {
        this.run({ type: "pay", order });
      } catch (error) {
        this.paying = this.paying.filter(entry => entry.waiter !== waiter);
        waiter.reject(error as Error);
      }
    });
  }

  /** What `pay()` with the same arguments would cost. Throws `invoice-…` for what is no invoice. */
  quote(invoice: string, options: PayOptions = {}): Quote {
    const { amountMsat, maxFeeMsat } = this.orderOf(invoice, options);
    return { amountMsat, maxFeeMsat, serviceFeeMsat: this.serviceFeeMsat(amountMsat) };
  }

  /** No payment is in flight, and both commitments say so. */
  isAtRest(): boolean {
    const { books, payments, holder, counterparty } = this.state;
    const views = books.phase === "none" ? [] : [holder?.view, counterparty?.view];
    return (
      payments.every(p => !p || p.settled === true) && views.every(view => !view || view.htlcs.length === 0)
    );
  }

  balance(): Balance {
    const { books, former, parameters, holder } = this.state;
    let formerSat = books.phase === "none" && parameters?.funding && holder ? holder.view.ourSat : 0;
    for (const each of former || []) formerSat += each.holder.view.ourSat;
    const left = (kind: "A" | "B" | "H") => this.context.records.left(kind, books.cursors[kind]);
    return {
      balanceSat: books.phase === "none" ? 0 : books.baseSat,
      spendableMsat: spendableMsat(this.state, this.board.vault.identity),
      owedMsat: books.owedMsat,
      phase: books.phase,
      formerSat,
      recordsLeft: { A: left("A"), B: left("B"), H: left("H") },
    };
  }

  /** Asks for a mutual close to the owner's address. Resolves with the closing transaction's id when it is confirmed. */
  close(): Promise<{ txid: string }> {
    return new Promise((resolve, reject) => {
      this.needConnection();
      this.closing.push({ resolve, reject });
      this.askToClose();
    });
  }

  /**
   * The owner leaves without the gateway: the channel ends on this device for good, and its last state is given as text
   * (exit-text.ts) for `lngate device exit --from`. Again and again it gives the same. Throws `policy-close-state` where
   * there is no channel, `vault-rolled-back`.
   */
  exit(): string {
    const { journal, identity } = this.board.vault;
    this.run({ type: "exit", index: this.state.books.index });
    return exitText(journal, identity);
  }

  /**
   * Forgets the exits of channels up to this number, which somebody has seen closed on the chain. Only the owner can know:
   * an exit that is forgotten while the gateway has lied leaves the money to its mercy.
   */
  forget(channel: number): void {
    this.run({ type: "forget", index: channel });
  }

  /**
   * Ends the connection. What is under way goes on at the next `connect()`; who waits for it here is told that it is
   * not decided (`payment-pending`), or `gateway-unreachable`.
   */
  disconnect(): void {
    this.cancelTick();
    this.cancelOpen();
    this.cancelRest();
    this.resting = false;
    if (this.mqtt !== null) this.mqtt.close();
    this.mqtt = null;
    this.online = false;
    this.inbox.length = 0;
    const gone = lngateError("gateway-unreachable", "the device was disconnected");
    settleAll(this.connecting.splice(0), waiter => waiter.reject(gone));
    settleAll(this.readying.splice(0), waiter => waiter.reject(gone));
    settleAll(this.closing.splice(0), waiter => waiter.reject(gone));
    settleAll(this.paying.splice(0), ({ waiter }) => waiter.reject(undecided()));
  }

  private orderOf(invoice: string, options: PayOptions) {
    const { identity } = this.board.vault;
    const decoded = decodeInvoice(invoice, this.board.curve);
    const amountMsat = decoded.amountMsat || 0;
    const asked = options.maxFeeMsat;
    if (asked !== undefined && !(asked >= 0 && asked <= 1e15 && Math.floor(asked) === asked)) {
      throw lngateError("bad-argument", "maxFeeMsat is a whole number of msat");
    }
    return {
      decoded,
      paymentHash: decoded.paymentHash,
      amountMsat,
      maxFeeMsat: asked === undefined ? Math.max(1000, Math.ceil(amountMsat / 100)) : asked,
      payee: decoded.payee,
      maxCltvExpiry: highestExpiry(identity, this.board.now()),
      expiresAt: decoded.timestamp + decoded.expirySeconds,
      invoice: decoded.packed,
    };
  }

  private needConnection(): void {
    if (this.isConnected()) return;
    const why = this.online ? "" : this.offlineBecause;
    throw lngateError(
      "gateway-unreachable",
      `there is no connection to the gateway, and nothing was done${why}`,
    );
  }

  private askToOpen(): void {
    this.cancelOpen();
    if (this.readying.length === 0) return;
    this.cancelOpen = this.board.after(OPEN_AGAIN_MS, () => this.askToOpen());
    const { phase } = this.state.books;
    // One that is being opened is waited for; the gateway says if it fails.
    if (!this.isConnected() || this.channelState === "opening") return;
    if (phase !== "none" && phase !== "opening") return;
    try {
      this.run({ type: "open" });
    } catch (error) {
      settleAll(this.readying.splice(0), waiter => waiter.reject(error as Error));
    }
  }

  private askToClose(): void {
    try {
      this.run({ type: "close" });
    } catch (error) {
      settleAll(this.closing.splice(0), waiter => waiter.reject(error as Error));
    }
  }

  /** Carries out what the link asks for, and sees to its clock. */
  private linked(effects: readonly LinkEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === "send") {
        if (this.mqtt !== null) this.mqtt.publish(effect.bytes);
      } else if (effect.kind === "up") {
        this.run({ type: "connected", generation: this.board.vault.journal.generation });
        settleAll(this.connecting.splice(0), waiter => waiter.resolve());
        if (this.closing.length > 0) this.askToClose();
      } else if (effect.kind === "deliver") {
        this.take(effect.message);
      }
    }
    this.cancelTick();
    const due = this.link.nextTick();
    if (due === Number.POSITIVE_INFINITY || this.mqtt === null) return;
    const wait = Math.max(0, Math.min(due - this.board.ticks(), LONGEST_TICK_MS));
    this.cancelTick = this.board.after(wait, () => this.linked(this.link.tick(this.board.ticks())));
  }

  private take(encoded: Uint8Array): void {
    let message: ToDevice;
    try {
      message = toDevice.decode(encoded);
    } catch (error) {
      // A gateway that talks nonsense gets no answer; it is authentic, so repeating would not help.
      if (codeOf(error) === undefined) throw error;
      return;
    }
    this.inbox.push(message);
    this.work();
  }

  /** Takes one message at a time; a receipt in a step resolves its `pay()` before the rest of the step is worked on. */
  private work(): void {
    while (this.inbox.length > 0 && !this.resting) {
      const message = this.inbox.shift()!;
      if (message.type === "step" && message.paid !== undefined) {
        for (const receipt of message.paid)
          this.run({ type: "message", message: { type: "paid", ...receipt } });
        this.resting = true;
        this.cancelRest = this.board.after(0, () => {
          this.resting = false;
          // Disconnected meanwhile: the gateway says it again.
          if (this.mqtt === null) return;
          this.finish(message);
          this.work();
        });
      } else {
        this.finish(message);
      }
    }
  }

  private finish(message: ToDevice): void {
    this.run({ type: "message", message });
    if (message.type === "channel") {
      this.channelState = message.state;
      this.closeTxid = message.closeTxid || null;
      this.noticed();
    } else if (message.type === "step") {
      const step = message;
      this.board.after(0, () => this.prepare(step));
    }
  }

  /** Runs a transition and carries out its effects in their order. */
  private run(input: Input): void {
    const { state, effects } = transition(this.state, this.context, input);
    for (const effect of effects) this.carryOut(effect, state);
    this.state = state;
  }

  private carryOut(effect: Effect, state: ChannelState): void {
    const { vault } = this.board;
    switch (effect.type) {
      case "persist":
        vault.journal.commit(effect.changes);
        this.state = state;
        return;
      case "erase":
        vault.records.erase(effect.kind, effect.below);
        return;
      case "send":
        // What cannot be sent now is sent again when a session begins.
        if (this.link.isUp())
          this.linked(this.link.send(toGateway.encode(effect.message), this.board.ticks()));
        return;
      case "decided":
        this.decided(effect.payment);
        return;
      case "notice":
        if (effect.failure) this.failed(effect.failure);
        return;
    }
  }

  private decided(payment: Payment): void {
    const mine = this.paying.filter(entry => equal(entry.hash, payment.paymentHash));
    this.paying = this.paying.filter(entry => mine.indexOf(entry) < 0);
    for (const { waiter } of mine) {
      if (payment.preimage) waiter.resolve(this.receiptOf(payment));
      else
        waiter.reject(
          lngateError(payment.failure || "payment-failed", "the payment failed; nothing was paid"),
        );
    }
  }

  private receiptOf(payment: Payment): Receipt {
    return {
      hash: toHex(payment.paymentHash),
      preimage: toHex(payment.preimage!),
      amountMsat: payment.amountMsat,
      feeMsat: payment.feeMsat || 0,
      serviceFeeMsat: this.serviceFeeMsat(payment.amountMsat),
      ms: payment.ms || 0,
    };
  }

  private serviceFeeMsat(amountMsat: number): number {
    return serviceFeeMsat(this.board.vault.identity.serviceFee, amountMsat);
  }

  private failed(failure: { code: string; sentence: string }): void {
    const error = lngateError(failure.code, failure.sentence);
    // What will pass is waited for.
    if (WILL_PASS.indexOf(failure.code) >= 0) return;
    const { phase } = this.state.books;
    const waiters: { reject(error: Error): void }[] =
      phase === "none" || phase === "opening" ? this.readying.splice(0) : this.closing.splice(0);
    settleAll(waiters, waiter => waiter.reject(error));
  }

  private noticed(): void {
    if (this.channelState === "none" || this.channelState === "closed") this.askToOpen();
    if (this.channelState === "ready") settleAll(this.readying.splice(0), waiter => waiter.resolve());
    if (this.channelState === "closed" && this.closeTxid !== null) {
      const txid = toHex(this.closeTxid.slice().reverse());
      settleAll(this.closing.splice(0), waiter => waiter.resolve({ txid }));
    }
  }

  /** In idle time: the points and keys that the next step will need. */
  private prepare(step: Step): void {
    const { books, holder, parameters } = this.state;
    if (this.board.curve === null || parameters === null) return;
    if (step.holder && holder !== null) {
      this.context.pointOf(books.index, holder.number + 1 + POINTS_AHEAD);
      this.context.keysFor(parameters.proposal, true, this.context.pointOf(books.index, holder.number + 1));
    }
    const next = this.state.counterparty?.nextPoint;
    if (step.revoked && next) this.context.keysFor(parameters.proposal, false, next);
  }
}

function undecided(): Error {
  return lngateError("payment-pending", "the payment is not decided yet: pay() again tells how it ended");
}

function settleAll<T>(waiters: readonly T[], settle: (waiter: T) => void): void {
  for (const waiter of waiters) settle(waiter);
}

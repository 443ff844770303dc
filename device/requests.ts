/**
 * What the application has asked for and the gateway has to answer: payments, an open channel, its close. Each waits here
 * until its outcome is known, and is asked for again as often as it takes.
 */

import { shownHash } from "../src/bitcoin/transaction.ts";
import { equal, toHex } from "../src/bytes/bytes.ts";
import { serviceFeeMsat } from "../src/channel/service-fee.ts";
import { MAX_HTLCS } from "../src/channel/terms.ts";
import { codeOf, lngateError } from "../src/errors.ts";
import { checkPayable, type Invoice, type ReadInvoice, readInvoice } from "../src/lightning/bolt11.ts";
import type { ToDevice } from "../src/messages/device.ts";
import type { Device, PayOptions, Quote, Receipt } from "./api.ts";
import type { Board } from "./board.ts";
import type { Input } from "./channel/machine.ts";
import type { PaymentOrder } from "./channel/payments/paying.ts";
import { highestExpiry } from "./channel/payments/policy.ts";
import { CHANNEL_ENDED, channelEnded, knownPayment } from "./channel/payments/remembered.ts";
import type { ChannelState, Payment } from "./channel/state.ts";

/** What requests are served with. */
export interface Runtime {
  readonly board: Board;
  /** The channel as it is now. */
  channel(): ChannelState;
  isConnected(): boolean;
  /** Throws `gateway-unreachable` unless there is a connection. */
  ensureConnection(): void;
  /** Runs a transition of the channel and carries out its effects. Throws what the transition does. */
  run(input: Input): void;
}

/** The application's requests, and the news that decide them. */
export interface Requests extends Pick<Device, "pay" | "quote" | "openChannel" | "close"> {
  /** Somebody waits for a receipt. */
  isWaiting(): boolean;
  /** A session with the gateway has begun. */
  connected(): void;
  /** A step is done: payments for which there was no room may have it now. */
  stepped(): void;
  /** The gateway's word on the channel. */
  noticed(message: Extract<ToDevice, { type: "channel" }>): void;
  /** The gateway's sentence on a payment that has failed. */
  explained(paymentHash: Uint8Array, sentence: string): void;
  /** A payment is paid or has failed. */
  decided(payment: Payment): void;
  /** The gateway can't open or close the channel. */
  failed(failure: { readonly code: string; readonly sentence: string }): void;
  /** The device is disconnected: nothing is waited for any more. */
  abandon(gone: Error): void;
}

/** Somebody who waits for an outcome. */
export interface Waiter<T> {
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

/** How long `pay()` waits for its outcome if not told otherwise. */
const PAY_TIMEOUT_MS = 60000;
/** How often `open` is asked for again while one of these is in the way. */
const OPEN_AGAIN_MS = 20000;
const WILL_PASS = ["deposit-missing", "bridge-unreachable", "bitcoind-unreachable", "channel-refused"];

/** Opens the desk where requests wait. */
export function openRequests({ board, channel, isConnected, ensureConnection, run }: Runtime): Requests {
  /** What the gateway last said of the channel. */
  let channelState = "unknown";
  let paying: Paying[] = [];
  const readying: Waiter<void>[] = [];
  const closing: Waiter<{ txid: string }>[] = [];
  let cancelOpen: () => void = () => {};
  /** The invoice whose signature was checked last. */
  let last: { readonly text: string; readonly invoice: Invoice } | null = null;

  function openChannel(): Promise<void> {
    const { phase } = channel().books;
    if (phase === "open" && channelState === "ready") return Promise.resolve();
    return new Promise((resolve, reject) => {
      readying.push({ resolve, reject });
      askToOpen();
    });
  }

  function pay(invoice: string, options: PayOptions = {}): Promise<Receipt> {
    return new Promise((resolve, reject) => {
      const read = readInvoice(invoice);
      const { paymentHash } = read.unchecked;
      const known = knownPayment(channel(), paymentHash);
      if (known?.preimage) return resolve(receiptOf(known));
      let order: PaymentOrder | null = null;
      if (!known || known.settled) {
        checkPayable(read.unchecked, board.vault.identity.network, Math.floor(board.now() / 1000));
        ensureConnection();
        order = orderOf(checked(invoice, read), options);
        last = null;
      }
      const cancel = board.after(options.timeoutMs || PAY_TIMEOUT_MS, () => {
        paying = paying.filter(each => each !== entry);
        reject(entry.full || undecided());
      });
      const entry: Paying = {
        hash: paymentHash,
        order,
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
    const known = knownPayment(channel(), entry.hash);
    // Begun meanwhile, by another call.
    if (known && !known.settled) return;
    try {
      run({ type: "check", most: MAX_HTLCS });
      run({ type: "pay", order });
    } catch (error) {
      if (
        codeOf(error) === "too-many-payments" &&
        channel().payments.some(each => each?.preimage && !each.settled)
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
    const { amountMsat, maxFeeMsat } = orderOf(checked(invoice, readInvoice(invoice)), options);
    return { amountMsat, maxFeeMsat, serviceFeeMsat: serviceFeeOn(amountMsat) };
  }

  function close(): Promise<{ txid: string }> {
    return new Promise((resolve, reject) => {
      ensureConnection();
      closing.push({ resolve, reject });
      askToClose();
    });
  }

  function isWaiting(): boolean {
    return paying.length > 0;
  }

  function connected(): void {
    if (closing.length > 0) askToClose();
  }

  function stepped(): void {
    for (const entry of paying.slice()) begin(entry);
  }

  function noticed({ state, closeTxid }: Extract<ToDevice, { type: "channel" }>): void {
    channelState = state;
    if (state === "none" || state === "closed") askToOpen();
    if (state === "ready") resolveAll(readying, undefined);
    if (state === "closed" && closeTxid) resolveAll(closing, { txid: shownHash(closeTxid) });
  }

  function explained(paymentHash: Uint8Array, sentence: string): void {
    for (const entry of paying) if (equal(entry.hash, paymentHash)) entry.why = sentence;
  }

  function decided(payment: Payment): void {
    const mine = paying.filter(entry => equal(entry.hash, payment.paymentHash));
    paying = paying.filter(entry => mine.indexOf(entry) < 0);
    for (const { waiter, why } of mine) {
      if (payment.preimage) waiter.resolve(receiptOf(payment));
      else waiter.reject(failureOf(payment, why));
    }
  }

  function failed(failure: { code: string; sentence: string }): void {
    const error = lngateError(failure.code, failure.sentence);
    // What will pass is waited for.
    if (WILL_PASS.indexOf(failure.code) >= 0) return;
    const { phase } = channel().books;
    // A channel that is signed and not yet usable can be dropped, too: then nobody has asked for its close.
    const isOpening = phase === "none" || phase === "opening" || closing.length === 0;
    rejectAll(isOpening ? readying : closing, error);
  }

  function abandon(gone: Error): void {
    cancelOpen();
    rejectAll(readying, gone);
    rejectAll(closing, gone);
    for (const { waiter, order } of paying.splice(0)) waiter.reject(order === null ? undecided() : gone);
  }

  /** The invoice with its signature checked, where there is a curve; asked for a quote and then to be paid, it is checked once. */
  function checked(text: string, { unchecked, checkedBy }: ReadInvoice): Invoice {
    if (last?.text !== text) {
      last = { text, invoice: board.curve === null ? unchecked : checkedBy(board.curve) };
    }
    return last.invoice;
  }

  function orderOf(invoice: Invoice, options: PayOptions): PaymentOrder {
    const { identity } = board.vault;
    const amountMsat = invoice.amountMsat || 0;
    const asked = options.maxFeeMsat;
    if (asked !== undefined && !(asked >= 0 && asked <= 1e15 && Math.floor(asked) === asked)) {
      throw lngateError("bad-argument", "maxFeeMsat is a whole number of msat");
    }
    return {
      paymentHash: invoice.paymentHash,
      amountMsat,
      maxFeeMsat: asked === undefined ? Math.max(3000, Math.ceil(amountMsat / 100)) : asked,
      // Whoever has no curve has not checked that it was this node who signed.
      payee: board.curve === null ? null : invoice.payee,
      maxCltvExpiry: highestExpiry(identity, board.now()),
      expiresAt: invoice.timestamp + invoice.expirySeconds,
      invoice: invoice.packed,
    };
  }

  function askToOpen(): void {
    cancelOpen();
    if (readying.length === 0) return;
    cancelOpen = board.after(OPEN_AGAIN_MS, () => askToOpen());
    const { phase } = channel().books;
    // One that is being opened is waited for; the gateway says if it fails.
    if (!isConnected() || channelState === "opening") return;
    if (phase !== "none" && phase !== "opening") return;
    try {
      run({ type: "open" });
    } catch (error) {
      rejectAll(readying, error as Error);
    }
  }

  function askToClose(): void {
    try {
      run({ type: "close" });
    } catch (error) {
      rejectAll(closing, error as Error);
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

  return {
    pay,
    quote,
    openChannel,
    close,
    isWaiting,
    connected,
    stepped,
    noticed,
    explained,
    decided,
    failed,
    abandon,
  };
}

function undecided(): Error {
  return lngateError("payment-pending", "the payment is not decided yet: pay() again tells how it ended");
}

/** Tells all that wait here that it is done. */
export function resolveAll<T>(waiters: Waiter<T>[], value: T): void {
  for (const waiter of waiters.splice(0)) waiter.resolve(value);
}

/** Tells all that wait here that it has failed. */
export function rejectAll(waiters: { reject(error: Error): void }[], error: Error): void {
  for (const waiter of waiters.splice(0)) waiter.reject(error);
}

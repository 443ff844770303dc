/**
 * One device's books of the service fee on the gateway: what its payments have earned, what of it is settled, and the
 * settlement that it was asked for. They are written in the transaction that stores the payment they come from, so that
 * each counts once, whatever fails.
 *
 * A device is held up only if it owes as much as it may, was asked to settle it, and did not agree, or agreed to what its own
 * bounds did not let be paid. A gateway that cannot be paid (its own node has no channel that could receive so much), or whose
 * settlements fail on their way, goes on serving: what is owed meanwhile stays owed.
 */
import type { Database } from "lmdb";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import {
  bool,
  bytes,
  bytesUpTo,
  decodeValue,
  encodeValue,
  optional,
  struct,
  UINT32,
  UINT53,
  uint,
  type ValueOf,
} from "../../src/bytes/schema.ts";
import { type ServiceFee, serviceFeeMsat } from "../../src/channel/service-fee.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { lngateError } from "../../src/errors.ts";
import { decodeInvoice, packInvoice } from "../../src/lightning/bolt11.ts";
import type { ToDevice } from "../../src/messages/device.ts";
import type { Log } from "../log.ts";

/** Where a settlement goes. */
export interface FeeReceiver {
  /** Whether a payment of so much could arrive now. */
  canReceive(amountMsat: number): boolean;
  /** What the last hop, from the bridge to us, takes for so much, msat. */
  routingMsat(amountMsat: number): number;
  invoice(amountMsat: number, description: string, expirySeconds: number): string;
}

const pendingCodec = struct({
  paymentHash: [1, bytes(32)],
  /** Packed. */
  invoice: [2, bytesUpTo(1400)],
  amountMsat: [3, uint(UINT53)],
  maxFeeMsat: [4, uint(UINT53)],
  /** Unix seconds. */
  expiresAt: [5, uint(UINT53)],
  /** The device has agreed: the payment is under way. */
  agreed: optional([6, bool()]),
});

const booksCodec = struct({
  /** Fees of all payments that have arrived. */
  earnedMsat: [1, uint(UINT53)],
  /** What was paid of them: what our own node got, and what the way there took. */
  settledMsat: [2, uint(UINT53)],
  routingMsat: [3, uint(UINT53)],
  settlements: [4, uint(UINT32)],
  /** The settlement that the device was asked for, until it is decided. */
  pending: optional([5, pendingCodec]),
});
export type FeeLedger = ValueOf<typeof booksCodec>;

const EMPTY: FeeLedger = { earnedMsat: 0, settledMsat: 0, routingMsat: 0, settlements: 0 };
const INVOICE_SECONDS = 3600;
/** What is left of an invoice must be enough for the device to answer and the payment to arrive. */
const LEAST_SECONDS = 300;

export interface ServiceFeesOptions {
  readonly deviceId: string;
  /** What was agreed on with this device; absent: nothing is taken. */
  readonly terms?: ServiceFee;
  readonly feeReceiver?: FeeReceiver;
  /** The table of the payments: their rows and these books change together. */
  readonly table: Database<Uint8Array, string>;
  readonly log: Log;
  /** False if the device is not there. */
  send(message: ToDevice): boolean;
  /** Does this a moment later, and once if it is asked for several times. */
  soon(work: () => void): void;
  /** Unix milliseconds. */
  now(): number;
}

export class ServiceFees {
  private readonly options: ServiceFeesOptions;
  /** The log has said that nothing can be received: it says so once. */
  private hasComplained = false;

  constructor(options: ServiceFeesOptions) {
    this.options = options;
  }

  get books(): FeeLedger {
    return readFeeBooks(this.options.table, this.options.deviceId);
  }

  get owedMsat(): number {
    const { earnedMsat, settledMsat } = this.books;
    return earnedMsat - settledMsat;
  }

  /** The settlement of this payment hash that the device was asked for. */
  pending(paymentHash: Uint8Array): FeeLedger["pending"] {
    const { pending } = this.books;
    return pending && equal(pending.paymentHash, paymentHash) ? pending : undefined;
  }

  /** The fee for a payment of this amount, msat. */
  feeMsat(amountMsat: number): number {
    return serviceFeeMsat(this.options.terms, amountMsat);
  }

  /**
   * Throws `service-fee-due` if this device has to settle before it pays anything else. That it has agreed is not enough if
   * nothing is on its way: the power failed in between, and it did not say it again.
   */
  ensureSettled(isUnderWay: (paymentHash: Uint8Array) => boolean): void {
    const { terms } = this.options;
    if (!terms || this.owedMsat < terms.creditMsat) return;
    const { pending } = this.books;
    if (pending?.agreed && isUnderWay(pending.paymentHash)) return;
    if (pending) throw lngateError("service-fee-due", "the service fee has to be settled first");
    // It was never asked, however that came: it is now, and this payment is the last before it settles.
    if (this.prepare()) this.askSoon();
  }

  // ── in the transaction that stores the payment ────────────────────────────────────────────────────────

  earned(amountMsat: number): void {
    const { books } = this;
    const feeMsat = this.feeMsat(amountMsat);
    if (feeMsat > 0) this.put({ ...books, earnedMsat: books.earnedMsat + feeMsat });
  }

  agreed(): void {
    const { books } = this;
    if (books.pending) this.put({ ...books, pending: { ...books.pending, agreed: true } });
  }

  settled(amountMsat: number, routingMsat: number): void {
    const { pending: _, ...books } = this.books;
    this.put({
      ...books,
      settledMsat: books.settledMsat + amountMsat + routingMsat,
      routingMsat: books.routingMsat + routingMsat,
      settlements: books.settlements + 1,
    });
  }

  /**
   * The settlement has failed for good: the next one has another invoice. It is there at once if what the device itself
   * allows, or has left, was in the way: to agree to what can't be paid is not to settle.
   */
  failed(isDevices: boolean): void {
    const { pending: _, ...books } = this.books;
    this.put(books);
    if (isDevices) this.prepare();
  }

  // ── asking ────────────────────────────────────────────────────────────────────────────────────────────

  /** Asks a moment later: receipts that are on their way go first, and the next payment is not held up by this one. */
  askSoon(): void {
    if (this.options.terms) this.options.soon(() => this.ask());
  }

  /** Asks the device to settle what it owes, if that is worth a payment and can arrive: for the first time, or again. */
  private ask(): void {
    const { terms, send } = this.options;
    if (!terms || this.owedMsat < terms.settleFromMsat) return;
    const { pending } = this.books;
    if (pending?.agreed) return;
    const asked = pending && pending.expiresAt - this.nowSeconds() > LEAST_SECONDS ? pending : this.prepare();
    if (!asked) return;
    const { paymentHash, amountMsat, maxFeeMsat } = asked;
    send({ type: "settle", paymentHash, amountMsat, maxFeeMsat });
  }

  /** The device does not agree. It is asked again. */
  refused(code: string, sentence: string): void {
    this.options.log.info(`the device does not settle its service fee: ${sentence}`, { code });
  }

  /** An invoice for all that is owed, stored; undefined if nothing could arrive. */
  private prepare(): FeeLedger["pending"] {
    const { feeReceiver, log } = this.options;
    const { owedMsat } = this;
    const maxFeeMsat = feeReceiver?.routingMsat(owedMsat) ?? 0;
    const amountMsat = owedMsat - maxFeeMsat;
    if (!feeReceiver || amountMsat <= 0 || !feeReceiver.canReceive(amountMsat)) {
      const sentence = "the service fee can't be settled: the own node has no channel that could receive it";
      if (!this.hasComplained) log.warn(sentence, { owedMsat });
      this.hasComplained = true;
      return undefined;
    }
    this.hasComplained = false;
    const text = feeReceiver.invoice(amountMsat, "LNGate service fee", INVOICE_SECONDS);
    const pending = {
      paymentHash: decodeInvoice(text, nobleCurve).paymentHash,
      invoice: packInvoice(text),
      amountMsat,
      maxFeeMsat,
      expiresAt: this.nowSeconds() + INVOICE_SECONDS,
    };
    this.put({ ...this.books, pending });
    log.info("asking for the service fee", { amountMsat, maxFeeMsat, hash: toHex(pending.paymentHash) });
    return pending;
  }

  private put(books: FeeLedger): void {
    this.options.table.putSync(keyOf(this.options.deviceId), encodeValue(booksCodec, books));
  }

  private nowSeconds(): number {
    return Math.floor(this.options.now() / 1000);
  }
}

/** The books of a device; also from beside a gateway that runs. */
export function readFeeBooks(table: Database<Uint8Array, string>, deviceId: string): FeeLedger {
  const stored = table.get(keyOf(deviceId));
  return stored ? decodeValue(booksCodec, new Uint8Array(stored)) : EMPTY;
}

/** No device's name: payments are under those. */
function keyOf(deviceId: string): string {
  return `service-fees/${deviceId}`;
}

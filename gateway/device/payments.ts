/**
 * Payments of one device, by payment hash: asked for once, made once. The row is durable before LDK is asked to
 * pay, and a device that asks again is told what became of it.
 */

import type { Database } from "lmdb";
import type { Network } from "../../src/bitcoin/network.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { checkPayable, decodeInvoice, type Invoice, unpackInvoice } from "../../src/lightning/bolt11.ts";
import type { SpendingLimits } from "../../src/messages/owner.ts";
import type { ServiceFees } from "../fees/service-fees.ts";
import type { Log, LogFields } from "../log.ts";
import { type PaymentRow, PaymentRows, paymentIdOf } from "./payment-rows.ts";
import { Spending } from "./spending.ts";
import { Waiting } from "./waiting.ts";

/** What the device allows for one payment. */
export interface PaymentLimits {
  readonly maxFeeMsat: number;
  /** The highest block height at which its HTLC may expire, if the device has said so. */
  readonly maxCltvExpiry?: number | undefined;
}

/** What `Payments` depends on. */
export interface PaymentsOptions {
  readonly deviceId: string;
  readonly network: Network;
  readonly table: Database<Uint8Array, string>;
  readonly fees: ServiceFees;
  /** What the owner allows the device to spend; undefined if the owner has never said. */
  limits(): SpendingLimits | undefined;
  readonly log: Log;
  /** Tells the device that a payment has arrived. */
  paid(preimage: Uint8Array): void;
  /** Tells the device that a payment has failed. */
  failed(paymentHash: Uint8Array, code: string, sentence: string): void;
  /** Asks LDK to pay; asked twice for one id, it pays once. Throws a stable code if it does not even try. */
  start(invoice: Invoice, text: string, paymentId: Uint8Array, limits: PaymentLimits): void;
  /** Whether LDK has this payment, and its events will tell how it ends. */
  underWay(paymentId: Uint8Array): boolean;
  /** Unix milliseconds. */
  now(): number;
}

/** How often the rows are looked through, at most. */
const PRUNE_MS = 24 * 3600 * 1000;
/** …but after this many payments at the latest. */
const PRUNE_PAYMENTS = 200;

/** See the head of this file. */
export class Payments {
  private readonly options: PaymentsOptions;
  private readonly rows: PaymentRows;
  private readonly spending: Spending;
  private readonly waiting = new Waiting();
  /** By performance.now(). */
  private prunedAt: number | undefined;
  private askedSince = 0;

  constructor(options: PaymentsOptions) {
    this.options = options;
    this.rows = new PaymentRows(options.table, options.deviceId);
    this.spending = new Spending(options.table, options.deviceId);
  }

  /** The device asks for a payment, for the first time or again. Throws `invoice-…` for what is not an invoice. */
  asked(packed: Uint8Array, limits: PaymentLimits, attempt: number): void {
    let order: Order;
    try {
      order = orderOf(packed);
    } catch (error) {
      this.options.log.info("a payment was refused", { code: codeOf(error) });
      throw error;
    }
    this.make(order, limits, attempt);
  }

  /** The device agrees to settle its service fee, or says again that it has. */
  settling(paymentHash: Uint8Array, maxCltvExpiry?: number): void {
    const { invoice: packed, maxFeeMsat } =
      this.rows.get(paymentHash) ?? this.options.fees.pending(paymentHash) ?? {};
    if (!packed || maxFeeMsat === undefined) {
      // It was withdrawn meanwhile.
      this.options.failed(paymentHash, "payment-failed", SENTENCES["payment-failed"]!);
      return;
    }
    this.make(orderOf(packed), { maxFeeMsat, maxCltvExpiry }, 0, true);
  }

  private make(asked: Order, limits: PaymentLimits, attempt: number, isSettlement = false): void {
    const { network, now, fees } = this.options;
    const { paymentHash } = asked.invoice;
    const row = this.rows.get(paymentHash);
    // Whose hash it is the device has chosen: an order of its own is never taken for the settlement, nor hides it.
    if (!isSettlement && (row?.settlement || fees.pending(paymentHash)))
      throw lngateError(
        "payment-rejected",
        "a payment with the hash of the service fee is none to be ordered",
      );
    if (row && (row.preimage || row.attempt > attempt || (row.attempt === attempt && row.failure))) {
      this.report(paymentHash, row);
      return;
    }
    // Of whichever attempt: another may follow when this has failed.
    if (row && this.isUnderWay(paymentHash, row)) return;
    const isAgain = row?.attempt === attempt;
    if (!isAgain && !isSettlement) {
      // What can never be paid leaves no row: asked again, it is refused again.
      try {
        checkPayable(asked.invoice, network, Math.floor(now() / 1000));
      } catch (error) {
        const code = codeOf(error);
        if (code === undefined) throw error;
        const { amountMsat } = asked.invoice;
        const hash = toHex(paymentHash);
        this.options.log.info("payment failed", { amountMsat: amountMsat ?? undefined, code, ms: 0, hash });
        this.options.failed(paymentHash, code, (error as Error).message);
        return;
      }
    }
    // What was counted is paid, and not what it is said to be when it is asked for again.
    const order = isAgain ? orderOf(row.invoice) : asked;
    const { maxFeeMsat } = isAgain ? row : limits;
    if (this.begin(order, maxFeeMsat, attempt, isSettlement))
      this.start(order, paymentIdOf(paymentHash, attempt), { ...limits, maxFeeMsat });
  }

  /**
   * Makes its row and counts it, in one; or makes the row as one that has failed, in one as well, so that this attempt stays
   * refused whatever happens. One that was begun before is counted again: the limits may be stricter by now.
   */
  private begin(
    { packed, invoice }: Order,
    maxFeeMsat: number,
    attempt: number,
    isSettlement: boolean,
  ): boolean {
    const { now, table, fees } = this.options;
    const { paymentHash, payee } = invoice;
    const stored = this.rows.get(paymentHash);
    const before = stored?.attempt === attempt ? stored : undefined;
    const amountMsat = invoice.amountMsat ?? 0;
    const row = before ?? { invoice: packed, amountMsat, maxFeeMsat, askedAt: now(), attempt };
    const begun = table.transactionSync((): PaymentRow => {
      if (before ? before.settlement : isSettlement) {
        fees.agreed();
        return this.rows.put(paymentHash, { ...row, settlement: true });
      }
      try {
        if (!before) fees.ensureSettled(hash => this.mayBeUnderWay(hash));
        return this.rows.put(paymentHash, this.counted(row, payee));
      } catch (error) {
        const code = codeOf(error);
        if (code === undefined) throw error;
        return this.rows.put(paymentHash, failedRow(row, code, (error as Error).message, now()));
      }
    });
    if (begun.failure === undefined) return true;
    this.tellFailed(paymentHash, begun);
    return false;
  }

  /** The row, counted against the limits as they are now. Throws a code if they refuse it: then nothing of it is counted. */
  private counted(row: PaymentRow, payee: Uint8Array | null): PaymentRow {
    const { fees, limits, now } = this.options;
    const costMsat = row.amountMsat + row.maxFeeMsat + fees.feeMsat(row.amountMsat);
    if (row.counted) this.spending.change(row.counted, -row.counted.msat);
    return { ...row, counted: this.spending.begin(limits(), { costMsat, payee }, now()) };
  }

  private start({ invoice, text }: Order, paymentId: Uint8Array, limits: PaymentLimits): void {
    const { network, now } = this.options;
    try {
      checkPayable(invoice, network, Math.floor(now() / 1000));
      this.options.start(invoice, text, paymentId, limits);
    } catch (error) {
      this.notBegun(invoice.paymentHash, paymentId, error);
    }
  }

  /** It could not be started at once, and waits: until LDK was asked, or there is nothing more to wait for. */
  async waits(paymentHash: Uint8Array, paymentId: Uint8Array, begin: () => Promise<void>): Promise<void> {
    try {
      await this.waiting.until(paymentHash, begin);
    } catch (error) {
      this.notBegun(paymentHash, paymentId, error);
    }
  }

  /**
   * What was decided while it waited holds. Throws `already-paying` if this attempt is not to be made any more, and what the
   * limits say to it by now.
   */
  ensureStill(paymentHash: Uint8Array, paymentId: Uint8Array): void {
    const row = this.rows.get(paymentHash);
    const isOpen =
      row && !row.preimage && !row.failure && equal(paymentId, paymentIdOf(paymentHash, row.attempt));
    if (!isOpen) throw lngateError("already-paying", "this attempt is decided already");
    if (row.settlement) return;
    const { table } = this.options;
    const { payee } = orderOf(row.invoice).invoice;
    const refusal = table.transactionSync(() => {
      try {
        this.rows.put(paymentHash, this.counted(row, payee));
        return undefined;
      } catch (error) {
        const { counted: _, ...rest } = row;
        this.rows.put(paymentHash, rest);
        return error;
      }
    });
    if (refusal) throw refusal;
  }

  /** LDK was not asked. That ends this attempt, unless LDK has it all the same, or will. */
  private notBegun(paymentHash: Uint8Array, paymentId: Uint8Array, error: unknown): void {
    const code = codeOf(error);
    if (code === undefined) throw error;
    const row = this.rows.get(paymentHash);
    if (code === "already-paying" || (row && this.isUnderWay(paymentHash, row))) return;
    this.fail(paymentHash, paymentId, code, (error as Error).message, !NOT_THE_DEVICES.has(code));
  }

  /** LDK had begun, and could not begin again. */
  gaveUp(paymentHash: Uint8Array, paymentId: Uint8Array, error: unknown): void {
    const code = codeOf(error);
    if (code === undefined) throw error;
    if (code !== "already-paying") this.failed(paymentHash, paymentId, code, (error as Error).message);
  }

  /** LDK has the preimage. `paymentId`: by which attempt; absent: by the latest. */
  sent(paymentHash: Uint8Array, preimage: Uint8Array, feeMsat: number, paymentId?: Uint8Array): void {
    const row = this.rows.get(paymentHash);
    if (!row || row.preimage) return;
    const isLatest = !paymentId || equal(paymentId, paymentIdOf(paymentHash, row.attempt));
    const { failure: _, why: __, ...rest } = row;
    const paid = { ...rest, preimage, feeMsat, decidedAt: this.options.now() };
    // The device waits for this: what LDK has stored already can be stored here afterwards.
    this.report(paymentHash, paid);
    this.tell("paid", paymentHash, row, { feeMsat });
    const { table, fees } = this.options;
    table.transactionSync(() => {
      this.rows.put(paymentHash, paid);
      if (row.settlement) fees.settled(row.amountMsat, feeMsat);
      else fees.earned(row.amountMsat);
      // What failed was given back, and has left all the same.
      if (row.counted && isLatest) {
        const spentMsat = row.amountMsat + feeMsat + fees.feeMsat(row.amountMsat);
        this.spending.change(row.counted, spentMsat - (row.failure ? 0 : row.counted.msat));
      }
    });
    fees.askSoon();
  }

  /** LDK has given up this attempt, and no HTLC of it is left. */
  failed(paymentHash: Uint8Array, paymentId: Uint8Array, code: string, sentence?: string): void {
    this.fail(paymentHash, paymentId, code, sentence, false);
  }

  /** `isDevices`: the device's own bounds kept it from being begun. */
  private fail(
    paymentHash: Uint8Array,
    paymentId: Uint8Array,
    code: string,
    sentence: string | undefined,
    isDevices: boolean,
  ): void {
    const row = this.rows.get(paymentHash);
    if (!row || row.preimage || !equal(paymentId, paymentIdOf(paymentHash, row.attempt))) return;
    const failed = failedRow(row, code, sentence, this.options.now());
    const { table, fees } = this.options;
    table.transactionSync(() => {
      this.rows.put(paymentHash, failed);
      if (row.settlement) fees.failed(isDevices);
      if (row.counted && !row.failure) this.spending.change(row.counted, -row.counted.msat);
    });
    // LDK may say again after a restart what it said before.
    if (row.failure === undefined) this.tellFailed(paymentHash, failed);
    else this.report(paymentHash, failed);
  }

  private tellFailed(paymentHash: Uint8Array, row: PaymentRow): void {
    const { failure: code, why } = row;
    this.tell("payment failed", paymentHash, row, { code, ...(why === undefined ? {} : { why }) });
    this.report(paymentHash, row);
  }

  /** `prune`, now and then. `seenAt`: when the device could ask for what it misses, Unix seconds. */
  pruneSometimes(seenAt: number): void {
    const isRecent = this.prunedAt !== undefined && performance.now() - this.prunedAt < PRUNE_MS;
    if (isRecent && ++this.askedSince < PRUNE_PAYMENTS) return;
    this.prunedAt = performance.now();
    this.askedSince = 0;
    const { log } = this.options;
    this.prune(seenAt * 1000).then(
      rows => rows > 0 && log.debug("payments of long ago are forgotten", { rows }),
      error => log.warn(`payments of long ago are kept: ${(error as Error).message}`),
    );
  }

  /** Forgets what nobody can ask for again (`PaymentRows.prune`); resolves with the number of rows. */
  prune(seenAt: number): Promise<number> {
    return this.rows.prune(seenAt, this.options.now(), (...row) => this.isUnderWay(...row));
  }

  /** One line for each payment. */
  private tell(what: string, paymentHash: Uint8Array, row: PaymentRow, outcome: LogFields): void {
    const { log, now } = this.options;
    const { amountMsat, askedAt, settlement } = row;
    const ms = now() - askedAt;
    const about = settlement ? `the service fee: ${what}` : what;
    log.info(about, { amountMsat, ...outcome, ms, hash: toHex(paymentHash) });
  }

  /** LDK may have some attempt at this payment, or get it. */
  mayBeUnderWay(paymentHash: Uint8Array): boolean {
    const row = this.rows.get(paymentHash);
    return row !== undefined && this.isUnderWay(paymentHash, row);
  }

  private isUnderWay(paymentHash: Uint8Array, { attempt }: PaymentRow): boolean {
    return this.waiting.has(paymentHash) || this.options.underWay(paymentIdOf(paymentHash, attempt));
  }

  private report(paymentHash: Uint8Array, { preimage, failure, why }: PaymentRow): void {
    if (preimage) this.options.paid(preimage);
    else if (failure) this.options.failed(paymentHash, failure, why ?? SENTENCES[failure] ?? failure);
  }
}

interface Order {
  readonly packed: Uint8Array;
  readonly text: string;
  readonly invoice: Invoice;
}

function orderOf(packed: Uint8Array): Order {
  const text = unpackInvoice(packed);
  return { packed, text, invoice: decodeInvoice(text, nobleCurve) };
}

/** What kept a payment from being begun and is not a bound of the device's, nor anything else that it could bring about. */
const NOT_THE_DEVICES: ReadonlySet<string> = new Set([
  "no-route",
  "fee-limit-too-low",
  "bridge-unreachable",
  "channel-not-ready",
]);

/** The row of an attempt that has failed. What was counted of it stays in it: only with that it can be counted after all. */
function failedRow(
  row: PaymentRow,
  code: string,
  sentence: string | undefined,
  decidedAt: number,
): PaymentRow {
  const { why: _, ...rest } = row;
  const isSaid = sentence === undefined || sentence === SENTENCES[code];
  return { ...rest, failure: code, ...(isSaid ? {} : { why: sentence }), decidedAt };
}

const SENTENCES: { readonly [code: string]: string } = {
  "no-route": "no way to the payee was found within the fee limit",
  "payment-rejected": "the payee did not take the payment",
  "payment-expired": "the invoice expired before the payment arrived",
  "payment-failed": "the payment failed on its way",
  "bridge-unreachable": "the gateway has no connection to the bridge at the moment",
  "service-fee-due": "the gateway's service fee is due: it has to be settled first",
  "policy-payment-limit": "more than the owner has told the gateway to allow for a payment",
  "policy-velocity": "more than the owner has told the gateway to allow per hour or per day",
  "policy-payee": "the list of payees that the owner has told the gateway does not have this one",
  "channel-not-ready": "the channel cannot be used now",
};

/** `channel-not-ready`: it is not there, or can't be used now. */
export function channelNotReady(): Error {
  return lngateError("channel-not-ready", SENTENCES["channel-not-ready"]!);
}

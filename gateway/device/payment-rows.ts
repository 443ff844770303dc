/** What is stored of a device's payments: a row for each, by payment hash, until nobody can ask for it again. */
import type { Database } from "lmdb";
import { concat, fromHex, toHex, u32be } from "../../src/bytes/bytes.ts";
import {
  bool,
  bytes,
  bytesUpTo,
  decodeValue,
  encodeValue,
  optional,
  struct,
  text,
  UINT32,
  UINT53,
  uint,
  type ValueOf,
  words,
} from "../../src/bytes/schema.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { decodeInvoice, unpackInvoice } from "../../src/lightning/bolt11.ts";
import { countedCodec } from "./spending.ts";

const rowCodec = struct({
  invoice: [1, bytesUpTo(1400)],
  amountMsat: [2, uint(UINT53)],
  maxFeeMsat: [3, uint(UINT53)],
  /** Unix milliseconds. */
  askedAt: [4, uint(UINT53)],
  /** The device's count of its decisions to pay this; part of LDK's payment id. */
  attempt: [5, uint(UINT32)],
  preimage: optional([6, bytes(32)]),
  feeMsat: optional([7, uint(UINT53)]),
  /** Set when it has failed for good. */
  failure: optional([8, text(64)]),
  /** Settles the device's service fee. */
  settlement: optional([9, bool()]),
  /** When it has arrived or failed, Unix milliseconds. */
  decidedAt: optional([10, uint(UINT53)]),
  /** Why it has failed, where there is more to say than its code does. */
  why: optional([11, words(200)]),
  /** What of the owner's spending limits it took when it began. */
  counted: optional([12, countedCodec]),
});
/** One payment. */
export type PaymentRow = ValueOf<typeof rowCodec>;

/** How long the row of a payment is kept after it was decided. */
const KEPT_MS = 30 * 24 * 3600 * 1000;
/** Payments of a device that have failed, of which the rows are kept. */
export const KEPT_FAILURES = 100;
const PRUNED_AT_ONCE = 100;

/** The rows of one device's payments. What belongs to them is changed in one transaction of the same table. */
export class PaymentRows {
  private readonly table: Database<Uint8Array, string>;
  private readonly deviceId: string;

  constructor(table: Database<Uint8Array, string>, deviceId: string) {
    this.table = table;
    this.deviceId = deviceId;
  }

  get(paymentHash: Uint8Array): PaymentRow | undefined {
    const stored = this.table.get(this.key(paymentHash));
    return stored && decodeValue(rowCodec, new Uint8Array(stored));
  }

  /** Durable when it returns, or with the transaction that it is called in. */
  put(paymentHash: Uint8Array, row: PaymentRow): PaymentRow {
    this.table.putSync(this.key(paymentHash), encodeValue(rowCodec, row));
    return row;
  }

  /**
   * Forgets what nobody can ask for again (docs/operating.md, "What is kept"): rows whose invoice has expired and that were
   * decided long ago, before a session in which the device could have asked for it; what failed, beyond the latest. `seenAt`:
   * that session, Unix milliseconds; `underWay`: whether LDK has the payment of this row, or will. A few rows at a time, so that nobody waits;
   * resolves with their number.
   */
  async prune(
    seenAt: number,
    nowMs: number,
    underWay: (paymentHash: Uint8Array, row: PaymentRow) => boolean,
  ): Promise<number> {
    const { table, deviceId } = this;
    const before = nowMs - KEPT_MS;
    const failed: { readonly key: string; readonly at: number }[] = [];
    let pruned = 0;
    // By what they are now: a payment may have been begun again since they were looked at.
    const remove = (keys: readonly string[], mayGo: (key: string, row: PaymentRow) => boolean) =>
      table.transactionSync(() => {
        for (const key of keys) {
          const row = this.get(hashIn(key));
          if (!row || !mayGo(key, row)) continue;
          table.removeSync(key);
          pruned++;
        }
      });
    const isOld = (key: string, row: PaymentRow) => {
      const at = decidedAt(row);
      return at < before && at < seenAt && isOver(key, row, nowMs, underWay);
    };
    let from = `${deviceId}/`;
    for (;;) {
      const rows = [...table.getRange({ start: from, end: `${deviceId}/~`, limit: PRUNED_AT_ONCE })];
      const done: string[] = [];
      for (const { key, value } of rows) {
        const row = decodeValue(rowCodec, new Uint8Array(value));
        if (isOld(key, row)) done.push(key);
        else if (row.failure) failed.push({ key, at: decidedAt(row) });
      }
      remove(done, isOld);
      const last = rows.at(-1)?.key;
      if (last === undefined || rows.length < PRUNED_AT_ONCE) break;
      from = `${last}\0`;
      await new Promise(resolve => setImmediate(resolve));
    }
    failed.sort((a, b) => b.at - a.at);
    const surplus = new Map(failed.slice(KEPT_FAILURES).map(({ key, at }) => [key, at]));
    const keys = [...surplus.keys()];
    for (let from = 0; from < keys.length; from += PRUNED_AT_ONCE) {
      // What LDK has is to be counted when it arrives, whatever it was called.
      remove(
        keys.slice(from, from + PRUNED_AT_ONCE),
        (key, row) =>
          row.failure !== undefined && decidedAt(row) === surplus.get(key) && !underWay(hashIn(key), row),
      );
      await new Promise(resolve => setImmediate(resolve));
    }
    return pruned;
  }

  private key(paymentHash: Uint8Array): string {
    return `${this.deviceId}/${toHex(paymentHash)}`;
  }
}

/** When it was decided, or asked for where that is not known; Unix milliseconds. */
function decidedAt(row: PaymentRow): number {
  return row.decidedAt ?? row.askedAt;
}

/** Nobody can ask for it again, and LDK has nothing to say of it. */
function isOver(
  key: string,
  row: PaymentRow,
  nowMs: number,
  underWay: (paymentHash: Uint8Array, row: PaymentRow) => boolean,
): boolean {
  const { timestamp, expirySeconds } = decodeInvoice(unpackInvoice(row.invoice), null);
  if (nowMs / 1000 < timestamp + expirySeconds) return false;
  return row.preimage !== undefined || !underWay(hashIn(key), row);
}

/** The payment hash in a row's key. */
function hashIn(key: string): Uint8Array {
  return fromHex(key.slice(-64));
}

/**
 * LDK's id of one attempt: a payment that failed may be tried again under another. Whoever makes an invoice chooses its hash,
 * so all of it is in the id: no other payment's has the same.
 */
export function paymentIdOf(paymentHash: Uint8Array, attempt: number): Uint8Array {
  return sha256(concat([paymentHash, u32be(attempt)]));
}

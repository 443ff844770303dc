/** The gateway's real payments and fees of one device that does as it likes, and LDK played: it pays each id once. */
import type { Database } from "lmdb";
import { paymentIdOf } from "../../gateway/device/payment-rows.ts";
import { Payments } from "../../gateway/device/payments.ts";
import { type FeeReceiver, ServiceFees } from "../../gateway/fees/service-fees.ts";
import { createLog } from "../../gateway/log.ts";
import { toHex } from "../../src/bytes/bytes.ts";
import type { ServiceFee } from "../../src/channel/service-fee.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import { packInvoice } from "../../src/lightning/bolt11.ts";
import { encodeInvoice } from "../../src/lightning/bolt11-write.ts";
import type { ToDevice } from "../../src/messages/device.ts";
import type { SpendingLimits } from "../../src/messages/owner.ts";

export const bytesOf = (name: string) => sha256(new TextEncoder().encode(name));
export const hashOf = (name: string) => sha256(bytesOf(name));

/** Terms and limits as `init` and `pair` write them. */
export const TERMS: ServiceFee = {
  ratePpm: 50_000,
  baseMsat: 0,
  settleFromMsat: 1_000_000,
  creditMsat: 5_000_000,
};
const LIMITS: SpendingLimits = {
  perPaymentMsat: 5_000_000,
  perHourMsat: 20_000_000,
  perDayMsat: 50_000_000,
  payees: [],
};

let count = 0;

export class Desk {
  readonly deviceId = `thief${count++}`;
  nowMs = 1_750_000_000_000;
  readonly failures: string[] = [];
  readonly receipts: string[] = [];
  settle: Extract<ToDevice, { type: "settle" }> | undefined;
  /** What LDK has, by payment id. */
  readonly ldk = new Map<string, Uint8Array>();
  /** How often LDK was asked to pay a hash, and did. */
  readonly begun = new Map<string, number>();
  soon: (work: () => void) => void = work => void this.later.push(work);
  payments!: Payments;
  fees!: ServiceFees;
  private readonly later: (() => void)[] = [];
  private readonly table: Database<Uint8Array, string>;

  constructor(table: Database<Uint8Array, string>) {
    this.table = table;
    this.restart();
  }

  restart(): void {
    const { deviceId, table } = this;
    const log = createLog("error", () => {});
    const now = () => this.nowMs;
    const feeReceiver: FeeReceiver = {
      canReceive: () => true,
      routingMsat: () => 0,
      invoice: amountMsat => this.invoice(hashOf(`fee ${count++}`), amountMsat),
    };
    this.fees = new ServiceFees({
      deviceId,
      table,
      log,
      feeReceiver,
      terms: TERMS,
      send: message => {
        if (message.type === "settle") this.settle = message;
        return true;
      },
      soon: work => this.soon(work),
      now,
    });
    this.payments = new Payments({
      deviceId,
      network: "regtest",
      table,
      fees: this.fees,
      limits: () => LIMITS,
      log,
      failed: (_, code) => void this.failures.push(code),
      paid: preimage => void this.receipts.push(toHex(sha256(preimage))),
      start: ({ paymentHash }, _text, id) => {
        if (this.ldk.has(toHex(id))) throw lngateError("already-paying", "this payment is under way already");
        this.ldk.set(toHex(id), paymentHash);
        const hash = toHex(paymentHash);
        this.begun.set(hash, (this.begun.get(hash) ?? 0) + 1);
      },
      underWay: id => this.ldk.has(toHex(id)),
      now,
    });
  }

  /** The gateway's moment: it may ask for its fee. */
  askForFee(): void {
    for (const work of this.later.splice(0)) work();
  }

  pay(paymentHash: Uint8Array, amountMsat: number, attempt = 0): void {
    const packed = packInvoice(this.invoice(paymentHash, amountMsat));
    this.payments.asked(packed, { maxFeeMsat: 0 }, attempt);
  }

  /** LDK's word that the payment of this id has arrived. */
  arrives(preimage: Uint8Array, attempt = 0): void {
    const hash = sha256(preimage);
    const id = paymentIdOf(hash, attempt);
    this.ldk.delete(toHex(id));
    this.payments.sent(hash, preimage, 0, id);
  }

  /** LDK's word that the payment of this id has failed. */
  fails(hash: Uint8Array, attempt = 0): void {
    const id = paymentIdOf(hash, attempt);
    this.ldk.delete(toHex(id));
    this.payments.failed(hash, id, "payment-failed");
  }

  /** One that arrives at once. False: it was refused. */
  toll(name: string, amountMsat: number): boolean {
    const before = this.failures.length;
    this.pay(hashOf(name), amountMsat);
    if (this.failures.length > before) return false;
    this.arrives(bytesOf(name));
    return true;
  }

  invoice(paymentHash: Uint8Array, amountMsat: number): string {
    const fields = {
      network: "regtest" as const,
      amountMsat,
      timestamp: Math.floor(this.nowMs / 1000),
      paymentHash,
      paymentSecret: bytesOf("secret"),
      description: "",
      features: [8, 14],
      expirySeconds: 30 * 24 * 3600,
    };
    return encodeInvoice(fields, bytesOf("a payee"), nobleCurve);
  }
}

/** Another hash with the same 28 bytes in front: nobody knows its preimage, nor need anybody. */
export function besides(hash: Uint8Array, i: number): Uint8Array {
  const other = hash.slice();
  const view = new DataView(other.buffer);
  view.setUint32(28, (view.getUint32(28) + i) >>> 0);
  return other;
}

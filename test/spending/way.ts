/**
 * The way of a device's payment through the gateway: `Payments`, its limits and fees, and `Paying` until LDK is asked, all real.
 * LDK is a stand-in that pays each id once, and what waits goes on when the test says so.
 */
import type { Database } from "lmdb";
import { Paying, type PayingOptions } from "../../gateway/device/paying.ts";
import { Payments } from "../../gateway/device/payments.ts";
import { type FeeLedger, type FeeReceiver, ServiceFees } from "../../gateway/fees/service-fees.ts";
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

const HEIGHT = 900_000;
/** As many HTLCs as the device's commitments hold. */
const MOST_HTLCS = 8;

const bytesOf = (name: string) => sha256(new TextEncoder().encode(name));
const hashOf = (name: string) => sha256(bytesOf(name));
let count = 0;

interface Waiter {
  readonly is: () => boolean;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  readonly code: string;
}

export class Way {
  readonly deviceId = `way ${count++}`;
  readonly failures: string[] = [];
  bridgeIsThere = true;
  /** What the owner has told the gateway. */
  limits: SpendingLimits;
  settle: Extract<ToDevice, { type: "settle" }> | undefined;
  payments!: Payments;
  private readonly table: Database<Uint8Array, string>;
  private readonly terms: ServiceFee | undefined;
  private readonly ldk = new Map<string, { hash: Uint8Array; id: Uint8Array }>();
  private waiters: Waiter[] = [];
  private soon: (() => void)[] = [];
  private fees!: ServiceFees;

  constructor(table: Database<Uint8Array, string>, limits: SpendingLimits, terms?: ServiceFee) {
    this.table = table;
    this.limits = limits;
    this.terms = terms;
    this.restart();
  }

  /** The gateway starts again; LDK has what it had. */
  restart(): void {
    const { deviceId, table, ldk } = this;
    const log = createLog("error", () => {});
    const now = () => Date.now();
    const feeReceiver: FeeReceiver = {
      canReceive: () => true,
      routingMsat: () => 0,
      invoice: amountMsat => this.invoice(`fee ${count++}`, amountMsat),
    };
    this.waiters = [];
    this.soon = [];
    this.fees = new ServiceFees({
      deviceId,
      table,
      log,
      feeReceiver,
      send: message => {
        if (message.type === "settle") this.settle = message;
        return true;
      },
      soon: work => void this.soon.push(work),
      now,
      ...(this.terms ? { terms: this.terms } : {}),
    });
    const channel = {
      get_is_usable: () => this.bridgeIsThere,
      get_pending_outbound_htlcs: () => [...ldk.values()],
      get_next_outbound_htlc_limit_msat: () => 400_000_000n,
      get_counterparty: () => ({ get_node_id: () => new Uint8Array(33) }),
    };
    const node = {
      channels: () => [channel],
      pendingPayments: () => ldk.size,
      height: HEIGHT,
      connectSoon() {},
      pay({ paymentHash: hash }: { paymentHash: Uint8Array }, _text: string, id: Uint8Array) {
        if (ldk.has(toHex(id))) throw lngateError("already-paying", "LDK has it");
        ldk.set(toHex(id), { hash, id });
      },
      until: (code: string, is: () => boolean) =>
        is()
          ? Promise.resolve()
          : new Promise<void>((resolve, reject) => this.waiters.push({ code, is, resolve, reject })),
    };
    const paying = new Paying({
      session: { ensureNewest() {}, isRolledBack: false },
      channel: { row: { stage: "ready" }, stuck: null, isFrozen: false },
      node: () => node,
      recordsLeft: () => ({ A: 10_000, B: 10_000, H: 10_000 }),
      ensureStill: (...[hash, id]: Parameters<PayingOptions["ensureStill"]>) =>
        this.payments.ensureStill(hash, id),
      waits: (...[hash, id, began]: Parameters<PayingOptions["waits"]>) =>
        this.payments.waits(hash, id, began),
      onFatal: (error: unknown) => {
        throw error;
      },
    } as unknown as PayingOptions);
    this.payments = new Payments({
      deviceId,
      network: "regtest",
      table,
      fees: this.fees,
      limits: () => this.limits,
      log,
      failed: (_, code) => void this.failures.push(code),
      paid() {},
      start: (...asked) => paying.start(...asked),
      underWay: id => ldk.has(toHex(id)),
      now,
    });
  }

  get books(): FeeLedger {
    return this.fees.books;
  }

  ask(name: string, amountMsat: number, maxCltvExpiry?: number): void {
    const invoice = packInvoice(this.invoice(name, amountMsat));
    this.payments.asked(invoice, { maxFeeMsat: 0, maxCltvExpiry }, 0);
  }

  /** Others are in flight, so that nothing more has room. */
  fill(): void {
    for (let i = 0; this.ldk.size < MOST_HTLCS; i++)
      this.ldk.set(`held ${i}`, { hash: hashOf(`held ${i}`), id: hashOf(`held ${i}`) });
  }

  /** Nothing is in flight any more. */
  empty(): void {
    this.ldk.clear();
  }

  arrives(name: string): void {
    for (const [key, { hash, id }] of [...this.ldk]) {
      if (toHex(hash) !== toHex(hashOf(name))) continue;
      this.ldk.delete(key);
      this.payments.sent(hash, bytesOf(name), 0, id);
    }
  }

  isUnderWay(name: string): boolean {
    return [...this.ldk.values()].some(({ hash }) => toHex(hash) === toHex(hashOf(name)));
  }

  /** Whoever waits looks whether it has come. */
  async look(): Promise<void> {
    const waiters = this.waiters.splice(0);
    this.waiters = waiters.filter(({ is }) => !is());
    for (const { is, resolve } of waiters) if (is()) resolve();
    await settled();
  }

  /** The time of the one that has waited longest is over. */
  async giveUp(): Promise<void> {
    const waiter = this.waiters.shift();
    waiter?.reject(lngateError(waiter.code, "in vain"));
    await settled();
  }

  /** The gateway's moment: it may ask for its fee. */
  askForFee(): void {
    for (const work of this.soon.splice(0)) work();
  }

  private invoice(name: string, amountMsat: number): string {
    const fields = {
      network: "regtest" as const,
      amountMsat,
      timestamp: Math.floor(Date.now() / 1000),
      paymentHash: hashOf(name),
      paymentSecret: bytesOf(`secret of ${name}`),
      description: "",
      features: [8, 14],
      expirySeconds: 3600,
    };
    return encodeInvoice(fields, bytesOf("a payee"), nobleCurve);
  }
}

/** What was resolved or rejected has had its effect. */
export function settled(): Promise<void> {
  return new Promise(resolve => setTimeout(resolve));
}

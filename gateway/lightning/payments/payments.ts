/** The payments that a node makes: how each is begun, tried again with what was learnt, and known to be under way. */
import * as ldk from "lightningdevkit";
import { equal } from "../../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../../src/errors.ts";
import type { Invoice } from "../../../src/lightning/bolt11.ts";
import type { NodeOptions } from "../node-options.ts";
import type { Turns } from "../turns.ts";
import { learnFrom } from "./learning.ts";
import {
  isRouteNotFound,
  MAX_BLOCKS,
  type PaymentLimits,
  routeInParts,
  routeTo,
  whyNoRoute,
} from "./route.ts";
import { PaymentTries } from "./tries.ts";

/** How often LDK looks for another way when a payment fails on its way. */
export const PAYMENT_RETRIES = 5;

/** What payments need of the node's options. */
export interface PaymentsOptions
  extends Pick<NodeOptions, "runtime" | "onEvent" | "mayPayAgain" | "onPaymentRefused"> {}

/** Of one node. */
export class Payments {
  private readonly manager: ldk.ChannelManager;
  private readonly router: ldk.Router;
  private readonly options: PaymentsOptions;
  private readonly turns: Turns;
  private readonly tries: PaymentTries;

  constructor(manager: ldk.ChannelManager, router: ldk.Router, options: PaymentsOptions, turns: Turns) {
    this.manager = manager;
    this.router = router;
    this.options = options;
    this.turns = turns;
    this.tries = new PaymentTries(options.runtime);
  }

  /** Begins a payment, in parts where no single way carries it. Throws as LightningNode.pay does. */
  pay(invoice: Invoice, text: string, paymentId: Uint8Array, limits: PaymentLimits, retries: number): void {
    const { maxBlocks = MAX_BLOCKS } = limits;
    const { onion, route } = routeTo(text, limits);
    let sent = this.manager.send_payment(
      invoice.paymentHash,
      onion,
      paymentId,
      route,
      // A later try is bound to as many blocks from then on: where there are few, it might expire too late.
      ldk.Retry.constructor_attempts(maxBlocks < 2 * MAX_BLOCKS ? 0 : retries),
    );
    const inParts = isRouteNotFound(sent) ? routeInParts(this.manager, this.router, text, limits) : undefined;
    if (inParts)
      sent = this.manager.send_payment_with_route(
        inParts,
        invoice.paymentHash,
        routeTo(text, limits).onion,
        paymentId,
      );
    else if (isRouteNotFound(sent))
      throw whyNoRoute(this.manager, this.router, this.options.runtime.graph, text, limits);
    if (!(sent instanceof ldk.Result_NoneRetryableSendFailureZ_OK)) throw sendFailure(sent);
    this.tries.begun(paymentId, () => {
      if (this.turns.stopped || (this.options.mayPayAgain && !this.options.mayPayAgain())) return false;
      this.pay(invoice, text, paymentId, limits, retries);
      return true;
    });
    this.turns.wake();
  }

  /** Learns from an event. True: it is a failure that may be tried again; if that comes to nothing, it is told later. */
  learn(event: ldk.Event): boolean {
    learnFrom(event, this.options.runtime, Math.floor(Date.now() / 1000));
    if (event instanceof ldk.Event_PaymentPathFailed) this.tries.note(event);
    else if (
      event instanceof ldk.Event_PaymentSent &&
      event.payment_id instanceof ldk.Option_ThirtyTwoBytesZ_Some
    )
      void this.tries.over(event.payment_id.some, true);
    return event instanceof ldk.Event_PaymentFailed && this.triesAgain(event);
  }

  /** How many LDK has under way. */
  pending(): number {
    const isPending = (each: object) => each instanceof ldk.RecentPaymentDetails_Pending;
    return this.manager.list_recent_payments().filter(isPending).length;
  }

  /** Whether LDK knows this payment: its events tell how it ends, or have told a short while ago. */
  isKnown(paymentId: Uint8Array): boolean {
    if (this.tries.isLearning(paymentId)) return true;
    const known = [
      ldk.RecentPaymentDetails_Pending,
      ldk.RecentPaymentDetails_Fulfilled,
      ldk.RecentPaymentDetails_Abandoned,
    ];
    return this.manager
      .list_recent_payments()
      .some(each => known.some(kind => each instanceof kind && equal(each.payment_id, paymentId)));
  }

  private triesAgain(event: ldk.Event_PaymentFailed): boolean {
    const { reason } = event;
    const { LDKPaymentFailureReason_RouteNotFound, LDKPaymentFailureReason_RetriesExhausted } =
      ldk.PaymentFailureReason;
    const isFinal =
      !(reason instanceof ldk.Option_PaymentFailureReasonZ_Some) ||
      (reason.some !== LDKPaymentFailureReason_RouteNotFound &&
        reason.some !== LDKPaymentFailureReason_RetriesExhausted);
    const over = this.tries.over(event.payment_id, isFinal);
    if (!over) return false;
    const tell = (error?: Error) =>
      this.turns.guarded(() => {
        if (error && this.options.onPaymentRefused) this.options.onPaymentRefused(event, error);
        else this.options.onEvent(event);
      });
    over.then(
      isOver => isOver && tell(),
      (error: Error) => (codeOf(error) === undefined ? this.turns.fail(error) : tell(error)),
    );
    return true;
  }
}

function sendFailure(result: object): Error {
  switch ((result as { err?: ldk.RetryableSendFailure }).err) {
    case ldk.RetryableSendFailure.LDKRetryableSendFailure_PaymentExpired:
      return lngateError("payment-expired", "the invoice has expired");
    case ldk.RetryableSendFailure.LDKRetryableSendFailure_DuplicatePayment:
      return lngateError("already-paying", "this payment is under way already");
    default:
      return lngateError("no-route", "no way to the payee was found within the fee limit");
  }
}

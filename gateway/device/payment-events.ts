/** What LDK tells of payments, in the words and codes of the gateway. */
import * as ldk from "lightningdevkit";
import type { Payments } from "./payments.ts";

/** Handles one of LDK's events if it says how a payment has ended; others are passed over. */
export function onPaymentEvent(event: ldk.Event, payments: Payments): void {
  if (event instanceof ldk.Event_PaymentSent) {
    const fee = event.fee_paid_msat;
    const feeMsat = fee instanceof ldk.Option_u64Z_Some ? Number(fee.some) : 0;
    const id = event.payment_id;
    const paymentId = id instanceof ldk.Option_ThirtyTwoBytesZ_Some ? id.some : undefined;
    payments.sent(event.payment_hash, event.payment_preimage, feeMsat, paymentId);
  } else if (event instanceof ldk.Event_PaymentFailed) {
    const hash = event.payment_hash;
    if (hash instanceof ldk.Option_ThirtyTwoBytesZ_Some)
      payments.failed(hash.some, event.payment_id, failureCode(event.reason), failureSentence(event.reason));
  }
}

/** LDK's reasons as our codes. */
function failureCode(reason: ldk.Option_PaymentFailureReasonZ): string {
  if (!(reason instanceof ldk.Option_PaymentFailureReasonZ_Some)) return "payment-failed";
  switch (reason.some) {
    case ldk.PaymentFailureReason.LDKPaymentFailureReason_RecipientRejected:
      return "payment-rejected";
    case ldk.PaymentFailureReason.LDKPaymentFailureReason_PaymentExpired:
      return "payment-expired";
    default:
      return "payment-failed";
  }
}

function failureSentence(reason: ldk.Option_PaymentFailureReasonZ): string | undefined {
  const { LDKPaymentFailureReason_RouteNotFound } = ldk.PaymentFailureReason;
  return reason instanceof ldk.Option_PaymentFailureReasonZ_Some &&
    reason.some === LDKPaymentFailureReason_RouteNotFound
    ? "the payment failed on its way, and there is no other way within the limits"
    : undefined;
}

/** Invoices of a node's own, and what to do when one is paid. */
import * as ldk from "lightningdevkit";
import { lngateError } from "../../../src/errors.ts";

/** What an invoice is to say. */
export interface InvoiceRequest {
  /** Null: the payer chooses. */
  readonly amountMsat: number | null;
  readonly description: string;
  readonly expirySeconds: number;
}

/** The text of a new invoice, with hints if the node has private channels only. Throws `invoice-refused`. */
export function createInvoice(
  manager: ldk.ChannelManager,
  request: InvoiceRequest,
  nowSeconds: number,
): string {
  const first = invoiceOf(manager, request, request.expirySeconds);
  // LDK has no clock: it dates an invoice by the last block, so what remains of it would be too short.
  const behind = nowSeconds - Number(first.duration_since_epoch());
  return (behind > 0 ? invoiceOf(manager, request, request.expirySeconds + behind) : first).to_str();
}

function invoiceOf(
  manager: ldk.ChannelManager,
  request: InvoiceRequest,
  expirySeconds: number,
): ldk.Bolt11Invoice {
  const description = ldk.Description.constructor_new(request.description);
  if (!(description instanceof ldk.Result_DescriptionCreationErrorZ_OK))
    throw lngateError("invoice-refused", "the description is too long for an invoice");
  const created = manager.create_bolt11_invoice(
    request.amountMsat === null
      ? ldk.Option_u64Z.constructor_none()
      : ldk.Option_u64Z.constructor_some(BigInt(request.amountMsat)),
    ldk.Bolt11InvoiceDescription.constructor_direct(description.res),
    ldk.Option_u32Z.constructor_some(expirySeconds),
    ldk.Option_u16Z.constructor_none(),
    ldk.Option_ThirtyTwoBytesZ.constructor_none(),
  );
  if (!(created instanceof ldk.Result_Bolt11InvoiceSignOrCreationErrorZ_OK))
    throw lngateError("invoice-refused", "LDK does not make this invoice");
  return created.res;
}

/** Takes a payment to one of our invoices; anything else goes back to where it came from. */
export function claimOrFail(manager: ldk.ChannelManager, event: ldk.Event_PaymentClaimable): void {
  const { purpose } = event;
  const preimage =
    purpose instanceof ldk.PaymentPurpose_Bolt11InvoicePayment ? purpose.payment_preimage : undefined;
  if (preimage instanceof ldk.Option_ThirtyTwoBytesZ_Some) manager.claim_funds(preimage.some);
  else manager.fail_htlc_backwards(event.payment_hash);
}

/** Settling what is owed for the gateway's service, out of what was kept aside for it. */
import type { ToDevice } from "../../../src/messages/device.ts";
import type { Work } from "../context.ts";
import { enforce } from "../enforce.ts";
import type { Payment } from "../state.ts";
import { availableMsat, owedMsat } from "./balance.ts";
import { admit, ensureFunds, ensureOpen } from "./paying.ts";
import { highestExpiry } from "./policy.ts";
import { knownPayment } from "./remembered.ts";

/**
 * Authorises the payment of what is owed for the gateway's service. Whose invoice it is, the device need not know: it
 * is the gateway's money, and what counts is the sum. The owner's limits counted it when it accrued. Asked again, it is
 * the same payment. Codes: policy-service-fee, and those of `authorise` that are not about limits.
 */
export function settleFee(work: Work, asked: Extract<ToDevice, { type: "settle" }>): Payment {
  const { state, context } = work;
  const { serviceFee } = context.identity;
  const { paymentHash, amountMsat } = asked;
  const limitMsat = amountMsat + asked.maxFeeMsat;
  const known = knownPayment(state, paymentHash);
  if (known?.settlement && !known.settled) return known;
  ensureOpen(state);
  const owed = owedMsat(state);
  enforce(
    "service-fee",
    serviceFee !== undefined && limitMsat >= serviceFee.settleFromMsat && limitMsat <= owed,
    `${limitMsat} msat are not to be settled: ${owed} are owed`,
  );
  ensureFunds(limitMsat, availableMsat(state));
  return admit(work, {
    paymentHash,
    amountMsat,
    limitMsat,
    maxCltvExpiry: highestExpiry(context.identity, context.nowMs),
    // The first to be forgotten.
    expiresAt: 0,
    startedAtMs: context.nowMs,
    htlcMsat: 0,
    settlement: true,
  });
}

import { lngateError } from "../../src/errors.ts";

/**
 * The rules that no gateway can talk the device out of, by their stable tags; docs/rules.md says why each is there
 * and which test breaks without it.
 */
export type Rule =
  | "balance"
  | "channel-parameters"
  | "close-balance"
  | "close-pending"
  | "close-state"
  | "commitment-content"
  | "commitment-number"
  | "dust-in-flight"
  | "exit-before-revoke"
  | "feerate-range"
  | "funding"
  | "htlc-dust"
  | "htlc-expiry"
  | "htlc-incoming"
  | "htlc-limit"
  | "htlc-signature"
  | "htlc-unauthorised"
  | "invoice-expiry"
  | "own-signature"
  | "payee"
  | "payment-limit"
  | "phase"
  | "previous-revoked"
  | "record-reuse"
  | "record-skip"
  | "service-fee"
  | "value"
  | "velocity";

/** Refuses (code `policy-…`) where a rule does not hold. Every rule of the device goes through here. */
export function enforce(rule: Rule, holds: boolean, sentence: string): asserts holds {
  if (!holds) throw lngateError(`policy-${rule}`, sentence);
}

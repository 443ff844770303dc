/**
 * What an aborted ceremony costs. Every error of this folder has a stable code, and every code exactly one
 * consequence; the caller keeps a `AbortStatus` beside the key share and hands each error to afterAbort.
 */
import { codeOf, lngateError } from "../errors.ts";

/**
 * - `refuse`: nothing was spent; the request was wrong for this side.
 * - `burn-batch`: the batch in flight is gone.
 * - `burn-record`: one record is gone.
 * - `reset`: destroy the OT setup of that kind and the run of MACs (both sides), burn what is in flight, go on after
 *   the owner's word.
 * - `lock`: nothing is presigned or signed any more; close the channel.
 */
export type Consequence = "refuse" | "burn-batch" | "burn-record" | "reset" | "lock";

interface Rule {
  readonly consequence: Consequence;
  /** Whether somebody should look at it: an honest peer on a working channel does not cause it. */
  readonly alarm: boolean;
}

const RULES: Readonly<Record<string, Rule>> = {
  "threshold-bad-message": { consequence: "burn-batch", alarm: true },
  "threshold-bad-commitment": { consequence: "burn-batch", alarm: true },
  "threshold-bad-proof": { consequence: "burn-batch", alarm: true },
  "threshold-bad-confirmation": { consequence: "burn-batch", alarm: true },
  "threshold-wrong-batch": { consequence: "burn-batch", alarm: true },
  "threshold-old-epoch": { consequence: "refuse", alarm: true },
  "threshold-step-spent": { consequence: "refuse", alarm: false },
  "threshold-batch-abandoned": { consequence: "refuse", alarm: false },
  "threshold-setup-destroyed": { consequence: "refuse", alarm: false },
  "threshold-extension-check": { consequence: "reset", alarm: true },
  "threshold-multiplication-check": { consequence: "reset", alarm: true },
  "threshold-share-check": { consequence: "reset", alarm: true },
  "threshold-mac-check": { consequence: "reset", alarm: true },
  "threshold-bad-signature": { consequence: "burn-record", alarm: false },
  "bad-answer": { consequence: "burn-record", alarm: false },
  "policy-record-reuse": { consequence: "lock", alarm: true },
};

/** A transport failure or anything unknown: the batch is gone, nobody is blamed. */
const OTHERWISE: Rule = { consequence: "burn-batch", alarm: false };

/** The channel is closed after this many resets. */
const RESETS_TO_LOCK = 3;
/** Spoilt online messages of which the owner hears. */
const SPOILT_TO_ALARM = 3;

/** What has happened so far; plain numbers and booleans, to be stored as they are. */
export interface AbortStatus {
  readonly resets: number;
  /** Online messages that did not become a valid signature. */
  readonly spoilt: number;
  /** After a reset, until ownerConfirms. */
  readonly awaitingOwner: boolean;
  readonly locked: boolean;
}

export const NO_ABORTS: AbortStatus = { resets: 0, spoilt: 0, awaitingOwner: false, locked: false };

/** The consequence of an error by itself, whatever went before. */
export function consequenceOf(error: unknown): Consequence {
  return ruleOf(error).consequence;
}

/** Takes an error into account. `consequence` is what to do now; store the status before doing it. */
export function afterAbort(
  status: AbortStatus,
  error: unknown,
): { readonly status: AbortStatus; readonly consequence: Consequence; readonly alarm: boolean } {
  const { consequence, alarm } = ruleOf(error);
  if (consequence === "burn-record") {
    const spoilt = status.spoilt + 1;
    return { status: { ...status, spoilt }, consequence, alarm: spoilt >= SPOILT_TO_ALARM };
  }
  if (consequence === "reset") {
    const resets = status.resets + 1;
    const locked = status.locked || resets >= RESETS_TO_LOCK;
    const next = { ...status, resets, locked, awaitingOwner: true };
    return { status: next, consequence: locked ? "lock" : "reset", alarm };
  }
  if (consequence === "lock") return { status: { ...status, locked: true }, consequence, alarm };
  return { status, consequence, alarm };
}

/** The owner has looked and wants new oblivious transfers. A lock stays. */
export function ownerConfirms(status: AbortStatus): AbortStatus {
  return { ...status, awaitingOwner: false };
}

/** To be called before any OT setup or batch. Throws `threshold-locked`, `threshold-awaiting-owner`. */
export function ensureNotAborted(status: AbortStatus): void {
  if (status.locked) throw lngateError("threshold-locked", "this key signs no more; close its channel");
  if (status.awaitingOwner) {
    throw lngateError("threshold-awaiting-owner", "a check failed; the owner must confirm a new setup");
  }
}

function ruleOf(error: unknown): Rule {
  const code = codeOf(error);
  return (code !== undefined && Object.hasOwn(RULES, code) && RULES[code]) || OTHERWISE;
}

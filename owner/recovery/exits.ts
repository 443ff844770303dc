/**
 * Exits: which of them may be published, how far they are on the chain, and what is to be done about each. A state is
 * published only if it is the last that the device signed; all others are good for punishing, and for looking at.
 */
import type { Network } from "../../src/bitcoin/network.ts";
import { type Transaction, weightOf } from "../../src/bitcoin/transaction.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { lngateError } from "../../src/errors.ts";
import { type ConfirmationStatus, type OwnerChain, perVbyte } from "../chain/chain.ts";
import { type CheckedExit, type ExitFile, examineExit, strandedSentences } from "./exit-file.ts";
import { anchorChild, type FeeCoin } from "./fee-coin.ts";
import type { RecoveryOptions, RecoveryRun } from "./options.ts";
import { howClosed, type Penalty } from "./punish.ts";

/** An exit that pays less than this part of the going feerate is worth hurrying. */
const SLOW = 0.8;

/** An exit, and what becomes of it in this run. */
export interface ExitPlan {
  readonly exit: CheckedExit;
  readonly confirmation: ConfirmationStatus;
  /**
   * publish   it is not on the chain yet
   * bump      it is published (again) together with a child that pays for both
   * wait      it waits for a block
   * done      it is in a block
   * replaced  something else has spent the channel: the bridge closed it, or both did
   */
  readonly action: "publish" | "bump" | "wait" | "done" | "replaced";
  /** Of the commitment alone. */
  readonly feeSat: number;
  readonly feeratePerKw: number;
  /** The child, for `bump`. */
  readonly child?: Transaction;
  readonly childFeeSat?: number;
  /** For `replaced`, if it was by a state that the bridge had revoked. */
  readonly penalty?: Penalty;
}

/**
 * The exits that were given, one of each channel, and those that are kept of other channels. Throws `wrong-network`,
 * `exit-not-newest` where two of them can't both be final, and `exit-invalid`. Of a kept one that can't be used there is a
 * remark.
 */
export function exitsOf(
  { exits, kept = [], keys }: RecoveryOptions,
  remarks: string[],
): { given: CheckedExit[]; kept: CheckedExit[] } {
  const given = newestOnly(exits, keys.network).map(examineExit);
  return {
    given,
    kept: kept
      .filter(each => !given.some(({ file }) => isOfOneChannel(file, each)))
      .flatMap(each => usable(each, remarks)),
  };
}

/**
 * What becomes of each, and the coin if none of them has used it: a coin is spent once. Throws `exit-not-newest`,
 * `exit-invalid`, `coin-too-small`, and what the chain throws.
 */
export async function planExits(
  run: RecoveryRun,
  given: readonly CheckedExit[],
  kept: readonly CheckedExit[],
): Promise<{ plans: ExitPlan[]; coin: FeeCoin | undefined }> {
  let { coin } = run.options;
  const plans: ExitPlan[] = [];
  for (const exit of given) {
    const plan = await planExit(run, exit, coin);
    if (plan.child) coin = undefined;
    plans.push(plan);
  }
  for (const exit of kept) {
    const plan = await lookAtKept(run, exit);
    if (plan) plans.push(plan);
  }
  return { plans, coin };
}

/** A sentence on a channel whose funding is spent, by what its exit knows of the bridge's states. Throws what the chain throws. */
export async function whoClosed(chain: OwnerChain, { file, counterparty }: CheckedExit): Promise<string> {
  const channel = `the channel of device ${file.deviceId}`;
  for (const { number, commitment } of counterparty) {
    if ((await chain.confirmation(commitment.transaction)) !== "unknown")
      return `${channel} was closed by the bridge, with its state ${number}: its exit is not needed, what it pays you is listed here`;
  }
  return `${channel} is closed already, and nothing of this exit is left on the chain: both sides or the bridge have closed it, or everything is collected`;
}

/** One of each channel, the newest: it knows all that the others know. Of a channel only one state is the last. */
function newestOnly(exits: readonly ExitFile[], network: Network): readonly ExitFile[] {
  const newest = new Set(exits);
  for (const exit of exits) {
    if (exit.network !== network)
      throw lngateError("wrong-network", `an exit of ${exit.network} was given, this is ${network}`);
    const other = [...newest].find(
      each =>
        each !== exit &&
        equal(each.keys.fundingKey, exit.keys.fundingKey) &&
        each.index === exit.index &&
        (each.number > exit.number || (each.number === exit.number && (each.final || !exit.final))),
    );
    if (!other) continue;
    newest.delete(exit);
    if (exit.final && other.final && exit.number !== other.number)
      throw lngateError(
        "exit-not-newest",
        `two exits of the same channel were given, of states ${exit.number} and ${other.number}: the older one is revoked, so an old image of the device's flash must have been in use. Leave it out`,
      );
  }
  return [...newest];
}

/** A copy is good for punishing, and for looking at. Published, it might be a revoked state. */
function notNewest({ number }: ExitFile): Error {
  return lngateError(
    "exit-not-newest",
    `this copy holds state ${number}, and the device went on working after it was made. If the device has moved on, that state is revoked, and publishing it would give the whole channel to the bridge. Read the last one out of the device with \`lngate device exit\`. If the device is lost, \`lngate owner freeze\` makes the bridge close the channel, and \`lngate owner recover\` needs no exit then`,
  );
}

async function planExit(
  { options, height, feeratePerKw, isEstimate, remarks }: RecoveryRun,
  exit: CheckedExit,
  coin: FeeCoin | undefined,
): Promise<ExitPlan> {
  const { chain, keys, toScript } = options;
  const { transaction, channel, file } = exit;
  const outSat = transaction.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0);
  const feeSat = channel.fundingSat - outSat;
  const own = { exit, feeSat, feeratePerKw: Math.floor((feeSat * 1000) / weightOf(transaction)) };
  const confirmation = await chain.confirmation(transaction);
  const named = `the exit of device ${file.deviceId}`;
  if (typeof confirmation === "number") return { ...own, confirmation, action: "done" };
  if (confirmation === "unknown" && (await chain.output(channel.funding)) === null) {
    const secrets = keys.device(file.keys.fundingKey);
    const points = toldPoints(options, file);
    const closing = await howClosed({ ...options, feeratePerKw, isEstimate, height, secrets, points }, exit);
    const { sentence, penalty } = closing;
    remarks.push(sentence ?? (await whoClosed(chain, exit)), ...(penalty?.remarks ?? []));
    return { ...own, confirmation, action: "replaced", ...(penalty ? { penalty } : {}) };
  }
  if (exit.fault) throw exit.fault;
  if (!file.final && confirmation === "unknown") throw notNewest(file);
  remarks.push(...strandedSentences(exit, confirmation === "waiting"));
  if (!file.final) return { ...own, confirmation, action: "wait" };
  const slow = own.feeratePerKw < feeratePerKw * SLOW;
  if (!coin || !(slow || confirmation === "waiting")) {
    if (slow)
      remarks.push(
        exit.anchor
          ? `${named} pays ${perVbyte(own.feeratePerKw)} sat/vB, less than the ${perVbyte(feeratePerKw)} of now: it may wait for long, or not be taken at all. Name a coin of yours with --coin, and it is hurried through its anchor`
          : `${named} pays ${perVbyte(own.feeratePerKw)} sat/vB and holds payments in flight: such a state has no signed anchor, so nothing can hurry it; publish it again when feerates fall`,
      );
    return { ...own, confirmation, action: confirmation === "waiting" ? "wait" : "publish" };
  }
  if (!exit.anchor) {
    remarks.push(
      `${named} can't be hurried: payments are in flight in it, such a state has no signed anchor`,
    );
    return { ...own, confirmation, action: confirmation === "waiting" ? "wait" : "publish" };
  }
  const change = toScript ?? keys.wallet(0, true).script;
  const { child, childFeeSat } = anchorChild(exit, coin, options.feeratePerKw, feeratePerKw, feeSat, change);
  return { ...own, confirmation, action: "bump", child, childFeeSat };
}

/** An exit from the owner's folder that can't be used stops nothing else. */
function usable(file: ExitFile, remarks: string[]): CheckedExit[] {
  try {
    const exit = examineExit(file);
    if (exit.fault) remarks.push(exit.fault.message);
    return [exit];
  } catch (error) {
    remarks.push(`the exit of device ${file.deviceId} can't be used: ${(error as Error).message}`);
    return [];
  }
}

/** What the gateway has told of our commitments of this exit's channel. */
function toldPoints({ channels = [] }: RecoveryOptions, { keys, index }: ExitFile): Uint8Array[] {
  return channels
    .filter(each => each.proposal.index === index && equal(each.keys.fundingKey, keys.fundingKey))
    .flatMap(({ states }) => states?.points ?? [])
    .filter(point => nobleCurve.isPoint(point));
}

function isOfOneChannel(a: ExitFile, b: ExitFile): boolean {
  return a.index === b.index && equal(a.keys.fundingKey, b.keys.fundingKey);
}

/** What the chain shows of a channel that has ended for its device; null where somebody else's transaction rightly closed it. */
async function lookAtKept(
  { options, height, remarks }: RecoveryRun,
  exit: CheckedExit,
): Promise<ExitPlan | null> {
  const { chain, keys } = options;
  const { transaction, channel, file } = exit;
  const confirmation = await chain.confirmation(transaction);
  const outSat = transaction.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0);
  const feeSat = channel.fundingSat - outSat;
  const feeratePerKw = Math.floor((feeSat * 1000) / weightOf(transaction));
  if (confirmation === "unknown") {
    if ((await chain.output(channel.funding)) !== null)
      remarks.push(
        `the channel ${file.index} of device ${file.deviceId} has ended for the device, and is open on the chain. If its close does not come, leave by its exit: \`lngate device exit --device ${file.deviceId} --channel ${file.index}\` writes it, --exit publishes it`,
        ...strandedSentences(exit),
      );
    else {
      const secrets = keys.device(file.keys.fundingKey);
      const points = toldPoints(options, file);
      const closing = await howClosed({ ...options, height, secrets, points, blocksBack: 0 }, exit);
      const { sentence, penalty } = closing;
      if (sentence !== null && penalty) {
        remarks.push(sentence, ...penalty.remarks);
        return { exit, confirmation, action: "replaced", feeSat, feeratePerKw, penalty };
      }
    }
    return null;
  }
  if (confirmation === "waiting") remarks.push(...strandedSentences(exit, true));
  return { exit, confirmation, action: confirmation === "waiting" ? "wait" : "done", feeSat, feeratePerKw };
}

/**
 * The owner takes the money home, alone: from the words, with a bitcoind or an Esplora server, without gateway, bridge
 * or device. `planRecovery` looks and decides, `carryOut` publishes what was decided. Both can be repeated at any time:
 * everything is decided anew from what the chain shows, nothing is kept from one run to the next.
 *
 * What is looked for: the outputs of the words' own scripts (what the bridge pays when it closes alone, what a mutual
 * close pays), of deposits whose shared key is known (from a backup, an exit, or revealed in a block), and of
 * the exits that are given, published by us, or replaced by a commitment of the bridge's.
 */

import { scriptAddress } from "../../src/bitcoin/address.ts";
import { depositScript } from "../../src/bitcoin/deposit.ts";
import type { Network } from "../../src/bitcoin/network.ts";
import { p2wpkhScriptCode, p2wsh, witnessSignature } from "../../src/bitcoin/script.ts";
import { SIGHASH_ALL, sighash } from "../../src/bitcoin/sighash.ts";
import { type Outpoint, type Transaction, txidOf, weightOf } from "../../src/bitcoin/transaction.ts";
import { equal, fromHex, toHex } from "../../src/bytes/bytes.ts";
import { theirBasepoints } from "../../src/channel/device-keys.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { toLocalScript, toRemoteScript } from "../../src/lightning/channel.ts";
import { type HtlcTransaction, signedHtlcTransaction } from "../../src/lightning/commitment.ts";
import { derivePrivateKey, derivePublicKey, deriveRevocationPublicKey } from "../../src/lightning/keys.ts";
import { MAX_COMMITMENT_NUMBER } from "../../src/lightning/shachain.ts";
import {
  buildSweep,
  type FoundOutput,
  type Spend,
  signedSweep,
  spendDeposit,
  spendToLocal,
  spendToRemote,
  timeOutHtlc,
} from "../../src/lightning/sweep.ts";
import type { HeldChannel } from "../folder/device-files.ts";
import type { ColdKeys } from "../folder/seed.ts";
import type { ChainOutput, OwnerChain, TransactionStanding } from "./chain.ts";
import { type CheckedExit, type ExitFile, examineExit } from "./exit-file.ts";
import { boundedFeerate, estimateOf } from "./fee-bound.ts";
import type { RecoveryKeys, WalletKey } from "./keys.ts";
import { howClosed, type Penalty } from "./punish.ts";

/** A device's deposit script, as backup and exit know it: the shared key Q and the delay. */
export interface KnownDeposit {
  readonly fundingKey: Uint8Array;
  readonly depositDelay: number;
}

/** A coin of the owner's that pays fees, and its key. */
export interface FeeCoin {
  readonly output: ChainOutput;
  readonly key: WalletKey;
}

export interface RecoveryOptions {
  readonly keys: RecoveryKeys;
  readonly chain: OwnerChain;
  /** Sealed exits (readExit). Ones that are not final are refused. */
  readonly exits: readonly ExitFile[];
  /**
   * Exits that devices keep of channels that have ended for them: good for finding what such a channel has paid, whoever
   * closed it. They are not published: that takes the owner, who names one among `exits`.
   */
  readonly kept?: readonly ExitFile[];
  readonly deposits: readonly KnownDeposit[];
  /** Device numbers that are looked for: 0 … gap − 1. */
  readonly gap: number;
  /** Sat per 1000 weight; without it the chain is asked. */
  readonly feeratePerKw?: number;
  /** Where everything is paid; without it to the words' ordinary address of each device. */
  readonly toScript?: Uint8Array;
  /** The coin that hurries an exit, or pays for payments that timed out in it. */
  readonly coin?: FeeCoin;
  /** Channels of which our own commitment may be on the chain, published by somebody else. */
  readonly channels?: readonly HeldChannel[];
  /** Look for deposits whose backup is lost in all blocks from this height on. */
  readonly scanFromHeight?: number;
  onProgress?(sentence: string): void;
}

/** An exit, and what becomes of it in this run. */
export interface ExitPlan {
  readonly exit: CheckedExit;
  readonly standing: TransactionStanding;
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

/** A transaction that pays the owner. */
export interface Collection {
  readonly what: readonly string[];
  readonly transaction: Transaction;
  readonly inSat: number;
  /** Paid from what is collected, or by the coin. */
  readonly feeSat: number;
  readonly outSat: number;
  readonly toScript: Uint8Array;
}

/** Money that is there, but not yet. */
export interface Waiting {
  readonly what: string;
  readonly valueSat: number;
  /** Block in which it can be spent at the earliest; null: not known before the transaction is in a block. */
  readonly atHeight: number | null;
  /** Blocks it is locked for, where the height is not known yet. */
  readonly delay?: number;
}

export interface RecoveryPlan {
  readonly height: number;
  readonly feeratePerKw: number;
  readonly exits: readonly ExitPlan[];
  readonly collections: readonly Collection[];
  readonly waiting: readonly Waiting[];
  /** At ordinary addresses of the words already: any wallet restored from them finds it. */
  readonly home: readonly { readonly output: ChainOutput; readonly address: string }[];
  /** What could not be found or done, in sentences. */
  readonly remarks: readonly string[];
}

/** How to spend outputs of one script. */
interface Claim {
  readonly what: string;
  readonly witnessScript: Uint8Array;
  readonly device: number;
  spend(output: FoundOutput): Spend;
  readonly secret: Uint8Array;
  /** First block that may hold the spend of an output that is in block `height`. */
  spendableAt(height: number): number;
  /** The only outpoint that counts, where several outputs may have the script. */
  readonly outpoint?: Outpoint;
}

/** An output that can be spent now, and how. */
export interface Claimed {
  readonly claim: Pick<Claim, "what" | "witnessScript" | "secret" | "spend">;
  readonly output: Outpoint & { readonly valueSat: number };
}

const SMALLEST_OUTPUT_SAT = 546;
/** By how much a signature may be longer than that of the draft whose weight decided the fee. */
const SIGNATURE_SLACK = 8;
/** An exit that pays less than this part of the going feerate is worth hurrying. */
const SLOW = 0.8;

/**
 * Looks at the chain and decides. Throws `exit-not-newest` for an exit that may have been revoked, `exit-invalid`,
 * `exit-not-yours`, `wrong-network`, `feerate-unknown`, `coin-too-small`, and what the chain throws.
 */
export async function planRecovery(options: RecoveryOptions): Promise<RecoveryPlan> {
  const { keys, chain, gap } = options;
  const progress = options.onProgress ?? (() => {});
  await chain.check(keys.network);
  const remarks: string[] = [];
  const exits = newestOnly(options.exits, keys.network).map(examineExit);
  const kept = (options.kept ?? [])
    .filter(each => !exits.some(({ file }) => isOfOneChannel(file, each)))
    .flatMap(each => usable(each, remarks));
  const height = await chain.height();
  const named = options.feeratePerKw;
  const estimate = named === undefined ? await estimateOf(chain) : { perKw: named };
  const feeratePerKw = estimate.perKw;
  const isEstimate = named === undefined;
  if (estimate.remark !== undefined) remarks.push(estimate.remark);

  const devices = new Map<number, ColdKeys>();
  for (let index = 0; index < gap; index++) devices.set(index, keys.cold(index));
  const deposits = [...options.deposits, ...[...exits, ...kept].map(({ file }) => file.keys)];
  if (options.scanFromHeight !== undefined) {
    deposits.push(...(await revealedDeposits(options, devices, progress)));
  }
  const claims = distinct([
    ...[...devices].map(([index, cold]) => remoteClaim(keys, index, cold)),
    ...depositClaims(keys, devices, deposits),
    ...exits.flatMap(exit => exitClaims(keys, devices, exit)),
    ...kept.flatMap(exit => (isOfThese(devices, exit) ? exitClaims(keys, devices, exit) : [])),
    ...(options.channels ?? [])
      .filter(
        ({ keys: { fundingKey }, proposal: { index } }) =>
          ![...exits, ...kept].some(
            ({ file }) => equal(file.keys.fundingKey, fundingKey) && file.index === index,
          ),
      )
      .flatMap(channel => publishedClaims(keys, devices, channel, remarks)),
  ]);
  const wallet = [...devices.keys()].flatMap(index => [keys.wallet(index), keys.wallet(index, true)]);

  progress(`looking for ${claims.length + wallet.length} scripts`);
  const scripts = new Map(
    [...claims.map(claim => p2wsh(claim.witnessScript)), ...wallet.map(each => each.script)].map(script => [
      toHex(script),
      script,
    ]),
  );
  const found = await chain.unspent([...scripts.values()]);
  const paying = (script: Uint8Array) => found.filter(output => equal(output.script, script));

  // A coin is spent once.
  let coin = options.coin;
  const plans: ExitPlan[] = [];
  for (const exit of exits) {
    const plan = await planExit(options, exit, coin, height, feeratePerKw, remarks);
    if (plan.child) coin = undefined;
    plans.push(plan);
  }
  for (const exit of kept) {
    const plan = await lookAtKept(options, exit, height, remarks);
    if (plan) plans.push(plan);
  }

  const waiting: Waiting[] = [];
  const ready: { claim: Claim; output: ChainOutput }[] = [];
  for (const claim of claims) {
    for (const output of paying(p2wsh(claim.witnessScript))) {
      if (claim.outpoint && !sameOutpoint(claim.outpoint, output)) continue;
      const atHeight = claim.spendableAt(output.height!);
      if (atHeight <= height + 1) ready.push({ claim, output });
      else waiting.push({ what: claim.what, valueSat: output.valueSat, atHeight });
    }
  }
  for (const { exit, action } of plans) {
    if (action === "done" || action === "replaced") continue;
    const toLocal = exit.commitment.outputs.find(({ kind }) => kind === "to-local");
    if (toLocal) {
      const delay = exit.channel.ours.toLocalDelay;
      waiting.push({
        what: `exit of device ${exit.file.deviceId}`,
        valueSat: toLocal.valueSat,
        atHeight: null,
        delay,
      });
    }
  }

  // First what the bridge may take as well.
  const collections: Collection[] = [];
  for (const { exit, penalty } of plans) {
    waiting.push(...(penalty?.waiting ?? []));
    for (const group of penalty?.ready ?? []) {
      const toScript = options.toScript ?? exit.file.keys.shutdownScript;
      collections.push(...collect(group, toScript, feeratePerKw, remarks, isEstimate));
    }
  }
  for (const [script, group] of byDestination(ready, devices, options.toScript)) {
    collections.push(...collect(group, script, feeratePerKw, remarks, isEstimate));
  }
  for (const { exit, standing } of plans) {
    if (typeof standing !== "number") continue;
    const timedOut = await timeOuts(options, exit, coin, height, feeratePerKw, waiting, remarks);
    if (!timedOut) continue;
    coin = undefined;
    collections.push(timedOut);
  }

  const home = wallet
    .flatMap(({ script }) => paying(script))
    .map(output => ({
      output,
      address: scriptAddress(output.script, keys.network),
    }));
  if (deposits.length === 0)
    remarks.push(
      "deposits: not looked for, since their addresses follow from a key that is only in backup.json, in the exit, or in a block where such a deposit was spent (--scan-from)",
    );
  if (exits.length + kept.length === 0)
    remarks.push(
      "exits: none was given. A channel that nobody has closed yet needs one (`lngate device exit`), or the gateway's or the bridge's help (`lngate owner freeze`). One that was closed with the device's own state, by the gateway or by a thief, can't be seen without its exit or channel.json (`lngate device close` asks the gateway for that)",
    );
  return { height, feeratePerKw, exits: plans, collections, waiting, home, remarks };
}

/**
 * Publishes what the plan says; the txids, in order, are in `published` also where it throws. Throws `chain-refused`
 * if something was refused, after everything else is published.
 */
export async function carryOut(
  chain: OwnerChain,
  plan: RecoveryPlan,
  published: Uint8Array[] = [],
): Promise<Uint8Array[]> {
  const refusals: string[] = [];
  const publish = async (transactions: readonly Transaction[], advice = "") => {
    try {
      await chain.publish(transactions);
      published.push(...transactions.map(txidOf));
    } catch (error) {
      if (codeOf(error) !== "chain-refused") throw error;
      refusals.push((error as Error).message + advice);
    }
  };
  // Penalties come first in the plan, and nothing here needs an exit that is published in the same run.
  for (const { transaction } of plan.collections) await publish([transaction]);
  for (const { action, exit, standing, child } of plan.exits) {
    if (action === "publish")
      await publish(
        [exit.transaction],
        exit.anchor ? ". If its fee is too low for these times, name a coin of yours with --coin" : "",
      );
    if (action === "bump" && child) {
      await publish(standing === "waiting" ? [child] : [exit.transaction, child]);
    }
  }
  if (refusals.length > 0) throw lngateError("chain-refused", refusals.join("; "));
  return published;
}

/** True if a later run has anything left to do. */
export function isUnfinished({ exits, collections, waiting }: RecoveryPlan): boolean {
  const pending = exits.some(({ action }) => action !== "done" && action !== "replaced");
  return pending || collections.length > 0 || waiting.length > 0;
}

/**
 * A coin of the owner's as it is named, `txid:vout`. Its key is `key`, or belongs to an ordinary address of the words.
 * Throws `coin-unknown`, `coin-key-missing`.
 */
export async function feeCoin(
  { keys, chain, gap }: Pick<RecoveryOptions, "keys" | "chain" | "gap">,
  named: string,
  key?: WalletKey,
): Promise<FeeCoin> {
  const [, txid, vout] = /^([0-9a-f]{64}):(\d{1,6})$/.exec(named.trim()) ?? [];
  if (!txid) throw lngateError("coin-unknown", `a coin is named by its transaction and output: TXID:N`);
  const output = await chain.output({ txid: fromHex(txid).reverse(), vout: Number(vout) });
  if (!output) throw lngateError("coin-unknown", `the coin ${named} is spent, or was never there`);
  const candidates = key ? [key] : [];
  for (let index = 0; index < gap && !key; index++) {
    candidates.push(keys.wallet(index), keys.wallet(index, true));
  }
  const owner = candidates.find(({ script }) => equal(script, output.script));
  if (owner) return { output, key: owner };
  throw lngateError(
    "coin-key-missing",
    key
      ? `the key that was given does not own the coin ${named}`
      : `the coin ${named} is at none of the first ${gap} addresses of these words: give its key with --coin-key`,
  );
}

// ── exits ─────────────────────────────────────────────────────────────────────────────────────────────────

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
  options: RecoveryOptions,
  exit: CheckedExit,
  coin: FeeCoin | undefined,
  height: number,
  feeratePerKw: number,
  remarks: string[],
): Promise<ExitPlan> {
  const { chain, keys, toScript } = options;
  const { transaction, channel, file } = exit;
  const outSat = transaction.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0);
  const feeSat = channel.fundingSat - outSat;
  const own = { exit, feeSat, feeratePerKw: Math.floor((feeSat * 1000) / weightOf(transaction)) };
  const standing = await chain.standing(transaction);
  const named = `the exit of device ${file.deviceId}`;
  if (typeof standing === "number") return { ...own, standing, action: "done" };
  if (standing === "unknown" && (await chain.output(channel.funding)) === null) {
    const secrets = keys.device(file.keys.fundingKey);
    const isEstimate = options.feeratePerKw === undefined;
    const closing = await howClosed({ ...options, feeratePerKw, isEstimate, height, secrets }, exit);
    const { sentence, penalty } = closing;
    remarks.push(sentence ?? (await whoClosed(chain, exit)), ...(penalty?.remarks ?? []));
    return { ...own, standing, action: "replaced", ...(penalty ? { penalty } : {}) };
  }
  if (exit.fault) throw exit.fault;
  if (!file.final) {
    if (standing === "unknown") throw notNewest(file);
    return { ...own, standing, action: "wait" };
  }
  const slow = own.feeratePerKw < feeratePerKw * SLOW;
  if (!coin || !(slow || standing === "waiting")) {
    if (slow)
      remarks.push(
        exit.anchor
          ? `${named} pays ${perVbyte(own.feeratePerKw)} sat/vB, less than the ${perVbyte(feeratePerKw)} of now: it may wait for long, or not be taken at all. Name a coin of yours with --coin, and it is hurried through its anchor`
          : `${named} pays ${perVbyte(own.feeratePerKw)} sat/vB and holds payments in flight: such a state has no signed anchor, so nothing can hurry it; publish it again when feerates fall`,
      );
    return { ...own, standing, action: standing === "waiting" ? "wait" : "publish" };
  }
  if (!exit.anchor) {
    remarks.push(
      `${named} can't be hurried: payments are in flight in it, such a state has no signed anchor`,
    );
    return { ...own, standing, action: standing === "waiting" ? "wait" : "publish" };
  }
  const change = toScript ?? keys.wallet(0, true).script;
  const { child, childFeeSat } = anchorChild(exit, coin, options.feeratePerKw, feeratePerKw, feeSat, change);
  return { ...own, standing, action: "bump", child, childFeeSat };
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

function isOfOneChannel(a: ExitFile, b: ExitFile): boolean {
  return a.index === b.index && equal(a.keys.fundingKey, b.keys.fundingKey);
}

function isOfThese(devices: ReadonlyMap<number, ColdKeys>, { file }: CheckedExit): boolean {
  return [...devices.values()].some(cold =>
    equal(cold.delayedPaymentBasepoint, file.keys.delayedPaymentBasepoint),
  );
}

/** What the chain shows of a channel that has ended for its device; null where somebody else's transaction rightly closed it. */
async function lookAtKept(
  options: RecoveryOptions,
  exit: CheckedExit,
  height: number,
  remarks: string[],
): Promise<ExitPlan | null> {
  const { chain, keys } = options;
  const { transaction, channel, file } = exit;
  const standing = await chain.standing(transaction);
  const outSat = transaction.outputs.reduce((sum, { valueSat }) => sum + valueSat, 0);
  const feeSat = channel.fundingSat - outSat;
  const feeratePerKw = Math.floor((feeSat * 1000) / weightOf(transaction));
  if (standing === "unknown") {
    if ((await chain.output(channel.funding)) !== null)
      remarks.push(
        `the channel ${file.index} of device ${file.deviceId} has ended for the device, and is open on the chain. If its close does not come, leave by its exit: \`lngate device exit --device ${file.deviceId} --channel ${file.index}\` writes it, --exit publishes it`,
      );
    else {
      const secrets = keys.device(file.keys.fundingKey);
      const closing = await howClosed({ ...options, height, secrets, blocksBack: 0 }, exit);
      const { sentence, penalty } = closing;
      if (sentence !== null && penalty) {
        remarks.push(sentence, ...penalty.remarks);
        return { exit, standing, action: "replaced", feeSat, feeratePerKw, penalty };
      }
    }
    return null;
  }
  return { exit, standing, action: standing === "waiting" ? "wait" : "done", feeSat, feeratePerKw };
}

export async function whoClosed(chain: OwnerChain, { file, theirs }: CheckedExit): Promise<string> {
  const channel = `the channel of device ${file.deviceId}`;
  for (const { number, commitment } of theirs) {
    if ((await chain.standing(commitment.transaction)) !== "unknown")
      return `${channel} was closed by the bridge, with its state ${number}: its exit is not needed, what it pays you is listed here`;
  }
  return `${channel} is closed already, and nothing of this exit is left on the chain: both sides or the bridge have closed it, or everything is collected`;
}

/** The anchor's spend with the coin added, so that both transactions together pay the feerate. */
function anchorChild(
  exit: CheckedExit,
  coin: FeeCoin,
  namedPerKw: number | undefined,
  estimatePerKw: number,
  parentFeeSat: number,
  change: Uint8Array,
): { child: Transaction; childFeeSat: number } {
  const anchor = exit.anchor!;
  const paying = (valueSat: number) =>
    withCoin(
      { ...anchor, outputs: [...anchor.outputs, { valueSat, script: change }] },
      coin,
      anchor.inputs.length,
    );
  const childWeight = weightOf(paying(coin.output.valueSat)) + SIGNATURE_SLACK;
  const weight = weightOf(exit.transaction) + childWeight;
  const toLocal = exit.commitment.outputs.find(({ kind }) => kind === "to-local");
  const feeratePerKw = namedPerKw ?? boundedFeerate(estimatePerKw, toLocal?.valueSat ?? 0, weight);
  // A child pays at least its own way: nodes take none below their minimum.
  const ownFeeSat = Math.ceil((childWeight * feeratePerKw) / 1000);
  const childFeeSat = Math.max(Math.ceil((weight * feeratePerKw) / 1000) - parentFeeSat, ownFeeSat);
  const changeSat = coin.output.valueSat - childFeeSat;
  if (changeSat < SMALLEST_OUTPUT_SAT)
    throw lngateError(
      "coin-too-small",
      `hurrying the exit costs ${childFeeSat} sat; the coin of ${coin.output.valueSat} sat is too small for that`,
    );
  return { child: paying(changeSat), childFeeSat };
}

/** Adds the coin's input, signed last: it signs everything. */
function withCoin(transaction: Transaction, { output, key }: FeeCoin, at: number): Transaction {
  const inputs = [
    ...transaction.inputs.slice(0, at),
    { txid: output.txid, vout: output.vout, sequence: 0xfffffffd },
  ];
  const whole = { ...transaction, inputs };
  const hash = sighash(whole, at, p2wpkhScriptCode(key.publicKey), output.valueSat);
  const witness = [witnessSignature(nobleCurve.sign(hash, key.secret)), key.publicKey];
  return { ...whole, inputs: [...inputs.slice(0, at), { ...inputs[at]!, witness }] };
}

// ── claims ────────────────────────────────────────────────────────────────────────────────────────────────

/** What is said twice is collected once. */
function distinct(claims: readonly Claim[]): Claim[] {
  const named = (claim: Claim) =>
    `${toHex(claim.witnessScript)} ${claim.outpoint ? `${toHex(claim.outpoint.txid)}:${claim.outpoint.vout}` : ""}`;
  return [...new Map(claims.map(claim => [named(claim), claim])).values()];
}

function remoteClaim(keys: RecoveryKeys, device: number, cold: ColdKeys): Claim {
  return {
    what: `paid by the bridge's own close of device number ${device}`,
    witnessScript: toRemoteScript(cold.paymentBasepoint),
    device,
    spend: spendToRemote,
    secret: keys.coldSecrets(device).payment,
    spendableAt: height => height + 1,
  };
}

/** One for each deposit script: any of our deposit keys may belong to a Q that came without its number. */
function depositClaims(
  keys: RecoveryKeys,
  devices: ReadonlyMap<number, ColdKeys>,
  deposits: readonly (KnownDeposit & { readonly depositOwnerKey?: Uint8Array })[],
): Claim[] {
  const claims = new Map<string, Claim>();
  for (const { fundingKey, depositDelay, depositOwnerKey } of deposits) {
    for (const [device, cold] of devices) {
      if (depositOwnerKey && !equal(depositOwnerKey, cold.depositOwnerKey)) continue;
      const witnessScript = depositScript(fundingKey, cold.depositOwnerKey, depositDelay);
      claims.set(toHex(witnessScript), {
        what: `deposit of device number ${device}`,
        witnessScript,
        device,
        spend: output => spendDeposit(output, depositDelay),
        secret: keys.coldSecrets(device).depositOwner,
        spendableAt: height => height + depositDelay,
      });
    }
  }
  return [...claims.values()];
}

/** to_local of an exit and of its HTLC transactions, and what the bridge's commitments hold of payments in flight. */
function exitClaims(keys: RecoveryKeys, devices: ReadonlyMap<number, ColdKeys>, exit: CheckedExit): Claim[] {
  const { file, channel } = exit;
  const ours = channel.ours.basepoints;
  const device = deviceOf(devices, file);
  const delay = channel.ours.toLocalDelay;
  const claims: Claim[] = [
    {
      what: `exit of device ${file.deviceId}`,
      witnessScript: toLocalScript(exit.keys, delay),
      device,
      spend: output => spendToLocal(output, delay),
      secret: derivePrivateKey(keys.coldSecrets(device).delayedPayment, ours.delayed, file.point),
      spendableAt: height => height + delay,
    },
  ];
  const { htlcBasepointSecret } = keys.device(file.keys.fundingKey);
  for (const { commitment, point } of exit.theirs) {
    for (const { htlc, vout, witnessScript } of commitment.htlcs) {
      // In the bridge's own commitment, what we offered is what it received.
      if (htlc.offered) continue;
      claims.push({
        what: `a payment of device ${file.deviceId} that was never delivered`,
        witnessScript,
        device,
        outpoint: { txid: commitment.txid, vout },
        spend: output => timeOutHtlc(output, htlc.cltvExpiry),
        secret: derivePrivateKey(htlcBasepointSecret, ours.htlc, point),
        spendableAt: height => Math.max(height, htlc.cltvExpiry) + 1,
      });
    }
  }
  return claims;
}

/** The device may be a state ahead of what the gateway has seen, or behind it. */
const STATES_AROUND = 2;

/**
 * to_local of our commitment, where somebody else has published it: the gateway, for which the device had signed it, or
 * a thief of the device. What is in flight in it is lost without the exit: the bridge's signatures for it are in there.
 */
function publishedClaims(
  keys: RecoveryKeys,
  devices: ReadonlyMap<number, ColdKeys>,
  { deviceId, keys: { fundingKey, delayedPaymentBasepoint }, proposal, number }: HeldChannel,
  remarks: string[],
): Claim[] {
  const [device] =
    [...devices].find(([, cold]) => equal(cold.delayedPaymentBasepoint, delayedPaymentBasepoint)) ?? [];
  const { revocation } = theirBasepoints(proposal);
  // It is the gateway's word, and may be of another owner's device: then it helps nothing, and nothing depends on it.
  if (device === undefined || !nobleCurve.isPoint(revocation)) {
    remarks.push(
      `what channel.json says of device ${deviceId} can't be used: it is of other words, or wrong`,
    );
    return [];
  }
  const delay = proposal.ourDelay;
  const claims: Claim[] = [];
  const last = Math.min(number + STATES_AROUND, MAX_COMMITMENT_NUMBER);
  for (let at = Math.max(0, number - STATES_AROUND); at <= last; at++) {
    const point = keys.commitmentPoint(fundingKey, proposal.index, at);
    const toLocal = {
      revocation: deriveRevocationPublicKey(nobleCurve, revocation, point),
      delayed: derivePublicKey(nobleCurve, delayedPaymentBasepoint, point),
    };
    claims.push({
      what: `exit of device ${deviceId}, published by somebody else`,
      witnessScript: toLocalScript(toLocal, delay),
      device,
      spend: output => spendToLocal(output, delay),
      secret: derivePrivateKey(keys.coldSecrets(device).delayedPayment, delayedPaymentBasepoint, point),
      spendableAt: height => height + delay,
    });
  }
  return claims;
}

/** Throws `exit-not-yours`. */
function deviceOf(devices: ReadonlyMap<number, ColdKeys>, file: ExitFile): number {
  for (const [device, cold] of devices) {
    if (equal(cold.delayedPaymentBasepoint, file.keys.delayedPaymentBasepoint)) return device;
  }
  throw lngateError(
    "exit-not-yours",
    `the exit of device ${file.deviceId} pays a key that is not among the first ${devices.size} of these words: raise --gap, or these are other words`,
  );
}

/** Deposits that some block shows being spent: the witness has the script, with our key in it. */
async function revealedDeposits(
  { chain, scanFromHeight = 0 }: RecoveryOptions,
  devices: ReadonlyMap<number, ColdKeys>,
  progress: (sentence: string) => void,
): Promise<KnownDeposit[]> {
  const owners = [...devices.values()].map(({ depositOwnerKey }) => depositOwnerKey);
  const scripts = await chain.revealedScripts(
    scanFromHeight,
    script => readDepositScript(script, owners) !== null,
    (at, tip) => progress(`reading block ${at} of ${tip}`),
  );
  return scripts.flatMap(script => readDepositScript(script, owners) ?? []);
}

/** Q and delay of a deposit script with one of these owner's keys; null for any other script. */
function readDepositScript(script: Uint8Array, owners: readonly Uint8Array[]): KnownDeposit | null {
  // IF <Q> CHECKSIG ELSE <delay> …: the delay is an opcode up to 16, otherwise a push of one to three bytes.
  const at = 1 + 34 + 2;
  const fundingKey = script.slice(2, 35);
  const code = script[at] ?? 0;
  let depositDelay = code - 0x50;
  if (code >= 1 && code <= 3) {
    depositDelay = 0;
    for (let i = code; i > 0; i--) depositDelay = depositDelay * 256 + (script[at + i] ?? 0);
  }
  if (depositDelay < 1 || depositDelay > 65535) return null;
  const isOurs = owners.some(owner => equal(depositScript(fundingKey, owner, depositDelay), script));
  return isOurs ? { fundingKey, depositDelay } : null;
}

// ── collecting ────────────────────────────────────────────────────────────────────────────────────────────

type Ready = { readonly claim: Claim; readonly output: ChainOutput };

/** What goes into one transaction: a device's outputs, or all if they go to one place. */
function byDestination(
  ready: readonly Ready[],
  devices: ReadonlyMap<number, ColdKeys>,
  toScript: Uint8Array | undefined,
): Map<Uint8Array, Ready[]> {
  const groups = new Map<Uint8Array, Ready[]>();
  for (const each of ready) {
    const script = toScript ?? devices.get(each.claim.device)!.shutdownScript;
    groups.set(script, [...(groups.get(script) ?? []), each]);
  }
  return groups;
}

/** Of one transaction: nodes take none that is heavier than 400,000. */
const MAX_INPUTS = 200;

/** Of a transaction with one output, beside its inputs. */
const SWEEP_WEIGHT = 4 * 53 + 2;

/**
 * As many transactions as it takes. What is not worth its fee is left, with a remark. An estimate is paid as far as what
 * comes home allows ({@link boundedFeerate}).
 */
export function collect(
  group: readonly Claimed[],
  toScript: Uint8Array,
  wantedPerKw: number,
  remarks: string[],
  isEstimate = false,
): Collection[] {
  const spends = group.map(({ claim, output }) => {
    const spend = claim.spend({ ...output, witnessScript: claim.witnessScript });
    const weight = 41 * 4 + 2 + 73 + spend.witnessScript.length + 3;
    return { what: claim.what, secret: claim.secret, spend, weight };
  });
  const totalSat = spends.reduce((sum, { spend }) => sum + spend.valueSat, 0);
  const totalWeight = spends.reduce((sum, { weight }) => sum + weight, SWEEP_WEIGHT);
  const feeratePerKw = isEstimate ? boundedFeerate(wantedPerKw, totalSat, totalWeight) : wantedPerKw;
  if (feeratePerKw < wantedPerKw)
    remarks.push(
      `the feerate of ${perVbyte(wantedPerKw)} sat/vB would take too much of ${totalSat} sat: ${perVbyte(feeratePerKw)} are paid; name another with --feerate`,
    );
  // An output that costs more than it brings would be paid for by the others.
  const left = new Map<string, { sat: number; costSat: number }>();
  const worth = spends.filter(({ spend, what, weight }) => {
    const costSat = Math.ceil((weight * feeratePerKw) / 1000);
    if (spend.valueSat > costSat) return true;
    const before = left.get(what) ?? { sat: 0, costSat: 0 };
    left.set(what, { sat: before.sat + spend.valueSat, costSat: before.costSat + costSat });
    return false;
  });
  for (const [what, { sat, costSat }] of left)
    remarks.push(`${sat} sat (${what}) are not worth the fee of ${costSat} sat: left where they are`);
  // Anybody may have paid crumbs to a script of ours: they don't decide over what is worth something.
  worth.sort((a, b) => b.spend.valueSat - a.spend.valueSat);
  const collections: Collection[] = [];
  for (let at = 0; at < worth.length; at += MAX_INPUTS) {
    const some = worth.slice(at, at + MAX_INPUTS);
    try {
      const sweep = buildSweep(
        some.map(({ spend }) => spend),
        toScript,
        feeratePerKw,
      );
      const signatures = sweep.sighashes.map((hash, i) => nobleCurve.sign(hash, some[i]!.secret));
      const inSat = some.reduce((sum, { spend }) => sum + spend.valueSat, 0);
      collections.push({
        what: some.map(({ what }) => what),
        transaction: signedSweep(sweep, signatures),
        inSat,
        feeSat: sweep.feeSat,
        outSat: inSat - sweep.feeSat,
        toScript,
      });
    } catch (error) {
      if (codeOf(error) !== "sweep-too-small") throw error;
      remarks.push(`left where it is: ${(error as Error).message}`);
    }
  }
  return collections;
}

/**
 * Payments that timed out in our own exit. Their transactions were signed by the bridge without a fee, so that a coin
 * has to pay it; what they bring is locked for the exit's delay once more.
 */
async function timeOuts(
  { keys, chain, toScript, feeratePerKw: namedPerKw }: RecoveryOptions,
  exit: CheckedExit,
  coin: FeeCoin | undefined,
  height: number,
  estimatePerKw: number,
  waiting: Waiting[],
  remarks: string[],
): Promise<Collection | null> {
  const { commitment, file, channel } = exit;
  // Its transactions take the bridge's signatures, too.
  if (exit.fault) return null;
  const due: { htlc: HtlcTransaction; index: number }[] = [];
  for (const [index, htlc] of commitment.htlcs.entries()) {
    const { valueSat, vout } = htlc;
    if ((await chain.output({ txid: commitment.txid, vout })) === null) continue;
    if (!htlc.htlc.offered) {
      remarks.push(
        `${valueSat} sat that the bridge had offered to device ${file.deviceId} go back to it: they were never claimed`,
      );
      continue;
    }
    const what = `a payment of device ${file.deviceId} that was not delivered`;
    if (htlc.htlc.cltvExpiry <= height) due.push({ htlc, index });
    else waiting.push({ what, valueSat, atHeight: htlc.htlc.cltvExpiry + 1 });
  }
  if (due.length === 0) return null;
  const valueSat = due.reduce((sum, { htlc }) => sum + htlc.valueSat, 0);
  if (!coin) {
    remarks.push(
      `${valueSat} sat in ${due.length} payment(s) of device ${file.deviceId} have timed out and are yours, but a coin must pay the fee: name one with --coin`,
    );
    waiting.push({ what: "payments that timed out, until a coin pays their fee", valueSat, atHeight: null });
    return null;
  }
  const change = toScript ?? keys.wallet(0, true).script;
  const { htlcBasepointSecret } = keys.device(file.keys.fundingKey);
  const secret = derivePrivateKey(htlcBasepointSecret, channel.ours.basepoints.htlc, file.point);
  const locktime = Math.max(...due.map(({ htlc }) => htlc.htlc.cltvExpiry));
  // The bridge's signature binds each input to the output of the same index, and the lock time of its own expiry.
  const same = due.filter(({ htlc }) => htlc.htlc.cltvExpiry === locktime);
  const paying = (changeSat: number): Transaction => {
    const inputs = same.map(({ htlc }) => htlc.transaction.inputs[0]!);
    const coinInput = { txid: coin.output.txid, vout: coin.output.vout, sequence: 0xfffffffd };
    const whole: Transaction = {
      version: 2,
      inputs: [...inputs, coinInput],
      outputs: [
        ...same.map(({ htlc }) => htlc.transaction.outputs[0]!),
        { valueSat: changeSat, script: change },
      ],
      locktime,
    };
    const signed = same.map(({ htlc, index }, i) => {
      const hash = sighash(whole, i, htlc.witnessScript, htlc.valueSat, SIGHASH_ALL);
      const ours = nobleCurve.sign(hash, secret);
      return signedHtlcTransaction(htlc, ours, file.htlcSignatures[index]!, null).inputs[0]!;
    });
    return withCoin({ ...whole, inputs: [...signed, coinInput] }, coin, same.length);
  };
  const weight = weightOf(paying(coin.output.valueSat)) + SIGNATURE_SLACK;
  const inSat = same.reduce((sum, { htlc }) => sum + htlc.valueSat, 0);
  const feeratePerKw = namedPerKw ?? boundedFeerate(estimatePerKw, inSat, weight);
  const feeSat = Math.ceil((weight * feeratePerKw) / 1000);
  const changeSat = coin.output.valueSat - feeSat;
  if (changeSat < SMALLEST_OUTPUT_SAT)
    throw lngateError(
      "coin-too-small",
      `taking back payments that timed out costs ${feeSat} sat; the coin of ${coin.output.valueSat} sat is too small`,
    );
  return {
    what: same.map(() => `a payment of device ${file.deviceId} that timed out`),
    transaction: paying(changeSat),
    inSat,
    feeSat,
    outSat: inSat,
    toScript: change,
  };
}

function sameOutpoint(a: Outpoint, b: Outpoint): boolean {
  return a.vout === b.vout && equal(a.txid, b.txid);
}

export function perVbyte(feeratePerKw: number): string {
  return (feeratePerKw / 250).toFixed(1);
}

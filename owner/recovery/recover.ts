/**
 * The owner takes the money home, alone: from the words, with a bitcoind or an Esplora server, without gateway, bridge
 * or device. `planRecovery` looks and decides, `carryOut` publishes what was decided. Both can be repeated at any time:
 * everything is decided again from what the chain shows, nothing is kept from one run to the next.
 *
 * What is looked for: the outputs of the words' own scripts (what the bridge pays when it closes alone, what a mutual
 * close pays), of deposits whose shared key is known (from a backup, an exit, or revealed in a block), and of
 * the exits that are given, published by us, or replaced by a commitment of the bridge's.
 */

import { scriptAddress } from "../../src/bitcoin/address.ts";
import { p2wsh } from "../../src/bitcoin/script.ts";
import { type Outpoint, type Transaction, txidOf } from "../../src/bitcoin/transaction.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import type { ChainOutput, OwnerChain } from "../chain/chain.ts";
import { estimateOf } from "../chain/fee-bound.ts";
import type { ColdKeys } from "../folder/seed.ts";
import {
  type Claim,
  claimsOf,
  type OurCommitment,
  revealedDeposits,
  toldCommitments,
  type Waiting,
} from "./claims.ts";
import { byDestination, type Collection, collect, type Ready } from "./collect.ts";
import type { CheckedExit } from "./exit-file.ts";
import { type ExitPlan, exitsOf, planExits } from "./exits.ts";
import type { FeeCoin } from "./fee-coin.ts";
import type { RecoveryOptions, RecoveryRun } from "./options.ts";
import { timeOuts } from "./time-outs.ts";

/** What is there, and what is to be published: all sums are sat. */
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

/**
 * Looks at the chain and decides. Throws `exit-not-newest` for an exit that may have been revoked, `exit-invalid`,
 * `exit-not-yours`, `wrong-network`, `feerate-unknown`, `coin-too-small`, and what the chain throws.
 */
export async function planRecovery(options: RecoveryOptions): Promise<RecoveryPlan> {
  const { keys, chain, gap } = options;
  await chain.check(keys.network);
  const remarks: string[] = [];
  const { given, kept } = exitsOf(options, remarks);
  const height = await chain.height();
  const named = options.feeratePerKw;
  const estimate = named === undefined ? await estimateOf(chain) : { perKw: named };
  const feeratePerKw = estimate.perKw;
  const isEstimate = named === undefined;
  if (estimate.remark !== undefined) remarks.push(estimate.remark);

  const devices = new Map<number, ColdKeys>();
  for (let index = 0; index < gap; index++) devices.set(index, keys.cold(index));
  const run: RecoveryRun = { options, devices, height, feeratePerKw, isEstimate, remarks };
  const deposits = [...options.deposits, ...[...given, ...kept].map(({ file }) => file.keys)];
  if (options.scanFromHeight !== undefined) deposits.push(...(await revealedDeposits(run)));
  const claims = claimsOf(run, given, kept, deposits);
  const wallet = [...devices.keys()].flatMap(index => [keys.wallet(index), keys.wallet(index, true)]);

  options.onProgress?.(`looking for ${claims.length + wallet.length} scripts`);
  const found = await chain.unspent(
    distinct([...claims.map(claim => p2wsh(claim.witnessScript)), ...wallet.map(({ script }) => script)]),
  );
  const { plans, coin } = await planExits(run, given, kept);
  const claimed = sortedByTime(claims, found, height);
  const waiting = [...claimed.waiting, ...plans.flatMap(toCome)];
  const collections = await collectAll(run, plans, claimed.ready, coin, waiting);
  const home = wallet
    .flatMap(({ script }) => found.filter(output => equal(output.script, script)))
    .map(output => ({ output, address: scriptAddress(output.script, keys.network) }));
  if (deposits.length === 0)
    remarks.push(
      "deposits: not looked for, since their addresses follow from a key that is only in backup.json, in the exit, or in a block where such a deposit was spent (--scan-from)",
    );
  if (given.length + kept.length === 0)
    remarks.push(
      "exits: none was given. A channel that nobody has closed yet needs one (`lngate device exit`), or the gateway's or the bridge's help (`lngate owner freeze`). One that was closed with the device's own state, by the gateway or by a thief, can't be seen without its exit or channel.json (`lngate device close` or `lngate owner freeze` asks the gateway for that)",
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
  for (const { action, exit, confirmation, child } of plan.exits) {
    if (action === "publish")
      await publish(
        [exit.transaction],
        exit.anchor ? ". If its fee is too low for these times, name a coin of yours with --coin" : "",
      );
    if (action === "bump" && child) {
      await publish(confirmation === "waiting" ? [child] : [exit.transaction, child]);
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

function distinct(scripts: readonly Uint8Array[]): Uint8Array[] {
  return [...new Map(scripts.map(script => [toHex(script), script])).values()];
}

/** What of these outputs can be spent in the next block, and what has to wait. */
function sortedByTime(
  claims: readonly Claim[],
  found: readonly ChainOutput[],
  height: number,
): { ready: Ready[]; waiting: Waiting[] } {
  const ready: Ready[] = [];
  const waiting: Waiting[] = [];
  for (const claim of claims) {
    const script = p2wsh(claim.witnessScript);
    for (const output of found.filter(each => equal(each.script, script))) {
      if (claim.outpoint && !sameOutpoint(claim.outpoint, output)) continue;
      const atHeight = claim.spendableAt(output.height!);
      if (atHeight <= height + 1) ready.push({ claim, output });
      else waiting.push({ what: claim.what, valueSat: output.valueSat, atHeight });
    }
  }
  return { ready, waiting };
}

/** What an exit that is in no block yet will pay. */
function toCome({ exit, action }: ExitPlan): Waiting[] {
  if (action === "done" || action === "replaced") return [];
  const toLocal = exit.commitment.outputs.find(({ kind }) => kind === "to-local");
  if (!toLocal) return [];
  const delay = exit.channel.holder.toLocalDelay;
  return [
    { what: `exit of device ${exit.file.deviceId}`, valueSat: toLocal.valueSat, atHeight: null, delay },
  ];
}

/** The transactions to publish, in their order: first what the bridge may take as well. Adds to `waiting`. */
async function collectAll(
  run: RecoveryRun,
  plans: readonly ExitPlan[],
  ready: readonly Ready[],
  coin: FeeCoin | undefined,
  waiting: Waiting[],
): Promise<Collection[]> {
  const { options, devices, feeratePerKw, isEstimate, remarks } = run;
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
  let left = coin;
  const confirmed = plans
    .filter(({ exit, confirmation }) => typeof confirmation === "number" && exit.fault === null)
    .map(({ exit }) => ourCommitment(exit));
  const others = toldCommitments(run).filter(
    ({ commitment: { txid } }) => !confirmed.some(each => equal(each.commitment.txid, txid)),
  );
  for (const commitment of [...confirmed, ...others]) {
    const timedOut = await timeOuts(run, commitment, left, waiting);
    if (!timedOut) continue;
    // A coin is spent once.
    left = undefined;
    collections.push(timedOut);
  }
  return collections;
}

function ourCommitment({ file, channel, commitment, stranded }: CheckedExit): OurCommitment {
  const { deviceId, keys, point, htlcSignatures } = file;
  return { deviceId, fundingKey: keys.fundingKey, channel, point, commitment, htlcSignatures, stranded };
}

function sameOutpoint(a: Outpoint, b: Outpoint): boolean {
  return a.vout === b.vout && equal(a.txid, b.txid);
}

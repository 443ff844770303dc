/**
 * What the owner can spend, if it is on the chain: the outputs of the words' own scripts, and of deposits, exits and the
 * bridge's commitments. A claim is a script and how to spend what pays it; nothing here asks whether something does, but for
 * the deposits that only a block reveals.
 */

import { depositScript } from "../../src/bitcoin/deposit.ts";
import type { Outpoint } from "../../src/bitcoin/transaction.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { counterpartyBasepoints } from "../../src/channel/device-keys.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { lngateError } from "../../src/errors.ts";
import { toLocalScript, toRemoteScript } from "../../src/lightning/channel.ts";
import { derivePrivateKey, derivePublicKey, deriveRevocationPublicKey } from "../../src/lightning/keys.ts";
import { MAX_COMMITMENT_NUMBER } from "../../src/lightning/shachain.ts";
import {
  type FoundOutput,
  type Spend,
  spendDeposit,
  spendToLocal,
  spendToRemote,
  timeOutHtlc,
} from "../../src/lightning/sweep.ts";
import type { HeldChannel } from "../folder/device-files.ts";
import type { ColdKeys } from "../folder/seed.ts";
import type { CheckedExit, ExitFile } from "./exit-file.ts";
import type { RecoveryKeys } from "./keys.ts";
import type { Devices, KnownDeposit, RecoveryRun } from "./options.ts";

/** How to spend outputs of one script. */
export interface Claim {
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

/** Money that is there, but not yet. */
export interface Waiting {
  readonly what: string;
  readonly valueSat: number;
  /** Block in which it can be spent at the earliest; null: not known before the transaction is in a block. */
  readonly atHeight: number | null;
  /** Blocks it is locked for, where the height is not known yet. */
  readonly delay?: number;
}

/**
 * All that is looked for. Of an exit of other words among the kept ones there is nothing, of one that was given it throws
 * `exit-not-yours`.
 */
export function claimsOf(
  run: RecoveryRun,
  exits: readonly CheckedExit[],
  kept: readonly CheckedExit[],
  deposits: readonly KnownDeposit[],
): Claim[] {
  const { devices, options, remarks } = run;
  const { keys } = options;
  const isHeld = ({ keys: { fundingKey }, proposal: { index } }: HeldChannel) =>
    [...exits, ...kept].some(({ file }) => equal(file.keys.fundingKey, fundingKey) && file.index === index);
  return distinct([
    ...[...devices].map(([index, cold]) => remoteClaim(keys, index, cold)),
    ...depositClaims(keys, devices, deposits),
    ...exits.flatMap(exit => exitClaims(keys, devices, exit)),
    ...kept.flatMap(exit => (isOfThese(devices, exit) ? exitClaims(keys, devices, exit) : [])),
    ...(options.channels ?? [])
      .filter(channel => !isHeld(channel))
      .flatMap(channel => publishedClaims(keys, devices, channel, remarks)),
  ]);
}

/** What is said twice is collected once. */
function distinct(claims: readonly Claim[]): Claim[] {
  const named = (claim: Claim) =>
    `${toHex(claim.witnessScript)} ${claim.outpoint ? `${toHex(claim.outpoint.txid)}:${claim.outpoint.vout}` : ""}`;
  return [...new Map(claims.map(claim => [named(claim), claim])).values()];
}

/** Deposits that some block shows being spent: the witness has the script, with our key in it. */
export async function revealedDeposits({ options, devices }: RecoveryRun): Promise<KnownDeposit[]> {
  const { chain, scanFromHeight = 0, onProgress } = options;
  const owners = [...devices.values()].map(({ depositOwnerKey }) => depositOwnerKey);
  const scripts = await chain.revealedScripts(
    scanFromHeight,
    script => readDepositScript(script, owners) !== null,
    (at, tip) => onProgress?.(`reading block ${at} of ${tip}`),
  );
  return scripts.flatMap(script => readDepositScript(script, owners) ?? []);
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
  devices: Devices,
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
function exitClaims(keys: RecoveryKeys, devices: Devices, exit: CheckedExit): Claim[] {
  const { file, channel } = exit;
  const ours = channel.holder.basepoints;
  const device = deviceOf(devices, file);
  const delay = channel.holder.toLocalDelay;
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
  for (const { commitment, point } of exit.counterparty) {
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
  devices: Devices,
  { deviceId, keys: { fundingKey, delayedPaymentBasepoint }, proposal, number }: HeldChannel,
  remarks: string[],
): Claim[] {
  const [device] =
    [...devices].find(([, cold]) => equal(cold.delayedPaymentBasepoint, delayedPaymentBasepoint)) ?? [];
  const { revocation } = counterpartyBasepoints(proposal);
  // It is the gateway's word, and may be of another owner's device: then it helps nothing, and nothing depends on it.
  if (device === undefined || !nobleCurve.isPoint(revocation)) {
    remarks.push(
      `what channel.json says of device ${deviceId} can't be used: it is of other words, or wrong`,
    );
    return [];
  }
  const delay = proposal.holderDelay;
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
function deviceOf(devices: Devices, file: ExitFile): number {
  for (const [device, cold] of devices) {
    if (equal(cold.delayedPaymentBasepoint, file.keys.delayedPaymentBasepoint)) return device;
  }
  throw lngateError(
    "exit-not-yours",
    `the exit of device ${file.deviceId} pays a key that is not among the first ${devices.size} of these words: raise --gap, or these are other words`,
  );
}

function isOfThese(devices: Devices, { file }: CheckedExit): boolean {
  return [...devices.values()].some(cold =>
    equal(cold.delayedPaymentBasepoint, file.keys.delayedPaymentBasepoint),
  );
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

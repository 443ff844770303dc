/**
 * What the owner can spend, if it is on the chain: the outputs of the words' own scripts, and of deposits, exits and the
 * bridge's commitments. A claim is a script and how to spend what pays it; nothing here asks whether something does, but for
 * the deposits that only a block reveals.
 */

import { depositScript } from "../../src/bitcoin/deposit.ts";
import type { Outpoint } from "../../src/bitcoin/transaction.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { counterpartyBasepoints, type DeviceKeys } from "../../src/channel/device-keys.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf, lngateError } from "../../src/errors.ts";
import { type ChannelParameters, toLocalScript, toRemoteScript } from "../../src/lightning/channel.ts";
import type { Commitment, HtlcTransaction } from "../../src/lightning/commitment.ts";
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
import { type CheckedExit, type ExitFile, rebuilder, strandedIn } from "./exit-file.ts";
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

/** A commitment of ours, and what the bridge has signed of the payments in it. */
export interface OurCommitment {
  readonly deviceId: string;
  readonly fundingKey: Uint8Array;
  readonly channel: ChannelParameters;
  readonly point: Uint8Array;
  readonly commitment: Commitment;
  /** In the order of the commitment's HTLCs. */
  readonly htlcSignatures: readonly Uint8Array[];
  /** HTLCs for which these are not valid. */
  readonly stranded: ReadonlySet<HtlcTransaction>;
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
  return distinct([
    ...[...devices].map(([index, cold]) => remoteClaim(keys, index, cold)),
    ...depositClaims(keys, devices, deposits),
    ...exits.flatMap(exit => exitClaims(keys, devices, exit)),
    ...kept.flatMap(exit => (isOfThese(devices, exit) ? exitClaims(keys, devices, exit) : [])),
    // Also of a channel whose exit is there: a thief's copy of the device may have gone on from it.
    ...(options.channels ?? []).flatMap(channel => toldClaims(keys, devices, channel, remarks)),
  ]);
}

/** What is said twice is collected once, as the first says. */
function distinct(claims: readonly Claim[]): Claim[] {
  const named = (claim: Claim) =>
    `${toHex(claim.witnessScript)} ${claim.outpoint ? `${toHex(claim.outpoint.txid)}:${claim.outpoint.vout}` : ""}`;
  return [...new Map([...claims].reverse().map(claim => [named(claim), claim])).values()].reverse();
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
  return [...claims, ...undeliveredClaims(keys, device, file.deviceId, file.keys.fundingKey, exit)];
}

/** What the bridge's commitments hold of payments of ours that are in flight. */
function undeliveredClaims(
  keys: RecoveryKeys,
  device: number,
  deviceId: string,
  fundingKey: Uint8Array,
  { channel, counterparty }: Pick<CheckedExit, "channel" | "counterparty">,
): Claim[] {
  const { htlcBasepointSecret } = keys.device(fundingKey);
  const claims: Claim[] = [];
  for (const { commitment, point } of counterparty) {
    for (const { htlc, vout, witnessScript } of commitment.htlcs) {
      // In the bridge's own commitment, what we offered is what it received.
      if (htlc.offered) continue;
      claims.push({
        what: `a payment of device ${deviceId} that was never delivered`,
        witnessScript,
        device,
        outpoint: { txid: commitment.txid, vout },
        spend: output => timeOutHtlc(output, htlc.cltvExpiry),
        secret: derivePrivateKey(htlcBasepointSecret, channel.holder.basepoints.htlc, point),
        spendableAt: height => Math.max(height, htlc.cltvExpiry) + 1,
      });
    }
  }
  return claims;
}

// ── what the gateway has told ─────────────────────────────────────────────────────────────────────────────

/** The device may be a state ahead of what the gateway has seen, or behind it. */
const STATES_AROUND = 2;

/**
 * to_local of our commitment, where somebody else has published it: the gateway, for which the device had signed it, or
 * a thief of the device; and what the bridge's commitments hold of payments in flight. All of it is the gateway's word: what is
 * wrong in it finds nothing, and takes nothing away from what is found without.
 */
function toldClaims(keys: RecoveryKeys, devices: Devices, channel: HeldChannel, remarks: string[]): Claim[] {
  const { deviceId, keys: known, proposal, number, states } = channel;
  const { fundingKey, delayedPaymentBasepoint } = known;
  const device = numberOf(devices, known);
  const { revocation } = counterpartyBasepoints(proposal);
  // It may be of another owner's device: then it helps nothing, and nothing depends on it.
  if (device === undefined || !nobleCurve.isPoint(revocation)) {
    const remark = `what channel.json says of device ${deviceId} can't be used: it is of other words, or wrong`;
    if (!remarks.includes(remark)) remarks.push(remark);
    return [];
  }
  const delay = proposal.holderDelay;
  // A thief's points need not follow from the words. The key at any point is the owner's alone.
  const told = (states?.points ?? []).filter(point => nobleCurve.isPoint(point));
  const points = new Map(told.map(point => [toHex(point), point]));
  const last = Math.min(number + STATES_AROUND, MAX_COMMITMENT_NUMBER);
  for (let at = Math.max(0, number - STATES_AROUND); at <= last; at++) {
    const point = keys.commitmentPoint(fundingKey, proposal.index, at);
    points.set(toHex(point), point);
  }
  const secret = keys.coldSecrets(device).delayedPayment;
  const published = [...points.values()].map(point => {
    const toLocal = {
      revocation: deriveRevocationPublicKey(nobleCurve, revocation, point),
      delayed: derivePublicKey(nobleCurve, delayedPaymentBasepoint, point),
    };
    return {
      what: `exit of device ${deviceId}, published by somebody else`,
      witnessScript: toLocalScript(toLocal, delay),
      device,
      spend: (output: FoundOutput) => spendToLocal(output, delay),
      secret: derivePrivateKey(secret, delayedPaymentBasepoint, point),
      spendableAt: (height: number) => height + delay,
    };
  });
  const undelivered = rebuiltOf(keys, channel, false).flatMap(each =>
    undeliveredClaims(keys, device, deviceId, fundingKey, { ...each, counterparty: [each] }),
  );
  return [...published, ...undelivered];
}

/** Our commitments of which the gateway has told, with payments in flight and the bridge's signatures for them. */
export function toldCommitments({ options, devices }: RecoveryRun): OurCommitment[] {
  const { keys, channels = [] } = options;
  const told = channels.flatMap(channel =>
    numberOf(devices, channel.keys) === undefined
      ? []
      : rebuiltOf(keys, channel, true).map(each => ({
          ...each,
          deviceId: channel.deviceId,
          fundingKey: channel.keys.fundingKey,
        })),
  );
  return [...new Map(told.map(each => [toHex(each.commitment.txid), each])).values()];
}

/** Those commitments of ours, or of the bridge's, in which payments are in flight; without what no channel can have. */
function rebuiltOf(keys: RecoveryKeys, { keys: known, proposal, states }: HeldChannel, isOurs: boolean) {
  if (!states || !("htlcBasepoint" in known)) return [];
  const { htlcBasepoint } = keys.device(known.fundingKey);
  const { revocation, delayed, htlc } = counterpartyBasepoints(proposal);
  const theirs = states.counterparty.map(each => ({ ...each, htlcSignatures: [] }));
  return (isOurs ? states.holder : theirs).flatMap(state => {
    const { number, point, view, htlcSignatures } = state;
    if (view.htlcs.length === 0) return [];
    if (![revocation, delayed, htlc, point].every(each => nobleCurve.isPoint(each))) return [];
    try {
      const { channel, rebuilt } = rebuilder({ ...known, htlcBasepoint }, proposal);
      const made = rebuilt(isOurs, state);
      const stranded = strandedIn(htlcSignatures, made.commitment, made.keys);
      // What is only told is worth no more than the signatures with it.
      if (isOurs && stranded.size > 0) return [];
      return [{ ...made, channel, number, point, htlcSignatures, stranded }];
    } catch (error) {
      if (codeOf(error) === undefined) throw error;
      return [];
    }
  });
}

function numberOf(
  devices: Devices,
  { delayedPaymentBasepoint }: Pick<DeviceKeys, "delayedPaymentBasepoint">,
): number | undefined {
  for (const [device, cold] of devices)
    if (equal(cold.delayedPaymentBasepoint, delayedPaymentBasepoint)) return device;
  return undefined;
}

// ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Throws `exit-not-yours`. */
function deviceOf(devices: Devices, file: ExitFile): number {
  const device = numberOf(devices, file.keys);
  if (device !== undefined) return device;
  throw lngateError(
    "exit-not-yours",
    `the exit of device ${file.deviceId} pays a key that is not among the first ${devices.size} of these words: raise --gap, or these are other words`,
  );
}

function isOfThese(devices: Devices, { file }: CheckedExit): boolean {
  return numberOf(devices, file.keys) !== undefined;
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

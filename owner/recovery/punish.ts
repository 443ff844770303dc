/**
 * The bridge has published a state that it had revoked: all of it is the owner's. The device keeps the bridge's secrets,
 * so that exits and copies of them carry what it takes; gateway and bridge may be one party, so nobody else is relied on.
 *
 * What is taken, all of it with the revocation key and at once, also while the bridge's transactions wait for a block:
 *
 *   to_local                                    for `counterpartyDelay` blocks nobody else can
 *   what the bridge's HTLC transactions pay     the same script, so that nothing of the payment need be known
 *   the HTLCs themselves                        where their hash is one of a payment that the device remembers
 *
 * What it owes us in to_remote is found as in any close of the bridge's.
 */
import { createHash } from "node:crypto";
import { commitmentSecrets } from "../../device/board-context.ts";
import { p2wsh, script, scriptNumber } from "../../src/bitcoin/script.ts";
import { type Outpoint, type Transaction, txidOf, weightOf } from "../../src/bitcoin/transaction.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { codeOf } from "../../src/errors.ts";
import {
  anchorScript,
  type Htlc,
  htlcScript,
  toLocalScript,
  toRemoteScript,
} from "../../src/lightning/channel.ts";
import { commitmentNumberOf } from "../../src/lightning/commitment.ts";
import {
  type CommitmentKeys,
  deriveCommitmentKeys,
  deriveRevocationPrivateKey,
} from "../../src/lightning/keys.ts";
import { storedSecret } from "../../src/lightning/shachain.ts";
import { punishHtlc, punishToLocal } from "../../src/lightning/sweep.ts";
import type { ConfirmationStatus, OwnerChain, Spender } from "../chain/chain.ts";
import { boundedFeerate } from "../chain/fee-bound.ts";
import type { DeviceSecrets } from "../folder/seed.ts";
import type { Claimed, Waiting } from "./claims.ts";
import type { CheckedExit } from "./exit-file.ts";

const BLOCKS_BACK = 2016;
/** Expiries that an HTLC of a revoked state may have, in blocks before and after that state came to the chain. */
const EXPIRY_BEFORE = 52_560;
const EXPIRY_AFTER = 4_032;

/** What it takes to see how a channel was closed. */
export interface ClosingOptions {
  readonly chain: OwnerChain;
  /** Of the chain's tip. */
  readonly height: number;
  /** The device's own. From the words, or from the owner's folder: it takes no cold key to punish. */
  readonly secrets: Pick<DeviceSecrets, "commitmentMaster" | "revocationBasepointSecret">;
  /** Points of our commitments that need not follow from the words: the gateway's word. */
  readonly points?: readonly Uint8Array[];
  /** Sat per 1000 weight: a penalty that waits and pays much less is replaced. Absent: none is. */
  readonly feeratePerKw?: number;
  /** It is the chain's word, not the owner's. */
  readonly isEstimate?: boolean;
  /** Witness scripts of HTLCs by their P2WSH script (hex), null where none was found: not searched for again. */
  readonly searched?: Map<string, Uint8Array | null>;
  /** How many blocks back a bitcoind is asked, beside the delay in which there is something to punish (default: 2016). */
  readonly blocksBack?: number;
  onProgress?(sentence: string): void;
}

/** How a channel whose funding is spent was closed. */
export interface Closing {
  /** For the owner; null if it was by our own commitment or by one of the bridge's that the exit knows. */
  readonly sentence: string | null;
  /** Of the transaction that closed it; unknown: it was not found. */
  readonly confirmation: ConfirmationStatus;
  /** It was by a state of the bridge's of which only a newer exit can tell whether it was revoked. */
  readonly needsNewer?: boolean;
  /** Present if it was by a revoked state of the bridge's. */
  readonly penalty?: Penalty;
}

/** What a revoked state of the bridge's brings. */
export interface Penalty {
  /** Of the bridge's commitment. */
  readonly number: number;
  /** Blocks to come in which nobody but the owner can take the bridge's own part. */
  readonly blocksLeft: number;
  /** What can be taken now. Each group goes into a transaction of its own. */
  readonly ready: readonly (readonly Claimed[])[];
  /** Penalties that are published and wait for a block. */
  readonly waiting: readonly Waiting[];
  readonly remarks: readonly string[];
  /** Something in it is not known yet: a payment of which only the bridge's claim of it would tell how to take it. */
  readonly isOpen: boolean;
  /** The newest block in which something of it was taken, or which it is in itself. */
  readonly settledAt: number;
  /** False if a later look may find more to do. */
  readonly isOver: boolean;
}

/** Looks at what has spent the funding output of this exit's channel. Throws what the chain throws. */
export async function howClosed(options: ClosingOptions, exit: CheckedExit): Promise<Closing> {
  const { chain, height: tip, secrets } = options;
  const { channel, file } = exit;
  const named = `the channel of device ${file.deviceId}`;
  for (const { number, commitment } of exit.counterparty) {
    const confirmation = await chain.confirmation(commitment.transaction);
    // Of a copy it may have been the newest when that was made, and be revoked since.
    if (confirmation !== "unknown")
      return file.final ? { sentence: null, confirmation } : unsure(exit, number, confirmation);
  }
  const blocks = (options.blocksBack ?? BLOCKS_BACK) + channel.counterparty.toLocalDelay;
  let spender: Spender | null;
  try {
    spender = await chain.spender(channel.funding, blocks, (at, lowest) =>
      options.onProgress?.(`reading block ${at}, down to ${lowest} at the most, for what closed ${named}`),
    );
  } catch (error) {
    if (codeOf(error) !== "block-pruned") throw error;
    return {
      sentence: `what closed ${named} is not known: ${(error as Error).message}. If it was a state that the bridge had revoked, it has to be punished within ${channel.counterparty.toLocalDelay} blocks`,
      confirmation: "unknown",
    };
  }
  if (!spender)
    return {
      sentence: `what closed ${named} was not found: it was closed more than ${blocks} blocks ago, or its funding is not on the chain (yet)`,
      confirmation: "unknown",
    };
  const { transaction, height } = spender;
  const confirmation = height ?? "waiting";
  const number = commitmentNumberOf(channel, transaction);
  if (number === null)
    return { sentence: `${named} was closed by both sides together: its exit is not needed`, confirmation };
  const derived = nobleCurve.publicKey(commitmentSecrets(secrets.commitmentMaster)(file.index, number));
  if (isOurs(exit, [derived], transaction)) return { sentence: null, confirmation };
  if (number >= (exit.secrets?.count ?? 0)) return unsure(exit, number, confirmation);
  const penalty = await penaltyFor(options, exit, number, spender, tip);
  // The gateway's word counts last: it must not keep anything from being punished.
  if (penalty.ready.length === 0 && isOurs(exit, options.points ?? [], transaction))
    return { sentence: null, confirmation };
  const where = height === null ? "it waits for a block" : `it is in block ${height}`;
  const outcome =
    penalty.ready.length > 0 || !penalty.isOver
      ? `all of it is yours, and for ${penalty.blocksLeft} more block(s) nobody else's`
      : "nothing of it is left to take: it was punished, or the bridge's delay was over before";
  return {
    sentence: `the bridge published its revoked state ${number} of ${named} (${where}): ${outcome}`,
    confirmation,
    penalty,
  };
}

function unsure({ file, secrets }: CheckedExit, number: number, confirmation: ConfirmationStatus): Closing {
  const held =
    secrets === null
      ? "no secrets of the bridge's that could be used"
      : `the bridge's secrets of ${secrets.count === 0 ? "no state" : `states up to ${secrets.count - 1}`}`;
  return {
    sentence: `the channel of device ${file.deviceId} was closed by the bridge, with its state ${number}. This file holds ${held}: whether state ${number} was revoked it can't tell, nor punish it. A newer copy can, or the device's own exit; what the state pays you \`lngate owner recover\` takes in any case`,
    confirmation,
    needsNewer: true,
  };
}

/**
 * Both sides' commitments hide their number alike. Ours pays a key of the owner's, under a key that only our point gives:
 * the bridge can't make one of its own look like that.
 */
function isOurs({ channel }: CheckedExit, points: readonly Uint8Array[], { outputs }: Transaction): boolean {
  const { holder, counterparty } = channel;
  return points.some(point => {
    const keys = deriveCommitmentKeys(nobleCurve, point, holder.basepoints, counterparty.basepoints);
    const toLocal = p2wsh(toLocalScript(keys, holder.toLocalDelay));
    return outputs.some(output => equal(output.script, toLocal));
  });
}

async function penaltyFor(
  options: ClosingOptions,
  exit: CheckedExit,
  number: number,
  { transaction, height }: Spender,
  tip: number,
): Promise<Penalty> {
  const { chain, secrets } = options;
  const { holder, counterparty } = exit.channel;
  const { deviceId } = exit.file;
  const commitmentSecret = storedSecret(exit.secrets!, number);
  const point = nobleCurve.publicKey(commitmentSecret);
  const keys = deriveCommitmentKeys(nobleCurve, point, counterparty.basepoints, holder.basepoints);
  const secret = deriveRevocationPrivateKey(
    secrets.revocationBasepointSecret,
    holder.basepoints.revocation,
    commitmentSecret,
    point,
  );
  const revocable = toLocalScript(keys, counterparty.toLocalDelay);
  const revocableScript = p2wsh(revocable);
  const named = `the revoked state ${number} that the bridge published, of device ${deviceId}`;
  const aside = [
    toRemoteScript(holder.basepoints.payment),
    anchorScript(holder.fundingPubkey),
    anchorScript(counterparty.fundingPubkey),
  ].map(p2wsh);

  const txid = txidOf(transaction);
  const blocksSince = height === null ? 0 : tip - height + 1;
  /** Safe is what the bridge can't take before its delay is over. */
  const safe: Claimed[] = [];
  const unsafe: Claimed[] = [];
  const payments: (Outpoint & { readonly valueSat: number; readonly script: Uint8Array })[] = [];
  const waiting: Waiting[] = [];
  const remarks: string[] = [];
  let settledAt = height ?? 0;
  let isMissing = false;
  /** All that is or was under the revocation key with a delay for the bridge. */
  const revocables = new Map<string, Claimed>();
  /** Penalties that wait for a block. */
  const published = new Map<string, Transaction>();

  const take = async ({ txid: from, vout, valueSat }: Claimed["output"], what: string) => {
    const outpoint = { txid: from, vout };
    const claim = { what, witnessScript: revocable, secret, spend: punishToLocal };
    const claimed = { claim, output: { ...outpoint, valueSat } };
    revocables.set(nameOf(outpoint), claimed);
    const output = await chain.output(outpoint);
    if (!output) return noteSpent(outpoint);
    // The bridge can replace a transaction of its own while that waits for a block, but not the commitment.
    const isSafe =
      output.height === null ? equal(from, txid) : tip + 1 < output.height + counterparty.toLocalDelay;
    (isSafe ? safe : unsafe).push(claimed);
  };
  /** Who has spent it: the bridge, whose output is taken then, or a penalty of ours. */
  const noteSpent = async (outpoint: Outpoint): Promise<void> => {
    const spender = await chain.spender(outpoint, blocksSince);
    if (!spender) {
      // It has come into a block in between.
      isMissing = true;
      return;
    }
    const { transaction: by, height: at } = spender;
    settledAt = Math.max(settledAt, at ?? 0);
    // Our signature binds each input of the bridge's to the output of the same index: what else pays this script is its own
    // money, of which there may be more than fits into a transaction.
    const vout = by.inputs.findIndex(input => nameOf(input) === nameOf(outpoint));
    const got = by.outputs[vout];
    const from = txidOf(by);
    if (got && equal(got.script, revocableScript))
      await take(
        { txid: from, vout, valueSat: got.valueSat },
        `a payment in ${named}, which the bridge has claimed`,
      );
    else if (at === null) published.set(toHex(from), by);
  };

  for (const [vout, { script, valueSat }] of transaction.outputs.entries()) {
    if (equal(script, revocableScript)) await take({ txid, vout, valueSat }, named);
    else if (!aside.some(each => equal(each, script))) payments.push({ txid, vout, valueSat, script });
  }
  const unspent: typeof payments = [];
  for (const each of payments) {
    if (await chain.output(each)) unspent.push(each);
    else await noteSpent(each);
  }

  const { scripts, tries } = findScripts(options, exit, keys, unspent, height ?? tip);
  let unknownSat = 0;
  for (const output of unspent) {
    const witnessScript = scripts.get(toHex(output.script));
    if (!witnessScript) {
      unknownSat += output.valueSat;
      continue;
    }
    const claim = {
      what: `a payment in ${named}`,
      witnessScript,
      secret,
      spend: (found: Parameters<typeof punishHtlc>[0]) => punishHtlc(found, keys.revocation),
    };
    unsafe.push({ claim, output });
  }
  if (unknownSat > 0)
    remarks.push(
      `${unknownSat} sat of ${named} are in payments that this device does not remember${tries > 0 ? ` (${tries.toLocaleString("en-US")} scripts were tried)` : ""}: they can't be taken yet. When the bridge claims them, what it gets is yours for ${counterparty.toLocalDelay} blocks: look again then, or let \`lngate owner watch\` look`,
    );
  const replaced: Claimed[][] = [];
  for (const penalty of published.values()) {
    const inputs = penalty.inputs.flatMap(input => revocables.get(nameOf(input)) ?? []);
    const outSat = penalty.outputs.reduce((sum, output) => sum + output.valueSat, 0);
    const inSat = inputs.reduce((sum, { output }) => sum + output.valueSat, 0);
    const isWhole = inputs.length === penalty.inputs.length;
    const weight = weightOf(penalty);
    const { feeratePerKw: wanted = 0, isEstimate } = options;
    const wantedPerKw = isEstimate ? boundedFeerate(wanted, inSat, weight) : wanted;
    if (isWhole && isFarBelow(((inSat - outSat) * 1000) / weight, wantedPerKw)) replaced.push(inputs);
    else waiting.push({ what: `penalty for ${named}`, valueSat: outSat, atHeight: null });
  }
  // What the bridge can undo would take along whatever it is collected together with.
  const ready = [...(safe.length > 0 ? [safe] : []), ...unsafe.map(each => [each]), ...replaced];
  const isOpen = unknownSat > 0 || isMissing;
  const end = height === null ? tip + counterparty.toLocalDelay : height + counterparty.toLocalDelay - 1;
  return {
    number,
    blocksLeft: Math.max(0, end - tip),
    ready,
    waiting,
    remarks,
    isOpen,
    settledAt,
    isOver: ready.length === 0 && waiting.length === 0 && !isOpen,
  };
}

function nameOf({ txid, vout }: Outpoint): string {
  return `${toHex(txid)}:${vout}`;
}

/** By so much that nodes take a replacement: it pays its own way, too. */
function isFarBelow(paidPerKw: number, wantedPerKw: number): boolean {
  return wantedPerKw >= Math.max(1.25 * paidPerKw, paidPerKw + 300);
}

// ── which HTLC an output is ───────────────────────────────────────────────────────────────────────────────

/**
 * Witness scripts of HTLC outputs, by their P2WSH script (hex): every remembered payment hash is tried, as one that the
 * bridge offered, and as one of ours with every expiry that it may have.
 */
function findScripts(
  { searched = new Map(), onProgress }: ClosingOptions,
  { file, counterparty }: CheckedExit,
  keys: CommitmentKeys,
  outputs: readonly { readonly script: Uint8Array }[],
  height: number,
): { readonly scripts: ReadonlyMap<string, Uint8Array | null>; readonly tries: number } {
  const open = new Set(outputs.map(({ script }) => toHex(script)).filter(each => !searched.has(each)));
  const hashes = new Map<string, Uint8Array>();
  const views = [file.view, ...file.counterparty.map(({ view }) => view)];
  for (const hash of [
    ...(file.paymentHashes ?? []),
    ...views.flatMap(({ htlcs }) => htlcs.map(({ paymentHash }) => paymentHash)),
    ...counterparty.flatMap(({ commitment }) => commitment.htlcs.map(({ htlc }) => htlc.paymentHash)),
  ])
    hashes.set(toHex(hash), hash);
  const found = (witnessScript: Uint8Array): boolean => {
    const script = toHex(p2wsh(witnessScript));
    if (!open.delete(script)) return false;
    searched.set(script, witnessScript);
    return true;
  };
  let tries = 0;
  const htlc = (paymentHash: Uint8Array, cltvExpiry: number, offered = false): Htlc => ({
    offered,
    cltvExpiry,
    paymentHash,
    amountMsat: 0,
  });
  const frames = [...hashes.values()].map(hash => {
    tries++;
    found(htlcScript(htlc(hash, 0, true), keys));
    return frameOf(hash, keys);
  });
  if (open.size > 0) onProgress?.(`trying ${hashes.size} payment hashes with every expiry they may have`);
  const from = height + EXPIRY_AFTER;
  for (let expiry = from; expiry > 0 && expiry > height - EXPIRY_BEFORE && open.size > 0; expiry--) {
    const push = script([scriptNumber(expiry)]);
    for (const { hash, before, after } of frames) {
      tries++;
      const digest = createHash("sha256").update(before).update(push).update(after).digest("hex");
      if (open.has(`0020${digest}`)) found(htlcScript(htlc(hash, expiry), keys));
    }
  }
  for (const each of open) searched.set(each, null);
  return { scripts: searched, tries };
}

/** The script of a payment's HTLC up to its expiry, and from there on: to build it again for each is a hundred times slower. */
function frameOf(hash: Uint8Array, keys: CommitmentKeys) {
  const [one, other] = [0x010101, 0x7e7e7e].map(cltvExpiry =>
    htlcScript({ offered: false, amountMsat: 0, paymentHash: hash, cltvExpiry }, keys),
  ) as [Uint8Array, Uint8Array];
  const at = one.findIndex((byte, i) => byte !== other[i]);
  // A byte for the length is in front of these three.
  return { hash, before: one.slice(0, at - 1), after: one.slice(at + 3) };
}

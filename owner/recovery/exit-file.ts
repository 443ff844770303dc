/**
 * The exit as a file: all that the owner needs, beside the words, to leave a channel alone. It carries no secret, but
 * whoever has it can end the channel.
 *
 * A revoked exit, published, gives the whole channel to the bridge. So a file says whether it is final: the device
 * wrote it as its last act, nothing of the channel was signed or revoked afterwards. Copies that were made while the
 * device went on working say so too, and are good for being looked at. The word "final" is the device's: it comes
 * with a MAC by a key that follows from the owner's words and the device's shared key.
 */

import type { Exit } from "../../device/channel/exiting.ts";
import { MAX_PAYMENTS } from "../../device/channel/payments/remembered.ts";
import { MAX_SECRETS } from "../../device/channel/state.ts";
import type { Network } from "../../src/bitcoin/network.ts";
import { ascii, equal, fromHex, toHex } from "../../src/bytes/bytes.ts";
import {
  bool,
  bytes,
  decodeValue,
  encodeValue,
  list,
  optional,
  struct,
  text,
  UINT32,
  UINT53,
  uint,
  type ValueOf,
} from "../../src/bytes/schema.ts";
import {
  counterpartyBasepoints,
  type DeviceKeys,
  deviceKeysCodec,
  holderBasepoints,
} from "../../src/channel/device-keys.ts";
import { MAX_HTLCS, type Proposal, proposalCodec, viewCodec } from "../../src/channel/terms.ts";
import { anchorOf, channelOf, commitmentOf } from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { hmacSha256 } from "../../src/crypto/hash.ts";
import { isValidScalar } from "../../src/crypto/scalar.ts";
import { lngateError } from "../../src/errors.ts";
import type { ChannelParameters } from "../../src/lightning/channel.ts";
import {
  type Commitment,
  type HtlcTransaction,
  signedAnchorBump,
  signedCommitment,
} from "../../src/lightning/commitment.ts";
import { type CommitmentKeys, deriveCommitmentKeys } from "../../src/lightning/keys.ts";
import { EMPTY_SECRET_STORE, isSecretStore, type SecretStore } from "../../src/lightning/shachain.ts";

const point = bytes(33);

const exitCodec = struct({
  network: [1, text(8)],
  deviceId: [2, text(8)],
  final: [3, bool()],
  keys: [4, deviceKeysCodec],
  index: [5, uint(UINT32)],
  number: [6, uint(UINT53)],
  point: [7, point],
  proposal: [8, proposalCodec],
  view: [9, viewCodec],
  ownSignature: [10, bytes(64)],
  bridgeSignature: [11, bytes(64)],
  anchorSignature: optional([12, bytes(64)]),
  htlcSignatures: [13, list(bytes(64), MAX_HTLCS)],
  counterparty: [14, list(struct({ number: [1, uint(UINT53)], point: [2, point], view: [3, viewCodec] }), 2)],
  /** Absent: none that can be used, so that nothing can be punished. */
  secrets: optional([15, struct({ count: [1, uint(UINT53)], secrets: [2, list(bytes(32), MAX_SECRETS)] })]),
  paymentHashes: optional([16, list(bytes(32), MAX_PAYMENTS)]),
});
type ExitData = ValueOf<typeof exitCodec>;

/** An exit that was read and found whole. */
export interface ExitFile extends Omit<ExitData, "network"> {
  readonly network: Network;
}

const MAC_LABEL = ascii("lngate/1/exit");

function macOf(commitmentMaster: Uint8Array, encoded: Uint8Array): Uint8Array {
  return hmacSha256(hmacSha256(commitmentMaster, MAC_LABEL), encoded);
}

/** What a device tells when its exit is read out. */
export interface ExitSource {
  readonly network: Network;
  readonly deviceId: string;
  readonly keys: DeviceKeys;
  readonly commitmentMaster: Uint8Array;
}

/** The file's text. `final`: the device has ended the channel with it. */
export function writeExit(source: ExitSource, exit: Exit, final: boolean): string {
  const { fundingKey, revocationBasepoint, paymentBasepoint, delayedPaymentBasepoint } = source.keys;
  const { htlcBasepoint, depositOwnerKey, depositDelay, shutdownScript } = source.keys;
  const { index, number, proposal, view, ownSignature, bridgeSignature, anchorSignature } = exit;
  const encoded = encodeValue(exitCodec, {
    network: source.network,
    deviceId: source.deviceId,
    final,
    keys: {
      fundingKey,
      revocationBasepoint,
      paymentBasepoint,
      delayedPaymentBasepoint,
      htlcBasepoint,
      depositOwnerKey,
      depositDelay,
      shutdownScript,
    },
    index,
    number,
    point: exit.point,
    proposal,
    view,
    ownSignature,
    bridgeSignature,
    ...(anchorSignature ? { anchorSignature } : {}),
    htlcSignatures: exit.htlcSignatures,
    counterparty: exit.counterparty,
    ...(isSecretStore(exit.secrets) ? { secrets: exit.secrets } : {}),
    paymentHashes: exit.paymentHashes.slice(-MAX_PAYMENTS),
  });
  const about = final
    ? "The last state of an LNGate channel, final: `lngate owner recover` publishes it. It holds no secret, but whoever has it can end the channel."
    : "A copy of an LNGate channel's exit, made while the device went on working. It must not be published; with it an old state is punished that the bridge has revoked and publishes nevertheless.";
  const file = {
    version: 1,
    about,
    deviceId: source.deviceId,
    network: source.network,
    channel: index,
    state: number,
    final,
    exit: toHex(encoded),
    mac: toHex(macOf(source.commitmentMaster, encoded)),
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}

/**
 * Reads a file of `writeExit`. `commitmentMaster` is asked for the secret of the device with this key, on this network.
 * Throws `exit-damaged` for what is no such file or was changed, and what `commitmentMaster` throws.
 */
export function readExit(
  file: string,
  content: string,
  commitmentMaster: (fundingKey: Uint8Array, network: Network) => Uint8Array,
): ExitFile {
  const damaged = (why: string) => lngateError("exit-damaged", `${file} is not a usable exit: ${why}`);
  let exit: Uint8Array;
  let mac: Uint8Array;
  let version: unknown;
  try {
    const json = JSON.parse(content) as { version?: unknown; exit?: unknown; mac?: unknown };
    version = json.version;
    exit = fromHex(String(json.exit));
    mac = fromHex(String(json.mac));
  } catch {
    throw damaged("it is not a file of `lngate device exit`, or was cut short");
  }
  if (version !== 1) throw damaged("it was not written by this version of `lngate device exit`");
  let data: ExitData;
  try {
    data = decodeValue(exitCodec, exit);
  } catch {
    throw damaged("its content is damaged");
  }
  const network = data.network as Network;
  if (!equal(macOf(commitmentMaster(data.keys.fundingKey, network), exit), mac))
    throw damaged(
      "it does not belong to these words, or somebody has changed it (its seal, made with a key of your words, does not fit)",
    );
  return { ...data, network };
}

/** An exit's transactions, rebuilt. */
export interface CheckedExit {
  readonly file: ExitFile;
  /** `exit-invalid`, if a signature in it is not valid: it can't be published then. To punish takes none of them. */
  readonly fault: Error | null;
  readonly channel: ChannelParameters;
  readonly keys: CommitmentKeys;
  readonly commitment: Commitment;
  /** HTLCs of ours that don't come home from it: the bridge has not signed for them, or not so that it is valid. */
  readonly stranded: ReadonlySet<HtlcTransaction>;
  /** Ready to publish, if there is no fault. */
  readonly transaction: ReturnType<typeof signedCommitment>;
  /** The spend of our anchor, to which any coin may be added; null while HTLCs are pending. */
  readonly anchor: ReturnType<typeof signedAnchorBump> | null;
  /** What the bridge may publish instead, newest first. */
  readonly counterparty: readonly {
    readonly number: number;
    readonly keys: CommitmentKeys;
    readonly point: Uint8Array;
    readonly commitment: Commitment;
  }[];
  /**
   * The bridge's secrets of what it has revoked; null if they don't fit together or don't reach up to what it has not
   * revoked. That is no reason not to leave with a state that is good.
   */
  readonly secrets: SecretStore | null;
}

/** Throws `exit-invalid` unless this exit could be published: before it is written down, and before a channel ends for it. */
export function ensurePublishable(source: ExitSource, exit: Exit): CheckedExit {
  return checkExit(
    readExit("the device's exit", writeExit(source, exit, true), () => source.commitmentMaster),
  );
}

/**
 * Rebuilds an exit and verifies every signature in it. Throws `exit-invalid`: then it can't be published, whoever
 * made it so. (Those for payments in flight are no part of what is published: without a valid one that payment is `stranded`.)
 */
export function checkExit(file: ExitFile): CheckedExit {
  const exit = examineExit(file);
  if (exit.fault) throw exit.fault;
  return exit;
}

/** The same, for punishing and for looking: what is not valid is in `fault`. */
export function examineExit(file: ExitFile): CheckedExit {
  const { keys: ours, proposal, number } = file;
  let fault: Error | null = null;
  const ensure = (holds: boolean, what: string) => {
    if (!holds)
      fault ??= lngateError(
        "exit-invalid",
        `state ${number} of device ${file.deviceId} can't be published: ${what}. Have the channel closed by the gateway, and don't use this device any more`,
      );
  };
  const { channel, rebuilt } = rebuilder(ours, proposal);
  const { keys, commitment } = rebuilt(true, file);
  ensure(
    nobleCurve.verify(file.bridgeSignature, commitment.sighash, proposal.fundingKey),
    "the bridge's signature is not valid",
  );
  ensure(
    nobleCurve.verify(file.ownSignature, commitment.sighash, ours.fundingKey),
    "its own signature is not valid",
  );
  const bump = file.anchorSignature ? anchorOf(ours, commitment) : null;
  ensure(
    bump === null || nobleCurve.verify(file.anchorSignature!, bump.sighash, ours.fundingKey),
    "the signature of its anchor is not valid",
  );
  const transaction = signedCommitment(channel, commitment, file.ownSignature, file.bridgeSignature);
  return {
    file,
    fault,
    channel,
    keys,
    commitment,
    stranded: strandedIn(file.htlcSignatures, commitment, keys),
    transaction,
    anchor: bump && signedAnchorBump(bump, file.anchorSignature!),
    // A board without a curve takes the bridge's points as they come; with one that is none there is no commitment.
    counterparty: file.counterparty
      .filter(each => nobleCurve.isPoint(each.point))
      .map(each => ({ number: each.number, point: each.point, ...rebuilt(false, each) })),
    secrets: checkedSecrets(file),
  };
}

/** A channel, and how its commitments are rebuilt, ours and the bridge's. What that gets must be points. */
export function rebuilder(ours: DeviceKeys, proposal: Proposal) {
  const sides = [holderBasepoints(ours), counterpartyBasepoints(proposal)] as const;
  const channel = channelOf(ours, proposal);
  /** Throws `bad-commitment` for what no channel can have. */
  const rebuilt = (isOurs: boolean, { number, point, view }: Pick<ExitFile, "number" | "point" | "view">) => {
    const keys = deriveCommitmentKeys(nobleCurve, point, sides[isOurs ? 0 : 1], sides[isOurs ? 1 : 0]);
    return { keys, commitment: commitmentOf(channel, isOurs, number, keys, view) };
  };
  return { channel, rebuilt };
}

/** What this exit can't bring home of the payments in flight. */
export function strandedSatOf({ stranded }: CheckedExit): number {
  return [...stranded].reduce((sum, { valueSat }) => sum + valueSat, 0);
}

/**
 * A sentence on that, if there is anything to say: for one who can still do without this exit, also what to do. Once it
 * `isPublished` that is too late.
 */
export function strandedSentences(exit: CheckedExit, isPublished = false): string[] {
  const strandedSat = strandedSatOf(exit);
  if (strandedSat === 0 || exit.fault) return [];
  const lost = `${strandedSat} sat of payments in flight are stranded in the exit of device ${exit.file.deviceId}: the bridge's signature for them is not valid, so they can't be taken back from it`;
  const instead =
    "From the bridge's commitment they come home with your key alone: don't publish this exit while they are in flight, and have the channel closed by the gateway or the bridge instead (`lngate device close`; `lngate owner freeze` where the device has ended the channel or is gone)";
  return [isPublished ? lost : `${lost}. ${instead}`];
}

/**
 * HTLCs that we offered in a commitment of ours, for which the bridge's signature, by their order, is missing or not valid.
 * Those that the bridge offered go back to it, whatever it has signed.
 */
export function strandedIn(
  signatures: readonly Uint8Array[],
  { htlcs }: Commitment,
  { countersignatoryHtlc }: CommitmentKeys,
): ReadonlySet<HtlcTransaction> {
  const isSigned = ({ sighash }: HtlcTransaction, i: number) =>
    signatures[i] !== undefined && nobleCurve.verify(signatures[i], sighash, countersignatoryHtlc);
  return new Set(htlcs.filter((each, i) => each.htlc.offered && !isSigned(each, i)));
}

function checkedSecrets({ secrets = EMPTY_SECRET_STORE, counterparty }: ExitFile): SecretStore | null {
  // What is not revoked begins where the secrets end.
  const reaches = secrets.count === Math.min(...counterparty.map(({ number }) => number));
  const fits = isSecretStore(secrets) && secrets.secrets.every(isValidScalar);
  return reaches && fits ? secrets : null;
}

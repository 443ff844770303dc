/**
 * What the signatures that LDK asks for must be valid for. Commitments and mutual closes are built from what the device
 * will be told, and must be LDK's, so that what the device signs is what LDK asked for.
 */
import type { ClosingTransaction } from "lightningdevkit";
import { sighash } from "../../src/bitcoin/sighash.ts";
import { parseTransaction } from "../../src/bitcoin/transaction.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { lngateError } from "../../src/errors.ts";
import {
  anchorScript,
  type ChannelParameters,
  fundingScript,
  htlcScript,
  type Side,
  toLocalScript,
} from "../../src/lightning/channel.ts";
import { buildClosing } from "../../src/lightning/closing.ts";
import { buildCommitment } from "../../src/lightning/commitment.ts";
import { type CommitmentKeys, deriveCommitmentKeys } from "../../src/lightning/keys.ts";
import { type DecodedCommitment, decodeClosing } from "./decode.ts";
import type { ClosingContent, FundingContent, SignatureCheck, SpendContent } from "./parts.ts";

/**
 * The checks of a commitment that LDK shows: the funding key's signature, and for the bridge's commitment our HTLC
 * key's. Throws `commitment-mismatch` if it is not as LDK has built it.
 */
export function commitmentChecks(
  parameters: ChannelParameters,
  broadcaster: Side,
  decoded: DecodedCommitment,
): readonly SignatureCheck[] {
  const { number, content } = decoded.state;
  const commitment = buildCommitment(parameters, broadcaster, number, decoded.keys, content);
  if (!equal(commitment.txid, decoded.txid)) {
    throw lngateError(
      "commitment-mismatch",
      `commitment ${number} (${broadcaster}) is not as LDK has built it`,
    );
  }
  const funding = { publicKey: parameters.ours.fundingPubkey, hash: commitment.sighash };
  if (broadcaster === "ours") return [funding];
  const publicKey = decoded.keys.countersignatoryHtlc;
  return [funding, ...commitment.htlcs.map(htlc => ({ publicKey, hash: htlc.sighash }))];
}

/**
 * What is to be signed of a mutual close that LDK shows, and its check. A bridge leaves out what is below its own dust
 * limit, and takes no signature for anything else. LDK goes by ours, but finds out what the bridge has signed, and puts
 * this signature beside it. Throws `closing-mismatch` if it is not as LDK has built it.
 */
export function closingToSign(
  parameters: ChannelParameters,
  closing: ClosingTransaction,
  theirDustLimitSat: number,
): { readonly content: ClosingContent; readonly check: SignatureCheck } {
  const asked = decodeClosing(closing);
  const ldksHash = closing.trust().get_sighash_all(fundingScript(parameters), BigInt(parameters.fundingSat));
  if (!equal(closingHash(parameters, asked), ldksHash)) {
    throw lngateError("closing-mismatch", "the mutual close is not as LDK has built it");
  }
  const content = asked.toCounterpartySat < theirDustLimitSat ? { ...asked, toCounterpartySat: 0 } : asked;
  const hash = content === asked ? ldksHash : closingHash(parameters, content);
  return { content, check: { publicKey: parameters.ours.fundingPubkey, hash } };
}

function closingHash(parameters: ChannelParameters, content: ClosingContent): Uint8Array {
  return buildClosing(parameters, {
    ourSat: content.toHolderSat,
    theirSat: content.toCounterpartySat,
    ourScript: content.holderScript,
    theirScript: content.counterpartyScript,
  }).sighash;
}

/** The checks of a funding transaction: one for each input that is listed, by the funding key. */
export function fundingChecks(fundingKey: Uint8Array, content: FundingContent): readonly SignatureCheck[] {
  const transaction = parseTransaction(content.transaction);
  return content.inputs.map(({ index, witnessScript, amountSat }) => ({
    publicKey: fundingKey,
    hash: sighash(transaction, index, witnessScript, amountSat),
  }));
}

/** The check of a spend; its key comes from the channel's basepoints. */
export function spendCheck({ ours, theirs }: ChannelParameters, content: SpendContent): SignatureCheck {
  const { purpose } = content;
  const check = (publicKey: Uint8Array, witnessScript: Uint8Array) => ({
    publicKey,
    hash: sighash(
      parseTransaction(content.transaction),
      content.input,
      witnessScript,
      content.amountSat,
      content.sighashType,
    ),
  });
  const ourKeysAt = (point: Uint8Array): CommitmentKeys =>
    deriveCommitmentKeys(nobleCurve, point, ours.basepoints, theirs.basepoints);
  const theirKeysAt = (point: Uint8Array): CommitmentKeys =>
    deriveCommitmentKeys(nobleCurve, point, theirs.basepoints, ours.basepoints);
  switch (purpose.kind) {
    case "anchor":
      return check(ours.fundingPubkey, anchorScript(ours.fundingPubkey));
    case "holder-htlc": {
      const keys = ourKeysAt(purpose.point);
      return check(keys.broadcasterHtlc, htlcScript(purpose.htlc, keys));
    }
    case "counterparty-htlc": {
      const keys = theirKeysAt(purpose.point);
      return check(keys.countersignatoryHtlc, htlcScript(purpose.htlc, keys));
    }
    case "justice-output": {
      const keys = theirKeysAt(nobleCurve.publicKey(purpose.secret));
      return check(keys.revocation, toLocalScript(keys, theirs.toLocalDelay));
    }
    case "justice-htlc": {
      const keys = theirKeysAt(nobleCurve.publicKey(purpose.secret));
      return check(keys.revocation, htlcScript(purpose.htlc, keys));
    }
  }
}

/**
 * What the signatures that LDK asks for must be valid for. Commitments and mutual closes are built from what the device
 * will be told, and must be LDK's, so that what the device signs is what LDK asked for.
 */
import { sighash } from "../../../src/bitcoin/sighash.ts";
import { parseTransaction } from "../../../src/bitcoin/transaction.ts";
import { equal } from "../../../src/bytes/bytes.ts";
import { nobleCurve } from "../../../src/crypto/curve.ts";
import { lngateError } from "../../../src/errors.ts";
import {
  anchorScript,
  type ChannelParameters,
  COUNTERPARTY,
  HOLDER,
  htlcScript,
  type Side,
  toLocalScript,
} from "../../../src/lightning/channel.ts";
import { buildClosing } from "../../../src/lightning/closing.ts";
import { anchorBump, buildCommitment, type Commitment } from "../../../src/lightning/commitment.ts";
import { type CommitmentKeys, deriveCommitmentKeys } from "../../../src/lightning/keys.ts";
import type { DecodedCommitment } from "../decode.ts";
import type {
  Built,
  ClosingContent,
  CounterpartySigning,
  FundingContent,
  HolderSigning,
  SignatureCheck,
  SpendContent,
} from "../parts.ts";

/**
 * Our commitment that LDK shows: one signature, by the funding key. `ownerScript` is where our anchor goes. Throws
 * `commitment-mismatch` if it is not as LDK has built it.
 */
export function builtHolder(
  parameters: ChannelParameters,
  decoded: DecodedCommitment,
  ownerScript: Uint8Array,
): Built<HolderSigning> {
  const commitment = rebuilt(parameters, HOLDER, decoded);
  return {
    checks: [{ publicKey: parameters.holder.fundingPubkey, hash: commitment.sighash }],
    signing: holderSigning(commitment, ownerScript),
  };
}

/** What is to be signed of our own commitment. */
export function holderSigning(commitment: Commitment, ownerScript: Uint8Array): HolderSigning {
  const { sighash, htlcs } = commitment;
  const anchor = htlcs.length === 0 ? anchorBump(commitment, "local-anchor", ownerScript) : null;
  return { sighash, anchorSighash: anchor?.sighash ?? null };
}

/**
 * The bridge's commitment that LDK shows: the signature of the funding key, and one of our HTLC key for each HTLC.
 * Throws `commitment-mismatch` if it is not as LDK has built it.
 */
export function builtCounterparty(
  parameters: ChannelParameters,
  decoded: DecodedCommitment,
): Built<CounterpartySigning> {
  const { sighash, htlcs } = rebuilt(parameters, COUNTERPARTY, decoded);
  const { keys } = decoded;
  const publicKey = keys.countersignatoryHtlc;
  return {
    checks: [
      { publicKey: parameters.holder.fundingPubkey, hash: sighash },
      ...htlcs.map(htlc => ({ publicKey, hash: htlc.sighash })),
    ],
    signing: { sighash, keys },
  };
}

function rebuilt(parameters: ChannelParameters, broadcaster: Side, decoded: DecodedCommitment): Commitment {
  const { number, content } = decoded.state;
  const commitment = buildCommitment(parameters, broadcaster, number, decoded.keys, content);
  if (!equal(commitment.txid, decoded.txid)) {
    throw lngateError(
      "commitment-mismatch",
      `commitment ${number} (${broadcaster}) is not as LDK has built it`,
    );
  }
  return commitment;
}

/**
 * What is to be signed of a mutual close that LDK asks for, and its check. A bridge leaves out what is below its own dust
 * limit, and takes no signature for anything else. LDK goes by ours, but finds out what the bridge has signed, and puts
 * this signature beside it. Throws `closing-mismatch` if LDK has built another transaction, of which the hash is `ldksHash`.
 */
export function closingToSign(
  parameters: ChannelParameters,
  asked: ClosingContent,
  ldksHash: Uint8Array,
  counterpartyDustLimitSat: number,
): { readonly content: ClosingContent; readonly check: SignatureCheck } {
  if (!equal(closingHash(parameters, asked), ldksHash)) {
    throw lngateError("closing-mismatch", "the mutual close is not as LDK has built it");
  }
  const content =
    asked.toCounterpartySat < counterpartyDustLimitSat ? { ...asked, toCounterpartySat: 0 } : asked;
  const hash = content === asked ? ldksHash : closingHash(parameters, content);
  return { content, check: { publicKey: parameters.holder.fundingPubkey, hash } };
}

function closingHash(parameters: ChannelParameters, content: ClosingContent): Uint8Array {
  return buildClosing(parameters, {
    holderSat: content.toHolderSat,
    counterpartySat: content.toCounterpartySat,
    holderScript: content.holderScript,
    counterpartyScript: content.counterpartyScript,
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
export function spendCheck(
  { holder, counterparty }: ChannelParameters,
  content: SpendContent,
): SignatureCheck {
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
  const holderKeysAt = (point: Uint8Array): CommitmentKeys =>
    deriveCommitmentKeys(nobleCurve, point, holder.basepoints, counterparty.basepoints);
  const counterpartyKeysAt = (point: Uint8Array): CommitmentKeys =>
    deriveCommitmentKeys(nobleCurve, point, counterparty.basepoints, holder.basepoints);
  switch (purpose.kind) {
    case "anchor":
      return check(holder.fundingPubkey, anchorScript(holder.fundingPubkey));
    case "holder-htlc": {
      const keys = holderKeysAt(purpose.point);
      return check(keys.broadcasterHtlc, htlcScript(purpose.htlc, keys));
    }
    case "counterparty-htlc": {
      const keys = counterpartyKeysAt(purpose.point);
      return check(keys.countersignatoryHtlc, htlcScript(purpose.htlc, keys));
    }
    case "justice-output": {
      const keys = counterpartyKeysAt(nobleCurve.publicKey(purpose.secret));
      return check(keys.revocation, toLocalScript(keys, counterparty.toLocalDelay));
    }
    case "justice-htlc": {
      const keys = counterpartyKeysAt(nobleCurve.publicKey(purpose.secret));
      return check(keys.revocation, htlcScript(purpose.htlc, keys));
    }
  }
}

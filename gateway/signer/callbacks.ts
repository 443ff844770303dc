/**
 * What LDK calls to have one channel signed. Each question goes into the channel's book, the answer comes out of it or
 * is "not now" (an Err). None of these throws, calls LDK's manager or monitor, or waits: LDK would be left with locks
 * held.
 */
import {
  ChannelPublicKeys,
  type ChannelSignerInterface,
  DelayedPaymentBasepoint,
  EcdsaChannelSigner,
  type EcdsaChannelSignerInterface,
  HtlcBasepoint,
  Result__u832NoneZ,
  Result_C2Tuple_ECDSASignatureCVec_ECDSASignatureZZNoneZ,
  Result_ECDSASignatureNoneZ,
  Result_NoneNoneZ,
  Result_PublicKeyNoneZ,
  RevocationBasepoint,
  TwoTuple_ECDSASignatureCVec_ECDSASignatureZZ,
} from "lightningdevkit";
import { SIGHASH_ALL } from "../../src/bitcoin/sighash.ts";
import { fundingScript } from "../../src/lightning/channel.ts";
import { ANCHOR_SAT } from "../../src/lightning/commitment.ts";
import type { SignedChannel } from "./channel.ts";
import { builtCounterparty, builtHolder, closingToSign, spendCheck } from "./checks/transactions.ts";
import {
  decodeClosing,
  decodeCommitment,
  decodeHolder,
  decodeHtlc,
  decodeHtlcDescriptor,
  decodeParameters,
  numberOf,
} from "./decode.ts";
import type { SpendContent, SpendPurpose } from "./parts.ts";

/** What the callbacks of one channel need of the signer around them. */
export interface CallbackScene {
  readonly channel: SignedChannel;
  /** Runs what LDK called. An exception must not get out of it; then it returns `otherwise`. */
  guarded<T>(body: () => T, otherwise: T): T;
  /** The bridge's dust limit, sat; 0 if it is not known. */
  counterpartyDustLimitSat(): number;
}

/** LDK's signer of one channel. */
export function channelSigner(scene: CallbackScene): EcdsaChannelSigner {
  const { funding, basepoints } = scene.channel.announced.publicKeys;
  return EcdsaChannelSigner.new_impl(
    signatureCallbacks(scene),
    stateCallbacks(scene),
    ChannelPublicKeys.constructor_new(
      funding,
      RevocationBasepoint.constructor_new(basepoints.revocation),
      basepoints.payment,
      DelayedPaymentBasepoint.constructor_new(basepoints.delayed),
      HtlcBasepoint.constructor_new(basepoints.htlc),
    ),
  );
}

function stateCallbacks({ channel, guarded }: CallbackScene): ChannelSignerInterface {
  const { book, announced } = channel;
  return {
    get_per_commitment_point: index => {
      const point = guarded(() => book.pointAt(numberOf(index)), null);
      return point ? Result_PublicKeyNoneZ.constructor_ok(point) : Result_PublicKeyNoneZ.constructor_err();
    },
    release_commitment_secret: index => {
      const secret = guarded(() => book.secretAt(numberOf(index)), null);
      return secret ? Result__u832NoneZ.constructor_ok(secret) : Result__u832NoneZ.constructor_err();
    },
    // An Err here would close the channel. What is wrong is noticed, and no signature follows.
    validate_holder_commitment: (holder, preimages) => {
      guarded(() => {
        const { state, commitment } = decodeHolder(holder);
        const fulfilled = preimages.length > 0 ? { preimages: preimages.map(each => each.slice()) } : {};
        const build = () => builtHolder(channel.neededParameters, commitment, announced.destinationScript);
        book.validateHolder({ ...state, ...fulfilled }, commitment.txid, build);
      }, undefined);
      return Result_NoneNoneZ.constructor_ok();
    },
    validate_counterparty_revocation: (index, secret) => {
      guarded(() => book.counterpartyRevoked(numberOf(index), secret), undefined);
      return Result_NoneNoneZ.constructor_ok();
    },
    channel_keys_id: () => announced.keysId,
    provide_channel_parameters: parameters => {
      guarded(() => channel.provide(decodeParameters(parameters)), undefined);
    },
  };
}

function signatureCallbacks(scene: CallbackScene): EcdsaChannelSignerInterface {
  const { channel, guarded } = scene;
  const { book } = channel;
  const single = (body: () => Uint8Array | null) => {
    const signature = guarded(body, null);
    return signature
      ? Result_ECDSASignatureNoneZ.constructor_ok(signature)
      : Result_ECDSASignatureNoneZ.constructor_err();
  };
  const spend = (purpose: SpendPurpose, transaction: Uint8Array, input: number, amountSat: number) => {
    const content: SpendContent = { purpose, transaction, input, amountSat, sighashType: SIGHASH_ALL };
    return book.spendSignature(content, spendCheck(channel.neededParameters, content));
  };
  const never = () => Result_ECDSASignatureNoneZ.constructor_err();
  return {
    sign_counterparty_commitment: commitment => {
      const signatures = guarded(() => {
        const decoded = decodeCommitment(commitment);
        return book.counterpartySignatures(decoded.state, decoded.txid, () =>
          builtCounterparty(channel.neededParameters, decoded),
        );
      }, null);
      const result = Result_C2Tuple_ECDSASignatureCVec_ECDSASignatureZZNoneZ;
      if (!signatures) return result.constructor_err();
      const [first, ...htlcs] = signatures;
      return result.constructor_ok(
        TwoTuple_ECDSASignatureCVec_ECDSASignatureZZ.constructor_new(first!, htlcs),
      );
    },
    sign_holder_commitment: holder =>
      single(() => {
        const { state, commitment } = decodeHolder(holder);
        return book.exitSignature(state, commitment.txid, () =>
          builtHolder(channel.neededParameters, commitment, channel.announced.destinationScript),
        );
      }),
    sign_closing_transaction: closing =>
      single(() => {
        const parameters = channel.neededParameters;
        const asked = decodeClosing(closing);
        const script = fundingScript(parameters);
        const ldksHash = closing.trust().get_sighash_all(script, BigInt(parameters.fundingSat));
        const dustSat = scene.counterpartyDustLimitSat();
        const { content, check } = closingToSign(parameters, asked, ldksHash, dustSat);
        return book.closingSignature(content, check);
      }),
    sign_holder_htlc_transaction: (transaction, input, descriptor) =>
      single(() => {
        const { number, point, htlc } = decodeHtlcDescriptor(descriptor);
        const amountSat = Math.floor(htlc.amountMsat / 1000);
        return spend({ kind: "holder-htlc", number, point, htlc }, transaction, input, amountSat);
      }),
    sign_counterparty_htlc_transaction: (transaction, input, amount, point, htlc) =>
      single(() => {
        const purpose = { kind: "counterparty-htlc", point, htlc: decodeHtlc(htlc) } as const;
        return spend(purpose, transaction, input, Number(amount));
      }),
    sign_justice_revoked_output: (transaction, input, amount, secret) =>
      single(() => spend({ kind: "justice-output", secret }, transaction, input, Number(amount))),
    sign_justice_revoked_htlc: (transaction, input, amount, secret, htlc) =>
      single(() => {
        const purpose = { kind: "justice-htlc", secret, htlc: decodeHtlc(htlc) } as const;
        return spend(purpose, transaction, input, Number(amount));
      }),
    sign_holder_anchor_input: (transaction, input) =>
      single(() => spend({ kind: "anchor" }, transaction, input, ANCHOR_SAT)),
    // Channels are private and are not spliced.
    sign_channel_announcement_with_funding_key: never,
    sign_splicing_funding_input: never,
  };
}

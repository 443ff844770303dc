/**
 * HTLCs of our own commitment after a force close, as somebody could claim them who has a coin for the fee. In an anchors
 * channel the HTLC transaction pays none, and LDK leaves it to us to add an input that does
 * (`BumpTransactionEvent_HTLCResolution`). The device signs its HTLC's
 * input and output as a pair (SIGHASH_SINGLE|ANYONECANPAY), once; whoever pays the fee adds to it, as often as the
 * fee has to rise, without asking the device again.
 */
import { type HTLCDescriptor, Option_ThirtyTwoBytesZ_Some } from "lightningdevkit";
import { spendCheck } from "../../gateway/signer/checks/transactions.ts";
import { decodeHtlcDescriptor } from "../../gateway/signer/decode.ts";
import type { SpendContent } from "../../gateway/signer/parts.ts";
import type { RemoteSigner } from "../../gateway/signer/remote-signer.ts";
import { FALSE, witnessSignature } from "../../src/bitcoin/script.ts";
import { SIGHASH_SINGLE_ANYONECANPAY } from "../../src/bitcoin/sighash.ts";
import { type Input, type Output, strippedBytes } from "../../src/bitcoin/transaction.ts";

export interface HtlcClaim {
  /** Signed. In the final transaction the output has the same index as the input. */
  readonly input: Input;
  /** Worth as much as the input: all fees come from what is added. */
  readonly output: Output;
  readonly amountSat: number;
  /** Of the final transaction: the HTLC's expiry, or 0 for one that is claimed with its preimage. */
  readonly locktime: number;
}

/**
 * The claim that a descriptor of LDK's describes, or null as long as the device has not signed it: then ask again
 * when the signer's node is woken. The final transaction has version 2.
 */
export function htlcClaim(signer: RemoteSigner, descriptor: HTLCDescriptor): HtlcClaim | null {
  const { number, point, htlc } = decodeHtlcDescriptor(descriptor);
  const outpoint = descriptor.outpoint();
  const input = { txid: outpoint.get_txid(), vout: outpoint.get_index(), sequence: 1 };
  const txOut = descriptor.tx_output();
  const output = { valueSat: Number(txOut.value), script: txOut.script_pubkey };
  const locktime = htlc.offered ? htlc.cltvExpiry : 0;
  const amountSat = Math.floor(htlc.amountMsat / 1000);
  const keysId = descriptor.get_channel_derivation_parameters().get_keys_id();
  const content: SpendContent = {
    purpose: { kind: "holder-htlc", number, point, htlc },
    transaction: strippedBytes({ version: 2, inputs: [input], outputs: [output], locktime }),
    input: 0,
    amountSat,
    sighashType: SIGHASH_SINGLE_ANYONECANPAY,
  };
  const check = spendCheck(signer.parameters(keysId)!, content);
  const signature = signer.book(keysId)!.spendSignature(content, check);
  signer.askAgain(keysId);
  if (!signature) return null;
  const preimage = descriptor.get_preimage();
  const witness = [
    FALSE,
    witnessSignature(descriptor.get_counterparty_sig(), SIGHASH_SINGLE_ANYONECANPAY),
    witnessSignature(signature, SIGHASH_SINGLE_ANYONECANPAY),
    preimage instanceof Option_ThirtyTwoBytesZ_Some ? preimage.some : FALSE,
    descriptor.witness_script(),
  ];
  return { input: { ...input, witness }, output, amountSat, locktime };
}

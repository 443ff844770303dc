/** Payments that timed out in an exit of ours: the owner's, once a coin pays the fee. */
import { SIGHASH_ALL, sighash } from "../../src/bitcoin/sighash.ts";
import { type Transaction, weightOf } from "../../src/bitcoin/transaction.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { lngateError } from "../../src/errors.ts";
import { type HtlcTransaction, signedHtlcTransaction } from "../../src/lightning/commitment.ts";
import { derivePrivateKey } from "../../src/lightning/keys.ts";
import { boundedFeerate } from "../chain/fee-bound.ts";
import type { OurCommitment, Waiting } from "./claims.ts";
import type { Collection } from "./collect.ts";
import { type FeeCoin, SIGNATURE_SLACK, SMALLEST_OUTPUT_SAT, withCoin } from "./fee-coin.ts";
import type { RecoveryRun } from "./options.ts";

/**
 * Payments that timed out in our own exit. Their transactions were signed by the bridge without a fee, so that a coin
 * has to pay it; what they bring is locked for the exit's delay once more. Null if nothing can be taken now: what is to come
 * is added to `waiting` then. Throws `coin-too-small`, and what the chain throws.
 */
export async function timeOuts(
  { options, height, feeratePerKw: estimatePerKw, remarks }: RecoveryRun,
  { deviceId, fundingKey, channel, point, commitment, htlcSignatures, stranded }: OurCommitment,
  coin: FeeCoin | undefined,
  waiting: Waiting[],
): Promise<Collection | null> {
  const { keys, chain, toScript } = options;
  const due: { htlc: HtlcTransaction; index: number }[] = [];
  for (const [index, htlc] of commitment.htlcs.entries()) {
    const { valueSat, vout } = htlc;
    const output = await chain.output({ txid: commitment.txid, vout });
    if (!output || output.height === null) continue;
    if (!htlc.htlc.offered) {
      remarks.push(
        `${valueSat} sat that the bridge had offered to device ${deviceId} go back to it: they were never claimed`,
      );
      continue;
    }
    // In one transaction with others it would spoil them.
    if (stranded.has(htlc)) {
      remarks.push(
        `${valueSat} sat of a payment of device ${deviceId} can't be taken back from its exit: the bridge's signature for that is not valid`,
      );
      continue;
    }
    const what = `a payment of device ${deviceId} that was not delivered`;
    if (htlc.htlc.cltvExpiry <= height) due.push({ htlc, index });
    else waiting.push({ what, valueSat, atHeight: htlc.htlc.cltvExpiry + 1 });
  }
  if (due.length === 0) return null;
  const valueSat = due.reduce((sum, { htlc }) => sum + htlc.valueSat, 0);
  if (!coin) {
    remarks.push(
      `${valueSat} sat in ${due.length} payment(s) of device ${deviceId} have timed out and are yours, but a coin must pay the fee: name one with --coin`,
    );
    waiting.push({ what: "payments that timed out, until a coin pays their fee", valueSat, atHeight: null });
    return null;
  }
  const change = toScript ?? keys.wallet(0, true).script;
  const { htlcBasepointSecret } = keys.device(fundingKey);
  const secret = derivePrivateKey(htlcBasepointSecret, channel.holder.basepoints.htlc, point);
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
      return signedHtlcTransaction(htlc, ours, htlcSignatures[index]!, null).inputs[0]!;
    });
    return withCoin({ ...whole, inputs: [...signed, coinInput] }, coin, same.length);
  };
  const weight = weightOf(paying(coin.output.valueSat)) + SIGNATURE_SLACK;
  const inSat = same.reduce((sum, { htlc }) => sum + htlc.valueSat, 0);
  const feeratePerKw = options.feeratePerKw ?? boundedFeerate(estimatePerKw, inSat, weight);
  const feeSat = Math.ceil((weight * feeratePerKw) / 1000);
  const changeSat = coin.output.valueSat - feeSat;
  if (changeSat < SMALLEST_OUTPUT_SAT)
    throw lngateError(
      "coin-too-small",
      `taking back payments that timed out costs ${feeSat} sat; the coin of ${coin.output.valueSat} sat is too small`,
    );
  return {
    what: same.map(() => `a payment of device ${deviceId} that timed out`),
    transaction: paying(changeSat),
    inSat,
    feeSat,
    outSat: inSat,
    toScript: change,
  };
}

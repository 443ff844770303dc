/** A coin of the owner's that pays a fee: for an exit through its anchor, or for payments that timed out in one. */

import { p2wpkhScriptCode, witnessSignature } from "../../src/bitcoin/script.ts";
import { sighash } from "../../src/bitcoin/sighash.ts";
import { hashShown, type Transaction, weightOf } from "../../src/bitcoin/transaction.ts";
import { equal } from "../../src/bytes/bytes.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { lngateError } from "../../src/errors.ts";
import type { ChainOutput, OwnerChain } from "../chain/chain.ts";
import { boundedFeerate } from "../chain/fee-bound.ts";
import type { CheckedExit } from "./exit-file.ts";
import type { RecoveryKeys, WalletKey } from "./keys.ts";

/** Least that the change of a coin may be, sat. */
export const SMALLEST_OUTPUT_SAT = 546;
/** By how much a signature may be longer than that of the draft whose weight decided the fee. */
export const SIGNATURE_SLACK = 8;

/** A coin of the owner's that pays fees, and its key. */
export interface FeeCoin {
  readonly output: ChainOutput;
  readonly key: WalletKey;
}

/**
 * A coin of the owner's as it is named, `txid:vout`. Its key is `key`, or belongs to an ordinary address of the words.
 * Throws `coin-unknown`, `coin-key-missing`.
 */
export async function feeCoin(
  { keys, chain, gap }: { readonly keys: RecoveryKeys; readonly chain: OwnerChain; readonly gap: number },
  named: string,
  key?: WalletKey,
): Promise<FeeCoin> {
  const [, txid, vout] = /^([0-9a-f]{64}):(\d{1,6})$/.exec(named.trim()) ?? [];
  if (!txid) throw lngateError("coin-unknown", `a coin is named by its transaction and output: TXID:N`);
  const output = await chain.output({ txid: hashShown(txid), vout: Number(vout) });
  if (!output) throw lngateError("coin-unknown", `the coin ${named} is spent, or was never there`);
  const candidates = key ? [key] : [];
  for (let index = 0; index < gap && !key; index++) {
    candidates.push(keys.wallet(index), keys.wallet(index, true));
  }
  const owner = candidates.find(({ script }) => equal(script, output.script));
  if (owner) return { output, key: owner };
  throw lngateError(
    "coin-key-missing",
    key
      ? `the key that was given does not own the coin ${named}`
      : `the coin ${named} is at none of the first ${gap} addresses of these words: give its key with --coin-key`,
  );
}

/**
 * The anchor's spend with the coin added, so that both transactions together pay the feerate (sat per 1000 weight): the
 * named one, or of the estimate what `boundedFeerate` allows. Throws `coin-too-small`.
 */
export function anchorChild(
  exit: CheckedExit,
  coin: FeeCoin,
  namedPerKw: number | undefined,
  estimatePerKw: number,
  parentFeeSat: number,
  change: Uint8Array,
): { child: Transaction; childFeeSat: number } {
  const anchor = exit.anchor!;
  const paying = (valueSat: number) =>
    withCoin(
      { ...anchor, outputs: [...anchor.outputs, { valueSat, script: change }] },
      coin,
      anchor.inputs.length,
    );
  const childWeight = weightOf(paying(coin.output.valueSat)) + SIGNATURE_SLACK;
  const weight = weightOf(exit.transaction) + childWeight;
  const toLocal = exit.commitment.outputs.find(({ kind }) => kind === "to-local");
  const feeratePerKw = namedPerKw ?? boundedFeerate(estimatePerKw, toLocal?.valueSat ?? 0, weight);
  // A child pays at least its own way: nodes take none below their minimum.
  const ownFeeSat = Math.ceil((childWeight * feeratePerKw) / 1000);
  const childFeeSat = Math.max(Math.ceil((weight * feeratePerKw) / 1000) - parentFeeSat, ownFeeSat);
  const changeSat = coin.output.valueSat - childFeeSat;
  if (changeSat < SMALLEST_OUTPUT_SAT)
    throw lngateError(
      "coin-too-small",
      `hurrying the exit costs ${childFeeSat} sat; the coin of ${coin.output.valueSat} sat is too small for that`,
    );
  return { child: paying(changeSat), childFeeSat };
}

/** Adds the coin's input, signed last: it signs everything. */
export function withCoin(transaction: Transaction, { output, key }: FeeCoin, at: number): Transaction {
  const inputs = [
    ...transaction.inputs.slice(0, at),
    { txid: output.txid, vout: output.vout, sequence: 0xfffffffd },
  ];
  const whole = { ...transaction, inputs };
  const hash = sighash(whole, at, p2wpkhScriptCode(key.publicKey), output.valueSat);
  const witness = [witnessSignature(nobleCurve.sign(hash, key.secret)), key.publicKey];
  return { ...whole, inputs: [...inputs.slice(0, at), { ...inputs[at]!, witness }] };
}

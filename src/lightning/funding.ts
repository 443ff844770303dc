/** The transaction that opens a channel from the deposit. */
import { depositSpendWitness } from "../bitcoin/deposit.ts";
import { p2wsh } from "../bitcoin/script.ts";
import { sighash } from "../bitcoin/sighash.ts";
import { type Outpoint, type Output, type Transaction, txidOf, weightOf } from "../bitcoin/transaction.ts";
import { lngateError } from "../errors.ts";

/** An unspent output of the deposit's address. */
export interface Deposit extends Outpoint {
  readonly valueSat: number;
}

export interface Funding {
  /** Unsigned; its outputs are the channel and then, if any, the change. */
  readonly transaction: Transaction;
  /** Final before any signature. */
  readonly txid: Uint8Array;
  /** What the shared key signs, per input. */
  readonly sighashes: readonly Uint8Array[];
  readonly feeSat: number;
  readonly depositScript: Uint8Array;
}

/** The channel's output is always the first. */
export const FUNDING_VOUT = 0;

/**
 * Builds the spend of deposits that creates the channel's output and pays `changeSat` (0: none) back to the
 * deposit. `channelScript` is the 2-of-2 witness script. All inputs are final, so that `locktime` has no effect but
 * to make transactions differ. Throws `bad-funding` if the deposits are too small.
 */
export function buildFunding(
  deposits: readonly Deposit[],
  depositScript: Uint8Array,
  channelScript: Uint8Array,
  fundingSat: number,
  changeSat: number,
  locktime = 0,
): Funding {
  let feeSat = -fundingSat - changeSat;
  for (const deposit of deposits) feeSat += deposit.valueSat;
  if (!(feeSat >= 0 && fundingSat > 0 && changeSat >= 0)) {
    throw lngateError("bad-funding", "the deposits hold less than the channel and the change");
  }
  const outputs: Output[] = [{ valueSat: fundingSat, script: p2wsh(channelScript) }];
  if (changeSat > 0) outputs.push({ valueSat: changeSat, script: p2wsh(depositScript) });
  const transaction: Transaction = {
    version: 2,
    inputs: deposits.map(({ txid, vout }) => ({ txid, vout, sequence: 0xffffffff })),
    outputs,
    locktime,
  };
  return {
    transaction,
    txid: txidOf(transaction),
    sighashes: deposits.map((deposit, i) => sighash(transaction, i, depositScript, deposit.valueSat)),
    feeSat,
    depositScript,
  };
}

/** The transaction ready to publish, with the shared key's compact signature for each input. */
export function signedFunding(funding: Funding, signatures: readonly Uint8Array[]): Transaction {
  const { transaction, depositScript } = funding;
  const inputs = transaction.inputs.map((input, i) => {
    return { ...input, witness: depositSpendWitness(signatures[i]!, depositScript) };
  });
  return { ...transaction, inputs };
}

/** The most it can weigh once it is signed, for choosing the fee beforehand. */
export function fundingWeight(funding: Funding): number {
  const largest = new Uint8Array(64).fill(255, 0, 32).fill(127, 32);
  return weightOf(
    signedFunding(
      funding,
      funding.sighashes.map(() => largest),
    ),
  );
}

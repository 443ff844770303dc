/**
 * What the owner's computer spends alone: the outputs of an exit, of the other side's commitment, of a revoked one,
 * and the deposit. All into one script of the owner's.
 */
import { FALSE, TRUE, witnessSignature } from "../bitcoin/script.ts";
import { sighash } from "../bitcoin/sighash.ts";
import { type Outpoint, type Transaction, weightOf } from "../bitcoin/transaction.ts";
import { lngateError } from "../errors.ts";

/** An output to sweep. */
export interface Spend extends Outpoint {
  readonly valueSat: number;
  readonly witnessScript: Uint8Array;
  /** A relative lock time in blocks, or NO_DELAY. */
  readonly sequence: number;
  /** What the witness has between signature and script. */
  readonly stack: readonly Uint8Array[];
  /** The block height before which it cannot be spent; 0 for most. */
  readonly notBefore: number;
}

/** No relative lock time; replaceable by a higher fee. */
const NO_DELAY = 0xfffffffd;

/** An output as its transaction has it, with the witness script that is known to be behind it. */
export interface FoundOutput extends Outpoint {
  readonly valueSat: number;
  readonly witnessScript: Uint8Array;
}

function spend(output: FoundOutput, sequence: number, stack: readonly Uint8Array[], notBefore = 0): Spend {
  const { txid, vout, valueSat, witnessScript } = output;
  return { txid, vout, valueSat, witnessScript, sequence, stack, notBefore };
}

/** to_local of our own commitment, or the output of our HTLC transaction, once it is `delay` blocks old (delayed key). */
export function spendToLocal(output: FoundOutput, delay: number): Spend {
  return spend(output, delay, [FALSE]);
}

/** to_remote of the other side's commitment, one block later (payment key). */
export function spendToRemote(output: FoundOutput): Spend {
  return spend(output, 1, []);
}

/** The deposit, once it is `delay` blocks old (owner's key). */
export function spendDeposit(output: FoundOutput, delay: number): Spend {
  return spend(output, delay, [FALSE]);
}

/** to_local of a revoked commitment, or the output of its HTLC transaction (revocation key). */
export function punishToLocal(output: FoundOutput): Spend {
  return spend(output, NO_DELAY, [TRUE]);
}

/** An HTLC of a revoked commitment (revocation key, whose public half the witness shows). */
export function punishHtlc(output: FoundOutput, revocationPubkey: Uint8Array): Spend {
  return spend(output, NO_DELAY, [revocationPubkey]);
}

/** An HTLC of ours in the other side's commitment, once it has expired (HTLC key). */
export function timeOutHtlc(output: FoundOutput, cltvExpiry: number): Spend {
  return spend(output, 1, [FALSE], cltvExpiry);
}

export interface Sweep {
  /** Unsigned: one output. */
  readonly transaction: Transaction;
  /** What each spend's key signs. */
  readonly sighashes: readonly Uint8Array[];
  readonly spends: readonly Spend[];
  readonly feeSat: number;
}

/** The smallest output that nodes relay whatever its script (a P2PKH one). */
const SMALLEST_OUTPUT_SAT = 546;

/** Spends everything into one output. Throws `sweep-too-small` if the fee would leave nothing worth an output. */
export function buildSweep(spends: readonly Spend[], ownerScript: Uint8Array, feeratePerKw: number): Sweep {
  let totalSat = 0;
  let locktime = 0;
  for (const each of spends) {
    totalSat += each.valueSat;
    locktime = Math.max(locktime, each.notBefore);
  }
  const paying = (valueSat: number): Transaction => ({
    version: 2,
    inputs: spends.map(({ txid, vout, sequence }) => ({ txid, vout, sequence })),
    outputs: [{ valueSat, script: ownerScript }],
    locktime,
  });
  const largest = new Uint8Array(64).fill(255, 0, 32).fill(127, 32);
  const dummies = spends.map(() => largest);
  const feeSat = Math.ceil(
    (weightOf(withSignatures(paying(totalSat), spends, dummies)) * feeratePerKw) / 1000,
  );
  if (!(totalSat - feeSat >= SMALLEST_OUTPUT_SAT)) {
    throw lngateError("sweep-too-small", `${totalSat} sat are not worth the fee of ${feeSat} sat`);
  }
  const transaction = paying(totalSat - feeSat);
  const sighashes = spends.map((each, i) => sighash(transaction, i, each.witnessScript, each.valueSat));
  return { transaction, sighashes, spends, feeSat };
}

/** The sweep ready to publish, with a compact signature for each spend. */
export function signedSweep(sweep: Sweep, signatures: readonly Uint8Array[]): Transaction {
  return withSignatures(sweep.transaction, sweep.spends, signatures);
}

function withSignatures(
  transaction: Transaction,
  spends: readonly Spend[],
  signatures: readonly Uint8Array[],
): Transaction {
  const inputs = transaction.inputs.map((input, i) => {
    const { stack, witnessScript } = spends[i]!;
    return { ...input, witness: [witnessSignature(signatures[i]!), ...stack, witnessScript] };
  });
  return { ...transaction, inputs };
}

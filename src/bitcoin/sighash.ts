/** What a segwit v0 signature signs (BIP 143). */
import { output, put, putLE, written } from "../bytes/bytes.ts";
import { hash256, putAmount, putOutpoint, putOutput, putSized, type Transaction } from "./transaction.ts";

/** All inputs and outputs. */
export const SIGHASH_ALL = 1;
/** This input and the output of the same index only: others may be added. */
export const SIGHASH_SINGLE_ANYONECANPAY = 0x83;
export type SighashType = typeof SIGHASH_ALL | typeof SIGHASH_SINGLE_ANYONECANPAY;

const ZERO = new Uint8Array(32);

/**
 * The 32-byte hash to sign for one input. `scriptCode` is the witness script of a P2WSH output (for P2WPKH:
 * the P2PKH script of its key hash), `valueSat` the amount it spends.
 */
export function sighash(
  tx: Transaction,
  inputIndex: number,
  scriptCode: Uint8Array,
  valueSat: number,
  type: SighashType = SIGHASH_ALL,
): Uint8Array {
  const all = type === SIGHASH_ALL;
  const input = tx.inputs[inputIndex]!;
  const outpoints = output();
  const sequences = output();
  for (const each of tx.inputs) {
    putOutpoint(outpoints, each);
    putLE(sequences, each.sequence, 4);
  }
  const outputs = output();
  for (let i = 0; i < tx.outputs.length; i++) {
    if (all || i === inputIndex) putOutput(outputs, tx.outputs[i]!);
  }
  const out = output();
  putLE(out, tx.version, 4);
  put(out, all ? hash256(written(outpoints)) : ZERO);
  put(out, all ? hash256(written(sequences)) : ZERO);
  putOutpoint(out, input);
  putSized(out, scriptCode);
  putAmount(out, valueSat);
  putLE(out, input.sequence, 4);
  put(out, outputs.length > 0 ? hash256(written(outputs)) : ZERO);
  putLE(out, tx.locktime, 4);
  putLE(out, type, 4);
  return hash256(written(out));
}

/** What a segwit v0 signature signs (BIP 143). */
import { concat } from "../bytes/bytes.ts";
import {
  amountBytes,
  hash256,
  type Input,
  outpointBytes,
  outputBytes,
  sized,
  type Transaction,
  u32le,
} from "./transaction.ts";

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
  const hashInputs = (encode: (each: Input) => Uint8Array) =>
    all ? hash256(concat(tx.inputs.map(encode))) : ZERO;
  const outputs = all ? tx.outputs : tx.outputs.slice(inputIndex, inputIndex + 1);
  return hash256(
    concat([
      u32le(tx.version),
      hashInputs(outpointBytes),
      hashInputs(each => u32le(each.sequence)),
      outpointBytes(input),
      sized(scriptCode),
      amountBytes(valueSat),
      u32le(input.sequence),
      outputs.length > 0 ? hash256(concat(outputs.map(outputBytes))) : ZERO,
      u32le(tx.locktime),
      u32le(type),
    ]),
  );
}

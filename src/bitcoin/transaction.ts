/** Bitcoin transactions: their bytes, ids and sizes. Amounts are satoshis, txids in internal byte order. */
import {
  type Output as Bytes,
  compareBytes,
  fromHex,
  output,
  put,
  putByte,
  putLE,
  toHex,
  written,
} from "../bytes/bytes.ts";
import { sha256 } from "../crypto/hash.ts";
import { lngateError } from "../errors.ts";

/** An output of some transaction. The txid is the hash as it is (explorers show it reversed). */
export interface Outpoint {
  readonly txid: Uint8Array;
  readonly vout: number;
}

export interface Input extends Outpoint {
  readonly sequence: number;
  /** The stack of a segwit input; absent or empty while unsigned. */
  readonly witness?: readonly Uint8Array[];
  /** Only inputs older than segwit have one; nothing here ever spends such. */
  readonly scriptSig?: Uint8Array;
}

export interface Output {
  readonly valueSat: number;
  readonly script: Uint8Array;
}

export interface Transaction {
  readonly version: number;
  readonly inputs: readonly Input[];
  readonly outputs: readonly Output[];
  readonly locktime: number;
}

/** 21 million bitcoin. */
export const MAX_SAT = 2_100_000_000_000_000;

const EMPTY = new Uint8Array(0);

function bad(sentence: string): never {
  throw lngateError("bad-transaction", sentence);
}

/** SHA-256 twice. */
export function hash256(bytes: Uint8Array): Uint8Array {
  return sha256(sha256(bytes));
}

/** An amount as eight bytes. Throws `bad-transaction` for what is not an amount. */
export function putAmount(out: Bytes, sat: number): void {
  if (!(sat >= 0 && sat <= MAX_SAT && Math.floor(sat) === sat)) bad(`${sat} is not an amount of satoshis`);
  putLE(out, sat, 8);
}

/** A length or a count, up to 32 bits. */
function putSize(out: Bytes, size: number): void {
  if (size < 253) {
    putByte(out, size);
  } else {
    putByte(out, size < 65536 ? 253 : 254);
    putLE(out, size, size < 65536 ? 2 : 4);
  }
}

/** Bytes after their length. */
export function putSized(out: Bytes, bytes: Uint8Array): void {
  putSize(out, bytes.length);
  put(out, bytes);
}

export function putOutpoint(out: Bytes, outpoint: Outpoint): void {
  put(out, outpoint.txid);
  putLE(out, outpoint.vout, 4);
}

export function putOutput(out: Bytes, { valueSat, script }: Output): void {
  putAmount(out, valueSat);
  putSized(out, script);
}

function hasWitness(tx: Transaction): boolean {
  return tx.inputs.some(({ witness }) => witness !== undefined && witness.length > 0);
}

function serialize(tx: Transaction, withWitness: boolean): Uint8Array {
  const { inputs, outputs } = tx;
  const out = output();
  putLE(out, tx.version, 4);
  if (withWitness) putLE(out, 256, 2);
  putSize(out, inputs.length);
  for (const input of inputs) {
    putOutpoint(out, input);
    putSized(out, input.scriptSig || EMPTY);
    putLE(out, input.sequence, 4);
  }
  putSize(out, outputs.length);
  for (const each of outputs) putOutput(out, each);
  if (withWitness) {
    for (const { witness } of inputs) {
      const items = witness || [];
      putSize(out, items.length);
      for (const item of items) putSized(out, item);
    }
  }
  putLE(out, tx.locktime, 4);
  return written(out);
}

/** As it travels: with the witnesses, if there are any (BIP 144). */
export function transactionBytes(tx: Transaction): Uint8Array {
  return serialize(tx, hasWitness(tx));
}

/** Without witnesses: what the txid is the hash of. */
export function strippedBytes(tx: Transaction): Uint8Array {
  return serialize(tx, false);
}

/** 32 bytes, internal order. Final before signing, since witnesses are no part of it. */
export function txidOf(tx: Transaction): Uint8Array {
  return hash256(strippedBytes(tx));
}

/** Weight units (BIP 141). */
export function weightOf(tx: Transaction): number {
  return strippedBytes(tx).length * 3 + transactionBytes(tx).length;
}

/** The order of outputs by BIP 69: amount, then script. */
export function compareOutputs(a: Output, b: Output): number {
  return a.valueSat - b.valueSat || compareBytes(a.script, b.script);
}

/** The smallest input and output there are: what bounds a count that has not been read yet. */
const SMALLEST_INPUT = 41;
const SMALLEST_OUTPUT = 9;

/**
 * Reads one transaction, which must be all of `bytes`. Throws `bad-transaction` for anything a node would not
 * have written: bytes missing or left over, a length not written the short way, a witness flag without a
 * witness, no input or output, an amount above all bitcoin there will be.
 */
export function parseTransaction(bytes: Uint8Array): Transaction {
  let at = 0;

  function take(length: number): Uint8Array {
    if (length > bytes.length - at) bad("the transaction ends too early");
    at += length;
    return bytes.slice(at - length, at);
  }
  function readNumber(length: number): number {
    const read = take(length);
    let value = 0;
    for (let i = length - 1; i >= 0; i--) value = value * 256 + read[i]!;
    return value;
  }
  function readSize(): number {
    const first = readNumber(1);
    if (first < 253) return first;
    if (first === 255) bad("a length does not fit a transaction");
    const size = readNumber(first === 253 ? 2 : 4);
    if (size < (first === 253 ? 253 : 65536)) bad("a length is not written the short way");
    return size;
  }
  function readCount(smallest: number): number {
    const count = readSize();
    if (count * smallest > bytes.length - at) bad("the transaction ends too early");
    return count;
  }
  function readAmount(): number {
    const sat = readNumber(8);
    if (sat > MAX_SAT) bad("an amount is more than all bitcoin");
    return sat;
  }

  const version = readNumber(4);
  let inputCount = readCount(SMALLEST_INPUT);
  const segwit = inputCount === 0 && at < bytes.length && bytes[at] === 1;
  if (segwit) {
    at += 1;
    inputCount = readCount(SMALLEST_INPUT);
  }
  if (inputCount === 0) bad("a transaction needs an input");
  const inputs: Input[] = [];
  for (let i = 0; i < inputCount; i++) {
    const outpoint = { txid: take(32), vout: readNumber(4) };
    const scriptSig = take(readSize());
    const sequence = readNumber(4);
    inputs.push({ ...outpoint, sequence, ...(scriptSig.length > 0 ? { scriptSig } : {}) });
  }
  const outputCount = readCount(SMALLEST_OUTPUT);
  if (outputCount === 0) bad("a transaction needs an output");
  const outputs: Output[] = [];
  for (let i = 0; i < outputCount; i++) outputs.push({ valueSat: readAmount(), script: take(readSize()) });
  if (segwit) {
    for (let i = 0; i < inputs.length; i++) {
      const witness: Uint8Array[] = [];
      for (let items = readCount(1); items > 0; items--) witness.push(take(readSize()));
      if (witness.length > 0) inputs[i] = { ...inputs[i]!, witness };
    }
  }
  const tx = { version, inputs, outputs, locktime: readNumber(4) };
  if (at !== bytes.length) bad("bytes are left over after the transaction");
  if (segwit && !hasWitness(tx)) bad("a witness is announced, but there is none");
  return tx;
}

/** A txid or block hash as explorers and bitcoind write it: hex, its bytes in reverse. */
export function shownHash(hash: Uint8Array): string {
  return toHex(hash.slice().reverse());
}

/** The txid or block hash that was written so. Throws `bad-hex`. */
export function hashShown(text: string): Uint8Array {
  return fromHex(text).reverse();
}

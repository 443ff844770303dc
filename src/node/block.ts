/** Blocks as bitcoind gives them: read once, by walking over the bytes; what is handed on are views into them. */
import { createHash } from "node:crypto";
import type { Input, Output, Transaction } from "../bitcoin/transaction.ts";
import { lngateError } from "../errors.ts";

export interface BlockTransaction extends Transaction {
  /** Internal byte order. */
  readonly txid: Uint8Array;
  /** As it is in the block, with witnesses. */
  readonly raw: Uint8Array;
}

export interface Block {
  /** 80 bytes. */
  readonly header: Uint8Array;
  /** Internal byte order, like everything here. */
  readonly hash: Uint8Array;
  readonly previous: Uint8Array;
  /** Unix seconds, as the miner says. */
  readonly time: number;
  readonly transactions: readonly BlockTransaction[];
}

const HEADER_BYTES = 80;

function doubleSha256(parts: readonly Uint8Array[]): Uint8Array {
  const first = createHash("sha256");
  for (const part of parts) first.update(part);
  return new Uint8Array(createHash("sha256").update(first.digest()).digest());
}

export function headerHash(header: Uint8Array): Uint8Array {
  return doubleSha256([header]);
}

/** Reads a serialized block. Throws `bad-block` if the bytes are none. */
export function parseBlock(bytes: Uint8Array): Block {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = HEADER_BYTES;

  function take(length: number): Uint8Array {
    const from = at;
    at += length;
    if (at > bytes.length) throw new RangeError("too short");
    return bytes.subarray(from, at);
  }
  function u32(): number {
    at += 4;
    return view.getUint32(at - 4, true);
  }
  function u64(): number {
    at += 8;
    return Number(view.getBigUint64(at - 8, true));
  }
  function size(): number {
    const first = take(1)[0]!;
    if (first < 253) return first;
    if (first === 253) {
      at += 2;
      return view.getUint16(at - 2, true);
    }
    return first === 254 ? u32() : u64();
  }

  function transaction(): BlockTransaction {
    const start = at;
    const version = u32();
    // A transaction has inputs: zero in their place is the flag of the format with witnesses (BIP 144).
    const segwit = bytes[at] === 0;
    if (segwit) at += 2;
    const bodyStart = at;
    const inputs: Input[] = [];
    for (let count = size(); count > 0; count--) {
      const txid = take(32);
      const vout = u32();
      const scriptSig = take(size());
      inputs.push({ txid, vout, scriptSig, sequence: u32() });
    }
    const outputs: Output[] = [];
    for (let count = size(); count > 0; count--) outputs.push({ valueSat: u64(), script: take(size()) });
    const bodyEnd = at;
    if (segwit) {
      for (const [index, input] of inputs.entries()) {
        const witness: Uint8Array[] = [];
        for (let count = size(); count > 0; count--) witness.push(take(size()));
        inputs[index] = { ...input, witness };
      }
    }
    const locktime = u32();
    const raw = bytes.subarray(start, at);
    const txid = segwit
      ? doubleSha256([raw.subarray(0, 4), bytes.subarray(bodyStart, bodyEnd), raw.subarray(raw.length - 4)])
      : doubleSha256([raw]);
    return { version, inputs, outputs, locktime, txid, raw };
  }

  try {
    const header = bytes.subarray(0, HEADER_BYTES);
    const transactions: BlockTransaction[] = [];
    for (let count = size(); count > 0; count--) transactions.push(transaction());
    if (at !== bytes.length) throw new RangeError("too long");
    return {
      header,
      hash: headerHash(header),
      previous: header.subarray(4, 36),
      time: view.getUint32(68, true),
      transactions,
    };
  } catch (error) {
    if (error instanceof RangeError) throw lngateError("bad-block", "bitcoind sent a block that is none");
    throw error;
  }
}

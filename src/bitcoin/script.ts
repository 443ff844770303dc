/** Bitcoin script: building, the standard outputs, signatures as a witness carries them. */
import { concat, output, put, putByte, written } from "../bytes/bytes.ts";
import { ripemd160, sha256 } from "../crypto/hash.ts";
import { lngateError } from "../errors.ts";
import { SIGHASH_ALL, type SighashType } from "./sighash.ts";

export const OP_0 = 0x00;
const OP_PUSHDATA1 = 0x4c;
export const OP_1 = 0x51;
export const OP_2 = 0x52;
export const OP_IF = 0x63;
export const OP_NOTIF = 0x64;
export const OP_ELSE = 0x67;
export const OP_ENDIF = 0x68;
export const OP_IFDUP = 0x73;
export const OP_DROP = 0x75;
export const OP_DUP = 0x76;
export const OP_SWAP = 0x7c;
export const OP_SIZE = 0x82;
export const OP_EQUAL = 0x87;
export const OP_EQUALVERIFY = 0x88;
export const OP_HASH160 = 0xa9;
export const OP_CHECKSIG = 0xac;
export const OP_CHECKSIGVERIFY = 0xad;
export const OP_CHECKMULTISIG = 0xae;
export const OP_CHECKLOCKTIMEVERIFY = 0xb1;
export const OP_CHECKSEQUENCEVERIFY = 0xb2;

/** An empty stack item, which is how a witness says no. */
export const FALSE = new Uint8Array(0);
/** The stack item that says yes in the minimal way IF wants. */
export const TRUE = new Uint8Array([1]);

/** Part of a script: an opcode, or bytes to push. */
export type ScriptPart = number | Uint8Array;

/** A script of opcodes and pushes (up to 255 bytes each, which every script here stays below). */
export function script(parts: readonly ScriptPart[]): Uint8Array {
  const out = output();
  for (const part of parts) {
    if (typeof part === "number") putByte(out, part);
    else {
      if (part.length > 255) throw lngateError("bad-script", "a push of more than 255 bytes");
      if (part.length > 75) putByte(out, OP_PUSHDATA1);
      putByte(out, part.length);
      put(out, part);
    }
  }
  return written(out);
}

/** A number from 0 to 2^31−1 as a script writes it: its own opcode up to 16, then the shortest CScriptNum. */
export function scriptNumber(value: number): ScriptPart {
  if (!(value >= 0 && value <= 0x7fffffff && Math.floor(value) === value)) {
    throw lngateError("bad-script", `${value} is not a script number`);
  }
  if (value <= 16) return value === 0 ? OP_0 : OP_1 - 1 + value;
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0; rest >>= 8) bytes.push(rest & 255);
  if (bytes[bytes.length - 1]! > 127) bytes.push(0);
  return new Uint8Array(bytes);
}

/** RIPEMD-160 of SHA-256. */
export function hash160(bytes: Uint8Array): Uint8Array {
  return ripemd160(sha256(bytes));
}

/** The output script that pays a witness script. */
export function p2wsh(witnessScript: Uint8Array): Uint8Array {
  return script([OP_0, sha256(witnessScript)]);
}

/** The output script that pays a public key. */
export function p2wpkh(publicKey: Uint8Array): Uint8Array {
  return script([OP_0, hash160(publicKey)]);
}

/** The script code that a P2WPKH input signs. */
export function p2wpkhScriptCode(publicKey: Uint8Array): Uint8Array {
  return script([OP_DUP, OP_HASH160, hash160(publicKey), OP_EQUALVERIFY, OP_CHECKSIG]);
}

/** True if `a` stands before `b` in a 2-of-2 (BOLT #3: the lesser in compressed hex first). */
export function sortsBefore(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! < b[i]!;
  return false;
}

/** The witness script of a channel's funding output, whichever key is given first. */
export function multisig2of2(a: Uint8Array, b: Uint8Array): Uint8Array {
  return script(
    sortsBefore(a, b) ? [OP_2, a, b, OP_2, OP_CHECKMULTISIG] : [OP_2, b, a, OP_2, OP_CHECKMULTISIG],
  );
}

const ZERO_BYTE = new Uint8Array([0]);

function derInteger(bytes: Uint8Array): Uint8Array {
  let zeros = 0;
  while (zeros < bytes.length - 1 && bytes[zeros] === 0) zeros++;
  const short = bytes.subarray(zeros);
  const positive = short[0]! > 127 ? concat([ZERO_BYTE, short]) : short;
  return concat([new Uint8Array([2, positive.length]), positive]);
}

/** A compact signature as a witness carries it: DER, then the sighash type. */
export function witnessSignature(signature: Uint8Array, type: SighashType = SIGHASH_ALL): Uint8Array {
  const r = derInteger(signature.subarray(0, 32));
  const s = derInteger(signature.subarray(32, 64));
  return concat([new Uint8Array([48, r.length + s.length]), r, s, new Uint8Array([type])]);
}

/** Bech32 and Bech32m (BIP 173, BIP 350): a prefix, 5-bit words and a checksum of six characters. */
import { lngateError } from "../errors.ts";

const ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
const CHECKSUM_LENGTH = 6;

/** The constants that tell the two encodings apart. */
export const BECH32 = 1;
export const BECH32M = 0x2bc830a3;

export interface Bech32 {
  /** Lower case. */
  readonly prefix: string;
  /** Each 0 … 31, without the checksum. */
  readonly words: Uint8Array;
}

function bad(sentence: string): never {
  throw lngateError("bad-bech32", sentence);
}

function badText(): never {
  bad("this is not a Bech32 text");
}

/** What the five bits that leave the checksum bring back into it. */
const FOLDED: number[] = [];
for (let bits = 0; bits < 32; bits++) {
  let sum = 0;
  for (let i = 0; i < 5; i++) if ((bits >> i) & 1) sum ^= GENERATOR[i]!;
  FOLDED.push(sum);
}

function remainder(prefix: string, words: Uint8Array): number {
  const { length } = prefix;
  // The prefix's high bits, a zero, its low bits.
  const all = new Uint8Array(2 * length + 1 + words.length);
  for (let i = 0; i < length; i++) {
    all[i] = prefix.charCodeAt(i) >> 5;
    all[length + 1 + i] = prefix.charCodeAt(i) & 31;
  }
  all.set(words, 2 * length + 1);
  let checksum = 1;
  for (let i = 0; i < all.length; i++) {
    checksum = ((checksum & 0x1ffffff) << 5) ^ all[i]! ^ FOLDED[checksum >>> 25]!;
  }
  return checksum;
}

/** The text, in lower case. `variant` is BECH32 or BECH32M. */
export function encodeBech32(prefix: string, words: Uint8Array, variant: number): string {
  const all = new Uint8Array(words.length + CHECKSUM_LENGTH);
  all.set(words);
  const checksum = remainder(prefix, all) ^ variant;
  for (let i = 0; i < CHECKSUM_LENGTH; i++) all[words.length + i] = (checksum >>> (25 - 5 * i)) & 31;
  let text = `${prefix}1`;
  for (let i = 0; i < all.length; i++) text += ALPHABET.charAt(all[i]!);
  return text;
}

/**
 * Reads a text of at most `maxLength` characters, all of one case. Throws `bad-bech32` for anything else,
 * a wrong checksum of this variant included.
 */
export function decodeBech32(text: string, variant: number, maxLength: number): Bech32 {
  if (text.length > maxLength) bad("this text is too long");
  // Before the case is changed: some letters beyond ASCII would become ordinary ones.
  if (/[^!-~]/.test(text)) badText();
  const lower = text.toLowerCase();
  if (text !== lower && text !== text.toUpperCase()) badText();
  const separator = lower.lastIndexOf("1");
  if (separator < 1 || lower.length - separator - 1 < CHECKSUM_LENGTH) badText();
  const words = new Uint8Array(lower.length - separator - 1);
  for (let i = 0; i < words.length; i++) {
    const word = ALPHABET.indexOf(lower.charAt(separator + 1 + i));
    if (word < 0) badText();
    words[i] = word;
  }
  const prefix = lower.slice(0, separator);
  if (remainder(prefix, words) !== variant) bad("the checksum is wrong");
  return { prefix, words: words.slice(0, words.length - CHECKSUM_LENGTH) };
}

/** Bytes as 5-bit words, the last one filled up with zero bits. */
export function wordsOf(bytes: Uint8Array): Uint8Array {
  return regroup(bytes, 8, 5, Math.ceil((bytes.length * 8) / 5));
}

/** Words as bytes, the last byte filled up with zero bits. */
export function packWords(words: Uint8Array): Uint8Array {
  return regroup(words, 5, 8, Math.ceil((words.length * 5) / 8));
}

/** The bytes that were made words: the inverse of wordsOf. Throws `bad-bech32` for bits left over that are not zero. */
export function bytesOfWords(words: Uint8Array): Uint8Array {
  const bytes = regroup(words, 5, 8, Math.floor((words.length * 5) / 8));
  const left = (words.length * 5) % 8;
  if (left >= 5 || (left > 0 && (words[words.length - 1]! & ((1 << left) - 1)) !== 0)) {
    bad("the words are no whole bytes");
  }
  return bytes;
}

/** Cuts the bits of `input` again into `count` groups; a last group is filled up with zero bits. */
function regroup(input: Uint8Array, from: number, to: number, count: number): Uint8Array {
  const out = new Uint8Array(count);
  let buffer = 0;
  let bits = 0;
  let at = 0;
  const mask = (1 << to) - 1;
  for (let i = 0; i < input.length; i++) {
    buffer = ((buffer << from) | input[i]!) & 0xfff;
    for (bits += from; bits >= to; ) {
      bits -= to;
      out[at++] = (buffer >> bits) & mask;
    }
  }
  if (at < count) out[at] = (buffer << (to - bits)) & mask;
  return out;
}

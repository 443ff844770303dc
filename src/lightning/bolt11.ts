/** Reading BOLT #11 invoices: strict, bounded, and without a curve where there is none. And packing them. */
import type { Network } from "../bitcoin/network.ts";
import {
  BECH32,
  type Bech32,
  bytesOfWords,
  decodeBech32,
  encodeBech32,
  packWords,
  wordsOf,
} from "../bytes/bech32.ts";
import { ascii, concat, equal } from "../bytes/bytes.ts";
import { fromUtf8 } from "../bytes/utf8.ts";
import type { PublicCurve } from "../crypto/curve.ts";
import { sha256 } from "../crypto/hash.ts";
import { codeOf, lngateError } from "../errors.ts";

export interface Invoice {
  readonly network: Network;
  /** Null if the payer is to choose. */
  readonly amountMsat: number | null;
  /** Seconds since 1970. */
  readonly timestamp: number;
  readonly expirySeconds: number;
  /** 32 bytes. */
  readonly paymentHash: Uint8Array;
  /** 32 bytes. */
  readonly paymentSecret: Uint8Array;
  /** Exactly one of description and descriptionHash is not null. */
  readonly description: string | null;
  readonly descriptionHash: Uint8Array | null;
  /** To be handed to the payee with the payment, if not null. */
  readonly metadata: Uint8Array | null;
  /**
   * 33 bytes. With a curve: the key that made the signature. Without one: what the invoice claims, null if it
   * leaves that to the signature.
   */
  readonly payee: Uint8Array | null;
  /** False if there was no curve to check it with: then anybody may have written this. */
  readonly signatureChecked: boolean;
  readonly minFinalCltvExpiryDelta: number;
  /** Each one or more hops of HOP_LENGTH bytes. */
  readonly routeHints: readonly Uint8Array[];
  /** The feature bits that are set, ascending. */
  readonly features: readonly number[];
  /** The whole invoice as packInvoice gives it. */
  readonly packed: Uint8Array;
}

/** Longer texts are refused unread. */
export const MAX_INVOICE_LENGTH = 2048;

/** Bytes of one hop in a route hint: key 33, channel 8, base fee 4, proportional fee 4, expiry delta 2. */
const HOP_LENGTH = 51;

/** What stands between "ln" and the amount; the longer of two that begin alike comes first. */
export const INVOICE_PREFIXES: readonly (readonly [string, Network])[] = [
  ["bcrt", "regtest"],
  ["bc", "mainnet"],
  ["tbs", "signet"],
  ["tb", "testnet"],
];

/** Required features that we and our Lightning node understand: onion with TLVs, secret, multi-part, metadata. */
const KNOWN_FEATURES = [8, 14, 16, 48];

/** Words of the timestamp, and of the signature with its recovery id. */
const TIMESTAMP_WORDS = 7;
const SIGNATURE_WORDS = 104;

/** How an invoice begins in links and QR codes, in whatever case. */
const SCHEME = "lightning:";

/** Field types: each the value of its letter in Bech32's alphabet. */
export const FIELD_P = 1;
export const FIELD_R = 3;
export const FIELD_9 = 5;
export const FIELD_X = 6;
export const FIELD_D = 13;
export const FIELD_S = 16;
export const FIELD_N = 19;
export const FIELD_H = 23;
export const FIELD_C = 24;
export const FIELD_M = 27;
/** Blinded paths, as LND writes them in the place of a payee and a payment secret. */
const FIELD_B = 20;

/** Those that may be there once only; of a second one it would be unclear which counts. */
const ONCE = [FIELD_P, FIELD_9, FIELD_X, FIELD_D, FIELD_S, FIELD_N, FIELD_H, FIELD_C, FIELD_M];

function malformed(sentence: string): never {
  throw lngateError("invoice-malformed", sentence);
}

function cutOff(): never {
  malformed("a field of the invoice is cut off");
}

function noAmount(): never {
  malformed("the amount is none that can be paid");
}

/** Numbers and features must be written the short way. */
function checkShort(words: Uint8Array): void {
  if (words.length > 0 && words[0] === 0) malformed("a field of the invoice is longer than it needs to be");
}

/** An unsigned number that fits a double exactly. */
function numberOf(words: Uint8Array): number {
  checkShort(words);
  if (words.length > 10) malformed("a number in the invoice is too large");
  return wordsValue(words);
}

function wordsValue(words: Uint8Array): number {
  let value = 0;
  for (const word of words) value = value * 32 + word;
  return value;
}

function featuresOf(words: Uint8Array): number[] {
  checkShort(words);
  const features: number[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[words.length - 1 - i]!;
    for (let bit = 0; bit < 5; bit++) {
      if (!((word >> bit) & 1)) continue;
      const feature = i * 5 + bit;
      if (feature % 2 === 0 && KNOWN_FEATURES.indexOf(feature) < 0) {
        throw lngateError("invoice-unknown-feature", `the invoice requires feature ${feature}, unknown here`);
      }
      features.push(feature);
    }
  }
  return features;
}

/** Millisatoshis of 1 bitcoin by the letter behind the amount; pico are a tenth of a millisatoshi. */
const UNITS: { readonly [letter: string]: number } = { m: 1e8, u: 1e5, n: 100, p: 0.1 };

function amountOf(text: string): number | null {
  if (text === "") return null;
  const letter = text.charAt(text.length - 1);
  const unit = UNITS[letter];
  const digits = unit ? text.slice(0, -1) : text;
  if (digits === "" || digits.charAt(0) === "0" || digits.length > 15) noAmount();
  let amount = 0;
  for (let i = 0; i < digits.length; i++) {
    const digit = digits.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) noAmount();
    amount = amount * 10 + digit;
  }
  if (letter === "p") {
    if (amount % 10 !== 0) noAmount();
    return amount / 10;
  }
  const msat = amount * (unit || 1e11);
  if (msat > 9007199254740991) noAmount();
  return msat;
}

function networkAndAmount(prefix: string): { network: Network; amountMsat: number | null } {
  if (prefix.slice(0, 2) !== "ln") malformed("this is not a Lightning invoice");
  for (const [letters, network] of INVOICE_PREFIXES) {
    const end = 2 + letters.length;
    if (prefix.slice(2, end) !== letters) continue;
    return { network, amountMsat: amountOf(prefix.slice(end)) };
  }
  throw lngateError("invoice-wrong-network", "an invoice of a network unknown here");
}

/** What the payee signs: the prefix and all words before the signature, filled up to whole bytes. */
export function invoiceHash(prefix: string, words: Uint8Array): Uint8Array {
  return sha256(concat([ascii(prefix), packWords(words)]));
}

function checkedPayee(
  curve: PublicCurve,
  claimed: Uint8Array | null,
  signature: Uint8Array,
  hash: Uint8Array,
) {
  try {
    const compact = signature.slice(0, 64);
    // A named payee must have signed with a low s; where the key comes from the signature either s will do.
    if (!claimed) return curve.recover(compact, signature[64]!, hash);
    if (curve.verify(compact, hash, claimed)) return claimed;
  } catch {
    // No key, or no signature: answered below.
  }
  malformed("the invoice's signature is wrong");
}

/**
 * Reads an invoice and checks its signature if there is a curve to do it with. Throws `invoice-malformed`,
 * `invoice-wrong-network` (for a network not listed in Network), `invoice-unknown-feature`,
 * `invoice-blinded` or `invoice-no-payment-secret`. `lightning:` before it is taken off. Whether it can be paid here and now is for checkPayable.
 */
export function decodeInvoice(text: string, curve: PublicCurve | null): Invoice {
  const { unchecked, checkedBy } = readInvoice(text);
  return curve === null ? unchecked : checkedBy(curve);
}

/** An invoice that was read, and can be checked later: a recovery is what costs a board most before it can pay. */
export interface ReadInvoice {
  readonly unchecked: Invoice;
  /** Throws `invoice-malformed` where the signature is wrong. */
  checkedBy(curve: PublicCurve): Invoice;
}

/** The same, and the signature is looked at only when asked for. Throws what decodeInvoice throws. */
export function readInvoice(text: string): ReadInvoice {
  try {
    return decode(text);
  } catch (error) {
    const code = codeOf(error);
    if (code === "bad-bech32" || code === "bad-text") malformed((error as Error).message);
    throw error;
  }
}

function decode(text: string): ReadInvoice {
  const isLink = text.slice(0, SCHEME.length).toLowerCase() === SCHEME;
  const bare = isLink ? text.slice(SCHEME.length) : text;
  const { prefix, words } = decodeBech32(bare, BECH32, MAX_INVOICE_LENGTH);
  const signed = words.length - SIGNATURE_WORDS;
  if (signed < TIMESTAMP_WORDS) malformed("the invoice is too short");
  const { network, amountMsat } = networkAndAmount(prefix);

  // The data of each type of field.
  const fields: (Uint8Array | undefined)[] = [];
  const routeHints: Uint8Array[] = [];
  let isBlinded = false;
  let at = TIMESTAMP_WORDS;
  while (at < signed) {
    if (signed - at < 3) cutOff();
    const type = words[at]!;
    const length = words[at + 1]! * 32 + words[at + 2]!;
    at += 3;
    if (signed - at < length) cutOff();
    const data = words.slice(at, at + length);
    at += length;
    const fixed =
      type === FIELD_P || type === FIELD_S || type === FIELD_H ? 52 : type === FIELD_N ? 53 : length;
    if (length !== fixed) continue; // BOLT #11's own example has such, "which must be ignored".
    if (type === FIELD_B) isBlinded = true;
    if (type === FIELD_R) routeHints.push(hintOf(data));
    else if (ONCE.indexOf(type) >= 0) {
      if (fields[type]) malformed("a field of the invoice is there twice");
      fields[type] = data;
    }
  }

  const bytes = (type: number) => (fields[type] ? bytesOfWords(fields[type]) : null);
  const number = (type: number, otherwise: number) => (fields[type] ? numberOf(fields[type]) : otherwise);
  if (isBlinded && !fields[FIELD_S])
    throw lngateError("invoice-blinded", "the invoice leads to its payee by blinded paths only");
  const features = fields[FIELD_9] ? featuresOf(fields[FIELD_9]) : [];
  const paymentHash = bytes(FIELD_P);
  const paymentSecret = bytes(FIELD_S);
  const description = bytes(FIELD_D);
  const descriptionHash = bytes(FIELD_H);
  const named = bytes(FIELD_N);
  if (!paymentHash) malformed("the invoice has no payment hash");
  if (!description === !descriptionHash)
    malformed("the invoice needs either a description or the hash of one");
  if (!paymentSecret) throw lngateError("invoice-no-payment-secret", "the invoice has no payment secret");
  const signature = bytesOfWords(words.slice(signed));
  const unchecked: Invoice = {
    network,
    amountMsat,
    timestamp: wordsValue(words.slice(0, TIMESTAMP_WORDS)),
    expirySeconds: number(FIELD_X, 3600),
    paymentHash,
    paymentSecret,
    description: description ? fromUtf8(description) : null,
    descriptionHash,
    metadata: bytes(FIELD_M),
    payee: named,
    signatureChecked: false,
    minFinalCltvExpiryDelta: number(FIELD_C, 18),
    routeHints,
    features,
    packed: packed(prefix, words),
  };
  return {
    unchecked,
    checkedBy: curve => ({
      ...unchecked,
      payee: checkedPayee(curve, named, signature, invoiceHash(prefix, words.slice(0, signed))),
      signatureChecked: true,
    }),
  };
}

/**
 * The payment hash of a packed invoice that need not be valid: its signature, a feature or a field may be wrong. So that
 * whoever refuses an invoice can say which. Null where there is none to be found.
 */
export function paymentHashIn(packed: Uint8Array): Uint8Array | null {
  try {
    const { words } = decodeBech32(unpackInvoice(packed), BECH32, MAX_INVOICE_LENGTH);
    let length: number;
    for (let at = TIMESTAMP_WORDS; at + 3 <= words.length - SIGNATURE_WORDS; at += 3 + length) {
      length = words[at + 1]! * 32 + words[at + 2]!;
      if (words[at] === FIELD_P && length === 52) return bytesOfWords(words.slice(at + 3, at + 3 + length));
    }
    return null;
  } catch (error) {
    if (codeOf(error) === undefined) throw error;
    return null;
  }
}

function hintOf(words: Uint8Array): Uint8Array {
  const hint = bytesOfWords(words);
  if (hint.length === 0 || hint.length % HOP_LENGTH !== 0) malformed("a route hint has no whole hops");
  return hint;
}

/**
 * Throws unless the invoice can be paid on this network now: `invoice-wrong-network`, `invoice-expired`,
 * `invoice-amountless`. `nowSeconds` since 1970, null on a board without a clock.
 */
export function checkPayable(invoice: Invoice, network: Network, nowSeconds: number | null): void {
  if (invoice.network !== network) {
    throw lngateError("invoice-wrong-network", `an invoice of ${invoice.network}, not ${network}`);
  }
  if (nowSeconds !== null && nowSeconds >= invoice.timestamp + invoice.expirySeconds) {
    throw lngateError("invoice-expired", "the invoice has expired");
  }
  if (invoice.amountMsat === null) throw lngateError("invoice-amountless", "the invoice has no amount");
}

/** One hop of a route hint: the channel from `nodeId` onwards. */
export interface HintHop {
  readonly nodeId: Uint8Array;
  /** 8 bytes, big-endian. */
  readonly shortChannelId: Uint8Array;
  readonly feeBaseMsat: number;
  readonly feeProportionalMillionths: number;
  readonly cltvExpiryDelta: number;
}

/**
 * An invoice for the radio link: the text's five bits per character packed into bytes, without its checksum. About
 * 38 % shorter, and lossless (but for upper case, which says the same as lower case).
 *
 * Bytes: 2 · length of the prefix + s, the prefix, the words. s is 1 if the last five bits are only there because
 * of whole bytes. Throws `invoice-malformed` if the text is not a Bech32 of sane length.
 */
export function packInvoice(text: string): Uint8Array {
  let decoded: Bech32;
  try {
    decoded = decodeBech32(text, BECH32, MAX_INVOICE_LENGTH);
  } catch {
    malformed("this is not an invoice");
  }
  return packed(decoded.prefix, decoded.words);
}

function packed(prefix: string, words: Uint8Array): Uint8Array {
  if (prefix.length > 127) malformed("this is not an invoice");
  const data = packWords(words);
  const spare = wordsIn(data.length) - words.length;
  return concat([new Uint8Array([2 * prefix.length + spare]), ascii(prefix), data]);
}

/** The text again, in lower case. Throws `invoice-malformed` for bytes that packInvoice does not make. */
export function unpackInvoice(packed: Uint8Array): string {
  const head = packed.length > 0 ? packed[0]! : 0;
  const data = packed.slice(1 + (head >> 1));
  const words = wordsOf(data).slice(0, Math.max(0, wordsIn(data.length) - (head & 1)));
  let prefix = "";
  for (const code of packed.slice(1, 1 + (head >> 1))) prefix += String.fromCharCode(code);
  const text = encodeBech32(prefix, words, BECH32);
  // Whatever is wrong with the bytes, packing what they say would give others.
  if (prefix !== prefix.toLowerCase() || !equal(packInvoice(text), packed)) {
    throw lngateError("invoice-malformed", "these bytes are no packed invoice");
  }
  return text;
}

/** The most words that this many bytes hold. */
function wordsIn(bytes: number): number {
  return Math.floor((bytes * 8) / 5);
}

/** Writing BOLT #11 invoices, for tools and tests. */
import type { Network } from "../bitcoin/network.ts";
import { BECH32, encodeBech32, wordsOf } from "../bytes/bech32.ts";
import { concat, equal, u32be } from "../bytes/bytes.ts";
import { utf8 } from "../bytes/utf8.ts";
import type { Curve } from "../crypto/curve.ts";
import { lngateError } from "../errors.ts";
import {
  FIELD_9,
  FIELD_C,
  FIELD_D,
  FIELD_H,
  FIELD_M,
  FIELD_N,
  FIELD_P,
  FIELD_R,
  FIELD_S,
  FIELD_X,
  type HintHop,
  INVOICE_PREFIXES,
  invoiceHash,
} from "./bolt11.ts";

/** What an invoice is to say; see Invoice for the fields. */
export interface InvoiceFields {
  readonly network: Network;
  readonly amountMsat: number | null;
  readonly timestamp: number;
  readonly paymentHash: Uint8Array;
  readonly paymentSecret: Uint8Array;
  /** Text, or the 32-byte hash of a longer one. */
  readonly description: string | Uint8Array;
  readonly expirySeconds?: number;
  readonly minFinalCltvExpiryDelta?: number;
  readonly metadata?: Uint8Array;
  /** Names the payee instead of leaving it to the signature. */
  readonly nameThePayee?: boolean;
  readonly features: readonly number[];
  readonly routeHints?: readonly (readonly HintHop[])[];
}

/** The invoice, signed by the payee's node key. Throws `invoice-malformed` for a field that does not fit. */
export function encodeInvoice(fields: InvoiceFields, nodeSecret: Uint8Array, curve: Curve): string {
  const payee = curve.publicKey(nodeSecret);
  const { description } = fields;
  const parts = [padded(numberWords(fields.timestamp), 7)];
  const add = (type: number, words: Uint8Array) => {
    if (words.length > 1023) throw lngateError("invoice-malformed", "a field is too long for an invoice");
    parts.push(new Uint8Array([type, words.length >> 5, words.length & 31]), words);
  };
  add(FIELD_P, wordsOf(fields.paymentHash));
  add(FIELD_S, wordsOf(fields.paymentSecret));
  if (typeof description === "string") add(FIELD_D, wordsOf(utf8(description)));
  else add(FIELD_H, wordsOf(description));
  if (fields.metadata) add(FIELD_M, wordsOf(fields.metadata));
  if (fields.nameThePayee) add(FIELD_N, wordsOf(payee));
  if (fields.expirySeconds !== undefined) add(FIELD_X, numberWords(fields.expirySeconds));
  if (fields.minFinalCltvExpiryDelta !== undefined) add(FIELD_C, numberWords(fields.minFinalCltvExpiryDelta));
  for (const hops of fields.routeHints || []) add(FIELD_R, wordsOf(concat(hops.map(hopBytes))));
  if (fields.features.length > 0) add(FIELD_9, featureWords(fields.features));

  const words = concat(parts);
  const prefix = `ln${networkLetters(fields.network)}${amountText(fields.amountMsat)}`;
  const hash = invoiceHash(prefix, words);
  const signature = curve.sign(hash, nodeSecret);
  let recoveryId = 0;
  while (!isRecovered(curve, signature, recoveryId, hash, payee)) recoveryId++;
  const signed = concat([words, wordsOf(concat([signature, new Uint8Array([recoveryId])]))]);
  return encodeBech32(prefix, signed, BECH32);
}

/** Only half of the recovery ids give a key at all; the last one tried throws what recover throws. */
function isRecovered(
  curve: Curve,
  signature: Uint8Array,
  id: number,
  hash: Uint8Array,
  payee: Uint8Array,
): boolean {
  try {
    return equal(curve.recover(signature, id, hash), payee);
  } catch (error) {
    if (id < 3) return false;
    throw error;
  }
}

function networkLetters(network: Network): string {
  for (const [letters, name] of INVOICE_PREFIXES) if (name === network) return letters;
  throw lngateError("invoice-wrong-network", `no invoices on ${network}`);
}

/** In the largest unit that divides it. */
function amountText(msat: number | null): string {
  if (msat === null) return "";
  if (!(msat > 0 && Math.floor(msat) === msat))
    throw lngateError("invoice-malformed", "this is not an amount");
  if (msat % 1e11 === 0) return `${msat / 1e11}`;
  if (msat % 1e8 === 0) return `${msat / 1e8}m`;
  if (msat % 1e5 === 0) return `${msat / 1e5}u`;
  return msat % 100 === 0 ? `${msat / 100}n` : `${msat}0p`;
}

/** Big-endian, without leading zero words. */
function numberWords(value: number): Uint8Array {
  const words: number[] = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 32)) words.unshift(rest % 32);
  return new Uint8Array(words);
}

function padded(words: Uint8Array, length: number): Uint8Array {
  return concat([new Uint8Array(length - words.length), words]);
}

function featureWords(features: readonly number[]): Uint8Array {
  let highest = 0;
  for (const feature of features) highest = Math.max(highest, feature);
  const words = new Uint8Array(Math.floor(highest / 5) + 1);
  for (const feature of features) words[words.length - 1 - Math.floor(feature / 5)]! |= 1 << (feature % 5);
  return words;
}

function hopBytes(hop: HintHop): Uint8Array {
  const delta = new Uint8Array([hop.cltvExpiryDelta >> 8, hop.cltvExpiryDelta & 255]);
  const fees = [u32be(hop.feeBaseMsat), u32be(hop.feeProportionalMillionths)];
  return concat([hop.nodeId, hop.shortChannelId, fees[0]!, fees[1]!, delta]);
}

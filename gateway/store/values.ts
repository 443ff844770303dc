/**
 * What the gateway writes into rows for nobody but itself, as CBOR. (What devices and owners send is hostile and goes
 * through the strict codec of src/bytes; what is in these rows this program has written.)
 */
import { decode, encode } from "cbor-x";

export function encodeStored(value: object): Uint8Array {
  return encode(value);
}

/** Throws for what was never encoded here. */
export function decodeStored<T>(row: Uint8Array): T {
  return decode(row) as T;
}

/** The same of what is learnt again where it is missing: undefined where there is nothing, or nothing that can be read. */
export function decodeLearnt<T>(row: Uint8Array | undefined): T | undefined {
  try {
    return row && decodeStored<T>(row);
  } catch {
    return undefined;
  }
}

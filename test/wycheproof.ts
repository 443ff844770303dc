/** Project Wycheproof's ECDSA signatures, in Bitcoin's variant: low s, strict DER. */
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { fromHex } from "../src/bytes/bytes.ts";
import { sha256 } from "../src/crypto/hash.ts";

export const WYCHEPROOF_FILE = "wycheproof-ecdsa-secp256k1-bitcoin.json";

export interface Wycheproof {
  readonly testGroups: readonly {
    readonly publicKey: { readonly uncompressed: string };
    readonly tests: readonly {
      readonly tcId: number;
      readonly comment: string;
      readonly msg: string;
      readonly sig: string;
      readonly result: "valid" | "invalid";
    }[];
  }[];
}

export interface WycheproofCase {
  readonly tcId: number;
  readonly comment: string;
  /** Undefined where it is no DER or too long. */
  readonly signature: Uint8Array | undefined;
  readonly hash: Uint8Array;
  readonly key: Uint8Array;
  readonly isValid: boolean;
}

export function wycheproofCases({ testGroups }: Wycheproof): WycheproofCase[] {
  return testGroups.flatMap(({ publicKey, tests }) => {
    const key = secp256k1.Point.fromHex(publicKey.uncompressed).toBytes();
    return tests.map(({ tcId, comment, msg, sig, result }) => ({
      tcId,
      comment,
      signature: compact(fromHex(sig)),
      hash: sha256(fromHex(msg)),
      key,
      isValid: result === "valid",
    }));
  });
}

/** r ‖ s of a strict DER signature, without a look at ranges: undefined where it is no DER or too long. */
function compact(der: Uint8Array): Uint8Array | undefined {
  const integer = (at: number): Uint8Array | undefined => {
    const length = der[at + 1]!;
    const value = der.subarray(at + 2, at + 2 + length);
    const canonical =
      der[at] === 2 &&
      length > 0 &&
      value.length === length &&
      value[0]! < 128 &&
      (length === 1 || value[0] !== 0 || value[1]! > 127);
    return canonical ? value : undefined;
  };
  const r = integer(2);
  if (der[0] !== 0x30 || der[1] !== der.length - 2 || r === undefined) return undefined;
  const s = integer(4 + r.length);
  if (s === undefined || 6 + r.length + s.length !== der.length) return undefined;
  const out = new Uint8Array(64);
  for (const [value, end] of [
    [r, 32],
    [s, 64],
  ] as const) {
    const stripped = value[0] === 0 ? value.subarray(1) : value;
    if (stripped.length > 32) return undefined;
    out.set(stripped, end - stripped.length);
  }
  return out;
}

/** Scalars for properties of curves: also those near the ends and near powers of two, where windows carry. */
import fc from "fast-check";
import { fromHex } from "../src/bytes/bytes.ts";

export const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

export const bytesOf = (value: bigint) => fromHex(value.toString(16).padStart(64, "0"));

export const scalars = fc
  .oneof(
    fc.bigInt(1n, ORDER - 1n),
    fc.bigInt(1n, 600n),
    fc.bigInt(1n, 600n).map(small => ORDER - small),
    fc.tuple(fc.nat(255), fc.bigInt(-40n, 40n)).map(([power, near]) => 2n ** BigInt(power) + near),
  )
  .filter(scalar => scalar > 0n && scalar < ORDER)
  .map(bytesOf);

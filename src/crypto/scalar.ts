/**
 * Arithmetic modulo n, the order of secp256k1, on 32-byte big-endian strings. Arguments may be any 32 bytes;
 * results are always below n.
 *
 * This module is the one for engines with BigInt (Node, XS). A build for an engine without puts
 * scalar-limbs.ts in its place; both export the same functions.
 */
export {
  addMod,
  isLowS,
  isReducedScalar,
  isValidScalar,
  mulAddMod,
  mulMod,
  negate,
  reduce,
} from "./scalar-bigint.ts";

/**
 * The deposit, from which the channel is funded: the key that device and gateway share spends it at any time,
 * the owner alone spends it once it is `delay` blocks old. So nobody's disappearance locks it up.
 */
import { lngateError } from "../errors.ts";
import {
  OP_CHECKSEQUENCEVERIFY,
  OP_CHECKSIG,
  OP_DROP,
  OP_ELSE,
  OP_ENDIF,
  OP_IF,
  script,
  scriptNumber,
  TRUE,
  witnessSignature,
} from "./script.ts";

/** The witness script; the deposit's address is its P2WSH. Throws `bad-script` for a delay that is none. */
export function depositScript(sharedKey: Uint8Array, ownerKey: Uint8Array, delay: number): Uint8Array {
  // A relative lock time in blocks has 16 bits; above, the script would mean seconds or nothing at all.
  if (!(delay >= 1 && delay <= 65535)) throw lngateError("bad-script", `${delay} is not a delay in blocks`);
  return script([
    OP_IF,
    sharedKey,
    OP_CHECKSIG,
    OP_ELSE,
    scriptNumber(delay),
    OP_CHECKSEQUENCEVERIFY,
    OP_DROP,
    ownerKey,
    OP_CHECKSIG,
    OP_ENDIF,
  ]);
}

/** The witness with which device and gateway spend the deposit (a compact signature by the shared key). */
export function depositSpendWitness(signature: Uint8Array, depositScript: Uint8Array): Uint8Array[] {
  return [witnessSignature(signature), TRUE, depositScript];
}

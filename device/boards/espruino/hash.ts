/** The hashing port on Espruino, in place of src/crypto/hash.ts. */
import { SHA256 } from "espruino:crypto";
import { hmacOver } from "../shared/hmac.ts";

export { ripemd160 } from "../shared/ripemd160.ts";

/** By the firmware's own module. */
export function sha256(bytes: Uint8Array): Uint8Array {
  // A copy: a view's hash would be that of the buffer behind it on some versions.
  return new Uint8Array(SHA256(new Uint8Array(bytes)));
}

export const hmacSha256 = hmacOver(sha256);

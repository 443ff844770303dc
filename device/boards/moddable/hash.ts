/** The hashing port on Moddable, in place of src/crypto/hash.ts. */
import { Digest } from "moddable:crypt";
import { hmacOver } from "../shared/hmac.ts";
import { bufferOf } from "./buffer.ts";

export { ripemd160 } from "../shared/ripemd160.ts";

/** By the SDK's own digest. */
export function sha256(bytes: Uint8Array): Uint8Array {
  const digest = new Digest("SHA256");
  digest.write(bufferOf(bytes));
  return new Uint8Array(digest.close());
}

export const hmacSha256 = hmacOver(sha256);

/** The hashing port in Duktape, in place of src/crypto/hash.ts. */
import { hmacOver } from "../../../device/boards/shared/hmac.ts";
import { sha256 } from "./es5-crypto.ts";

export { ripemd160 } from "../../../device/boards/shared/ripemd160.ts";
export { sha256 };
export const hmacSha256 = hmacOver(sha256);

/** Hashing by the host, in place of src/crypto/hash.ts: on a board it is native, too. */
import { ASK } from "./questions.ts";
import { ask } from "./xs-host.ts";

export function sha256(bytes: Uint8Array): Uint8Array {
  return ask(ASK.sha256, bytes);
}

export function ripemd160(bytes: Uint8Array): Uint8Array {
  return ask(ASK.ripemd160, bytes);
}

export function hmacSha256(key: Uint8Array, bytes: Uint8Array): Uint8Array {
  return ask(ASK.hmacSha256, new Uint8Array([key.length]), key, bytes);
}

/**
 * HMAC_DRBG with SHA-256 (NIST SP 800-90A Rev. 1, section 10.1.2), without prediction resistance.
 * A board's own randomness is not relied on anywhere: all that a device ever draws comes from here.
 */
import { concat } from "../../src/bytes/bytes.ts";
import { hmacSha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import { filled } from "./flash.ts";

/** A generator of random bytes. */
export interface Drbg {
  /** Fresh random bytes, at most 65,536 at once. Throws `drbg-limit`. */
  generate(length: number, additional?: Uint8Array): Uint8Array;
  /** Mixes new entropy in: what is drawn later depends on it as well as on all that was there before. */
  reseed(entropy: Uint8Array, additional?: Uint8Array): void;
}

const NOTHING = new Uint8Array(0);
/** Limits of SP 800-90A, table 2. */
const MOST_BYTES = 65536;
const MOST_REQUESTS = 281474976710656;

/** The same three inputs give the same stream: `entropy ‖ nonce` must never have served before. */
export function hmacDrbg(entropy: Uint8Array, nonce: Uint8Array, personalization: Uint8Array): Drbg {
  let key: Uint8Array = new Uint8Array(32);
  let value: Uint8Array = filled(32, 1);
  let requests = 0;

  function update(input: Uint8Array): void {
    key = hmacSha256(key, concat([value, new Uint8Array([0]), input]));
    value = hmacSha256(key, value);
    if (input.length === 0) return;
    key = hmacSha256(key, concat([value, new Uint8Array([1]), input]));
    value = hmacSha256(key, value);
  }

  update(concat([entropy, nonce, personalization]));
  return {
    generate: (length, additional = NOTHING) => {
      if (length > MOST_BYTES || requests >= MOST_REQUESTS) {
        throw lngateError("drbg-limit", "more random bytes than one seed or one request may give");
      }
      requests++;
      if (additional.length > 0) update(additional);
      const out = new Uint8Array(length);
      for (let at = 0; at < length; at += 32) {
        value = hmacSha256(key, value);
        out.set(value.subarray(0, Math.min(32, length - at)), at);
      }
      update(additional);
      return out;
    },
    reseed: (fresh, additional = NOTHING) => {
      update(concat([fresh, additional]));
      requests = 0;
    },
  };
}

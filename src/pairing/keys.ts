/** The keys of pairing: those that follow from the code alone, and those that replace them for good. */
import { ascii, concat, u32be } from "../bytes/bytes.ts";
import { hmacSha256, sha256 } from "../crypto/hash.ts";
import { hkdf } from "../crypto/hkdf.ts";

/** Of pairing's messages; a change of the protocol changes it. */
export const PAIRING_VERSION = 4;

/** The gateway's name in the key generation; a device's is its id. */
export const GATEWAY_NAME = ascii("gateway");

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const PASSWORD_CHARACTERS = 32;

/** Key and broker password of the link on which a code is used. `secret`: 16 bytes. */
export function pairingKeys(secret: Uint8Array, deviceId: string): { linkKey: Uint8Array; password: string } {
  const keys = hkdf(secret, ascii(deviceId), ascii("lngate/1 pairing code"), 32 + PASSWORD_CHARACTERS);
  return { linkKey: keys.slice(0, 32), password: passwordOf(keys.subarray(32)) };
}

export interface LinkCredentials {
  readonly deviceLinkKey: Uint8Array;
  readonly ownerLinkKey: Uint8Array;
  readonly devicePassword: string;
  readonly ownerPassword: string;
  /** Each side shows the other that it has derived the same. */
  readonly ownerConfirmation: Uint8Array;
  readonly gatewayConfirmation: Uint8Array;
}

/**
 * The lasting keys. They need the ephemeral Diffie-Hellman result as well as the code's secret, so neither an old
 * photo of the code nor a recording of the pairing, nor both, are enough.
 *
 * @param shared the Diffie-Hellman result, 32 bytes
 * @param transcript `transcriptOf` all questions and answers up to these keys
 */
export function longTermKeys(
  shared: Uint8Array,
  secret: Uint8Array,
  transcript: Uint8Array,
): LinkCredentials {
  const length = 64 + 2 * PASSWORD_CHARACTERS + 32;
  const keys = hkdf(concat([shared, secret]), transcript, ascii("lngate/1 pairing"), length);
  const confirmationKey = keys.subarray(64 + 2 * PASSWORD_CHARACTERS);
  return {
    deviceLinkKey: keys.slice(0, 32),
    ownerLinkKey: keys.slice(32, 64),
    devicePassword: passwordOf(keys.subarray(64, 64 + PASSWORD_CHARACTERS)),
    ownerPassword: passwordOf(keys.subarray(64 + PASSWORD_CHARACTERS, 64 + 2 * PASSWORD_CHARACTERS)),
    ownerConfirmation: hmacSha256(confirmationKey, ascii("owner")),
    gatewayConfirmation: hmacSha256(confirmationKey, ascii("gateway")),
  };
}

/** One hash of messages in their order. */
export function transcriptOf(messages: readonly Uint8Array[]): Uint8Array {
  return sha256(concat(messages.flatMap(message => [u32be(message.length), message])));
}

/** Five bits of each byte. */
function passwordOf(bytes: Uint8Array): string {
  return Array.from(bytes, byte => ALPHABET[byte & 31]!).join("");
}

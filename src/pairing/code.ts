/**
 * The pairing code: what an operator reads out, prints or shows as a QR code, and what an owner types once.
 * It names the gateway's broker and the device, and carries a one-time secret of 16 bytes.
 *
 * As text it is bech32m (BIP 350) with the prefix `lngate`, in groups of four: up to three mistyped characters
 * are always noticed. Its bytes: version 1, kind of address, device id 5, secret 16, port 2, address (4 bytes of
 * IPv4, or a host name in ASCII). A device id is eight characters of a–z and 2–7, which are these five bytes in
 * base 32.
 */
import { base32nopad, bech32m } from "@scure/base";
import { ascii, concat } from "../bytes/bytes.ts";
import { lngateError } from "../errors.ts";

export interface PairingCode {
  /** Eight characters of a–z and 2–7. */
  readonly deviceId: string;
  /** Address of the broker as the device reaches it: an IPv4 address or a host name, at most 64 characters. */
  readonly host: string;
  readonly port: number;
  /** 16 bytes, good for one pairing. */
  readonly secret: Uint8Array;
}

const PREFIX = "lngate";
const VERSION = 1;
const IPV4 = 4;
const NAME = 0;
const SECRET_BYTES = 16;
const ID_BYTES = 5;
const MAX_HOST = 64;
/** Longest text that is looked at: prefix, separator, 25 + 64 bytes in base 32, checksum. */
const MAX_CHARACTERS = 160;

/** True for eight characters of a–z and 2–7. */
export function isDeviceId(text: string): boolean {
  return /^[a-z2-7]{8}$/.test(text);
}

/** Five random bytes as a device id. */
export function deviceIdFrom(bytes: Uint8Array): string {
  if (bytes.length !== ID_BYTES) throw lngateError("bad-device-id", "a device id is made of five bytes");
  return base32nopad.encode(bytes).toLowerCase();
}

/** The code as text in groups of four characters, lower case. Throws `pairing-code-malformed` for impossible fields. */
export function encodePairingCode(code: PairingCode): string {
  if (!isDeviceId(code.deviceId) || code.secret.length !== SECRET_BYTES || !isPort(code.port))
    throw malformed("its device id, port or secret is out of range");
  const v4 = ipv4Bytes(code.host);
  if (!v4 && !isHostName(code.host)) throw malformed(`"${code.host}" is not an IPv4 address or host name`);
  const data = concat([
    new Uint8Array([VERSION, v4 ? IPV4 : NAME]),
    base32nopad.decode(code.deviceId.toUpperCase()),
    code.secret,
    new Uint8Array([code.port >> 8, code.port & 255]),
    v4 ?? ascii(code.host),
  ]);
  const text = bech32m.encode(PREFIX, bech32m.toWords(data), MAX_CHARACTERS);
  return (text.match(/.{1,4}/g) ?? []).join(" ");
}

/**
 * Reads a code that a person typed: spaces, dashes and letter case don't matter. Throws
 * `pairing-code-malformed`, which says whether it was mistyped or is not a pairing code at all.
 */
export function decodePairingCode(typed: string): PairingCode {
  const text = typed.replace(/[\s-]/g, "").toLowerCase();
  if (!text.startsWith(`${PREFIX}1`)) throw malformed(`a pairing code starts with "${PREFIX}1"`);
  if (text.length > MAX_CHARACTERS) throw malformed("it is too long");
  let data: Uint8Array;
  try {
    data = bech32m.fromWords(bech32m.decode(text as `${string}1${string}`, MAX_CHARACTERS).words);
  } catch {
    throw malformed(
      'it has a typing mistake, or a part is missing (after "lngate1" come no b, i, o and no digit 1)',
    );
  }
  if (data[0] !== VERSION) throw malformed("it was made by another version of the gateway");
  const [kind, rest] = [data[1], data.subarray(2)];
  const addressAt = ID_BYTES + SECRET_BYTES + 2;
  const address = rest.subarray(addressAt);
  const host =
    kind === IPV4 && address.length === 4
      ? address.join(".")
      : kind === NAME && address.length <= MAX_HOST
        ? String.fromCharCode(...address)
        : "";
  const port = (rest[addressAt - 2] ?? 0) * 256 + (rest[addressAt - 1] ?? 0);
  if (!isPort(port) || !(kind === IPV4 ? host !== "" : isHostName(host) && !ipv4Bytes(host)))
    throw malformed("it does not contain the address of a gateway");
  return {
    deviceId: deviceIdFrom(rest.subarray(0, ID_BYTES)),
    host,
    port,
    secret: rest.slice(ID_BYTES, ID_BYTES + SECRET_BYTES),
  };
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65535;
}

function isHostName(text: string): boolean {
  return text.length <= MAX_HOST && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(text);
}

function ipv4Bytes(text: string): Uint8Array | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number);
  return parts?.every(part => part <= 255) ? new Uint8Array(parts) : undefined;
}

function malformed(why: string): Error {
  return lngateError("pairing-code-malformed", `this is not a pairing code of a gateway: ${why}`);
}

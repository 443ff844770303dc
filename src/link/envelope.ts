/**
 * What travels over MQTT: five kinds of frame, and the keys they are made with. Pure; ciphers and randomness
 * are handed in. The session that sends and judges these frames is src/link/session.ts.
 *
 *     hello       0x11 · nonceD 16 · tag 16                                   device opens a session
 *     welcome     0x12 · nonceG 16 · tag 16                                   gateway answers; tag covers nonceD
 *     data        0x13 · session 4 · counter 3 · ack 3 · ciphertext · tag 16  one message
 *     ack         0x14 · session 4 · ack 3 · tag 16                           nothing but an acknowledgement
 *     no-session  0x15 · session 4                                            a hint, not authenticated
 *
 * The first byte is version 1 and the kind. Numbers are big-endian; the session's number is the first 4 bytes
 * of nonceG. Tags are HMAC-SHA256 over all bytes before them, cut to 16. The message is encrypted with
 * AES-256-CTR first and authenticated afterwards; the initial counter block is the frame's counter, which
 * never repeats under a key, followed by 4 zero bytes that count the cipher's blocks.
 */
import { ascii, concat, equal, readBE, writeBE } from "../bytes/bytes.ts";
import { hmacSha256 } from "../crypto/hash.ts";
import { hkdf } from "../crypto/hkdf.ts";
import { lngateError } from "../errors.ts";

/** What a board or Node provides. */
export interface LinkCrypto {
  /** AES-256 in counter mode: the 16-byte `iv` is the first counter block, incremented as a big-endian number. */
  aes256Ctr(key: Uint8Array, iv: Uint8Array, bytes: Uint8Array): Uint8Array;
  /** Unpredictable bytes that never repeat, across restarts too. */
  random(length: number): Uint8Array;
}

export const HELLO = 0x11;
export const WELCOME = 0x12;
export const DATA = 0x13;
export const ACK = 0x14;
export const NO_SESSION = 0x15;

/** Bytes that a data frame has more than its message. */
export const DATA_OVERHEAD = 27;

const NONCE = 16;
const TAG = 16;
const DATA_HEADER = DATA_OVERHEAD - TAG;
const ACK_LENGTH = 24;

/** The keys of one direction. */
export interface DirectionKeys {
  readonly encryption: Uint8Array;
  readonly authentication: Uint8Array;
}

/** One session: `up` is from the device (or the owner's computer) to the gateway. */
export interface SessionKeys {
  readonly session: number;
  readonly up: DirectionKeys;
  readonly down: DirectionKeys;
}

/** The key that authenticates hello and welcome. `linkKey`: 32 bytes from pairing. */
export function handshakeKey(linkKey: Uint8Array): Uint8Array {
  return hkdf(linkKey, new Uint8Array(0), ascii("lngate/1 handshake"), 32);
}

/** The keys of the session between these two nonces. */
export function sessionKeys(linkKey: Uint8Array, nonceD: Uint8Array, nonceG: Uint8Array): SessionKeys {
  const keys = hkdf(linkKey, concat([nonceD, nonceG]), ascii("lngate/1 session"), 128);
  return {
    session: readBE(nonceG, 0, 4),
    up: { encryption: keys.subarray(0, 32), authentication: keys.subarray(32, 64) },
    down: { encryption: keys.subarray(64, 96), authentication: keys.subarray(96, 128) },
  };
}

/** The kind of a frame. Throws `link-malformed` for nothing and for another version. */
export function frameCodec(frame: Uint8Array): number {
  const kind = frame.length > 0 ? frame[0]! : 0;
  if (kind < HELLO || kind > NO_SESSION) {
    throw lngateError("link-malformed", "a frame has another version or an unknown kind");
  }
  return kind;
}

/** The session that a data, ack or no-session frame names. */
export function frameSession(frame: Uint8Array): number {
  if (frame.length < 5) throw lngateError("link-malformed", "a frame ends before its session");
  return readBE(frame, 1, 4);
}

export function sealHello(key: Uint8Array, nonceD: Uint8Array): Uint8Array {
  return tagged(key, [new Uint8Array([HELLO]), nonceD]);
}

/** nonceD of a genuine hello, which may be an old one. Throws `link-malformed`, `link-bad-tag`. */
export function openHello(key: Uint8Array, frame: Uint8Array): Uint8Array {
  expectLength(frame, 1 + NONCE + TAG);
  checkTag(key, frame, frame.subarray(0, 1 + NONCE));
  return copy(frame, 1, NONCE);
}

export function sealWelcome(key: Uint8Array, nonceD: Uint8Array, nonceG: Uint8Array): Uint8Array {
  const frame = concat([new Uint8Array([WELCOME]), nonceG]);
  return concat([frame, tagOf(key, concat([frame, nonceD]))]);
}

/** nonceG of the gateway's answer to exactly this nonceD. Throws `link-malformed`, `link-bad-tag`. */
export function openWelcome(key: Uint8Array, nonceD: Uint8Array, frame: Uint8Array): Uint8Array {
  expectLength(frame, 1 + NONCE + TAG);
  checkTag(key, frame, concat([frame.subarray(0, 1 + NONCE), nonceD]));
  return copy(frame, 1, NONCE);
}

/** `ack`: how many frames of the other direction have been taken in order. */
export function sealData(
  crypto: LinkCrypto,
  keys: DirectionKeys,
  session: number,
  counter: number,
  ack: number,
  message: Uint8Array,
): Uint8Array {
  const header = new Uint8Array(DATA_HEADER);
  header[0] = DATA;
  writeBE(header, 1, 4, session);
  writeBE(header, 5, 3, counter);
  writeBE(header, 8, 3, ack);
  return tagged(keys.authentication, [
    header,
    crypto.aes256Ctr(keys.encryption, counterBlock(counter), message),
  ]);
}

export function sealAck(keys: DirectionKeys, session: number, ack: number): Uint8Array {
  const header = new Uint8Array(ACK_LENGTH - TAG);
  header[0] = ACK;
  writeBE(header, 1, 4, session);
  writeBE(header, 5, 3, ack);
  return tagged(keys.authentication, [header]);
}

/** A genuine data or ack frame; `message` is still encrypted, and absent in an ack. */
export interface OpenedFrame {
  readonly ack: number;
  readonly counter: number;
  readonly message: Uint8Array | undefined;
}

/** Checks length and tag of a data or ack frame. Throws `link-malformed`, `message-too-large`, `link-bad-tag`. */
export function openFrame(keys: DirectionKeys, frame: Uint8Array, maxMessageBytes: number): OpenedFrame {
  const isAck = frame[0] === ACK;
  if (isAck) expectLength(frame, ACK_LENGTH);
  if (frame.length < ACK_LENGTH || (!isAck && frame.length < DATA_OVERHEAD)) {
    throw lngateError("link-malformed", "a frame is too short");
  }
  if (frame.length > DATA_OVERHEAD + maxMessageBytes) {
    throw lngateError("message-too-large", `a frame has ${frame.length} bytes`);
  }
  const end = frame.length - TAG;
  checkTag(keys.authentication, frame, frame.subarray(0, end));
  if (isAck) return { ack: readBE(frame, 5, 3), counter: 0, message: undefined };
  return {
    ack: readBE(frame, 8, 3),
    counter: readBE(frame, 5, 3),
    message: frame.subarray(DATA_HEADER, end),
  };
}

/** The message of an opened data frame. */
export function decrypt(
  crypto: LinkCrypto,
  keys: DirectionKeys,
  counter: number,
  message: Uint8Array,
): Uint8Array {
  return crypto.aes256Ctr(keys.encryption, counterBlock(counter), message);
}

/** The gateway's hint that it knows no such session; 0 when it knows none at all. */
export function noSession(session: number): Uint8Array {
  const frame = new Uint8Array(5);
  frame[0] = NO_SESSION;
  writeBE(frame, 1, 4, session);
  return frame;
}

function counterBlock(counter: number): Uint8Array {
  const block = new Uint8Array(16);
  writeBE(block, 9, 3, counter);
  return block;
}

function tagged(key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
  const frame = concat([...parts, new Uint8Array(TAG)]);
  const end = frame.length - TAG;
  frame.set(tagOf(key, frame.subarray(0, end)), end);
  return frame;
}

function tagOf(key: Uint8Array, bytes: Uint8Array): Uint8Array {
  return hmacSha256(key, bytes).subarray(0, TAG);
}

function checkTag(key: Uint8Array, frame: Uint8Array, authenticated: Uint8Array): void {
  if (!equal(tagOf(key, authenticated), frame.subarray(frame.length - TAG))) {
    throw lngateError("link-bad-tag", "a frame was not made with this session's keys, or was changed");
  }
}

function expectLength(frame: Uint8Array, length: number): void {
  if (frame.length !== length) throw lngateError("link-malformed", "a frame has the wrong length");
}

function copy(bytes: Uint8Array, at: number, length: number): Uint8Array {
  return concat([bytes.subarray(at, at + length)]);
}

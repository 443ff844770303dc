/**
 * A question or answer of the owner's link may be larger than a broker likes, so it travels in pieces: each message of
 * the link is one byte (1 for the last piece, 0 for the others) and a part of the whole. The link delivers in order and once.
 */
import { concat } from "../bytes/bytes.ts";
import { lngateError } from "../errors.ts";

/** Longest message of the owner's link: one piece. */
export const OWNER_MAX_MESSAGE_BYTES = 65536;
/** Longest question or answer: S2 of 64 presignatures, or S3 of kind B. In pieces, fewer than the link lets wait. */
export const OWNER_MAX_BYTES = 1_800_000;

/** Cuts a question or answer into the link's messages. */
export function inFragments(whole: Uint8Array): Uint8Array[] {
  if (whole.length > OWNER_MAX_BYTES)
    throw lngateError("message-too-large", `${whole.length} bytes are too many`);
  const room = OWNER_MAX_MESSAGE_BYTES - 1;
  const pieces: Uint8Array[] = [];
  for (let at = 0; at === 0 || at < whole.length; at += room) {
    const last = at + room >= whole.length;
    pieces.push(concat([new Uint8Array([last ? 1 : 0]), whole.subarray(at, at + room)]));
  }
  return pieces;
}

/** Puts the pieces of one direction together again. */
export class Fragments {
  private parts: Uint8Array[] = [];
  private length = 0;

  /** The whole, once its last piece is there. Throws `message-malformed`, `message-too-large`; then nothing is kept. */
  add(piece: Uint8Array): Uint8Array | undefined {
    const last = piece[0];
    this.length += piece.length - 1;
    if (last !== 0 && last !== 1) throw this.refuse("message-malformed", "a piece has no number");
    if (this.length > OWNER_MAX_BYTES)
      throw this.refuse("message-too-large", "a message has too many pieces");
    this.parts.push(piece.subarray(1));
    if (last === 0) return undefined;
    const whole = concat(this.parts);
    this.clear();
    return whole;
  }

  /** Forgets what came so far: a new session begins with a new message. */
  clear(): void {
    this.parts = [];
    this.length = 0;
  }

  private refuse(code: string, sentence: string): Error {
    this.clear();
    return lngateError(code, sentence);
  }
}

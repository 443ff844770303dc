/** One party's half of a channel's funding key. */
import { concat, equal, u32be } from "../bytes/bytes.ts";
import { fromBigInt, isValidScalar, toBigInt } from "../crypto/scalar-bigint.ts";
import { lngateError } from "../errors.ts";
import { decodePoint, encodePoints, G, POINT_BYTES, type Point } from "./points.ts";
import { fieldsOf } from "./turns.ts";

export type Role = "gateway" | "device";

/** The share x_own of x = x_own + x_peer; the whole x exists nowhere. */
export interface KeyShare {
  readonly role: Role;
  /** Names the key generation, 32 bytes; the same on both sides. */
  readonly sid: Uint8Array;
  /**
   * 0, as key generation makes it: nothing begins a later one today. Presignatures, OT setups and runs of MACs belong to
   * one epoch, and what is of another is refused.
   */
  readonly epoch: number;
  /** 32 bytes, secret. */
  readonly secret: Uint8Array;
  /** x_own·G, compressed. */
  readonly own: Uint8Array;
  /** x_peer·G, compressed. */
  readonly peer: Uint8Array;
  /** Q = x·G, the funding key, compressed. */
  readonly joint: Uint8Array;
}

/** Bytes of an encoded share. */
export const KEY_SHARE_BYTES = 1 + 1 + 32 + 4 + 32 + POINT_BYTES + POINT_BYTES;
const VERSION = 1;

/**
 * Puts a share together and checks it: Q must be the sum of both points. Throws `bad-key-share`.
 */
export function makeKeyShare(
  role: Role,
  sid: Uint8Array,
  epoch: number,
  secret: bigint,
  peer: Point,
  joint: Point,
): KeyShare {
  const own = G.multiply(secret);
  if (!own.add(peer).equals(joint) || joint.is0()) {
    throw lngateError("bad-key-share", "the shares of this key do not add up to it");
  }
  const [ownBytes, peerBytes, jointBytes] = encodePoints([own, peer, joint]);
  return {
    role,
    sid: sid.slice(),
    epoch,
    secret: fromBigInt(secret),
    own: ownBytes!,
    peer: peerBytes!,
    joint: jointBytes!,
  };
}

/**
 * For storage, and the device's is also the owner's backup. A backup holds the share and nothing else: a
 * presignature or an OT setup brought back from a copy gives the key away.
 */
export function encodeKeyShare(share: KeyShare): Uint8Array {
  const role = share.role === "gateway" ? 0 : 1;
  const head = new Uint8Array([VERSION, role]);
  return concat([head, share.sid, u32be(share.epoch), share.secret, share.peer, share.joint]);
}

/** Reads encodeKeyShare's bytes. Throws `bad-key-share` for anything else, an inconsistent share included. */
export function decodeKeyShare(bytes: Uint8Array): KeyShare {
  if (bytes.length !== KEY_SHARE_BYTES || bytes[0] !== VERSION || bytes[1]! > 1) {
    throw lngateError("bad-key-share", "these bytes are no key share of a known version");
  }
  const fields = fieldsOf("key share", bytes, KEY_SHARE_BYTES);
  const role = fields.take(2)[1] === 0 ? "gateway" : "device";
  const sid = fields.take(32);
  const epoch = fields.number(4);
  const secret = fields.take(32);
  if (!isValidScalar(secret)) throw lngateError("bad-key-share", "the secret of a key share is not a scalar");
  let points: [Point, Point];
  try {
    points = [decodePoint(fields.take(POINT_BYTES)), decodePoint(fields.take(POINT_BYTES))];
  } catch {
    throw lngateError("bad-key-share", "a point of a key share is not on the curve");
  }
  return makeKeyShare(role, sid, epoch, toBigInt(secret), ...points);
}

/** True if these are the two halves of one key in one epoch. */
export function samePair(a: KeyShare, b: KeyShare): boolean {
  return a.epoch === b.epoch && equal(a.sid, b.sid) && equal(a.own, b.peer) && equal(a.peer, b.own);
}

/**
 * Distributed key generation without a dealer. Each side picks its share and proves that it knows it; the gateway
 * commits to its point before it sees the device's, so neither can choose the sum.
 *
 *     gateway                                   device
 *       │ K0   nonceG (32)                        │
 *       │ ─────────────────────────────────────▶ │
 *       │                       nonceD (32)  K0' │
 *       │ ◀───────────────────────────────────── │
 *       │ K1   Com(Q_G ‖ proof) (32)              │
 *       │ ─────────────────────────────────────▶ │
 *       │                 Q_D ‖ proof (98)    K2 │
 *       │ ◀───────────────────────────────────── │
 *       │ K3   Q_G ‖ proof ‖ ρ (130)              │
 *       │ ─────────────────────────────────────▶ │
 *       │             H("kgok", sid, Q)  K4 (32) │
 *       │ ◀───────────────────────────────────── │
 *       │ K4   the same (32)                      │
 *       │ ─────────────────────────────────────▶ │
 *
 * A share is to be stored before the message that comes with it is sent.
 */
import { concat, equal } from "../bytes/bytes.ts";
import { lngateError } from "../errors.ts";
import { tagged } from "./hash.ts";
import { type KeyShare, makeKeyShare } from "./keyshare.ts";
import {
  decodePoint,
  encodePoint,
  G,
  POINT_BYTES,
  type Point,
  PROOF_BYTES,
  prove,
  randomScalar,
  verifyProofs,
} from "./points.ts";
import { fieldsOf, type Random, type Sent, type Turn, turn } from "./turns.ts";

const VERSION = new Uint8Array([1]);
const PROVEN_POINT_BYTES = POINT_BYTES + PROOF_BYTES;

/** The names both parties know each other by, of any length; they go into the session id. */
export interface Names {
  readonly gateway: Uint8Array;
  readonly device: Uint8Array;
}

/** The finished share, and what is still to be sent, if anything. */
export interface Finished {
  readonly share: KeyShare;
}

function sessionId(names: Names, nonceG: Uint8Array, nonceD: Uint8Array): Uint8Array {
  return tagged("kg", VERSION, names.gateway, names.device, nonceG, nonceD);
}

function commitTo(sid: Uint8Array, opened: Uint8Array, blind: Uint8Array): Uint8Array {
  return tagged("com", sid, new Uint8Array([0x4b]), opened, blind);
}

function makeProvenPoint(sid: Uint8Array, role: string, secret: bigint, random: Random): Uint8Array {
  const point = encodePoint(G.multiply(secret));
  return concat([point, prove([{ sid, role, point, secret }], random)[0]!]);
}

function readProvenPoint(sid: Uint8Array, role: string, bytes: Uint8Array, random: Random): Point {
  const point = bytes.subarray(0, POINT_BYTES);
  const decoded = decodePoint(point);
  verifyProofs([{ sid, role, point, decoded, proof: bytes.subarray(POINT_BYTES) }], random);
  return decoded;
}

function addUp(own: bigint, peer: Point): Point {
  const joint = G.multiply(own).add(peer);
  if (joint.is0()) throw lngateError("threshold-bad-message", "the joint key would be infinity");
  return joint;
}

function ensureConfirmation(message: Uint8Array, expected: Uint8Array): void {
  const confirmation = fieldsOf("K4", message, 32).take(32);
  if (!equal(confirmation, expected)) {
    throw lngateError("threshold-bad-confirmation", "the two parties do not hold halves of the same key");
  }
}

/** The gateway's side; it begins. */
export function keygenGateway(
  names: Names,
  random: Random,
): Sent<Turn<"K0'", Sent<Turn<"K2", Sent<Turn<"K4", Finished & { readonly send: Uint8Array }>>>>>> {
  const nonceG = random(32);
  return {
    send: nonceG.slice(),
    next: turn("K0'", message => {
      const sid = sessionId(names, nonceG, fieldsOf("K0'", message, 32).take(32));
      const secret = randomScalar(random);
      const provenPoint = makeProvenPoint(sid, "gateway", secret, random);
      const blind = random(32);
      return {
        send: commitTo(sid, provenPoint, blind),
        next: turn("K2", message => {
          const fields = fieldsOf("K2", message, PROVEN_POINT_BYTES);
          const peer = readProvenPoint(sid, "device", fields.take(PROVEN_POINT_BYTES), random);
          const share = makeKeyShare("gateway", sid, 0, secret, peer, addUp(secret, peer));
          return {
            send: concat([provenPoint, blind]),
            next: turn("K4", message => {
              const confirmation = tagged("kgok", sid, share.joint);
              ensureConfirmation(message, confirmation);
              return { share, send: confirmation };
            }),
          };
        }),
      };
    }),
  };
}

/** The device's side (run by the device's owner, whose computer holds x_D afterwards). */
export function keygenDevice(
  names: Names,
  random: Random,
): Turn<"K0", Sent<Turn<"K1", Sent<Turn<"K3", Sent<Turn<"K4", Finished>>>>>>> {
  return turn("K0", message => {
    const nonceG = fieldsOf("K0", message, 32).take(32);
    const nonceD = random(32);
    const sid = sessionId(names, nonceG, nonceD);
    return {
      send: nonceD.slice(),
      next: turn("K1", message => {
        const commitment = fieldsOf("K1", message, 32).take(32).slice();
        const secret = randomScalar(random);
        return {
          send: makeProvenPoint(sid, "device", secret, random),
          next: turn("K3", message => {
            const fields = fieldsOf("K3", message, PROVEN_POINT_BYTES + 32);
            const opened = fields.take(PROVEN_POINT_BYTES);
            if (!equal(commitTo(sid, opened, fields.take(32)), commitment)) {
              throw lngateError("threshold-bad-commitment", "K3 does not open what K1 committed to");
            }
            const peer = readProvenPoint(sid, "gateway", opened, random);
            const share = makeKeyShare("device", sid, 0, secret, peer, addUp(secret, peer));
            const confirmation = tagged("kgok", sid, share.joint);
            return {
              send: confirmation,
              next: turn("K4", message => {
                ensureConfirmation(message, confirmation);
                return { share };
              }),
            };
          }),
        };
      }),
    };
  });
}

/**
 * Refresh: both sides toss a coin δ by commit and open, then x_G += δ and x_D −= δ. The key Q stays; a share stolen
 * before is worth nothing afterwards. The epoch rises, so all OT setups and presignatures of the old one are dead.
 *
 *     gateway                                   device
 *       │ F0   Com(δ_G) (32)                      │
 *       │ ─────────────────────────────────────▶ │
 *       │                           δ_D (32)  F1 │
 *       │ ◀───────────────────────────────────── │
 *       │ F2   δ_G ‖ ρ (64)                       │
 *       │ ─────────────────────────────────────▶ │
 *       │   H("rfok", sid, epoch, Q_G') (32)  F3 │
 *       │ ◀───────────────────────────────────── │
 *       │ F4   the same (32)                      │
 *       │ ─────────────────────────────────────▶ │
 *
 * The message that is lost must not cost the key. The device stores its `pending` share *beside* the old one before
 * it sends F3, and drops the old one at F4. The gateway replaces its share at F3. If F4 is lost, the gateway's
 * epoch tells the device which of the two to keep: the pending one if the gateway has moved on, else the old one.
 */
import { concat, equal, u32be } from "../bytes/bytes.ts";
import { fromBigInt, N } from "../bytes/scalar-bigint.ts";
import { lngateError } from "../errors.ts";
import { tagged } from "./hash.ts";
import { type KeyShare, shiftShare } from "./keyshare.ts";
import { decodeScalar, randomScalar } from "./points.ts";
import { Fields, type Random, type Sent, type Turn, turn } from "./steps.ts";

/** The share of the new epoch. */
export interface Refreshed {
  readonly share: KeyShare;
}

function needRole(share: KeyShare, role: KeyShare["role"]): void {
  if (share.role !== role) throw lngateError("bad-key-share", `this is not the ${role}'s share`);
}

function commitTo(share: KeyShare, opened: Uint8Array, blind: Uint8Array): Uint8Array {
  return tagged("com", share.sid, concat([new Uint8Array([0x46]), u32be(share.epoch)]), opened, blind);
}

function confirmationOf(share: KeyShare): Uint8Array {
  const gatewayPoint = share.role === "gateway" ? share.own : share.peer;
  return tagged("rfok", share.sid, u32be(share.epoch), gatewayPoint);
}

function needConfirmation(name: string, message: Uint8Array, share: KeyShare): void {
  if (!equal(new Fields(name, message, 32).take(32), confirmationOf(share))) {
    throw lngateError("threshold-bad-confirmation", "the refreshed shares do not belong together");
  }
}

/** The gateway's side; it begins. */
export function refreshGateway(
  share: KeyShare,
  random: Random,
): Sent<Turn<"F1", Sent<Turn<"F3", Refreshed & { readonly send: Uint8Array }>>>> {
  needRole(share, "gateway");
  const own = randomScalar(random);
  const blind = random(32);
  return {
    send: commitTo(share, fromBigInt(own), blind),
    next: turn("F1", message => {
      const peer = decodeScalar(new Fields("F1", message, 32).take(32));
      const refreshed = shiftShare(share, needTweak((own + peer) % N));
      return {
        send: concat([fromBigInt(own), blind]),
        next: turn("F3", message => {
          needConfirmation("F3", message, refreshed);
          return { share: refreshed, send: confirmationOf(refreshed) };
        }),
      };
    }),
  };
}

/** The device's side. */
export function refreshDevice(
  share: KeyShare,
  random: Random,
): Turn<"F0", Sent<Turn<"F2", Sent<Turn<"F4", Refreshed>> & { readonly pending: KeyShare }>>> {
  needRole(share, "device");
  return turn("F0", message => {
    const commitment = new Fields("F0", message, 32).take(32).slice();
    const own = randomScalar(random);
    return {
      send: fromBigInt(own),
      next: turn("F2", message => {
        const fields = new Fields("F2", message, 64);
        const opened = fields.take(32);
        if (!equal(commitTo(share, opened, fields.take(32)), commitment)) {
          throw lngateError("threshold-bad-commitment", "F2 does not open what F0 committed to");
        }
        const pending = shiftShare(share, needTweak((own + decodeScalar(opened)) % N));
        return {
          send: confirmationOf(pending),
          pending,
          next: turn("F4", message => {
            needConfirmation("F4", message, pending);
            return { share: pending };
          }),
        };
      }),
    };
  });
}

function needTweak(tweak: bigint): bigint {
  if (tweak === 0n) throw lngateError("threshold-bad-message", "the coin toss came out as zero");
  return tweak;
}

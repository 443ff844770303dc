/**
 * The gateway's side of pairing: key generation, fresh link keys, oblivious transfers for both kinds of
 * presignature, the device's public keys. Nothing is kept until all of it is there; then the code becomes used in
 * the same step of the store. So a pairing that breaks off anywhere can be repeated with the same code.
 */

import { randomBytes } from "node:crypto";
import { ascii, concat, equal } from "../../src/bytes/bytes.ts";
import type { DeviceKeys } from "../../src/channel/device-keys.ts";
import type { ServiceFee } from "../../src/channel/service-fee.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { sha256 } from "../../src/crypto/hash.ts";
import { lngateError } from "../../src/errors.ts";
import type { FromOwner, ToOwner } from "../../src/messages/owner.ts";
import { fromOwner, toOwner } from "../../src/messages/owner.ts";
import { GATEWAY_NAME, longTermKeys, PAIRING_VERSION, transcriptOf } from "../../src/pairing/keys.ts";
import { decodeKeyShare, encodeKeyShare, type KeyShare } from "../../src/threshold/keyshare.ts";
import { OtSetup } from "../../src/threshold/transfer/setup.ts";
import type { Registry, StoredSetup } from "../store/registry.ts";
import type { Ceremonies, Ceremony } from "./ceremonies.ts";

export interface PairingOptions {
  readonly registry: Registry;
  readonly ceremonies: Ceremonies;
  readonly deviceId: string;
  readonly network: string;
  /** What the service of this gateway costs now; the pairing keeps it. Absent: nothing. */
  readonly serviceFee?: ServiceFee | undefined;
  /** Of the best chain. Rejects while bitcoind is away. */
  blockHeight(): Promise<number>;
  /** Unix seconds. */
  now(): number;
}

/** What has been agreed on so far. */
interface Progress {
  readonly ecdhSecret: Uint8Array;
  readonly ownerEcdh: Uint8Array;
  keygen: Ceremony;
  transcript: Uint8Array[];
  share?: KeyShare;
  transferA?: { readonly ceremony: Ceremony; readonly e1: Uint8Array };
  setups?: readonly StoredSetup[];
}

/** One owner's attempt: answers its questions in their order. Throws a stable code, which ends the attempt. */
export class PairingAttempt {
  private readonly options: PairingOptions;
  private progress: Progress | undefined;
  private due: FromOwner["type"] = "pair";

  constructor(options: PairingOptions) {
    this.options = options;
  }

  async answer(question: FromOwner): Promise<ToOwner> {
    // Starting again is always allowed; anything else only when it is due.
    if (question.type !== "pair" && question.type !== this.due)
      throw lngateError("pairing-out-of-order", `"${question.type}" was not due in this pairing`);
    const progress = this.progress;
    this.due = "pair";
    switch (question.type) {
      case "pair":
        return await this.begin(question);
      case "pair-nonce": {
        const { send } = await progress!.keygen.receive(question.k0);
        return this.next("pair-share", question, { type: "pair-committed", k1: send! });
      }
      case "pair-share": {
        const { send } = await progress!.keygen.receive(question.k2);
        return this.next("pair-agree", question, { type: "pair-opened", k3: send! });
      }
      case "pair-agree":
        return await this.agree(question, progress!);
      case "pair-transfers":
        return await this.transfer(question, progress!);
      case "pair-complete":
        return this.complete(question, progress!);
      default:
        throw lngateError("pairing-out-of-order", `"${question.type}" is no part of pairing`);
    }
  }

  /** The connection is gone: what has been agreed on is forgotten. */
  abandon(): void {
    this.progress?.keygen.forget();
    this.progress?.transferA?.ceremony.forget();
    this.progress = undefined;
    this.due = "pair";
  }

  private async begin(question: Extract<FromOwner, { type: "pair" }>): Promise<ToOwner> {
    this.abandon();
    const { registry, ceremonies, deviceId, network, serviceFee } = this.options;
    const { name, invitation } = registry.device(deviceId);
    if (question.version !== PAIRING_VERSION)
      throw lngateError(
        "pairing-version",
        `this gateway pairs by version ${PAIRING_VERSION} of the protocol`,
      );
    if (invitation?.usedBy) {
      // The owner's computer may have missed the end of its own pairing.
      if (question.completed && equal(question.completed, invitation.usedBy))
        return { type: "paired", confirmation: invitation.usedBy };
      throw lngateError(
        "pairing-code-used",
        "this pairing code has been used; ask for a new device to be added",
      );
    }
    this.ensureUnexpired();
    if (!nobleCurve.isPoint(question.ecdh)) throw lngateError("bad-point", "the owner's key is not a point");
    const ecdhSecret = new Uint8Array(randomBytes(32));
    const ecdh = nobleCurve.publicKey(ecdhSecret);
    const blockHeight = await this.options.blockHeight();
    const names = { gateway: GATEWAY_NAME, device: ascii(deviceId) };
    const { ceremony, send } = await ceremonies.begin({ what: "keygen", ...names });
    this.progress = { ecdhSecret, ownerEcdh: question.ecdh, keygen: ceremony, transcript: [] };
    return this.next("pair-nonce", question, {
      type: "pairing",
      network,
      blockHeight,
      name,
      ecdh,
      k0: send!,
      ...(serviceFee ? { serviceFee } : {}),
    });
  }

  private async agree(
    question: Extract<FromOwner, { type: "pair-agree" }>,
    progress: Progress,
  ): Promise<ToOwner> {
    const { send: k4, share } = await progress.keygen.receive(question.k4);
    progress.share = decodeKeyShare(share!);
    const { ceremony, send: e1 } = await this.options.ceremonies.begin({
      what: "setup",
      kind: "A",
      share: share!,
    });
    progress.transferA = { ceremony, e1: e1! };
    return this.next("pair-transfers", question, { type: "pair-agreed", k4: k4!, e1: e1! });
  }

  private async transfer(
    question: Extract<FromOwner, { type: "pair-transfers" }>,
    progress: Progress,
  ): Promise<ToOwner> {
    const a = await progress.transferA!.ceremony.receive(question.e2);
    const share = encodeKeyShare(progress.share!);
    const begun = await this.options.ceremonies.begin({ what: "setup", kind: "B", share });
    const b = await begun.ceremony.receive(question.e1);
    progress.setups = [
      storedSetup(a.setup!, progress.transferA!.e1, question.e2),
      storedSetup(b.setup!, question.e1, b.send!),
    ];
    return this.next("pair-complete", question, { type: "pair-transferred", e2: b.send! });
  }

  private complete(question: Extract<FromOwner, { type: "pair-complete" }>, progress: Progress): ToOwner {
    const { registry, deviceId, serviceFee } = this.options;
    const { invitation } = registry.device(deviceId);
    if (!invitation?.secret) throw lngateError("pairing-code-used", "this pairing code has been used");
    this.ensureUnexpired();
    const shared = nobleCurve.multiply(progress.ownerEcdh, progress.ecdhSecret).subarray(1);
    const made = longTermKeys(shared, invitation.secret, transcriptOf(progress.transcript));
    if (!equal(question.confirmation, made.ownerConfirmation))
      throw lngateError(
        "pairing-mismatch",
        "the two sides have seen different messages: somebody is in between",
      );
    registry.completePairing(deviceId, {
      ...made,
      keys: checkedKeys({ ...question.keys, fundingKey: progress.share!.joint }),
      share: progress.share!,
      setups: progress.setups!,
      confirmation: made.gatewayConfirmation,
      limits: question.limits,
      ...(serviceFee ? { serviceFee } : {}),
    });
    this.progress = undefined;
    return { type: "paired", confirmation: made.gatewayConfirmation };
  }

  private next(due: FromOwner["type"], question: FromOwner, answer: ToOwner): ToOwner {
    if (!this.progress) throw lngateError("pairing-out-of-order", "this pairing was broken off");
    this.progress.transcript.push(fromOwner.encode(question), toOwner.encode(answer));
    this.due = due;
    return answer;
  }

  private ensureUnexpired(): void {
    const { registry, deviceId, now } = this.options;
    if ((registry.device(deviceId).invitation?.expiresAt ?? 0) < now())
      throw lngateError(
        "pairing-code-expired",
        "this pairing code has expired; `lngate gateway add-device` with the same name makes a new one",
      );
  }
}

/** A finished setup with its fingerprint. */
export function storedSetup(setup: Uint8Array, e1: Uint8Array, e2: Uint8Array): StoredSetup {
  return { setup: OtSetup.fromBytes(setup), fingerprint: sha256(concat([e1, e2])) };
}

/** Keys that LDK, bitcoind and the scripts can work with. Throws `pairing-keys-invalid`. */
function checkedKeys(keys: DeviceKeys): DeviceKeys {
  const { shutdownScript: script, depositDelay } = keys;
  const all = [
    keys.revocationBasepoint,
    keys.paymentBasepoint,
    keys.delayedPaymentBasepoint,
    keys.htlcBasepoint,
    keys.depositOwnerKey,
  ];
  if (!all.every(key => nobleCurve.isPoint(key)))
    throw lngateError("pairing-keys-invalid", "one of the device's public keys is not a point of the curve");
  if (depositDelay < 1)
    throw lngateError("pairing-keys-invalid", "the delay of the deposit must be at least 1 block");
  // BOLT #2, option_shutdown_anysegwit: version 0 of 20 or 32 bytes, or a later version of 2 to 40.
  const [version, length] = [script[0]!, script[1]!];
  const fits = script.length === 2 + length;
  const v0 = version === 0 && (length === 20 || length === 32);
  const later = version >= 0x51 && version <= 0x60 && length >= 2 && length <= 40;
  if (!fits || !(v0 || later))
    throw lngateError("pairing-keys-invalid", "the address for mutual closes must be a segwit one");
  return keys;
}

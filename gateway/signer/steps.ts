/**
 * A step to the device, made of the parts that LDK's signer wants answered: the bridge's revocation, one state of ours
 * and one thing to sign, as they come. What does not fit goes into the next step.
 */

import { parseTransaction } from "../../src/bitcoin/transaction.ts";
import { equal, toHex } from "../../src/bytes/bytes.ts";
import { encodeValue } from "../../src/bytes/schema.ts";
import { counterpartyBasepoints, type DeviceKeys, holderBasepoints } from "../../src/channel/device-keys.ts";
import type { CommitmentSpec, Proposal } from "../../src/channel/terms.ts";
import { viewCodec } from "../../src/channel/terms.ts";
import { channelOf, viewOf } from "../../src/channel/transactions.ts";
import { nobleCurve } from "../../src/crypto/curve.ts";
import { COUNTERPARTY, HOLDER } from "../../src/lightning/channel.ts";
import { buildCommitment } from "../../src/lightning/commitment.ts";
import { deriveCommitmentKeys } from "../../src/lightning/keys.ts";
import type { AuthenticatedPartial, Step } from "../../src/messages/device.ts";
import { holderSigning } from "./checks/transactions.ts";
import type {
  CounterpartyPart,
  CounterpartySigning,
  HolderPart,
  HolderSigning,
  SigningPart,
  SpendContent,
} from "./parts.ts";

/** What the device knows already, so that it need not be said again. */
export interface KnownViews {
  readonly holder: string;
  readonly counterparty: string;
  readonly nextPoint: string;
}

/** What a step is made with. */
export interface StepScene {
  readonly keys: DeviceKeys;
  /** Of the channel that the parts are of. */
  readonly proposal: Proposal;
  readonly known: Partial<KnownViews>;
  /** The device cannot derive the keys inside the bridge's commitments. */
  readonly curveless: boolean;
  /** The gateway's half of a signature that the device finishes itself, and keeps. */
  ourHalf(sighash: Uint8Array): AuthenticatedPartial;
}

/** A step, and what its answer is for. */
export interface ComposedStep {
  readonly step: Step;
  readonly parts: readonly SigningPart[];
  /** What the partial signatures of the answer sign, in their order. */
  readonly sighashes: readonly Uint8Array[];
  /** What the device knows once it has answered. */
  readonly views: Partial<KnownViews>;
  /** Spends that the device is not asked for, since the owner's computer collects these outputs. */
  readonly notCollected: readonly SigningPart[];
}

/** The step of this id for as many of the parts as fit, in their order. Throws what `ourHalf` throws. */
export function composeStep(id: number, parts: readonly SigningPart[], scene: StepScene): ComposedStep {
  const making = new StepInMaking(id, scene);
  // As the device processes them, in whatever order they came up: what is left out of one is what it has from those before.
  for (const part of parts) if (comesFirst(part)) making.add(part);
  for (const part of parts) if (!comesFirst(part)) making.add(part);
  const { step, sighashes, views, notCollected } = making;
  return { step, parts: making.parts, sighashes, views, notCollected };
}

function comesFirst({ kind }: SigningPart): boolean {
  return kind === "revocation" || kind === "holder";
}

class StepInMaking {
  readonly step: { -readonly [K in keyof Step]: Step[K] };
  readonly parts: SigningPart[] = [];
  readonly notCollected: SigningPart[] = [];
  sighashes: readonly Uint8Array[] = [];
  readonly views: { -readonly [K in keyof KnownViews]?: string } = {};
  private readonly scene: StepScene;
  private toSign = 0;

  constructor(id: number, scene: StepScene) {
    this.step = { type: "step", id };
    this.scene = scene;
  }

  add(part: SigningPart): void {
    if (this.adds(part)) this.parts.push(part);
  }

  /** False for what does not fit. */
  private adds(part: SigningPart): boolean {
    const { step } = this;
    switch (part.kind) {
      case "revocation": {
        if (step.revoked) return false;
        const { number, secret, nextPoint } = part;
        step.revoked = { number, secret, ...(nextPoint ? { nextPoint } : {}) };
        if (nextPoint) this.views.nextPoint = pointKey(number + 2, nextPoint);
        return true;
      }
      case "holder":
        if (step.holder) return false;
        this.addHolder(part);
        return true;
      case "exit":
        // A forced close goes alone, with the state that it publishes: the device may not have seen that yet.
        if (step.holder || this.toSign++ + this.parts.length > 0) return false;
        step.forceClose = part.number;
        this.addHolder(part);
        return true;
      case "spend":
        return this.addsSpend(part);
    }
    if (this.toSign++ > 0) return false;
    switch (part.kind) {
      case "counterparty":
        this.addCounterparty(part);
        break;
      case "funding":
        this.sighashes = part.sighashes;
        step.fund = true;
        break;
      case "closing":
        this.sighashes = [part.sighash];
        step.close = {
          holderSat: part.toHolderSat,
          counterpartySat: part.toCounterpartySat,
          counterpartyScript: part.counterpartyScript,
        };
    }
    return true;
  }

  private addHolder(part: HolderPart): void {
    const { scene, step } = this;
    const view = viewOf(part.content, true);
    const { sighash, anchorSighash } = part.signing ?? holderSigningAgain(scene, part);
    const same = viewKey(view) === scene.known.counterparty;
    step.holder = {
      number: part.number,
      ...(same ? {} : { view }),
      signature: part.counterpartySignature,
      ...(part.counterpartyHtlcSignatures.length > 0
        ? { htlcSignatures: [...part.counterpartyHtlcSignatures] }
        : {}),
      partial: scene.ourHalf(sighash),
      ...(anchorSighash ? { anchorPartial: scene.ourHalf(anchorSighash) } : {}),
    };
    this.views.holder = viewKey(view);
  }

  private addCounterparty(part: CounterpartyPart): void {
    const { scene, step, views } = this;
    const view = viewOf(part.content, false);
    const { number, point } = part;
    const same = viewKey(view) === (views.holder ?? scene.known.holder);
    const announced = pointKey(number, point) === (views.nextPoint ?? scene.known.nextPoint);
    const { sighash, keys } = part.signing ?? counterpartySigningAgain(scene, part);
    this.sighashes = [sighash];
    if (number === 0) step.proposal = scene.proposal;
    step.counterparty = {
      number,
      ...(announced ? {} : { point }),
      ...(same && number > 0 ? {} : { view }),
      ...(scene.curveless
        ? { keys: [keys.revocation, keys.delayed, keys.broadcasterHtlc, keys.countersignatoryHtlc] }
        : {}),
    };
    views.counterparty = viewKey(view);
  }

  private addsSpend(part: SigningPart & SpendContent): boolean {
    if (this.toSign > 0) return false;
    const spend = spendOf(part, this.scene.proposal.index, this.scene.keys.shutdownScript);
    if (spend === null) {
      this.notCollected.push(part);
      return false;
    }
    this.toSign++;
    this.step.spend = spend;
    return true;
  }
}

// ── states that were noted by a gateway that did not keep what is to be signed of them ───────────────────

function holderSigningAgain({ keys, proposal }: StepScene, part: HolderPart): HolderSigning {
  const inside = deriveCommitmentKeys(
    nobleCurve,
    part.point,
    holderBasepoints(keys),
    counterpartyBasepoints(proposal),
  );
  const channel = channelOf(keys, proposal);
  return holderSigning(
    buildCommitment(channel, HOLDER, part.number, inside, part.content),
    keys.shutdownScript,
  );
}

function counterpartySigningAgain(
  { keys, proposal }: StepScene,
  part: CounterpartyPart,
): CounterpartySigning {
  const inside = deriveCommitmentKeys(
    nobleCurve,
    part.point,
    counterpartyBasepoints(proposal),
    holderBasepoints(keys),
  );
  const channel = channelOf(keys, proposal);
  const { sighash } = buildCommitment(channel, COUNTERPARTY, part.number, inside, part.content);
  return { sighash, keys: inside };
}

/**
 * What the device is asked to collect; null for what it does not: on our own commitment a fee has to be paid with a
 * coin, which only the owner has.
 */
function spendOf(
  content: SpendContent,
  index: number,
  ownerScript: Uint8Array,
): NonNullable<Step["spend"]> | null {
  const { purpose, input, amountSat } = content;
  if (purpose.kind === "anchor" || purpose.kind === "holder-htlc") return null;
  const { inputs, outputs, locktime } = parseTransaction(content.transaction);
  const [output] = outputs;
  if (outputs.length !== 1 || !output || !equal(output.script, ownerScript)) return null;
  const htlc = "htlc" in purpose ? purpose.htlc : undefined;
  return {
    index,
    point: "point" in purpose ? purpose.point : nobleCurve.publicKey(purpose.secret),
    ...("secret" in purpose ? { secret: purpose.secret } : {}),
    ...(htlc
      ? {
          htlc: {
            paymentHash: htlc.paymentHash,
            amountMsat: htlc.amountMsat,
            cltvExpiry: htlc.cltvExpiry,
            ...(htlc.offered ? { incoming: true } : {}),
          },
        }
      : {}),
    inputs: inputs.map(({ txid, vout, sequence }) => ({ txid, vout, sequence })),
    input,
    amountSat,
    valueSat: output.valueSat,
    locktime,
  };
}

function viewKey(view: CommitmentSpec): string {
  return toHex(encodeValue(viewCodec, view));
}

function pointKey(number: number, point: Uint8Array): string {
  return `${number}/${toHex(point)}`;
}

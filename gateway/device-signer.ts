/**
 * The device as LDK's signer: parts that the signer's book wants become `step` messages, and what the device
 * answers becomes the book's answers. One step is on the way at a time; what comes up meanwhile goes into the next.
 */
import { parseTransaction } from "../src/bitcoin/transaction.ts";
import { equal, toHex } from "../src/bytes/bytes.ts";
import { nobleCurve } from "../src/bytes/curve.ts";
import { codeOf, lngateError } from "../src/errors.ts";
import { type CommitmentKeys, deriveCommitmentKeys } from "../src/lightning/keys.ts";
import type {
  AuthenticatedPartial,
  Partial2pe,
  Proposal,
  Step,
  Stepped,
  ToDevice,
  View,
} from "../src/link/messages.ts";
import { MAX_HTLCS, viewKind } from "../src/link/messages.ts";
import { encodeValue } from "../src/link/schema.ts";
import {
  anchorSighash,
  channelOf,
  closingSighash,
  commitmentOf,
  type DeviceKeys,
  fundingOf,
  ourBasepoints,
  theirBasepoints,
  viewOf,
} from "../src/link/transactions.ts";
import { answerWithMac } from "../src/threshold/online.ts";
import type { RecordStore } from "../src/threshold/records.ts";
import { completeVerified } from "../src/threshold/signature.ts";
import type { NumberedPoint, SigningAnswer, SigningPart, SpendContent } from "./lightning/signer-state.ts";

export interface DeviceSignerOptions {
  readonly keys: DeviceKeys;
  /** The gateway's half of the presignatures. */
  readonly records: RecordStore;
  /** The proposal of the channel with this keys id. */
  proposal(keysId: Uint8Array): Proposal;
  /** Sends a message; false if the device is not there (it is asked again when it is back). */
  send(message: ToDevice): boolean;
  answer(keysId: Uint8Array, answers: readonly SigningAnswer[]): void;
  problem(code: string, sentence: string): void;
  /** An online message of the device's did not become a signature. */
  wrongAnswer(error: Error): void;
}

/**
 * The bridge reveals the preimage and signs the state without the HTLC in one go, so the step for that state follows
 * within a store's write: one message less on the air is worth that.
 */
const RECEIPT_WAIT_MS = 40;

/** Commitments whose keys are kept: those that the device has given points for, and the bridge's next. */
const KEYS_KEPT = 32;
/** After a step the bridge is waited for; LDK's own work goes first. */
const IDLE_MS = 30;

/**
 * Refusals that are not final: a device without records is asked again when it has been charged, one whose flash is full when
 * its owner has had exits forgotten, and one that does not close because a payment is in flight when that payment has ended.
 */
const PASSES: ReadonlySet<string> = new Set(["records-used-up", "vault-full", "policy-close-pending"]);

interface Sent {
  readonly id: number;
  readonly keysId: Uint8Array;
  readonly step: Step;
  readonly parts: readonly SigningPart[];
  /** What our part completes: sighashes of the answer's partials. */
  readonly sighashes: readonly Uint8Array[];
  readonly views: Partial<Views>;
}

/** What the device knows already, so that it need not be said again. */
interface Views {
  holder: string;
  counterparty: string;
  nextPoint: string;
}

export class DeviceSigner {
  private readonly options: DeviceSignerOptions;
  private readonly receipts: Uint8Array[] = [];
  /** Preimages (hex) that went out in this session. */
  private readonly told = new Set<string>();
  private readonly keysMade = new Map<string, CommitmentKeys>();
  private readonly pending = new Map<string, { keysId: Uint8Array; part: SigningPart }>();
  private sent: Sent | null = null;
  /** Parts (by id) whose answer in this session was wrong. */
  private readonly wrongOnce = new Set<string>();
  private nextId = 1;
  private known: Partial<Views> = {};
  /** The device cannot derive the keys inside the bridge's commitments, or has not said yet that it can. */
  private curveless = true;

  constructor(options: DeviceSignerOptions) {
    this.options = options;
  }

  /** What the device said of itself when it came. */
  greeted(hello: { readonly curveless?: boolean | undefined }): void {
    this.curveless = hello.curveless === true;
  }

  /** LDK's book wants these parts answered. */
  ask(keysId: Uint8Array, parts: readonly SigningPart[]): void {
    for (const part of parts) this.pending.set(`${toHex(keysId)}/${part.id}`, { keysId, part });
    this.sendNext();
  }

  /** A new session: whatever was on the way is forgotten, the book will hand over again what is unanswered. */
  restart(): void {
    this.pending.clear();
    this.told.clear();
    this.wrongOnce.clear();
    this.sent = null;
    this.known = {};
    this.curveless = true;
  }

  /** A payment has arrived: the device is told with the next step, or alone if none comes at once; `told` follows that. */
  paid(preimage: Uint8Array, told: () => void): void {
    this.receipts.push(preimage);
    setTimeout(() => {
      for (const preimage of this.receipts.splice(0)) {
        this.told.add(toHex(preimage));
        this.options.send({ type: "paid", preimage });
      }
      told();
    }, RECEIPT_WAIT_MS);
  }

  /** True while an answer of the device is awaited. */
  get waiting(): boolean {
    return this.sent !== null || this.pending.size > 0;
  }

  /** The device's answer. One to another step than the one on the way is no news. */
  stepped(stepped: Stepped): void {
    const { sent } = this;
    if (sent === null || sent.id !== stepped.id) return;
    this.sent = null;
    const answers: SigningAnswer[] = [];
    for (const part of sent.parts) {
      let one: SigningAnswer | null;
      try {
        one = this.answerFor(sent, part, stepped);
      } catch (error) {
        if (codeOf(error) === undefined) throw error;
        one = this.wrong(sent, part, error as Error);
      }
      if (one !== null) answers.push(one);
    }
    if (!stepped.refused) Object.assign(this.known, sent.views);
    else {
      this.known = {};
      this.options.problem(stepped.refused.code, stepped.refused.sentence);
    }
    this.options.answer(sent.keysId, answers);
    this.prepare(sent, stepped);
    this.sendNext();
  }

  /**
   * An answer that makes no signature has cost its record. The device is asked once more; but it keeps its answers, so that
   * the same question never gets two, and if it gives this one again, there is none that would do.
   */
  private wrong(sent: Sent, part: SigningPart, error: Error): SigningAnswer | null {
    this.options.problem(codeOf(error)!, `${part.id}: ${error.message}`);
    this.options.wrongAnswer(error);
    if (this.wrongOnce.has(part.id)) return { id: part.id, refused: "device-answer-wrong" };
    this.wrongOnce.add(part.id);
    this.pending.set(`${toHex(sent.keysId)}/${part.id}`, { keysId: sent.keysId, part });
    return null;
  }

  private answerFor(sent: Sent, part: SigningPart, stepped: Stepped): SigningAnswer | null {
    const { id } = part;
    const points: NumberedPoint[] = stepped.point ? [stepped.point] : [];
    switch (part.kind) {
      case "revocation":
        return { id };
      case "exit":
      case "spend":
        if (stepped.own) return { id, signatures: [stepped.own] };
        break;
      case "holder":
        if (stepped.point) return { id, points, ...(stepped.secret ? { secret: stepped.secret } : {}) };
        break;
      default:
        if (stepped.signed) {
          const { partials, htlcSignatures } = stepped.signed;
          if (partials.length !== sent.sighashes.length) {
            throw lngateError(
              "bad-answer",
              `the device answered ${id} with ${partials.length} partial signatures`,
            );
          }
          const signatures = partials.map((partial, i) => this.completed(partial, sent.sighashes[i]!));
          return { id, signatures: [...signatures, ...(htlcSignatures ?? [])] };
        }
    }
    if (!stepped.refused || PASSES.has(stepped.refused.code)) return null;
    return { id, refused: stepped.refused.code };
  }

  private sendNext(): void {
    if (this.sent !== null || this.pending.size === 0) return;
    let next: Sent | null = null;
    try {
      next = this.compose();
    } catch (error) {
      const code = codeOf(error);
      if (code === undefined) throw error;
      this.pending.clear();
      this.options.problem(code, (error as Error).message);
    }
    if (next === null) return;
    this.sent = next;
    if (!this.options.send(next.step)) this.restart();
  }

  /** The next step: the bridge's revocation, one state of ours and one thing to sign, as they come. */
  private compose(): Sent | null {
    const keysId = [...this.pending.values()][0]!.keysId;
    const chosen: SigningPart[] = [];
    const step: { -readonly [K in keyof Step]: Step[K] } = { type: "step", id: this.nextId };
    const views: Partial<Views> = {};
    let sighashes: readonly Uint8Array[] = [];
    const proposal = this.options.proposal(keysId);
    const { keys } = this.options;
    const channel = channelOf(keys, proposal);
    let toSign = 0;

    for (const [key, entry] of this.pending) {
      if (entry.keysId !== keysId && toHex(entry.keysId) !== toHex(keysId)) continue;
      const { part } = entry;
      switch (part.kind) {
        case "revocation": {
          if (step.revoked) continue;
          const { number, secret, nextPoint } = part;
          step.revoked = { number, secret, ...(nextPoint ? { nextPoint } : {}) };
          if (nextPoint) views.nextPoint = pointKey(number + 2, nextPoint);
          break;
        }
        case "exit":
        case "holder": {
          // A forced close goes alone, with the state that it publishes: the device may not have seen that yet.
          if (step.holder || (part.kind === "exit" && toSign++ + chosen.length > 0)) continue;
          if (part.kind === "exit") step.leave = part.number;
          const view = viewOf(part.content, true);
          const commitment = commitmentOf(
            channel,
            true,
            part.number,
            this.keysOf(proposal, true, part.point),
            view,
          );
          const anchor = view.htlcs.length === 0 ? anchorSighash(keys, commitment) : null;
          const same = viewKey(view) === this.known.counterparty;
          step.holder = {
            number: part.number,
            ...(same ? {} : { view }),
            signature: part.counterpartySignature,
            ...(part.counterpartyHtlcSignatures.length > 0
              ? { htlcSignatures: [...part.counterpartyHtlcSignatures] }
              : {}),
            partial: this.ourHalf(commitment.sighash),
            ...(anchor ? { anchorPartial: this.ourHalf(anchor) } : {}),
          };
          views.holder = viewKey(view);
          // A receipt that got lost would make the device refuse a state in which its HTLC is gone.
          for (const preimage of (part.kind === "holder" && part.preimages) || []) {
            const queued = this.receipts.some(receipt => equal(receipt, preimage));
            if (!queued && !this.told.has(toHex(preimage))) this.receipts.push(preimage);
          }
          break;
        }
        case "counterparty": {
          if (toSign++ > 0) continue;
          const view = viewOf(part.content, false);
          const { point } = part;
          const same = viewKey(view) === (views.holder ?? this.known.holder);
          const announced = pointKey(part.number, point) === (views.nextPoint ?? this.known.nextPoint);
          const theirs = this.keysOf(proposal, false, point);
          sighashes = [commitmentOf(channel, false, part.number, theirs, view).sighash];
          if (part.number === 0) step.proposal = proposal;
          step.counterparty = {
            number: part.number,
            ...(announced ? {} : { point }),
            ...(same && part.number > 0 ? {} : { view }),
            ...(this.curveless
              ? {
                  keys: [
                    theirs.revocation,
                    theirs.delayed,
                    theirs.broadcasterHtlc,
                    theirs.countersignatoryHtlc,
                  ],
                }
              : {}),
          };
          views.counterparty = viewKey(view);
          break;
        }
        case "funding":
          if (toSign++ > 0) continue;
          sighashes = fundingOf(keys, proposal).sighashes;
          step.fund = true;
          break;
        case "closing": {
          if (toSign++ > 0) continue;
          const close = {
            ourSat: part.toHolderSat,
            theirSat: part.toCounterpartySat,
            theirScript: part.counterpartyScript,
          };
          sighashes = [closingSighash(keys, proposal, close)];
          step.close = close;
          break;
        }
        case "spend": {
          if (toSign > 0) continue;
          const spend = spendOf(part, proposal.index, keys.shutdownScript);
          if (spend === null) {
            this.options.problem("not-collected", "this output is collected by the owner's computer");
            this.pending.delete(key);
            continue;
          }
          toSign++;
          step.spend = spend;
          break;
        }
      }
      chosen.push(part);
      this.pending.delete(key);
    }
    if (chosen.length === 0) return null;
    if (this.receipts.length > 0) step.paid = this.receipts.splice(0, MAX_HTLCS);
    for (const preimage of step.paid ?? []) this.told.add(toHex(preimage));
    this.nextId++;
    return { id: step.id, keysId, step, parts: chosen, sighashes, views };
  }

  /** Kind B: the device finishes this signature itself, and keeps it. */
  private ourHalf(sighash: Uint8Array): AuthenticatedPartial {
    const { id, answer } = this.options.records.take("B", sighash, record => answerWithMac(record, sighash));
    return { id, scalar: answer.slice(0, 32), mac: answer.slice(32) };
  }

  /** Kind A: the signature that the device's half and ours make. */
  private completed(partial: Partial2pe, sighash: Uint8Array): Uint8Array {
    const { records, keys } = this.options;
    // What the store keeps it gives for ever: only what is a signature may get in.
    return records.use("A", partial.id, sighash, record =>
      completeVerified(record, partial.scalar, sighash, keys.fundingKey),
    ).answer;
  }

  /** Keys of a commitment: some milliseconds of curve work each, so they are kept, and made ahead in idle time. */
  private keysOf(proposal: Proposal, ours: boolean, point: Uint8Array): CommitmentKeys {
    const name = `${ours}/${proposal.index}/${toHex(point)}`;
    const known = this.keysMade.get(name);
    if (known) return known;
    const sides = [ourBasepoints(this.options.keys), theirBasepoints(proposal)] as const;
    const [broadcaster, other] = ours ? sides : [sides[1], sides[0]];
    const keys = deriveCommitmentKeys(nobleCurve, point, broadcaster, other);
    this.keysMade.set(name, keys);
    for (const oldest of this.keysMade.keys()) {
      if (this.keysMade.size <= KEYS_KEPT) break;
      this.keysMade.delete(oldest);
    }
    return keys;
  }

  /** The points that a step brought belong to commitments to come: their keys are made when nobody waits. */
  private prepare(sent: Sent, stepped: Stepped): void {
    const own = stepped.point?.point;
    const next = sent.step.revoked?.nextPoint;
    const timer = setTimeout(() => {
      try {
        const proposal = this.options.proposal(sent.keysId);
        if (own) this.keysOf(proposal, true, own);
        if (next) this.keysOf(proposal, false, next);
      } catch (error) {
        // A channel that is gone, or a point that is none: whoever needs the keys will hear of it.
        if (codeOf(error) === undefined) throw error;
      }
    }, IDLE_MS);
    timer.unref();
  }
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

function viewKey(view: View): string {
  return toHex(encodeValue(viewKind, view));
}

function pointKey(number: number, point: Uint8Array): string {
  return `${number}/${toHex(point)}`;
}
